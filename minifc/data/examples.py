"""Conversations to examples: ids, and which of them are learned from."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from minifc.data.conversations import Conversation
from minifc.errors import CallError, DataError, TemplateError, TokenizerError
from minifc.text.template import Format, render
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


def make_examples(
    conversations: Sequence[Conversation],
    tokenizer: Tokenizer,
    format: Format,
    length: int,
    every_token: bool = False,
    cut: bool = False,
) -> Examples:
    """Render every conversation. Raises DataError for one with nothing to learn from.

    every_token: learn from all tokens, not from the model's turns alone.
    cut: one that is longer than a row goes on in the next, which does not see what came before.
    """
    examples = Examples([])
    for conversation in conversations:
        try:
            rendered = render(
                conversation.messages, tokenizer, conversation.tools, format, verbatim=conversation.verbatim
            )
        except (CallError, TemplateError, TokenizerError) as error:
            raise DataError(f"{conversation.source}: {error}") from None
        if not any(rendered.mask):
            raise DataError(f"{conversation.source}: nothing to learn from; no turn is the model's")
        mask = [True] * len(rendered.ids) if every_token else rendered.mask
        if len(mask) <= length:
            examples.fitting.append(Example(rendered.ids, mask, conversation.source))
            continue
        examples.too_long.append(Example(rendered.ids, mask, conversation.source))
        for start in range(0, len(mask) if cut else 0, length):
            part = slice(start, start + length)
            if any(mask[part][1:]):  # the first token of a row follows nothing
                examples.fitting.append(Example(rendered.ids[part], mask[part], conversation.source))
    return examples
