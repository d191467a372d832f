"""python -m minifc.make: training rows of the examples in your tools' docstrings.

No other model is asked: values are exchanged, requests framed otherwise and joined, other tools put beside, names
masked, and the right tool taken away. `--keep-out N` leaves the last N examples of each tool out and writes them
beside, to ask about after training. What examples do not show is not made up: a few of each kind say more than many
of one.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from minifc.calling.tools import Tool
from minifc.cli import Parser, new_file, require_option, run_command, seed_number
from minifc.data.made import KINDS, Maker, row_of
from minifc.errors import CallError, OptionError
from minifc.files import json_lines, write_text
from minifc.own_tools import load_tools
from minifc.terminal import note, text_table
from minifc.text.examples import Example

ROWS = 100


def main(argv: Sequence[str]) -> None:
    parser = Parser("make", __doc__ or "", "python -m minifc.make --tools my_tools.py --to rows.jsonl --keep-out 1")
    parser.add_argument("--tools", type=Path, required=True, metavar="FILE", help="a Python file with tools")
    parser.add_argument("--to", type=new_file, required=True, metavar="FILE", help="JSON lines to write")
    parser.add_argument("--rows", type=int, default=ROWS, metavar="N", help="of each kind for each tool (%(default)s)")
    parser.add_argument(
        "--keep-out", type=int, default=0, metavar="N",
        help="examples of each tool to write to FILE.kept_out.jsonl instead (%(default)s)",
    )  # fmt: skip
    parser.add_argument("--seed", type=seed_number, default=0, help="draws everything (%(default)s)")
    args = parser.parse(argv)
    require_option(args.rows >= 1, "rows", args.rows, "must be at least 1")
    require_option(args.keep_out >= 0, "keep-out", args.keep_out, "must be 0 or more")
    kept_out = args.to.with_name(f"{args.to.stem}.kept_out.jsonl")
    for path in (args.to, kept_out):
        if path.exists():
            raise OptionError(f"--to {args.to}: {path} is there already; name another file")
    tools = load_tools(args.tools)
    schemas = [tool.schema for tool in tools]
    used: dict[str, Sequence[Example]] = {}
    kept: list[Example] = []
    for tool in tools:
        examples = tool.examples
        if len(examples) <= args.keep_out:
            have = f"{len(examples)} examples" if examples else 'no example, >>> "what is said" -> name(argument=value)'
            raise OptionError(f"--tools {args.tools}: {tool.name} has {have}; at least {args.keep_out + 1} are needed")
        used[tool.name] = examples[: len(examples) - args.keep_out]
        kept += examples[len(examples) - args.keep_out :]
    rows = list(_right(Maker(schemas, used, args.seed, [one.request for one in kept]).rows(args.rows), tools))
    write_text(args.to, json_lines(rows))
    if kept:
        write_text(kept_out, json_lines(row_of(example.request, example.calls, schemas) for example in kept))
    _report(rows, tools)
    note(f"{args.to}: {len(rows):,} rows" + (f"; {kept_out}: {len(kept)} examples" if kept else ""))


def _right(rows: Iterable[dict[str, Any]], tools: Sequence[Tool]) -> Iterable[dict[str, Any]]:
    """The rows whose calls keep to their schemas: an exchanged value may break a rule that no example shows."""
    checks = {tool.name: tool for tool in tools}
    for row in rows:
        calls = [call["function"] for call in row["messages"][1].get("tool_calls", ())]
        try:
            for call in calls:
                if call["name"] in checks:  # and is not masked
                    checks[call["name"]].check(json.loads(call["arguments"]))
        except CallError:
            continue
        yield row


def _report(rows: Sequence[dict[str, Any]], tools: Sequence[Tool]) -> None:
    """How many rows of each kind each tool has, and one of each kind as it is said."""
    counts = Counter((row["tool"], row["kind"]) for row in rows)
    table = [[tool.name, *(f"{counts[tool.name, kind]:,}" for kind in KINDS)] for tool in tools]
    print(text_table([["tool", *KINDS], *table]))
    for kind in KINDS:
        row = next((row for row in rows if row["kind"] == kind), None)
        if row is not None:
            said, answer = row["messages"]
            calls = [call["function"] for call in answer.get("tool_calls", ())]
            made = [f"{call['name']} {call['arguments']}" for call in calls]
            print(f"\n{kind}: {said['content']}\n  " + ("\n  ".join(made) or answer["content"]))


if __name__ == "__main__":
    run_command(main)
