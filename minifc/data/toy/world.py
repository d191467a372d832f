"""Tasks, and requests for them: what the small world's texts are about.

A *request* names a task (a verb and a noun) and some details (slots and their values); a *tool*,
a *form* or an *entry* describes a task and the details it takes. Everything the embedded model
does is reading one and writing the other: copying words it has never seen, and choosing.

    "Please trace a parcel with carrier Dorvan and weight 12."
    trace_parcel {"carrier": "Dorvan", "weight": 12}
"""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from minifc.data.toy.words import Side, garble, invent, words
from minifc.text.calls import write_json

# Sentences of training, and those kept for the split "with unseen frames". {d} is where the details go.
REQUESTS = [
    "Please {v} {n}{d}.",
    "I want to {v} {n}{d}.",
    "I would like to {v} {n}{d}.",
    "I need to {v} {n}{d}.",
    "Can you {v} {n}{d}?",
    "Could you {v} {n} for me{d}?",
    "Help me {v} {n}{d}.",
    "My task is to {v} {n}{d}.",
    "Go and {v} {n}{d}.",
    "We have to {v} {n}{d}.",
    "Now {v} {n}{d}.",
]
DETAILS: list[tuple[str, str]] = [  # how a detail is said, and what stands before the first
    ("{s} {x}", " with "),
    ("the {s} {x}", " with "),
    ("{s}: {x}", ", "),
    ("{s} = {x}", ", "),
    ("the {s} is {x}", ", where "),
    ("{x} as the {s}", ", with "),
    ("{x} for the {s}", ", taking "),
    ("{s} should be {x}", "; "),
]
UNSEEN_REQUESTS = [
    "Someone has to {v} {n}{d}.",
    "What about trying to {v} {n}{d}?",
    "Our plan for tomorrow is to {v} {n}{d}.",
    "Kindly {v} {n}{d}, thanks.",
]
UNSEEN_DETAILS = [
    ("{s} of {x}", " using "),
    ("{x} being the {s}", "; "),
    ("a {s} that equals {x}", " and "),
    ("{s} ({x})", " "),
]
DESCRIPTIONS = ["Use this to {v} {n}.", "Helps to {v} {n}.", "A way to {v} {n}.", "Made to {v} {n}."]


@dataclass(frozen=True)
class Slot:
    name: str
    kind: str  # a key of SLOTS

    @property
    def type(self) -> str:
        return "integer" if self.kind == "number" else "string"


@dataclass(frozen=True)
class Task:
    """Something one can be asked to do, with the details it takes, in order."""

    verb: str
    noun: str
    slots: tuple[Slot, ...]
    description: str

    @property
    def name(self) -> str:
        return f"{self.verb}_{self.noun}"

    def tool(self, closed: bool = False) -> dict[str, Any]:
        """The task as a tool: its JSON schema. closed: without other details, said as `minifc.tool` says it."""
        return {
            "name": self.name,
            "description": self.description,
            "parameters": {
                "type": "object",
                "properties": {slot.name: {"type": slot.type} for slot in self.slots},
                "required": [self.slots[0].name] if self.slots else [],
                **({"additionalProperties": False} if closed else {}),
            },
        }


@dataclass(frozen=True)
class Request:
    """A sentence, the task it asks for, and the details it gives (in the task's order)."""

    text: str
    task: Task
    details: dict[str, Any]
    said: tuple[str, ...]  # the names of the details, in the sentence's order

    def note(self) -> str:
        """The details as the sentence gives them, written as the call will write them.

        So that of two hard things, reading the sentence and writing the call, each is done by itself:
        what is left to do after the note is copying, in another order where the sentence has another.
        """
        return f"Details: {write_json({name: self.details[name] for name in self.said})}."

    def search(self, names: Iterable[str]) -> str:
        """Name the task and hold it against one name after the other, until one matches.

        A small model does not notice that something is missing from a list, but it learns
        to tell whether two words that stand side by side are the same.
        """
        steps = [f"The task is {self.task.name}."]
        for name in names:
            steps.append(compare(name, self.task.name))
            if name == self.task.name:
                break
        return " ".join(steps)


