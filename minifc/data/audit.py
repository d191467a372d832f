"""What a data set asks of the tokenizer: which tags it uses, and which it only spells."""

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from minifc.data.examples import Draft
from minifc.text.calls import TAGS
from minifc.text.messages import Message, is_assistant


@dataclass(frozen=True)
class Audit:
    """Tags in a data set, each with the number of its occurrences."""

    tags: Counter[str]  # our tags, and others that were asked for: they can become tokens
    unknown: Counter[str]  # tags in verbatim text that are not ours, and stay text
    spelled: Counter[str]  # tags of ours in what the model says in structured rows, where they stay text


def audit(drafts: Iterable[Draft], tokens: Sequence[str] = (), ours: Sequence[str] = TAGS) -> Audit:
    """Count our tags, which are those of a dialect, and `tokens`."""
    tags: Counter[str] = Counter()
    unknown: Counter[str] = Counter()
    spelled: Counter[str] = Counter()
    for draft in drafts:
        tags.update(piece.text for piece in draft.pieces if piece.control)
        messages = draft.conversation.messages
        if draft.conversation.verbatim:
            unknown += unknown_tags(messages)
        else:
            spelled += spelled_tags(messages, (*TAGS, *ours))
    return Audit(Counter({tag: tags[tag] for tag in dict.fromkeys((*ours, *tokens)) if tags[tag]}), unknown, spelled)


def unknown_tags(messages: Sequence[Message]) -> Counter[str]:
    """Tags in verbatim text that are not ours: pairs of some, such as <tool_reponse>, and closings like </thnik> in
    which one of ours is misspelled."""
    text = "\n".join(str(message.get("content")) for message in messages)
    closing = Counter(tag for tag in re.findall(r"</[\w-]+>", text) if tag not in TAGS)
    return Counter(
        {
            opened if opened in text else tag: count
            for tag, count in closing.items()
            if (opened := tag.replace("/", "")) in text or difflib.get_close_matches(tag.lower(), TAGS, 1, 0.75)
        }
    )


def spelled_tags(messages: Sequence[Message], ours: Sequence[str]) -> Counter[str]:
    """Our tags in what the model says in structured messages, where any text is data: they stay text."""
    said = [str(message.get("content") or "") for message in messages if is_assistant(message)]
    return Counter({tag: count for tag in ours if (count := sum(text.count(tag) for text in said))})
