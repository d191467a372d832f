"""A data set as a run learns from it: what can be read, what is kept out, which tags become tokens, what fits a row.

Whatever is left out or stays text is said, with its count and the first place of its kind.
"""

import random
from collections.abc import Collection, Sequence
from pathlib import Path

from minifc.data.audit import Audit
from minifc.data.bad_rows import BadRows
from minifc.data.conversations import Conversation, read_conversations, what_was_left, with_canonical_calls
from minifc.data.examples import Draft, Example, encode_drafts
from minifc.errors import DataError
from minifc.terminal import note
from minifc.text.tokenizer import Tokenizer


def read_readable(path: str | Path | Sequence[Path], canonical: bool, bad: BadRows) -> list[Conversation]:
    """The conversations of data files or folders. Raises DataError if none can be read, or too many cannot.

    What is in the rows and not learned from is said.

    canonical: with calls in minifc's one written form; conversations with calls that cannot be read are left out.
    """
    rows = read_conversations(path, bad)
    for said in what_was_left(rows):
        note(f"note: {said}")
    if not canonical:
        return rows
    readable, errors = [], []
    for row in rows:
        try:
            readable.append(with_canonical_calls(row))
        except DataError as error:
            errors.append(error)
    if not readable:
        raise errors[0]
    if errors:
        note(f"left out: {len(errors):,} of {len(rows):,} conversations have calls that cannot be read; {errors[0]}")
    return readable


def split(rows: Sequence[Conversation], share: float, seed: int) -> tuple[list[Conversation], list[Conversation]]:
    """Conversations to train on, and a share of them to evaluate on, drawn at random. At least one is trained on."""
    rows = list(rows)
    random.Random(seed).shuffle(rows)
    kept = min(len(rows) - 1, round(share * len(rows)))
    return rows[kept:], rows[:kept]


def named_tokens(asked: Sequence[str]) -> list[str]:
    """The tags that --tokens names, beside `auto` and `none`."""
    return [token for token in asked if token not in ("auto", "none")]


def tokens_to_add(asked: Sequence[str], found: Audit, together: Collection[str] = ()) -> list[str]:
    """The tags to register. Raises DataError for one that the data does not have: it would never be learned.

    together: tags that are registered all, where no others are asked for, if the data has one of them.
    """
    named = named_tokens(asked)
    for tag, count in found.unknown.items():
        if tag not in named:
            note(f"note: {tag} occurs {count:,} times in the data but is no tag of minifc's; it stays text")
    for tag, count in found.spelled.items():
        note(f"note: {tag} is spelled {count:,} times in the model's own text and stays text; give calls as tool_calls")
    if "none" in asked:
        return []
    for token in named:
        if not found.tags[token]:
            raise DataError(
                f"--tokens {token}: it never occurs in the data, which has {' '.join(found.tags) or 'no tags'}"
            )
    if named and (left := [tag for tag in found.tags if tag not in named]):
        note(f"note: {' '.join(left)} occur in the data and stay text, as --tokens does not name them")
    if any(tag in found.tags for tag in together):
        return named or list(dict.fromkeys([*together, *found.tags]))
    return named or list(found.tags)


def fitting(
    drafts: Sequence[Draft], tokenizer: Tokenizer, length: int, every_token: bool = False, cut: bool = False
) -> list[Example]:
    """Examples of at most `length` tokens; longer conversations are named, and cut only where that is asked for."""
    examples = encode_drafts(drafts, tokenizer, length, every_token, cut)
    if examples.too_long:
        longest = max(examples.too_long, key=lambda example: len(example.ids))
        note(
            f"{'cut' if cut else 'left out'}: {len(examples.too_long):,} of {len(drafts):,} conversations are longer "
            f"than a row of {length:,} tokens (--length); the longest has {len(longest.ids):,} ({longest.source})"
        )
    return examples.fitting
