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
    in_clauses = all(ask.clauses for ask in asks)
    if in_clauses and asks[0].role and rng.random() < _STORIES:
        return _story([_plain_clause(ask, rng) for ask in asks], asks[0].role, rng)
    if in_clauses and rng.random() < 0.6:
        return with_context(asks[0], _in_one_sentence([rng.choice(ask.clauses) for ask in asks], rng))
    return with_context(asks[0], _in_sentences([ask.text for ask in asks], rng))


def with_context(ask: Ask, text: str) -> str:
    """The text after the sentence that stands before a request, if there is one."""
    return f"{ask.context} {text}" if ask.context else text


def _in_sentences(texts: Sequence[str], rng: random.Random) -> str:
    texts = [text if text[-1] in ".?!" else f"{text}." for text in texts]
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


# --- stories -----------------------------------------------------------------------------------------------------

_STORIES = 0.35  # share of several requests that come in a story
_NAMES = (("John", "he"), ("Maria", "she"), ("Ahmed", "he"), ("Lisa", "she"), ("Tom", "he"), ("Mei", "she"))
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")
_CLOSINGS = ("Can you help with that?", "Can you do all of this?", "Please take care of it.", "Thank you!",
             "Could you help me with this?", "What are the results?", "Please do this step by step.")  # fmt: skip


def introduced(role: str, rng: random.Random) -> tuple[str, str, str]:
    """A sentence about somebody, the name, and the pronoun."""
    name, pronoun = rng.choice(_NAMES)
    return rng.choice(
        (
            (f"Imagine you are {role}.", "you", "you"),
            (f"Suppose you are {role}.", "you", "you"),
            (f"I am {role}.", "I", "I"),
            (f"{name} is {role}.", name, pronoun),
            (f"{name}, a friend of mine, is {role}.", name, pronoun),
        )
    )


def _story(clauses: Sequence[str], role: str, rng: random.Random) -> str:
    """Imagine you are an architect. You want to ... You also need to ..."""
    opening, who, pronoun = introduced(role, rng)
    if re.search(r"\b(I|me|my)\b", " ".join(clauses)):  # is never replaced: it may be part of what is to be written
        opening, who, pronoun = f"I am {role}.", "I", "I"
    verb = "s" if pronoun in ("he", "she") else ""
    said = [opening]
    for number, clause in enumerate(clauses):
        if number == 0:
            form = rng.choice((f"{who} want{verb} to {clause}.", f"First, {who} need{verb} to {clause}."))
        elif number == len(clauses) - 1:
            form = rng.choice(
                (
                    f"Finally, {pronoun} would like to {clause}.",
                    f"{pronoun} also need{verb} to {clause}.",
                    f"After that, {pronoun} want{verb} to {clause}.",
                )
            )
        else:
            form = rng.choice((f"Then {pronoun} want{verb} to {clause}.", f"Next, {pronoun} need{verb} to {clause}."))
        said.append(_capital(form))
    return " ".join([*said, *([rng.choice(_CLOSINGS)] if rng.random() < 0.6 else [])])


def _plain_clause(ask: Ask, rng: random.Random) -> str:
    """One that does not ask for being told."""
    return rng.choice([clause for clause in ask.clauses if " me " not in clause[:10]] or ask.clauses)


def described(parts: Sequence[str], rng: random.Random) -> str:
    """Things, one after the other, before something is asked about them."""
    if rng.random() < 0.5:
        told = " ".join(f"The {word} one is {part}." for word, part in zip(_ORDINALS, parts, strict=False))
        return f"{rng.choice(('There are', 'I have', 'Take'))} {_counted(parts)} cases. {told}"
    more = rng.choice(("There is also", "Then there is", "Now consider", "We also have"))
    return " ".join([f"There is {parts[0]}.", *(f"{more} {part}." for part in parts[1:])])


# --- commands in a row ---------------------------------------------------------------------------------------------


def _in_one_sentence(clauses: Sequence[str], rng: random.Random) -> str:
    """Commands joined: First, ... Then ..."""
    plain = [re.sub(r"^(find|get|tell|show) me ", "find ", clause) for clause in clauses]
    whole = [_capital(clause) for clause in clauses]
    count = _counted(clauses)
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
    if rng.random() < 0.3:
        return " ".join(f"{_capital(word)}, {clause}." for word, clause in zip(_ORDINALS, clauses, strict=False))
    last = rng.choice(("Finally,", "After that,", "Then", "Lastly,"))
    return " ".join(
        [f"First, {clauses[0]}.", *(f"Then {clause}." for clause in clauses[1:-1]), f"{last} {clauses[-1]}."]
    )


def _counted(things: Sequence[str]) -> str:
    return {2: "two", 3: "three", 4: "four"}.get(len(things), "several")


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
