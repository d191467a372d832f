"""The mixture: how many rows of which category from which source, what is left out, and what is held out."""

import random
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from minifc.data import make_examples, read_conversation
from minifc.data.public import intents, seal, sgd
from minifc.data.public.catalogue import entries
from minifc.data.public.compose import MAKERS, Pool, Row
from minifc.data.public.functions import Ask, Request
from minifc.data.public.leaderboard import Leaderboard
from minifc.data.public.sources import sources
from minifc.text.tokenizer import Tokenizer

Shares = Mapping[str, Mapping[str, int]]  # by category and source

# Of 1,070 rows. One in five calls nothing: refusals are learned first, and the second of several calls last (LOG.md).
TRAINING: Shares = {
    "simple": {"catalogue": 105, "described": 16, "sgd": 43, "snips": 17, "nlu": 16, "seal": 3},
    "multiple": {"catalogue": 98, "described": 15, "sgd": 36, "snips": 9, "nlu": 9, "seal": 3},
    "parallel": {"catalogue": 175, "described": 18, "sgd": 10, "snips": 4, "nlu": 3},
    "parallel_multiple": {"catalogue": 160, "described": 20, "sgd": 20, "snips": 4, "nlu": 4, "seal": 12},
    "irrelevance": {"catalogue": 92, "described": 10, "sgd": 26, "snips": 8, "nlu": 9, "open": 45, "missing": 20},
    "answered": {"sgd": 60},
}
# Of a hundred questions of each category.
DEV: Shares = {
    "simple": {"catalogue": 60, "sgd": 30, "snips": 10},
    "multiple": {"catalogue": 60, "sgd": 30, "snips": 10},
    "parallel": {"catalogue": 90, "sgd": 10},
    "parallel_multiple": {"catalogue": 80, "sgd": 20},
    "irrelevance": {"catalogue": 55, "sgd": 25, "snips": 10, "missing": 10},
}
# No training row has a function or a request of these.
HELD_OUT_DOMAINS = ("astronomy", "gardening", "cars")
HELD_OUT_SOURCES = ("sgd/RideSharing", "sgd/Travel", "sgd/Payment", "sgd/Messaging", "snips/SearchScreeningEvent")
TRIES = 8  # for each row


def read_pools(folder: Path) -> tuple[Pool, Pool]:
    """What training rows and what held-out questions are drawn from. folder: as `sources.check` wants it."""
    clones = {name: folder / name for name in sources()}
    names = {name: source.names(clones[name]) for name, source in sources().items()}
    labelled = list(intents.read_nlu(clones["nlu"], names["nlu"]))
    asks = {
        "sgd": list(sgd.read_sgd(clones["sgd"], names["sgd"])),
        "snips": list(intents.read_snips(clones["snips"], names["snips"])),
        "nlu": [one for one in labelled if isinstance(one, Ask)],
    }
    exchanges = list(sgd.read_exchanges(clones["sgd"], names["sgd"]))
    open_ = [one for one in labelled if isinstance(one, Request)]
    open_ += intents.read_clinc(clones["clinc"], names["clinc"])
    functions = seal.read_functions(clones["seal"])
    whole = list(seal.read_requests(clones["seal"], names["seal"], functions))
    training, held_out = [
        Pool(
            {
                "catalogue": [entry for entry in entries() if (entry.function.domain in HELD_OUT_DOMAINS) == out],
                "described": seal.read_entries(functions),
            },
            {
                name: _once(ask for ask in some if ask.source.startswith(HELD_OUT_SOURCES) == out)
                for name, some in asks.items()
            },
            open_,
            whole,
            list(functions.values()),
            [one for one in exchanges if one.ask.source.startswith(HELD_OUT_SOURCES) == out],
        )
        for out in (False, True)
    ]
    return training, held_out


def _once(asks: Iterable[Ask]) -> list[Ask]:
    """Without repetitions."""
    return list({ask.text: ask for ask in asks}.values())


def make_rows(
    pool: Pool, count: int, shares: Shares, seed: int, leaderboard: Leaderboard | None
) -> tuple[list[Row], Counter[str]]:
    """About `count` rows in these shares, shuffled, so that each beginning of the list has them too; and how many were
    left out and why.

    leaderboard: what no row may share with it.
    """
    rng = random.Random(seed)
    total = sum(sum(some.values()) for some in shares.values())
    rows: list[Row] = []
    said: set[tuple[str, bool]] = set()
    left_out: Counter[str] = Counter()
    for category, some in shares.items():
        for source, share in some.items():
            wanted = len(rows) + round(count * share / total)
            for _ in range(TRIES * (wanted - len(rows))):
                if len(rows) == wanted:
                    break
                row = MAKERS[category](pool, source, rng)
                if row is None:
                    continue  # the drawn wording cannot say that
                key = (row["messages"][0]["content"], category == "irrelevance")
                why = "said before" if key in said else leaderboard.shares(row) if leaderboard else None
                if why:
                    left_out[why] += 1
                else:
                    said.add(key)
                    rows.append(row)
    rng.shuffle(rows)
    return rows, left_out


def lengths(rows: Sequence[Row], tokenizer: Tokenizer) -> list[int]:
    """The tokens of each row in the format `gemma`."""
    conversations = [read_conversation(row, f"row {number}") for number, row in enumerate(rows, 1)]
    return [len(example.ids) for example in make_examples(conversations, tokenizer, "gemma", sys.maxsize).fitting]


def table(rows: Sequence[Row], tokens: Sequence[int] | None = None) -> list[list[str]]:
    """Rows, and their tokens where they were counted, by source and category, with the sources' licences."""
    licences = {name: source.licence for name, source in sources().items()} | {"catalogue": "MIT"}
    counts: Counter[tuple[str, str]] = Counter()
    sums: Counter[tuple[str, str]] = Counter()
    for row, length in zip(rows, tokens or [0] * len(rows), strict=True):
        key = row["source"].split("/")[0], row["category"]
        counts[key] += 1
        sums[key] += length
    cells = [
        [name, category, f"{counts[name, category]:,}", f"{sums[name, category]:,}", licence]
        for name, licence in licences.items()
        for category in MAKERS
        if counts[name, category]
    ]
    whole = ["all", "", f"{len(rows):,}", f"{sum(sums.values()):,}", ""]
    lines = [["source", "category", "rows", "tokens", "licence"], *cells, whole]
    return lines if tokens else [line[:3] + line[4:] for line in lines]
