"""python -m minifc.data.public: rows for teaching function calling, made from public data and a catalogue.

Clone the repositories of sources.json into one folder, each under its name there, and check out its commit; the
command verifies the files. It writes into --out:

    train.jsonl         rows in OpenAI's shape, shuffled: any beginning of it is a good mixture too
    dev.jsonl           questions about functions and services that no training row has, 100 of each category
    dev/                the same in the leaderboard's form, for `python -m minifc.evaluate --bfcl`
    report.json         counts, what was left out, and the sha256 of each file read and written
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from minifc.cli import Parser, new_folder, require_option, run_command, seed_number
from minifc.data.public.leaderboard import Leaderboard, questions
from minifc.data.public.mixture import DEV, TRAINING, lengths, make_rows, read_pools, table
from minifc.data.public.sources import check
from minifc.files import json_lines, whole_folder
from minifc.terminal import note, text_table
from minifc.text.tokenizer import load_tokenizer

ROWS = 40_000
QUESTIONS = 100  # of each category
LIMITS = (512, 1024)  # tokens


def main(argv: Sequence[str]) -> None:
    parser = Parser("data.public", __doc__ or "", "python -m minifc.data.public --sources clones --out runs/mixture")
    parser.add_argument("--sources", type=Path, required=True, help="folder of the clones")
    parser.add_argument("--out", type=new_folder, required=True, help="folder to write")
    parser.add_argument("--rows", type=int, default=ROWS, help="of training data, about (%(default)s)")
    parser.add_argument("--seed", type=seed_number, default=0, help="draws everything (%(default)s)")
    parser.add_argument(
        "--leaderboard", type=Path, metavar="FOLDER",
        help="data folder of bfcl-eval: leave out rows with one of its functions' names, or with 8 words of a question",
    )  # fmt: skip
    parser.add_argument("--tokenizer", type=Path, metavar="FOLDER", help="count tokens with it, in the format gemma")
    args = parser.parse(argv)
    require_option(args.rows >= 1, "rows", args.rows, "must be at least 1")
    tokenizer = load_tokenizer(args.tokenizer) if args.tokenizer else None
    hashes = check(args.sources)
    leaderboard = Leaderboard.read(args.leaderboard) if args.leaderboard else None
    if leaderboard is None:
        note("note: without --leaderboard, rows may share words with its questions; quote no scores of it")
    training, held_out = read_pools(args.sources)
    train, left_out = make_rows(training, args.rows, TRAINING, args.seed, leaderboard)
    dev, _ = make_rows(held_out, QUESTIONS * len(DEV), DEV, args.seed, leaderboard)
    tokens = lengths(train, tokenizer) if tokenizer else None
    written = {"train.jsonl": json_lines(train), "dev.jsonl": json_lines(dev)}
    written |= {f"dev/{name}": text for name, text in questions(dev).items()}
    report = {
        "rows": args.rows,
        "seed": args.seed,
        "left out": dict(left_out),
        "table": table(train, tokens),
        "written": {name: hashlib.sha256(text.encode()).hexdigest() for name, text in written.items()},
        "read": hashes,
    }
    with whole_folder(args.out) as folder:
        for name, text in (written | {"report.json": json.dumps(report, indent=1) + "\n"}).items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
    print(text_table(table(train, tokens)))
    if tokens:
        shares = {limit: sum(length < limit for length in tokens) / len(tokens) for limit in LIMITS}
        shorter = ", ".join(f"{share:.1%} shorter than {limit:,}" for limit, share in shares.items())
        print(f"tokens: {shorter}, at most {max(tokens):,}")
    for why, count in left_out.items():
        print(f"left out: {count:,}, {why}")


if __name__ == "__main__":
    run_command(main)
