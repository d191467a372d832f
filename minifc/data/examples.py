"""Conversations to examples: ids, and which of them are learned from."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from minifc.data.conversations import Conversation
from minifc.errors import CallError, DataError, TemplateError, TokenizerError
from minifc.text.messages import is_assistant
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
    written = _without_turns(written, conversation)
    if not any(piece.learned for piece in written):
        raise DataError(
            f"{conversation.source}: nothing to learn from; no turn is the model's, or none is to be learned"
        )
    return Draft(conversation, written)


def _without_turns(written: list[Piece], conversation: Conversation) -> list[Piece]:
    """The pieces with nothing to learn in the model's turns that are not to be learned from. Raises DataError where
    the chat template does not write one stretch to learn from for each turn of the model."""
    if not conversation.unlearned:
        return written
    turns = [number for number, message in enumerate(conversation.messages) if is_assistant(message)]
    starts = [i for i, piece in enumerate(written) if piece.learned and not (i and written[i - 1].learned)]
    if len(starts) != len(turns):
        raise DataError(f"{conversation.source}: turns of weight 0, and a chat template that puts turns together")
    kept: list[Piece] = []
    stretch = -1
    for number, piece in enumerate(written):
        stretch += number in starts
        learned = piece.learned and turns[stretch] not in conversation.unlearned
        kept.append(replace(piece, learned=learned))
    return kept


def encode_drafts(
    drafts: Sequence[Draft], tokenizer: Tokenizer, length: int, every_token: bool = False, cut: bool = False
) -> Examples:
    """Encode every draft. Raises DataError naming the row of one that holds no text.

    every_token: learn from all tokens, not from the model's turns alone; but not in a conversation that says which of
        these are learned from.
    cut: one that is longer than a row goes on in the next, which does not see what came before.
    """
    examples = Examples([])
    for draft in drafts:
        source = draft.conversation.source
        try:
            rendered = encode(draft.pieces, tokenizer)
        except TokenizerError as error:
            raise DataError(f"{source}: {error}") from None
        whole = every_token and not draft.conversation.unlearned
        mask = [True] * len(rendered.ids) if whole else rendered.mask
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
