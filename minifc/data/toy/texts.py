"""Pretraining: the texts and chats that the embedded model learns to read and write from. No tools.

Stage 1 (`text_document`) is plain text, stage 2 (`chat_document`) the same lessons as a chat: to copy,
to read a record, to compare names, to search a list, to write down the details of a sentence,
to fill a form.
"""

import random
from collections.abc import Callable
from typing import Any

from minifc.data.toy.cases import say
from minifc.data.toy.words import SLOTS
from minifc.data.toy.world import Request, Task, World, compare
from minifc.text.calls import write_json

GREETINGS = [
    ("Hello.", "Hello. What can I do for you?"),
    ("Good morning.", "Good morning. What can I do for you?"),
    ("Thank you.", "You are welcome."),
    ("Thanks a lot.", "You are welcome."),
    ("How are you?", "I am fine. What can I do for you?"),
    ("Who are you?", "I am a small model that reads and writes."),
]

INVENTED = 0.6  # how often a word is invented
GARBLED = 0.4  # how often it is, before that, a garbled one

# A document is pieces of text, each with whether it can be predicted from what stands before it.
Document = list[tuple[str, bool]]


def text_document(rng: random.Random, invented: float = INVENTED, garbled: float = GARBLED) -> Document:
    """Stage 1: plain text. A passage, then what follows from it, line by line."""
    passage, exchanges = _lesson(rng, invented, garbled)
    document: Document = [(passage + "\n", False)]
    for question, reply in exchanges:
        document += [(f"Q: {question}\nA: ", False), (f"{reply}\n", True)]
    return document


def chat_document(rng: random.Random, garbled: float = GARBLED) -> list[dict[str, str]]:
    """Stage 2: the same skills as a chat, in messages of user and assistant."""
    if rng.random() < 0.03:
        exchanges = [rng.choice(GREETINGS) for _ in range(3)]
        passage = ""
    else:
        passage, exchanges = _lesson(rng, INVENTED, garbled)
        if rng.random() < 0.1:
            exchanges.append(rng.choice(GREETINGS))
    messages = []
    for number, (question, reply) in enumerate(exchanges):
        content = f"{passage}\n\n{question}" if number == 0 and passage else question
        messages += [{"role": "user", "content": content}, {"role": "assistant", "content": reply}]
    return messages


_Lesson = tuple[str, list[tuple[str, str]]]  # a passage, and questions with their replies


def _lesson(rng: random.Random, invented: float, garbled: float) -> _Lesson:
    kinds: list[tuple[Callable[[World], _Lesson], int]] = [
        (_copying, 1), (_record, 2), (_extraction, 4), (_pairs, 3), (_search, 2), (_choice, 3), (_forms, 6),
    ]  # fmt: skip
    lessons, weights = zip(*kinds, strict=True)
    lesson: Callable[[World], _Lesson] = rng.choices(lessons, weights)[0]
    return lesson(World(rng, invented=invented, improvised=0.4, shuffled=0.4, garbled=garbled))


def _copying(world: World) -> _Lesson:
    """Say it again."""
    rng = world.rng
    lines = [" ".join(str(world.value(rng.choice(list(SLOTS)))) for _ in range(rng.randint(2, 5))) for _ in range(4)]
    return "Repeat each line.", [(line, line) for line in lines]


def _record(world: World) -> _Lesson:
    """Read a record and answer about it."""
    rng = world.rng
    record = {slot.name: world.value(slot.kind) for slot in world.slots(rng.randint(3, 6))}
    exchanges = []
    for _ in range(5):
        some = {name: record[name] for name in rng.sample(list(record), rng.randint(1, 2))}
        ask = rng.choice(("Say {}.", "What about {}?", "Tell me {}."))
        exchanges.append((ask.format(" and ".join(f"the {name}" for name in some)), say(some)))
    return f"Here is a record.\n{write_json(record)}", exchanges


def _extraction(world: World) -> _Lesson:
    """Write down the details of sentences, then as JSON in the order of a list of fields."""
    task = world.task(most_slots=5)
    fields = ", ".join(slot.name for slot in task.slots)
    requests = [world.request(task) for _ in range(3)]
    passage = world.rng.choice(("Fields: {}.", "Write these as JSON: {}.", "The details are {}.")).format(fields)
    return passage, [(request.text, f"{request.note()}\n{write_json(request.details)}") for request in requests]


