"""Think, act, observe: a model that uses tools until it has an answer."""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from minifc.calling.grammar import Grammar
from minifc.calling.tools import SECONDS, Tool, run
from minifc.errors import CallError
from minifc.gemma.generate import Sampling, stream
from minifc.gemma.model import Gemma
from minifc.text.calls import END_THINK, END_TOOL_CALL, THINK, TOOL_CALL, Call, read_call, read_turn, write_json
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
    """A conversation with a model that has tools. `messages` is what was said so far."""

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

        Raises SchemaError for tools that cannot be registered together.
        """
        self.model, self.tokenizer, self.tools, self.format = model, tokenizer, tools, format
        self.most_steps, self.most_tokens, self.seconds, self.sampling = most_steps, most_tokens, seconds, sampling
        self.schemas = [tool.schema for tool in tools]
        self.grammar = Grammar(self.schemas, tokenizer) if constrained and tools else None
        self.messages: list[dict[str, Any]] = []

    def ask(self, question: str) -> Iterator[Event]:
        """Answer a question, calling tools as often as needed, but in at most `most_steps` turns."""
        self.messages.append({"role": "user", "content": question})
        for _ in range(self.most_steps):
            ids = yield from self._turn()
            try:
                parts = read_turn(ids, self.tokenizer)
                calls = [read_call(text) for kind, text in parts if kind == "call"]
            except CallError as error:  # it is told, and can try again
                self.messages.append({"role": "assistant", "content": self.tokenizer.decode(ids)})
                yield self._observe({"error": f"the call cannot be read: {error}"}, None)
                continue
            said = {kind: "".join(text for k, text in parts if k == kind) for kind in ("text", "thought")}
            self.messages.append(
                {
                    "role": "assistant",
                    "content": said["text"],
                    "thinking": said["thought"],
                    "tool_calls": [{"name": call.name, "arguments": call.arguments} for call in calls],
                }
            )
            if not calls:
                return
            for call in calls:
                yield Event("call", write_json({"name": call.name, "arguments": call.arguments}), call)
                yield self._observe(run(self.tools, call, self.seconds), call)
        yield Event("stopped", f"no answer after {self.most_steps} turns")

    def _observe(self, result: Any, call: Call | None) -> Event:
        self.messages.append({"role": "tool", "content": result})
        return Event("result", result if isinstance(result, str) else write_json(result), call)

    def _turn(self) -> Generator[Event, None, list[int]]:
        """One turn of the model; returns its ids."""
        prompt = render(self.messages, self.tokenizer, self.schemas, self.format, add_generation_prompt=True).ids
        constraints = [self.grammar.fresh()] if self.grammar else None
        ids: list[int] = []
        tags = {self.tokenizer.control.get(name): name for name in (THINK, END_THINK, TOOL_CALL, END_TOOL_CALL)}
        kinds: dict[str, Kind] = {THINK: "thought", TOOL_CALL: "call"}
        kind: Kind = "text"
        run: list[int] = []  # not shown yet: the last of them may be a part of a character
        for (id_,) in stream(
            self.model, prompt, self.most_tokens, stop_ids(self.tokenizer), self.sampling, constraints
        ):
            if id_ is None:
                break
            ids.append(id_)
            if id_ in tags:
                run = []
                kind = kinds.get(tags[id_], "text")
                continue
            run.append(id_)
            text = self.tokenizer.decode(run)
            if kind != "call" and not text.endswith("\ufffd"):
                yield Event(kind, text)
                run = []
        return ids
