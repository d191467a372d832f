"""python -m minifc.bench grammar: what it costs to hold a call to its schemas, beside llguidance and xgrammar.

Every engine gets the same vocabulary, the same tools and the same calls, token by token, and they take turns, set of
tools by set of tools, so that whatever else the machine does falls on all of them alike. A mask says which ids may come
next; *first mask* is the time from a new set of tools to the mask that begins its first call.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from minifc.calling.grammar import Grammar
from minifc.cli import Parser, new_file, require_option
from minifc.data import read_conversations, toy
from minifc.errors import DataError, OptionError, SchemaError, first_line
from minifc.files import write_text
from minifc.gemma.generate import keep_allowed
from minifc.hub import TINY, find_data, find_model
from minifc.terminal import Table, text_table
from minifc.text.calls import TAGS, TOOL_CALL, Call, tool_schema, write_call, write_json
from minifc.text.messages import is_assistant, message_calls
from minifc.text.tokenizer import Tokenizer, load_tokenizer

Tools = Sequence[dict[str, Any]]
Work = tuple[Tools, list[Call]]  # a set of tools, and calls of them
# How llguidance is told of the canonical form.
ONE_FORM: Any = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


def main(argv: Sequence[str]) -> None:
    parser = Parser(
        "bench grammar", __doc__ or "", "python -m minifc.bench grammar --model google/gemma-2-2b-it --data FILE"
    )
    parser.add_argument(
        "--model", default=TINY, help="folder, GGUF file or hub id whose vocabulary to use (%(default)s)"
    )
    parser.add_argument(
        "--data", default="", help="conversations with tools and calls; else the embedded model's world"
    )
    parser.add_argument("--sets", type=int, default=100, help="how many sets of tools (%(default)s)")
    parser.add_argument("--to", type=new_file, help="JSON file for the figures")
    args = parser.parse(argv)
    require_option(args.sets >= 1, "sets", args.sets, "must be at least 1")
    tokenizer = load_tokenizer(find_model(args.model).path)
    tokenizer.add_tokens([tag for tag in TAGS if tag not in tokenizer.control])
    work = list(_work(args.data))[: args.sets]
    if not work:
        raise DataError(f"{args.data}: no conversation in it has tools and calls them")
    engines = measure(tokenizer, work)
    print(f"{tokenizer.size:,} ids, {len(work)} sets of tools, {sum(len(calls) for _, calls in work)} calls")
    print(text_table(table(engines)))
    if args.to:
        write_text(args.to, write_json({engine.name: vars(engine.times) for engine in engines}) + "\n")


def _work(data: str) -> Iterator[Work]:
    """Sets of tools with calls of them, each set once."""
    talks: list[tuple[Tools, Sequence[Mapping[str, Any]]]]
    if data:
        conversations = read_conversations(find_data(data).files)
        talks = [(c.tools, [m for m in c.messages if is_assistant(m)]) for c in conversations]
    else:
        talks = [(case.tools, case.messages()[1::2]) for case in toy.training_cases(1000, seed=0)]
    seen = set()
    for tools, messages in talks:
        calls = [call for message in messages for call in message_calls(message)]
        if tools and calls and (key := write_json(list(tools))) not in seen:
            seen.add(key)
            yield [tool_schema(tool) for tool in tools], calls


@dataclass
class Times:
    """Seconds, of one engine."""

    once: float = 0.0  # what is worked out once for a vocabulary
    first: list[float] = field(default_factory=list)  # from a new set of tools to its first mask
    mask: list[float] = field(default_factory=list)  # each later mask
    applied: list[float] = field(default_factory=list)  # the same, until logits are masked
    tokens: int = 0  # that were masked
    forced: int = 0  # of these, how many need not be asked of the model
    refused: list[str] = field(default_factory=list)  # tools that it cannot hold to, and calls that it does not allow


class Engine(Protocol):
    """Something that knows which ids may come next in a call."""

    name: str
    times: Times
    before: str  # what stands between the opening tag and the call's JSON
    after: str

    def compile(self, tools: Tools) -> None:
        """Take a new set of tools. Raises SchemaError or ValueError where it cannot."""

    def begin(self) -> None:
        """At the beginning of a call."""

    def mask(self) -> None:
        """Work out which ids may come next."""

    def apply(self, logits: Tensor) -> None:
        """Mask logits fp32 [1, V] by it, in place."""

    def forced(self) -> list[int]:
        """The ids that must come next."""

    def advance(self, id_: int) -> bool:
        """Take an id; False if it is not allowed."""


class Ours:
    name, before, after = "minifc", "\n", "\n"

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer, self.times = tokenizer, Times()

    def compile(self, tools: Tools) -> None:
        self.compiled = Grammar(tools, self.tokenizer)

    def begin(self) -> None:
        self.grammar = self.compiled.fresh()
        self.grammar.advance(self.tokenizer.control[TOOL_CALL])

    def mask(self) -> None:
        self.allowed = self.grammar.allowed()

    def apply(self, logits: Tensor) -> None:
        keep_allowed(self.allowed, logits[0])

    def forced(self) -> list[int]:
        return self.grammar.forced()

    def advance(self, id_: int) -> bool:
        if not self.grammar.allowed()[id_]:
            return False
        self.grammar.advance(id_)
        return True


class Wrapped:
    """A tokenizer as llguidance wants to see it."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        written = tokenizer.written()
        self.encode = tokenizer.encode
        self.eos_token_id, self.bos_token_id = tokenizer.eos_id, tokenizer.bos_id
        self.tokens = [written.get(id_, b"\xff") for id_ in range(tokenizer.size)]
        self.special_token_ids = [id_ for id_ in range(tokenizer.size) if id_ not in written]

    def __call__(self, text: bytes) -> list[int]:
        return self.encode(text.decode(errors="replace"))


