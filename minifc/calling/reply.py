"""What a whole turn of the model may be, where more is wanted of it than calls that can be read.

That it calls, or calls once; that it does not call; that what it says is JSON of a schema. Whatever it is, the model
may think first, if it has the tokens for that, and no tag stands where it would mean nothing. `Reply` is a
`gemma.generate.Constraint`.
"""

from typing import Any, Literal

import torch
from torch import Tensor

from minifc.calling.automaton import Automaton, State, Value
from minifc.calling.grammar import Grammar
from minifc.calling.guide import SLACK, Guide
from minifc.calling.kinds import nesting
from minifc.calling.schema import read_schema
from minifc.text.calls import END_THINK, THINK
from minifc.text.dialects import Part, dialect_of
from minifc.text.dialects.json_calls import JSON_CALLS
from minifc.text.template import Format, stop_ids
from minifc.text.tokenizer import Tokenizer
from minifc.text.turns import turn_marks

Calls = Literal["auto", "required", "none"]


def json_guide(schema: Any, tokenizer: Tokenizer, where: str, notes: list[str] | None = None) -> Guide:
    """The guide of a turn that is nothing but a JSON value of a schema. Raises SchemaError.

    where: what an error calls the schema. notes: as for `read_schema`.
    """
    read = read_schema(schema, where, notes=notes)
    automaton = Automaton(nesting(read), JSON_CALLS.syntax)
    return Guide(automaton, [(Value(read, 0), None)], tokenizer, tokenizer.end_of_turn_id)


class Reply:
    """One turn."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        format: Format,
        grammar: Grammar | None = None,
        calls: Calls = "auto",
        parallel: bool = True,
        text: Guide | None = None,
    ) -> None:
        """grammar: of the tools that may be called, at its beginning; None if none may. calls: whether one must be.
        parallel: whether several may be. text: what the turn says if it does not call, made by `json_guide`.
        """
        self.dialect = dialect_of(format, tokenizer)
        self.marks, self.control, self.size = turn_marks(tokenizer, self.dialect), tokenizer.control, tokenizer.size
        self.stops = list(stop_ids(tokenizer, format))
        self.grammar = None if calls == "none" else grammar
        self.calls, self.parallel, self.text = calls, parallel, text
        self.part: Part = "text"
        self.begun = False  # whether it thinks, calls or says anything yet
        self.state: State | None = None  # of the text, once it is begun

    @property
    def _held(self) -> bool:
        """Whether what comes next is decided here: outside calls, a call or a text of the schema must follow."""
        required = self.calls == "required" and self.grammar is not None and not self.grammar.called
        return required or (self.text is not None and not (self.grammar and self.grammar.called))

    def allowed(self, budget: int) -> Tensor:
        """As `Constraint` has it. A limit that is too low for any call or text cuts it: nothing else was asked for."""
        if self.state is not None:
            assert self.text is not None
            return self.text.mask(self.state, budget)
        if self.part == "call":
            assert self.grammar is not None
            return self.grammar.allowed(budget)
        mask = self.grammar.allowed(budget) if self.grammar else self._no_calls()
        mask[[id_ for id_, name in self.marks.items() if self.dialect.part_after(self.part, name) == self.part]] = False
        if self.grammar and self.grammar.called and not self.parallel:
            return self._only(*self.stops)
        if not self._held:
            return mask
        if self.part == "thought":
            if budget <= self._room + SLACK:
                return self._only(self.control[END_THINK])
            mask[self.stops] = False
            return mask
        may_call = self.grammar is not None and (self.calls == "required" or bool(mask[self._begin]))
        first = self._only(self._begin) if may_call else torch.zeros_like(mask)
        if self.text is not None and self.calls != "required":
            first |= self.text.mask(self.text.start, budget)
        if not self.begun and THINK in self.control and budget > self._room + SLACK:
            first[self.control[THINK]] = True
        if not first.any():  # there is too little room: what is begun is cut at the limit
            assert self.text is not None
            first |= self.text.mask(self.text.start, None)
        return first

    def forced(self, budget: int) -> list[int]:
        if self.state is not None:
            assert self.text is not None
            return self.text.forced(self.state, budget)
        if self.part == "call":
            assert self.grammar is not None
            return self.grammar.forced(budget)
        return []

    def advance(self, id_: int) -> None:
        self.begun = True
        if self.state is not None:
            assert self.text is not None
            self.state = self.text.after(self.state, id_)
            return
        if self.grammar:
            self.grammar.advance(id_)
        following = self.part
        if id_ in self.marks:
            following = self.dialect.part_after(self.part, self.marks[id_])
        if self.part == following == "text" and self._held and self.text is not None:
            self.state = self.text.after(self.text.start, id_)
        self.part = following

    @property
    def _begin(self) -> int:
        return self.control[self.dialect.begin]

    @property
    def _room(self) -> int:
        """What the call or the text that must follow takes at most, if it is short."""
        return max(self.grammar.room if self.grammar else 0, self.text.shortest if self.text else 0)

    def _no_calls(self) -> Tensor:
        mask = torch.ones(self.size, dtype=torch.bool)
        if self.dialect.begin in self.control:
            mask[self._begin] = False
        return mask

    def _only(self, *ids: int) -> Tensor:
        mask = torch.zeros(self.size, dtype=torch.bool)
        mask[list(ids)] = True
        return mask
