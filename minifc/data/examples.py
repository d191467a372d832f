"""Conversations to examples: ids, and which of them are learned from."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from minifc.data.conversations import Conversation
from minifc.errors import CallError, DataError, TemplateError, TokenizerError
from minifc.text.template import Format, Piece, encode, pieces
from minifc.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Example:
    """One conversation: its ids, which of them are learned from, and where it came from."""

    ids: list[int]
    mask: list[bool]
    source: str = ""


@dataclass(frozen=True)
class Examples:
    """Conversations ready to learn from, and those that are longer than a row."""

    fitting: list[Example]
    too_long: list[Example] = field(default_factory=list)


@dataclass(frozen=True)
class Draft:
    """A conversation as its chat template writes it, not yet encoded: which tags it uses decides about the tokens."""

    conversation: Conversation
    pieces: list[Piece]


def draft(conversation: Conversation, tokenizer: Tokenizer, format: Format, tags: Sequence[str] = ()) -> Draft:
    """Render a conversation. Raises DataError naming its row where it cannot be, or holds nothing to learn from.

    tags: further tags that count in verbatim text.
    """
    messages, tools, verbatim = conversation.messages, conversation.tools, conversation.verbatim
    try:
        written = pieces(messages, tokenizer, tools, format, verbatim=verbatim, tags=tags)
    except (CallError, TemplateError) as error:
        raise DataError(f"{conversation.source}: {error}") from None
    if not any(piece.learned for piece in written):
        raise DataError(f"{conversation.source}: nothing to learn from; no turn is the model's")
    return Draft(conversation, written)


def encode_drafts(
    drafts: Sequence[Draft], tokenizer: Tokenizer, length: int, every_token: bool = False, cut: bool = False
) -> Examples:
    """Encode every draft. Raises DataError naming the row of one that holds no text.

    every_token: learn from all tokens, not from the model's turns alone.
    cut: one that is longer than a row goes on in the next, which does not see what came before.
    """
    examples = Examples([])
    for draft in drafts:
        source = draft.conversation.source
        try:
            rendered = encode(draft.pieces, tokenizer)
        except TokenizerError as error:
            raise DataError(f"{source}: {error}") from None
        mask = [True] * len(rendered.ids) if every_token else rendered.mask
        if len(mask) <= length:
            examples.fitting.append(Example(rendered.ids, mask, source))
            continue
        examples.too_long.append(Example(rendered.ids, mask, source))
        for start in range(0, len(mask) if cut else 0, length):
            part = slice(start, start + length)
            if any(mask[part][1:]):  # the first token of a row follows nothing
                examples.fitting.append(Example(rendered.ids[part], mask[part], source))
    return examples


def make_examples(
    conversations: Sequence[Conversation],
    tokenizer: Tokenizer,
    format: Format,
    length: int,
    every_token: bool = False,
    cut: bool = False,
) -> Examples:
    """Render and encode every conversation, as `draft` and `encode_drafts` do."""
    drafts = [draft(conversation, tokenizer, format) for conversation in conversations]
    return encode_drafts(drafts, tokenizer, length, every_token, cut)