class LLGuidance:
    name, before, after = "llguidance", "", ""

    def __init__(self, tokenizer: Tokenizer) -> None:
        try:
            import llguidance
            import llguidance.torch
        except ImportError:
            raise _not_installed() from None
        self.matcher_of, self.masks = llguidance.LLMatcher, llguidance.torch
        self.times = Times()
        self.tokenizer = llguidance.LLTokenizer(llguidance.TokenizerWrapper(Wrapped(tokenizer)), n_vocab=tokenizer.size)
        self.bits = self.masks.allocate_token_bitmask(1, tokenizer.size)

    def compile(self, tools: Tools) -> None:
        grammar = self.matcher_of.grammar_from_json_schema(calls_schema(tools), overrides=ONE_FORM)
        self.compiled = self.matcher_of(self.tokenizer, grammar, log_level=0)
        if self.compiled.is_error():
            raise ValueError(self.compiled.get_error())

    def begin(self) -> None:
        self.matcher = self.compiled.deep_copy()

    def mask(self) -> None:
        self.masks.fill_next_token_bitmask(self.matcher, self.bits)

    def apply(self, logits: Tensor) -> None:
        self.masks.apply_token_bitmask_inplace(logits, self.bits)

    def forced(self) -> list[int]:
        return list(self.matcher.compute_ff_tokens())

    def advance(self, id_: int) -> bool:
        return bool(self.matcher.consume_token(id_))


class XGrammar:
    name, before, after = "xgrammar", "", ""

    def __init__(self, tokenizer: Tokenizer) -> None:
        try:
            import xgrammar
        except ImportError:
            raise _not_installed() from None
        self.library, self.tokenizer = xgrammar, tokenizer
        written, self.times = tokenizer.written(), Times()
        words = [written.get(id_, b"") for id_ in range(tokenizer.size)]
        info = xgrammar.TokenizerInfo(words, vocab_type=xgrammar.VocabType.RAW, stop_token_ids=[tokenizer.eos_id])
        self.compiler = xgrammar.GrammarCompiler(info, max_threads=1, cache_enabled=False)
        self.bits = xgrammar.allocate_token_bitmask(1, tokenizer.size)

    def compile(self, tools: Tools) -> None:
        try:
            self.compiled = self.compiler.compile_json_schema(
                write_json(calls_schema(tools)), any_whitespace=False, separators=(", ", ": "), strict_mode=False
            )
        except RuntimeError as error:
            raise ValueError(str(error)) from None

    def begin(self) -> None:
        self.matcher = self.library.GrammarMatcher(self.compiled)

    def mask(self) -> None:
        self.matcher.fill_next_token_bitmask(self.bits)

    def apply(self, logits: Tensor) -> None:
        self.library.apply_token_bitmask_inplace(logits, self.bits)

    def forced(self) -> list[int]:
        # It gives text. What follows may belong into one token with the last piece, so that is not counted.
        return self.tokenizer.encode(self.matcher.find_jump_forward_string())[:-1]

    def advance(self, id_: int) -> bool:
        return bool(self.matcher.accept_token(id_))


def _not_installed() -> OptionError:
    return OptionError("bench grammar compares with llguidance and xgrammar; pip install llguidance xgrammar")


