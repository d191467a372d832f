"""python -m minifc.audit: what is in a data file, before anything is trained on it.

Counts rows, tokens and what of them is learned from, names the longest conversation, tags that are
no tokens, and tokens that never occur, and lists the rows that cannot be read. Calls are held to the schemas of
their tools. What is doubtful is told once, with its count and its first row: rows that say nearly the same, and with
`--leaderboard` those that a test of functions would know. `--row` shows one
conversation as the model will see it, with the tokens it learns from between marks. `--format`, `--calls`
and `--learn` are those of `minifc.train`: with `--format course --calls verbatim --learn all`, its `--recipe course`.
"""

import re
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from minifc.cli import Parser, add_data_options, run_command
from minifc.data import Audit, Conversation, Draft, audit, draft, read_conversation, read_rows, with_canonical_calls
from minifc.data.conversations import what_was_left
from minifc.data.public.leaderboard import Leaderboard
from minifc.errors import CallError, DataError, MinifcError, OptionError
from minifc.evaluation.survey import Survey, survey
from minifc.hub import TINY, find_data, find_model
from minifc.terminal import colourful, note, printable, text_histogram, text_table
from minifc.text.dialects import FORMATS, Dialect, dialect_of
from minifc.text.template import Format, Rendered, encode
from minifc.text.tokenizer import Tokenizer, load_tokenizer
from minifc.text.turns import parse_calls

LEARNED, END_LEARNED = "\u27ea", "\u27eb"  # ⟪ and ⟫
SHOWN = 10  # rows named before the rest are counted


@dataclass
class Findings:
    """What was seen in the rows."""

    rendered: dict[str, Rendered] = field(default_factory=dict)  # by the source of the row
    refused: list[str] = field(default_factory=list)
    audit: Audit = field(default_factory=lambda: audit([]))
    conversations: list[Conversation] = field(default_factory=list)  # of the rows that can be learned from
    unreadable: int = 0  # turns whose calls cannot be read, and which are learned from all the same


def main(argv: Sequence[str]) -> None:
    parser = Parser("audit", __doc__ or "", "python -m minifc.audit conversations.jsonl --row 3")
    parser.add_argument("data", help="JSON, JSON Lines or parquet file, or a data set of the hub")
    add_data_options(parser)
    parser.add_argument("--model", default=TINY, help="whose tokenizer counts the tokens (%(default)s)")
    parser.add_argument("--format", choices=FORMATS, default="gemma", help="format of the turns (default: %(default)s)")
    parser.add_argument(
        "--calls", choices=["canonical", "verbatim"], default="canonical",
        help="calls in the data's own text: as minifc writes them, or as they are (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--learn", choices=["model", "all"], default="model",
        help="what is learned from: the model's turns, or every token (%(default)s)",
    )  # fmt: skip
    parser.add_argument("--length", type=int, default=2048, help="tokens in a row of training (%(default)s)")
    parser.add_argument(
        "--leaderboard", type=Path, metavar="FOLDER",
        help="data folder of bfcl-eval: count rows that share a function's name or 8 words with its questions",
    )  # fmt: skip
    parser.add_argument("--row", type=int, help="show this conversation, counting from 1")
    args = parser.parse(argv)
    if args.length < 1:
        raise OptionError(f"--length {args.length}: must be at least 1")

    leaderboard = Leaderboard.read(args.leaderboard) if args.leaderboard else None
    tokenizer = load_tokenizer(find_model(args.model).path)
    rows = read_rows(find_data(args.data, args.configuration, args.split).files)
    if args.row is not None:
        if not 1 <= args.row <= len(rows):
            raise OptionError(f"--row {args.row}: {args.data} has rows 1 to {len(rows)}")
        rows = rows[args.row - 1 : args.row]
    findings = examine(rows, tokenizer, args.format, args.calls == "canonical")
    if args.row is not None:
        if findings.refused:
            raise DataError(findings.refused[0])
        (rendered,) = findings.rendered.values()
        if args.learn == "all":
            rendered = replace(rendered, mask=[True] * len(rendered.ids))
        print(marked(rendered, tokenizer, colourful(sys.stdout)))
    else:
        dialect = dialect_of(args.format, tokenizer)
        surveyed = survey(findings.conversations, leaderboard)
        table = summary(findings, surveyed, len(rows), args.length, args.learn == "all", dialect)
        print(text_table([["data", args.data], *table]))
        if findings.rendered:
            print("\ntokens in a conversation, and how many conversations have as many")
            print(text_histogram([len(rendered.ids) for rendered in findings.rendered.values()], args.length))
        print(end="\n" if findings.refused else "")
        for why in refusals(findings.refused):
            print(f"cannot be learned from: {printable(why)}")
        remarks = [f"note: {said}" for said in what_was_left(findings.conversations)]
        remarks += [f"warning: {said}" for said in surveyed.warnings()]
        print(end="\n" if remarks else "")
        for remark in remarks:
            note(remark)
        if args.skip_bad is not None and len(findings.refused) > args.skip_bad:
            raise DataError(f"{args.data}: {len(findings.refused):,} bad rows are more than --skip-bad {args.skip_bad}")


