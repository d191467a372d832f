"""How sure a model is of a turn: what its probabilities say of calling, of the tool and of the whole call.

Each is among what the grammar allowed, at temperature 1, whatever was drawn. What was forced adds nothing: there was
nothing else to choose. A model that thinks first has decided before: of that, the probabilities say little.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from minifc.gemma.generate import Choice
from minifc.text.dialects import Part, dialect_of
from minifc.text.template import Format
from minifc.text.tokenizer import Tokenizer
from minifc.text.turns import turn_marks

LIKELIEST = 20  # that each choice must tell: what is not among them hardly counts


@dataclass(frozen=True)
class Confidence:
    """Probabilities. Of several calls in a turn, those of all of them together."""

    called: float  # that it calls, or that it does not, whichever it did
    tool: float  # of the tool, or of having none
    whole: float  # of the call with all of its arguments


def confidence(choices: Sequence[Choice], tokenizer: Tokenizer, format: Format = "gemma") -> Confidence:
    """Of one turn of a row whose `likeliest` is LIKELIEST; of one that calls, it may be 0."""
    dialect = dialect_of(format, tokenizer)
    marks, begin = turn_marks(tokenizer, dialect), tokenizer.control.get(dialect.begin)
    before, _, behind = dialect.syntax.opening("x").partition("x")  # what stands around a tool's name
    part: Part = "text"
    called = tool = whole = 0.0  # as logarithms
    call: list[int] = []  # ids of the call that is open
    first_text: Choice | None = None
    calls = 0
    for choice in choices:
        following = dialect.part_after(part, marks[choice.id]) if choice.id in marks else part
        if part == "text" and following == "call":
            called, tool, whole = called + choice.logprob, tool + choice.logprob, whole + choice.logprob
            call, calls = [], calls + 1
        elif part == "call":
            if (behind[:1] or "{") not in tokenizer.decode(call)[len(before) :]:  # the name is not whole yet
                tool += choice.logprob
            whole += choice.logprob
            call.append(choice.id)
        elif part == following == "text":
            first_text = first_text or choice
        part = following
    if calls:
        return Confidence(math.exp(called), math.exp(tool), math.exp(whole))
    against = dict(first_text.likeliest).get(begin, -math.inf) if first_text and begin is not None else -math.inf
    none = 1.0 - math.exp(against)
    return Confidence(none, none, none)
