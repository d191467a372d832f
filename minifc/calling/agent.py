"""Think, act, observe: a model that uses tools until it has an answer."""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from minifc.calling.confidence import Confidence, confidence
from minifc.calling.grammar import Grammar
from minifc.calling.tools import SECONDS, Tool, run
from minifc.errors import CallError, TokenizerError
from minifc.gemma.cache import KVCache
from minifc.gemma.generate import Choice, Row, Sampling, decode
from minifc.gemma.model import Gemma
from minifc.text.calls import THINK, Call, write_json
from minifc.text.dialects import Part, dialect_of
from minifc.text.template import Format, Rendered, render, stop_ids
from minifc.text.tokenizer import Tokenizer
from minifc.text.turns import read_turn, turn_marks

Kind = Literal["thought", "text", "call", "result", "stopped"]


@dataclass(frozen=True)
class Event:
    """Something that happens in a conversation. Thoughts and text come in pieces, as the model writes them."""

    kind: Kind
    text: str
    call: Call | None = None  # of a call and of its result
    confidence: Confidence | None = None  # of a call: the probabilities of its turn


class Agent:
    """A conversation with a model that has tools.

    messages: what was said so far. To be changed only before the first question, by a system message for example.
        A question that got no answer, because it was interrupted or took too many steps, is forgotten together with
        all that followed it: questions and answers always alternate.
    ids: the same as the model read and wrote it. What the model wrote stays as it is, and the model reads each token
        once, since one KV cache is kept for the whole conversation.
    """

    def __init__(
        self,
        model: Gemma,
        tokenizer: Tokenizer,
        tools: Sequence[Tool] = (),
        format: Format = "gemma",
        *,
        constrained: bool = True,
        think: bool = False,
        max_new_tokens: int = 512,
        max_steps: int = 8,
        seconds: float = SECONDS,
        sampling: Sampling | None = None,
        strict: bool = True,
        confirm: Callable[[Call, Confidence], bool] | None = None,
    ) -> None:
        """constrained: let the grammar ensure that calls can be read.
        think: begin the first turn after each question with `<think>`, as the course does.
        max_new_tokens: the limit of one turn of the model. max_steps: how many turns the model has for one question.
        seconds: how long a tool may run. strict: as for `Grammar`.
        confirm: whether a call may be run; by default each may. The model is told of one that may not.

        Raises SchemaError for tools that cannot be registered together, TokenizerError for a tokenizer without the
        tags of calls, by which alone a call is known, or with `think` without `<think>`.
        """
        if think and THINK not in tokenizer.control:
            raise TokenizerError(f"think=True: the tokenizer has no {THINK}; register it: minifc.add_tokens")
        self.model, self.tokenizer, self.tools, self.format, self.think = model, tokenizer, tools, format, think
        self.max_new_tokens, self.max_steps, self.seconds, self.confirm = max_new_tokens, max_steps, seconds, confirm
        self.sampling = sampling or Sampling()
        self.schemas = [tool.schema for tool in tools]
        self.dialect, self.stops = dialect_of(format, tokenizer), stop_ids(tokenizer, format)
        # It checks the tools, even if it is not used.
        grammar = Grammar(self.schemas, tokenizer, format, strict) if tools else None
        self.grammar = grammar if constrained else None
        self.reset()

    def reset(self) -> None:
        """Begin a new conversation."""
        self.messages: list[dict[str, Any]] = []
        self.ids: list[int] = []
        self.cache: KVCache | None = None  # holds the first `cache.length` of `ids`

    def ask(self, question: str) -> Iterator[Event]:
        """Answer a question, calling tools as often as needed, but in at most `max_steps` turns.

        The last event is of the kind "stopped" if there is no answer.
        """
        messages, ids = [*self.messages, {"role": "user", "content": question}], list(self.ids)
        # Until there is an answer the agent has no cache: if the question is forgotten, the cache is too. What came
        # before cannot be cut out of it, because the sliding layers have overwritten their oldest tokens.
        cache, self.cache = self.cache or KVCache(self.model.config), None
        for step in range(self.max_steps):
            think = self.think and step == 0
            prompt = render(messages, self.tokenizer, self.schemas, self.format, True, think=think)
            if ids and any(prompt.mask):
                ids += self._unread(prompt)
            else:  # nothing was read yet; or the template does not tell where the model's last turn ends
                ids, cache = prompt.ids, KVCache(self.model.config)
            context = self.model.config.max_position_embeddings
            if len(ids) >= context:
                yield Event("stopped", f"the conversation has {len(ids)} tokens, and the model reads {context}")
                return
            choices = yield from self._turn(ids, min(self.max_new_tokens, context - len(ids)), cache, think)
            new = [choice.id for choice in choices]
            turn = [ids[-1], *new] if think else new  # the prefilled <think> is the turn's first token
            ids += new
            try:
                parts = read_turn(turn, self.tokenizer, self.format)
                calls = [self.dialect.read(text) for kind, text in parts if kind == "call"]
            except CallError as error:  # the model is told, and can try again
                messages.append({"role": "assistant", "content": self.tokenizer.decode(turn)})
                yield _observed({"error": f"the call cannot be read: {error}"}, None, messages)
                continue
            texts = {kind: "".join(text for k, text in parts if k == kind) for kind in ("text", "thought")}
            messages.append(
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
                self.messages, self.ids, self.cache = messages, ids, cache
                return
            sure = confidence(choices, self.tokenizer, self.format)
            for call in calls:
                yield Event("call", write_json({"name": call.name, "arguments": call.arguments}), call, sure)
                if self.confirm is None or self.confirm(call, sure):
                    yield _observed(run(self.tools, call, self.seconds), call, messages)
                else:
                    yield _observed({"error": "the user does not want this call"}, call, messages)
        yield Event("stopped", f"no answer after {self.max_steps} turns")

    def _unread(self, prompt: Rendered) -> list[int]:
        """The rest of the prompt for the model's next turn, after what it has read and written."""
        end = len(prompt.ids) - prompt.mask[::-1].index(True)  # of the model's last turn
        while prompt.ids[end - 1] in self.stops:  # the ids that end a turn are not among what it wrote
            end -= 1
        return prompt.ids[end:]

    def _turn(
        self, prompt: list[int], max_new_tokens: int, cache: KVCache, think: bool
    ) -> Generator[Event, None, list[Choice]]:
        """One turn of the model, which goes on from `<think>` if `think`; returns what it wrote."""
        grammar = self.grammar.fresh() if self.grammar else None
        part: Part = "thought" if think else "text"
        if grammar and think:
            grammar.advance(prompt[-1])
        marks = turn_marks(self.tokenizer, self.dialect)
        run: list[int] = []  # not shown yet: the last of them may be a part of a character
        # The confidence of a turn that calls needs no others beside what was chosen.
        row = Row(prompt, max_new_tokens, self.stops, self.sampling, grammar, likeliest=0)
        told = 0
        for _ in decode(self.model, [row], cache):
            for choice in row.choices[told:]:
                if choice.id in marks and (following := self.dialect.part_after(part, marks[choice.id])) != part:
                    part, run = following, []
                    continue
                run.append(choice.id)
                text = self.tokenizer.decode(run)
                if part != "call" and not text.endswith("\ufffd"):
                    yield Event(part, text)
                    run = []
            told = len(row.choices)
        return row.choices


def _observed(result: Any, call: Call | None, messages: list[dict[str, Any]]) -> Event:
    """Put a tool's result into the conversation. call: None if there is none that could be read."""
    messages.append({"role": "tool", "name": call.name if call else "error", "content": result})
    return Event("result", result if isinstance(result, str) else write_json(result), call)