def examine(
    rows: Sequence[tuple[str, object]], tokenizer: Tokenizer, format: Format, canonical: bool = True
) -> Findings:
    """Read every row, register the tags that occur with the tokenizer, and render what can be rendered.

    canonical: with calls rewritten in minifc's one form; a row that has one that cannot be read is then refused.
    """
    findings = Findings()
    drafts: list[Draft] = []
    for source, row in rows:
        try:
            conversation = read_conversation(row, source)
            drafts.append(draft(with_canonical_calls(conversation) if canonical else conversation, tokenizer, format))
        except MinifcError as error:
            findings.refused.append(named(error, source))
    dialect = dialect_of(format, tokenizer)
    findings.audit = audit(drafts, ours=dialect.tokens)
    tokenizer.add_tokens(list(findings.audit.tags), ids=dialect.ids)
    for one in drafts:
        source = one.conversation.source
        try:
            rendered = encode(one.pieces, tokenizer)
        except MinifcError as error:
            findings.refused.append(named(error, source))
            continue
        findings.rendered[source] = rendered
        findings.conversations.append(one.conversation)
        for turn in learned_turns(rendered):
            try:
                parse_calls(turn, tokenizer, format)
            except CallError:
                findings.unreadable += 1
    return findings


def named(error: MinifcError, source: str) -> str:
    """The error with the row it is in, once."""
    return str(error) if str(error).startswith(source) else f"{source}: {error}"


def refusals(refused: Sequence[str]) -> list[str]:
    """A line for each kind of reason: the first row that has it, and how many others have it too."""
    kinds: dict[str, list[str]] = {}
    for why in refused:
        reason = why.partition(", row ")[2].partition(": ")[2] or why
        kinds.setdefault(re.sub(r"'[^']*'|\"[^\"]*\"|\d+", "#", reason), []).append(why)
    lines = [f"{rows[0]}{f' (and {len(rows) - 1:,} more like it)' if rows[1:] else ''}" for rows in kinds.values()]
    rest = len(lines) - SHOWN
    return [*lines[:SHOWN], *([f"... and {rest} more reasons"] if rest > 0 else [])]


def learned_turns(rendered: Rendered) -> Iterator[list[int]]:
    """The ids of each stretch that is learned from: the model's turns."""
    turn: list[int] = []
    for id_, learned in zip(rendered.ids, rendered.mask, strict=True):
        if learned:
            turn.append(id_)
        elif turn:
            yield turn
            turn = []
    if turn:
        yield turn


def summary(
    findings: Findings, surveyed: Survey, rows: int, length: int, every_token: bool, dialect: Dialect
) -> list[list[str]]:
    """A line per finding."""
    sizes = {source: len(rendered.ids) for source, rendered in findings.rendered.items()}
    total = sum(sizes.values())
    learned = total if every_token else sum(sum(rendered.mask) for rendered in findings.rendered.values())
    lines = [["rows", f"{rows:,}"], ["cannot be learned from", f"{len(findings.refused):,}"]]
    if sizes:
        longest = max(sizes, key=sizes.__getitem__)
        long = sum(size > length for size in sizes.values())
        lines += [
            ["tokens", f"{total:,}"],
            ["learned from", f"{learned:,} ({learned / total:.0%})"],
            ["median conversation", f"{statistics.median(sizes.values()):,.0f} tokens"],
            ["longest conversation", f"{sizes[longest]:,} tokens ({longest})"],
            [f"longer than --length {length}", f"{long:,}, which training leaves out"],
            ["calls", f"{surveyed.calls:,}"],
            ["turns of several calls", f"{surveyed.parallel:,}"],
            ["tools offered, none called", f"{surveyed.declining:,} of {surveyed.offering:,} conversations with tools"],
            ["tools that are never called", names(surveyed.never_called, len(surveyed.offered))],
            ["turns whose calls cannot be read", f"{findings.unreadable:,}"],
        ]
    tags = findings.audit.tags
    lines.append(["tags that become tokens", " ".join(f"{tag} {n:,}" for tag, n in tags.items()) or "none"])
    lines.append(["tags that never occur", " ".join(tag for tag in dialect.tokens if not tags[tag]) or "none"])
    text = findings.audit.unknown + findings.audit.spelled
    lines.append(["tags that stay text", " ".join(f"{tag} {n:,}" for tag, n in text.items()) or "none"])
    if findings.audit.spelled:
        lines.append(["", "the model's text spells tags of ours, which in structured rows is data: give the calls"])
        lines.append(["", "as tool_calls, or the messages as conversations without tools, whose tags count"])
    return lines


def names(some: Sequence[str], of: int) -> str:
    """How many these are, and the first of them."""
    shown = ", ".join(some[:3]) + (", ..." if some[3:] else "")
    return f"{len(some):,} of {of:,}{f': {shown}' if some else ''}"


def marked(rendered: Rendered, tokenizer: Tokenizer, colour: bool) -> str:
    """The conversation as text; what is learned from stands between ⟪ and ⟫, and is green where there is colour."""
    opening, closing = (f"\033[32m{LEARNED}", f"{END_LEARNED}\033[0m") if colour else (LEARNED, END_LEARNED)
    parts: list[str] = []
    run: list[int] = []
    learning = False
    for id_, learned in [*zip(rendered.ids, rendered.mask, strict=True), (-1, not rendered.mask[-1])]:
        if learned != learning or id_ < 0:
            text = tokenizer.decode(run)
            parts.append(f"{opening}{text}{closing}" if learning else text)
            run, learning = [], learned
        run.append(id_)
    return "".join(parts)


if __name__ == "__main__":
    run_command(main)
