"""Functions that can be asked for, and what is asked of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

NO_DEFAULT = object()
Arguments = Mapping[str, Any]


@dataclass(frozen=True)
class Parameter:
    """One parameter. `texts` are descriptions of which one is shown; `names` go with them, or are alternatives."""

    name: str
    schema: Mapping[str, Any]
    texts: Sequence[str]
    required: bool
    default: Any = NO_DEFAULT


@dataclass(frozen=True)
class Function:
    """A function: names of which one is shown, in words joined by underscores; what it does; its parameters."""

    names: Sequence[str]
    texts: Sequence[str]
    parameters: Sequence[Parameter]
    domain: str  # functions of one domain are near one another
    purpose: str  # what it does, as after "can": look up a flight
    group: str  # of functions that do the same, or nearly: none of them stands beside another


@dataclass(frozen=True)
class Ask:
    """What a person asks of one function: the sentence, and the arguments of each call."""

    text: str
    function: Function
    calls: Sequence[Arguments]
    source: str
    clauses: Sequence[str] = field(default_factory=tuple)  # the same as commands without a full stop, to be joined
    context: str = ""  # a sentence that may stand before
    role: str = ""  # who may ask: an architect checking a plan
    missing: str = ""  # a required argument that it lacks: then it cannot be called


@dataclass(frozen=True)
class Request:
    """What a person asks, with the calls that answer it; none where no function offered fits."""

    text: str
    calls: Sequence[tuple[Function, Arguments]]
    source: str


@dataclass(frozen=True)
class Exchange:
    """A request, what its call returned, and what was said about that; questions about it may follow."""

    ask: Ask
    result: Any
    answer: str
    more: Sequence[tuple[str, str]] = ()  # question and answer
