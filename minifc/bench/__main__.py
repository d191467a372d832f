"""python -m minifc.bench: the figures that README quotes, measured again.

held-out: how well the embedded model calls tools it has never seen, over several seeds and beside baselines.
grammar: what it costs to hold a call to its schemas, beside llguidance and xgrammar.
train, decode: tokens a second and memory, beside transformers and PEFT.
serve: tokens a second and the time to the first, of one client and of many, beside other servers.
`python -m minifc.bench WHAT --help` lists the options of each.
"""

from collections.abc import Sequence

from minifc.bench import decoding, grammar, held_out, serving, training
from minifc.cli import Parser, run_command

BENCHMARKS = {
    "held-out": held_out.main,
    "grammar": grammar.main,
    "train": training.main,
    "decode": decoding.main,
    "serve": serving.main,
}


def main(argv: Sequence[str]) -> None:
    parser = Parser("bench", __doc__ or "", "python -m minifc.bench held-out --to held-out.json")
    parser.add_argument("what", choices=list(BENCHMARKS), help="what to measure")
    BENCHMARKS[parser.parse(argv[:1]).what](argv[1:])


if __name__ == "__main__":
    run_command(main)