def calls_schema(tools: Tools) -> dict[str, Any]:
    """The JSON schema of a call of one of the tools, which allows what `Grammar` allows.

    Tools' arguments stand under $defs, so that references inside one still lead to the same place.
    """
    calls, arguments = [], {}
    for number, tool in enumerate(tools):
        place = f"#/$defs/{number}"
        closed = _closed(tool.get("parameters") or {"type": "object"}, place)
        arguments[str(number)] = {"additionalProperties": False} | closed  # what lists nothing takes nothing
        calls.append(
            {
                "type": "object",
                "properties": {"name": {"const": tool["name"]}, "arguments": {"$ref": place}},
                "required": ["name", "arguments"],
                "additionalProperties": False,
            }
        )
    return (calls[0] if len(calls) == 1 else {"anyOf": calls}) | {"$defs": arguments}


def _closed(schema: Any, place: str) -> Any:
    """A schema moved to `place`; an object that lists properties takes no others, unless it says so."""
    if not isinstance(schema, dict):
        return schema
    closed = dict(schema)
    for keyword in ("properties", "$defs", "definitions"):
        if keyword in schema:
            closed[keyword] = {name: _closed(part, place) for name, part in schema[keyword].items()}
    for keyword in ("items", "additionalProperties"):
        if keyword in schema:
            closed[keyword] = _closed(schema[keyword], place)
    if "anyOf" in schema:
        closed["anyOf"] = [_closed(part, place) for part in schema["anyOf"]]
    if "$ref" in schema:
        closed["$ref"] = place + schema["$ref"].removeprefix("#")
    if schema.get("properties"):
        closed.setdefault("additionalProperties", False)
    return closed


ENGINES: list[Callable[[Tokenizer], Engine]] = [Ours, LLGuidance, XGrammar]


def measure(tokenizer: Tokenizer, work: Sequence[Work]) -> list[Engine]:
    """Let each engine follow every call; its times stand in it."""
    engines = []
    logits = torch.zeros(1, tokenizer.size)
    for make in ENGINES:
        started = time.perf_counter()
        engine = make(tokenizer)
        _follow(engine, work[0], tokenizer, logits)  # its tables, and whatever it compiles when first used
        once = time.perf_counter() - started
        engine.times = Times(once)
        engines.append(engine)
    for one in work:
        for engine in engines:
            _follow(engine, one, tokenizer, logits)
    return engines


def _follow(engine: Engine, work: Work, tokenizer: Tokenizer, logits: Tensor) -> None:
    (tools, calls), times = work, engine.times
    try:
        started = time.perf_counter()
        engine.compile(tools)
        engine.begin()
        engine.mask()
        times.first.append(time.perf_counter() - started)
    except (SchemaError, ValueError) as error:
        times.refused.append(first_line(error))
        return
    schemas = {tool["name"]: tool for tool in tools}
    for call in calls:
        engine.begin()
        text = engine.before + write_call(call, schemas.get(call.name)) + engine.after
        forced: list[int] = []
        for id_ in tokenizer.encode(text):
            started = time.perf_counter()
            engine.mask()
            masked = time.perf_counter()
            engine.apply(logits)
            applied = time.perf_counter()
            times.mask.append(masked - started)
            times.applied.append(applied - started)
            # Asked for only now: it may work out what the mask needs too.
            forced = forced or engine.forced()
            times.tokens += 1
            times.forced += forced[:1] == [id_]
            forced = forced[1:] if forced[:1] == [id_] else []
            if not engine.advance(id_):
                times.refused.append(text)
                break


def table(engines: Sequence[Engine]) -> Table:
    rows = [["", *(engine.name for engine in engines)]]

    def row(name: str, show: Callable[[Times], str]) -> None:
        rows.append([name, *(show(engine.times) for engine in engines)])

    row("mask, µs: p50, p99", lambda t: _quantiles(t.mask, 1e6, 0))
    row("mask and apply to logits, µs: p50, p99", lambda t: _quantiles(t.applied, 1e6, 0))
    row("new tools to first mask, ms: p50, p99", lambda t: _quantiles(t.first, 1e3, 1))
    row("once per vocabulary, s", lambda t: f"{t.once:.2f}")
    row("tokens that must come", lambda t: f"{t.forced / t.tokens:.1%}" if t.tokens else "-")
    row("sets or calls refused", lambda t: str(len(t.refused)))
    return rows


def _quantiles(seconds: Sequence[float], scale: float, digits: int) -> str:
    if len(seconds) < 2:
        return "-"
    cuts = statistics.quantiles(seconds, n=100)
    return ", ".join(f"{cut * scale:,.{digits}f}" for cut in (cuts[49], cuts[98]))
