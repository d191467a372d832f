"""What a data set asks of the tokenizer."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from minifc.data.conversations import Conversation
from minifc.errors import CallError, DataError, TemplateError
from minifc.text.calls import TAGS
from minifc.text.template import Format, spelled_tags, unknown_tags, used_tags


@dataclass(frozen=True)
class Audit:
    """What a data set asks of the tokenizer and of the row length."""

    tags: Counter[str]  # our tags, and in how many places they stand
    unknown: Counter[str]  # tags in the text that are not ours, and stay text
    spelled: Counter[str]  # tags of ours in what the model says in structured rows, where they stay text


def audit(conversations: Sequence[Conversation], format: Format, tokens: Sequence[str] = ()) -> Audit:
    """Count our tags and `tokens`. Raises DataError naming the row that cannot be rendered."""
    tags: Counter[str] = Counter()
    unknown: Counter[str] = Counter()
    spelled: Counter[str] = Counter()
    counted = tuple(dict.fromkeys((*TAGS, *tokens)))
    for conversation in conversations:
        try:
            tags += used_tags(conversation.messages, conversation.tools, format, conversation.verbatim, counted)
            if conversation.verbatim:
                unknown += unknown_tags(conversation.messages)
            else:
                spelled += spelled_tags(conversation.messages)
        except (CallError, TemplateError) as error:
            raise DataError(f"{conversation.source}: {error}") from None
    return Audit(Counter({tag: tags[tag] for tag in counted if tags[tag]}), unknown, spelled)
