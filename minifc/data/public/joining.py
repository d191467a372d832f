"""Several requests as one, as a person says them in one go."""

import random
import re
from collections.abc import Sequence

from minifc.data.public.functions import Ask

_PEOPLE = ("My friend", "My colleague", "A student of mine", "John", "My daughter", "Our client", "Sara", "My boss")
_LINKS = ("Also, {}", "And {}", "Then {}", "After that, {}", "Additionally, {}", "Next, {}", "Oh, and {}", "Plus, {}")
_LAST_LINKS = ("Finally, {}", "Lastly, {}", "And finally, {}")
_LEADS = ("I have a few questions. ", "I need help with several things. ", "A few things: ", "")


def joined(asks: Sequence[Ask], rng: random.Random) -> str:
    """One text that asks for all, in their order."""
    return with_context(asks[0], _joined(asks, rng))


def with_context(ask: Ask, text: str) -> str:
    """The text after the sentence that stands before a request, if there is one."""
    return f"{ask.context} {text}" if ask.context else text


def _joined(asks: Sequence[Ask], rng: random.Random) -> str:
    if all(ask.clauses for ask in asks) and rng.random() < 0.6:
        return _in_one_sentence([rng.choice(ask.clauses) for ask in asks], rng)
    texts = [ask.text if ask.text[-1] in ".?!" else f"{ask.text}." for ask in asks]
    style = rng.random()
    if style < 0.3:
        return " ".join(texts)
    if style < 0.4:
        return rng.choice(_LEADS) + " ".join(f"{number}. {text}" for number, text in enumerate(texts, 1))
    said = texts[0]
    for number, text in enumerate(texts[1:], 2):
        links = (*_LAST_LINKS, rng.choice(_LINKS)) if number == len(texts) > 2 else _LINKS
        said += " " + rng.choice(links).format(_lowered(text))
    return said


def _lowered(text: str) -> str:
    """Ready to stand after other words, unless it begins with a name."""
    first = re.split(r"[\s,']", text)[0]
    is_name = first == "I" or (len(first) > 1 and not first[1:].islower())
    return text if is_name else text[0].lower() + text[1:]


def _in_one_sentence(clauses: Sequence[str], rng: random.Random) -> str:
    """Commands joined: First, ... Then ..."""
    plain = [re.sub(r"^(find|get|tell|show) me ", "find ", clause) for clause in clauses]
    whole = [_capital(clause) for clause in clauses]
    count = {2: "two", 3: "three", 4: "four"}.get(len(clauses), "several")
    also = "; ".join(clauses[:-1]) + f"; and {clauses[-1]}" if len(clauses) > 2 else ", and ".join(clauses)
    listed = ", ".join(plain[:-1]) + f", and {plain[-1]}" if len(plain) > 2 else " and ".join(plain)
    said = rng.choice(
        (
            f"{also}.",
            f"Please {also}.",
            f"Can you {also}?",
            _steps(clauses, rng),
            _steps(clauses, rng),
            f"I need to {listed}.",
            f"I'd like you to {also}.",
            f"Help me {listed}.",
            ". ".join(whole) + ".",
            f"{'. Also, '.join(clauses)}.",
            f"I have {count} things for you: {listed}. Can you do that?",
            f"Could you do the following for me? {'. '.join(whole)}.{rng.choice(('', ' Thanks!', ' Thank you.'))}",
            f"I want you to {clauses[0]}. I also want you to {'. And '.join(clauses[1:])}.",
            f"{rng.choice(_PEOPLE)} needs help with {count} things. {_steps(clauses, rng)}",
        )
    )
    return _capital(said)


def _steps(clauses: Sequence[str], rng: random.Random) -> str:
    if len(clauses) > 4 or rng.random() < 0.3:
        words = ("First", "Second", "Third", "Fourth", "Fifth", "Sixth", "Seventh", "Eighth")
        return " ".join(f"{word}, {clause}." for word, clause in zip(words, clauses, strict=False))
    last = rng.choice(("Finally,", "After that,", "Then", "Lastly,"))
    return " ".join(
        [f"First, {clauses[0]}.", *(f"Then {clause}." for clause in clauses[1:-1]), f"{last} {clauses[-1]}."]
    )


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
