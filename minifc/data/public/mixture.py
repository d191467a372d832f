"""The mixture: how many rows of which category from which source, what is filtered out, and what is held out."""

import hashlib
import json
import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from minifc.calling.schema import find_error, read_schema
from minifc.data.public import catalogue, intents, seal, sgd
from minifc.data.public.compose import MAKERS, Pool, Row
from minifc.data.public.functions import Ask, Request
from minifc.data.rows import read_rows

# Shares of a thousand rows, by category and source.
SHARES: dict[str, dict[str, int]] = {
    "simple": {"catalogue": 110, "sgd": 62, "snips": 22, "nlu": 20, "seal": 4},
    "multiple": {"catalogue": 105, "sgd": 50, "snips": 14, "nlu": 14, "seal": 5},
    "parallel": {"catalogue": 165, "sgd": 12, "snips": 6, "nlu": 4},
    "parallel_multiple": {"catalogue": 120, "sgd": 24, "snips": 6, "nlu": 6, "seal": 13},
    "irrelevance": {"catalogue": 120, "sgd": 34, "snips": 10, "nlu": 12, "open": 48, "missing": 14},
}
# Kept out of training, for questions that are asked during it.
HELD_OUT_DOMAINS = ("astronomy", "gardening", "cars")
HELD_OUT_SOURCES = ("sgd/RideSharing", "sgd/Travel", "sgd/Payment", "sgd/Messaging", "snips/SearchScreeningEvent")
DEV_SHARES: dict[str, dict[str, int]] = {
    "simple": {"catalogue": 6, "sgd": 3, "snips": 1},
    "multiple": {"catalogue": 6, "sgd": 3, "snips": 1},
    "parallel": {"catalogue": 9, "sgd": 1},
    "parallel_multiple": {"catalogue": 8, "sgd": 2},
    "irrelevance": {"catalogue": 6, "sgd": 3, "snips": 1},
}
OVERLAP = 8  # words in a row in common with a question of the leaderboard


@dataclass
class Report:
    """What was made, and what was left out and why."""

    made: Counter[tuple[str, str]] = field(default_factory=Counter)  # (source, category)
    left_out: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Leaderboard:
    """What a row must not share with the Berkeley Function Calling Leaderboard."""

    names: frozenset[str]
    grams: frozenset[tuple[str, ...]]

    @classmethod
    def read(cls, folder: Path) -> "Leaderboard":
        """All names of functions, and all runs of eight words of questions, in all files of its data folder."""
        names, grams = set(), set()
        for _, row in read_rows(sorted(folder.glob("BFCL_v*.json"))):
            names |= {function["name"] for function in row.get("function", [])}
            for turn in row.get("question", []):
                for message in turn:
                    grams |= set(_grams(str(message.get("content", ""))))
        return cls(frozenset(names), frozenset(grams))

    def shares(self, row: Row) -> str | None:
        """What a row shares with it, or None."""
        if any(tool["function"]["name"] in self.names for tool in row["tools"]):
            return "a function name of the leaderboard"
        if any(gram in self.grams for gram in _grams(row["messages"][0]["content"])):
            return f"{OVERLAP} words of a question of the leaderboard"
        return None


def _grams(text: str) -> list[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return [tuple(words[i : i + OVERLAP]) for i in range(len(words) - OVERLAP + 1)]


def read_pools(folders: dict[str, Path]) -> tuple[Pool, Pool]:
    """What training rows are drawn from, and what the held-out ones are."""
    labelled = list(intents.read_nlu(folders["nlu"]))
    asks: dict[str, list[Ask]] = {
        "sgd": list(sgd.read_sgd(folders["sgd"])),
        "snips": list(intents.read_snips(folders["snips"])),
        "nlu": [one for one in labelled if isinstance(one, Ask)],
    }
    open_ = [one for one in labelled if isinstance(one, Request)] + list(intents.read_clinc(folders["clinc"]))
    functions = seal.read_functions(folders["seal"])
    whole = list(seal.read_requests(folders["seal"], functions))
    entries = catalogue.entries()
    held = [entry for entry in entries if entry.function.domain in HELD_OUT_DOMAINS]
    kept = [entry for entry in entries if entry.function.domain not in HELD_OUT_DOMAINS]
    beside = list(functions.values())
    training = {name: [ask for ask in some if not ask.source.startswith(HELD_OUT_SOURCES)] for name, some in asks.items()}
    dev = {name: [ask for ask in some if ask.source.startswith(HELD_OUT_SOURCES)] for name, some in asks.items()}
    dev = {name: some for name, some in dev.items() if some}
    return Pool(kept, _evened(training), open_, whole, beside), Pool(held, _evened(dev), open_, whole, beside)


def _evened(asks: dict[str, list[Ask]]) -> dict[str, list[Ask]]:
    """Without repetitions."""
    return {name: list({ask.text: ask for ask in some}.values()) for name, some in asks.items()}


def make_rows(
    pool: Pool, count: int, shares: dict[str, dict[str, int]], seed: int, leaderboard: Leaderboard | None, report: Report
) -> list[Row]:
    """Rows in these shares, shuffled so that each beginning of the list has them too."""
    rng = random.Random(seed)
    total = sum(sum(one.values()) for one in shares.values())
    rows: list[Row] = []
    seen: set[str] = set()
    for category, sources in shares.items():
        for source, share in sources.items():
            wanted = round(count * share / total)
            for _ in range(wanted * 8):
                if not wanted:
                    break
                row = MAKERS[category](pool, source, rng)
                why = "could not be said" if row is None else _why_not(row, seen, leaderboard)
                if row is None or why:
                    report.left_out[why or ""] += 1
                    continue
                seen.add(_key(row))
                report.made[row["source"].split("/")[0], category] += 1
                rows.append(row)
                wanted -= 1
    rng.shuffle(rows)
    return rows


def _key(row: Row) -> str:
    return json.dumps([row["messages"][0]["content"], bool(row["messages"][1].get("tool_calls"))])


def _why_not(row: Row, seen: set[str], leaderboard: Leaderboard | None) -> str | None:
    """Why a row is left out, or None."""
    if _key(row) in seen:
        return "said before"
    if leaderboard and (shared := leaderboard.shares(row)):
        return shared
    return find_wrong(row)


def find_wrong(row: Row) -> str | None:
    """What is wrong with a row's calls, or None."""
    tools = {tool["function"]["name"]: tool["function"]["parameters"] for tool in row["tools"]}
    if len(tools) < len(row["tools"]):
        return "two tools of one name"
    for call in row["messages"][1].get("tool_calls", []):
        name, arguments = call["function"]["name"], call["function"]["arguments"]
        if error := find_error(arguments, read_schema(tools[name], name)):
            return f"arguments against the schema: {error.partition(':')[2] or error}"
    return None


def digest(files: Iterable[Path]) -> str:
    """The sha256 of files, one after the other."""
    sha = hashlib.sha256()
    for file in files:
        sha.update(file.read_bytes())
    return sha.hexdigest()


def table(rows: Sequence[Row]) -> list[list[str]]:
    """Rows by source and category."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        counts[row["source"].split("/")[0]][row["category"]] += 1
    categories = list(MAKERS)
    return [["source", *categories, "rows"]] + [
        [source, *(str(count[c]) for c in categories), str(sum(count.values()))] for source, count in sorted(counts.items())
    ]


def as_json_lines(rows: Sequence[Row]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