def _pairs(world: World) -> _Lesson:
    """Hold two names side by side."""
    rng = world.rng
    exchanges = []
    for _ in range(3):
        pairs = []
        for _ in range(rng.randint(2, 4)):
            task = world.task()
            pairs.append((task.name, task.name if rng.random() < 0.5 else world.other_task([task]).name))
        asked = ", ".join(f"{one} {other}" for one, other in pairs)
        exchanges.append((asked, " ".join(compare(one, other) for one, other in pairs)))
    return "Compare.", exchanges


def _search(world: World) -> _Lesson:
    """Look for a name in a list of names."""
    rng = world.rng
    tasks = world.tasks(rng.randint(2, 5))
    names = [task.name for task in tasks]
    joint = rng.choice((", ", "\n", "; ", " / "))
    ask = rng.choice(("{}", "{}?", "Look for {}.", "Is {} in the list?"))
    wanted = [_asked(world, tasks) for _ in range(4)]
    return joint.join(names), [(ask.format(request.task.name), request.search(names)) for request in wanted]


def _choice(world: World) -> _Lesson:
    """Look for what a sentence asks for in a list of names that say something about themselves."""
    rng = world.rng
    tasks = world.tasks(rng.randint(2, 5))
    form = rng.choice(("- {name}: {about}", "{name} = {about}", '"{name}": "{about}"', "* {about} ({name})"))
    listed = "\n".join(form.format(name=task.name, about=task.description) for task in tasks)
    names = [task.name for task in tasks]
    requests = [_asked(world, tasks) for _ in range(3)]
    return f"Choose from the list.\n{listed}", [(request.text, request.search(names)) for request in requests]


def _asked(world: World, tasks: list[Task]) -> Request:
    """A request for one of the tasks, or for none of them."""
    return world.request(world.rng.choice(tasks) if world.rng.random() < 0.55 else world.other_task(tasks))


_KEYS = {
    "title": ("title", "label", "form", "entry", "id"),
    "about": ("about", "note", "summary", "purpose", "description"),
    "fields": ("fields", "details", "slots", "entries", "properties"),
    "filled": ("values", "data", "content", "filled", "given"),
}


def _forms(world: World) -> _Lesson:
    """Choose a titled form and fill its fields, or say that none fits."""
    rng = world.rng
    tasks = world.tasks(rng.randint(2, 4))
    names = [task.name for task in tasks]
    key = {role: rng.choice(words) for role, words in _KEYS.items()}
    style = rng.randrange(4)
    listed = "\n".join(write_json(_form(task, key, style)) for task in tasks)
    answer_key = rng.choice(_KEYS["title"])
    nothing = rng.choice(("No form fits.", "None of the forms can do that.", "There is no form for that."))
    how = rng.choice(("Fill a form when one fits.", "Answer with a filled form.", "Use one of these forms."))
    passage = f"{how} Write {write_json({answer_key: '...', key['filled']: '...'})}. If nothing fits, say: {nothing}"
    exchanges = []
    for request in [_asked(world, tasks) for _ in range(rng.randint(1, 3))]:
        reply = request.search(names)
        if request.task.name in names:
            reply += f" {request.note()}\n{write_json({answer_key: request.task.name, key['filled']: request.details})}"
        else:
            reply += f" No form fits.\n{nothing}"
        exchanges.append((request.text, reply))
    return f"{passage}\n{listed}", exchanges


def _form(task: Task, key: dict[str, str], style: int) -> dict[str, Any]:
    """A task as a form, in one of several spellings, so that none is learned by heart."""
    names = [slot.name for slot in task.slots]
    types = {slot.name: {"type": slot.type} for slot in task.slots}
    fields: Any = (
        names,
        {slot.name: slot.type for slot in task.slots},
        types,
        {"type": "object", "properties": types, "needed": names[:1]},
    )[style]
    return {key["title"]: task.name, key["about"]: task.description, key["fields"]: fields}
