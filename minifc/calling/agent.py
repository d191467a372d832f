"""Think, act, observe: a model that uses tools until it has an answer."""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from minifc.calling.grammar import Grammar
from minifc.calling.tools import SECONDS, Tool, run
from minifc.errors import CallError
from minifc.gemma.generate import Sampling, stream
from minifc.gemma.model import Gemma
from minifc.text.calls import Call, Part, part_after, read_call, read_turn, turn_tags, write_json
from minifc.text.template import Format, render, stop_ids
from minifc.text.tokenizer import Tokenizer

Kind = Literal["thought", "text", "call", "result", "stopped"]


@dataclass(frozen=True)
class Event:
    """Something that happens in a conversation. Thoughts and text come in pieces, as they are written."""

    kind: Kind
    text: str
    call: Call | None = None  # of a call and of its result


class Agent:
    """A conversation with a model that has tools.

    `messages` is what was said so far. A question that got no answer, because it was interrupted or took too many
    steps, is forgotten with all that followed it: questions and answers always alternate.
    """

    def __init__(
        self,
        model: Gemma,
        tokenizer: Tokenizer,
        tools: Sequence[Tool] = (),
        format: Format = "gemma",
        constrained: bool = True,
        most_steps: int = 8,
        most_tokens: int = 512,
        seconds: float = SECONDS,
        sampling: Sampling | None = None,
    ) -> None:
        """constrained: let the grammar see to it that calls can be read. most_tokens: in one turn of the model.

        Raises SchemaError for tools that cannot be registered together, TokenizerError for a tokenizer without the
        tags of calls, by which alone a call is known.
        """
        self.model, self.tokenizer, self.tools, self.format = model, tokenizer, tools, format
        self.most_steps, self.most_tokens, self.seconds, self.sampling = most_steps, most_tokens, seconds, sampling
        self.schemas = [tool.schema for tool in tools]
        grammar = Grammar(self.schemas, tokenizer) if tools else None  # checks the tools, also where it is not used
        self.grammar = grammar if constrained else None
        self.messages: list[dict[str, Any]] = []

    def ask(self, question: str) -> Iterator[Event]:
        """Answer a question, calling tools as often as needed, but in at most `most_steps` turns.

        The last event is of the kind "stopped" if there is no answer.
        """
        new: list[dict[str, Any]] = [{"role": "user", "content": question}]
        for _ in range(self.most_steps):
            said = [*self.messages, *new]
            prompt = render(said, self.tokenizer, self.schemas, self.format, add_generation_prompt=True).ids
            most = self.model.config.max_position_embeddings
            if len(prompt) >= most:
                yield Event("stopped", f"the conversation has {len(prompt)} tokens, and the model reads {most}")
                return
            ids = yield from self._turn(prompt, min(self.most_tokens, most - len(prompt)))
            try:
                parts = read_turn(ids, self.tokenizer)
                calls = [read_call(text) for kind, text in parts if kind == "call"]
            except CallError as error:  # it is told, and can try again
                new.append({"role": "assistant", "content": self.tokenizer.decode(ids)})
                yield _observed({"error": f"the call cannot be read: {error}"}, None, new)
                continue
            texts = {kind: "".join(text for k, text in parts if k == kind) for kind in ("text", "thought")}
            new.append(
                {
                    "role": "assistant",
                    "content": texts["text"],
                    "thinking": texts["thought"],
                    "tool_calls": [{"name": call.name, "arguments": call.arguments} for call in calls],
                }
            )
            if not calls and not texts["text"].strip():
                yield Event("stopped", "the model came to no answer")
                return
            if not calls:
                self.messages += new
                return
            for call in calls:
                yield Event("call", write_json({"name": call.name, "arguments": call.arguments}), call)
                yield _observed(run(self.tools, call, self.seconds), call, new)
        yield Event("stopped", f"no answer after {self.most_steps} turns")

    def _turn(self, prompt: list[int], most_tokens: int) -> Generator[Event, None, list[int]]:
        """One turn of the model; returns its ids."""
        constraints = [self.grammar.fresh()] if self.grammar else None
        ids: list[int] = []
        tags = turn_tags(self.tokenizer)
        part: Part = "text"
        run: list[int] = []  # not shown yet: the last of them may be a part of a character
        for (id_,) in stream(self.model, prompt, most_tokens, stop_ids(self.tokenizer), self.sampling, constraints):
            if id_ is None:
                break
            ids.append(id_)
            if id_ in tags and (following := part_after(part, tags[id_])) != part:
                part, run = following, []
                continue
            run.append(id_)
            text = self.tokenizer.decode(run)
            if part != "call" and not text.endswith("\ufffd"):
                yield Event(part, text)
                run = []
        return ids


def _observed(result: Any, call: Call | None, messages: list[dict[str, Any]]) -> Event:
    """Put a tool's result into the conversation."""
    messages.append({"role": "tool", "content": result})
    return Event("result", result if isinstance(result, str) else write_json(result), call)