@dataclass
class World:
    """Draws words, tasks and requests of one side.

    invented: how often a word is an invented one.
    improvised: how often a sentence is put together from words at random, so that pretraining teaches
        to find verb, noun, slots and values by how they stand together rather than by set phrases.
    shuffled: how often the details are said in another order than the task's.
    unseen: ask in forms of sentence that are in no training text.
    garbled: how often a word or a number is one that is easily mistaken for those said before. Such a world
        is for one text: it remembers what was said, and draws the three digits of its numbers, once.
    """

    rng: random.Random
    side: Side = "train"
    invented: float = 0.5
    improvised: float = 0.0
    shuffled: float = 0.0
    unseen: bool = False
    garbled: float = 0.0

    def __post_init__(self) -> None:
        self.said: list[str] = []  # the words so far, for garbled ones to be like
        self.digits = self.rng.sample("0123456789", 3) if self.garbled else []  # of garbled numbers

    def word(self, kind: str) -> str:
        if self.garbling():
            again = self.said and self.rng.random() < 0.1
            word = self.rng.choice(self.said) if again else garble(self.rng, self.side, self.said)
        elif self.rng.random() < self.invented:
            word = invent(self.rng, self.side)
        else:
            word = self.rng.choice(words(kind, self.side))
        self.said.append(word.lower())
        return word.capitalize() if kind in ("person", "place") else word

    def value(self, kind: str) -> Any:
        if kind == "number":
            if self.garbling():
                return int("".join(self.rng.choices(self.digits, k=self.rng.randint(1, 4))))
            return self.rng.choice((self.rng.randint(1, 99), self.rng.randint(100, 999), self.rng.randint(1, 20)))
        if self.rng.random() < 0.2:
            return f"{self.word(kind)} {self.word(kind)}"
        return self.word(kind)

    def slots(self, count: int) -> tuple[Slot, ...]:
        slots: dict[str, Slot] = {}
        while len(slots) < count:
            kind = self.rng.choice(("person", "place", "thing", "number"))
            name = self.word(f"slot {kind}")
            slots.setdefault(name, Slot(name, kind))
        return tuple(slots.values())

    def task(self, verb: str | None = None, noun: str | None = None, most_slots: int = 3) -> Task:
        verb, noun = verb or self.word("verb"), noun or self.word("noun")
        description = self.rng.choice(DESCRIPTIONS).format(v=verb, n=_a(noun))
        return Task(verb, noun, self.slots(self.rng.randint(1, most_slots)), description)

    def tasks(self, count: int, most_slots: int = 3) -> list[Task]:
        """Different tasks. Often two share a verb or a noun, so that both must be read."""
        tasks = [self.task(most_slots=most_slots)]
        while len(tasks) < count:
            share, other = self.rng.random(), self.rng.choice(tasks)
            verb = other.verb if share < 0.2 else None
            noun = other.noun if 0.2 <= share < 0.4 else None
            task = self.task(verb, noun, most_slots)
            if all(task.name != old.name for old in tasks):
                tasks.append(task)
        self.rng.shuffle(tasks)
        return tasks

    def other_task(self, tasks: Sequence[Task]) -> Task:
        """A task that is none of these, but may share its verb with one and its noun with another."""
        while True:
            share = self.rng.random()
            verb = self.rng.choice(tasks).verb if share < 0.3 or share > 0.85 else None
            noun = self.rng.choice(tasks).noun if 0.3 <= share < 0.6 or share > 0.85 else None
            task = self.task(verb, noun)
            if all(task.name != old.name for old in tasks):
                return task

    def request(self, task: Task) -> Request:
        """Ask for a task, giving its first detail and some of the others."""
        given = [slot for number, slot in enumerate(task.slots) if number == 0 or self.rng.random() < 0.75]
        details = {slot.name: self.value(slot.kind) for slot in given}
        said = list(details.items())
        if self.rng.random() < self.shuffled:
            self.rng.shuffle(said)
        requests, phrases = (UNSEEN_REQUESTS, UNSEEN_DETAILS) if self.unseen else (REQUESTS, DETAILS)
        phrase, before = self.improvise_detail() if self.improvising() else self.rng.choice(phrases)
        sentence = self.improvise_request() if self.improvising() else self.rng.choice(requests)
        parts = [phrase.format(s=name, x=value) for name, value in said]
        listed = before + (", ".join(parts[:-1]) + " and " if len(parts) > 1 else "") + parts[-1]
        text = sentence.format(v=task.verb, n=_a(task.noun), d=listed)
        return Request(text, task, details, tuple(name for name, _ in said))

    def improvising(self) -> bool:
        return self.rng.random() < self.improvised

    def garbling(self) -> bool:
        # A world without garbled words draws nothing here: fine-tuning and tests keep the words they always had.
        return self.garbled > 0 and self.rng.random() < self.garbled

    def improvise_request(self) -> str:
        before = [self.small_word() for _ in range(self.rng.randint(1, 5))]
        between = f" {self.small_word()} {self.small_word()}" if self.rng.random() < 0.2 else ""
        return " ".join(before).capitalize() + " {v} {n}" + between + "{d}" + self.rng.choice(".?!")

    def improvise_detail(self) -> tuple[str, str]:
        phrases = ["{s} L {x}", "the {s} L {x}", "a {s} L {x}", "{x} L {s}", "{x} L the {s}"]
        link = " ".join(self.small_word() for _ in range(self.rng.randint(1, 2)))
        if self.rng.random() < 0.4:
            link = self.rng.choice(("=", ":", "~", "/", "+", "==", "::", "<"))
            phrases.append("{s}L{x}")
        phrase = self.rng.choice(phrases)
        before = self.rng.choice((" ", ", ", ": ", " - ", "; "))
        if self.rng.random() < 0.5:
            before = f"{self.rng.choice((' ', ', ', ': '))}{self.small_word()} "
        return phrase.replace("L", link), before

    def small_word(self) -> str:
        """A word that means nothing here: invented, or one of the small words of English."""
        return self.rng.choice(words("filler", self.side)) if self.rng.random() < 0.5 else invent(self.rng, self.side)


def compare(one: str, other: str) -> str:
    """The sentence that holds two names side by side, word by word until two of them differ.

    A verdict for each pair of words: one for whole names can be guessed from the verbs nearly always,
    and a model that guesses does not learn to compare nouns (LOG.md, 2026-11-26).

        "trace_crate: trace and trace match, crate and parcel differ."
    """
    steps = []
    for ours, theirs in zip(one.split("_"), other.split("_"), strict=True):
        steps.append(f"{ours} and {theirs} {'match' if ours == theirs else 'differ'}")
        if ours != theirs:
            break
    return f"{one}: {', '.join(steps)}."


def _a(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
