"""The small world that weights/tiny lives in: its words, its tools, and all its texts.

A *request* names a task (a verb and a noun) and some details (slots and their values); a *tool*,
a *form* or an *entry* describes a task and the details it takes. Everything the embedded model
does is reading one and writing the other: copying words it has never seen, and choosing.

    "Please trace a parcel with carrier Dorvan and weight 12."
    trace_parcel {"carrier": "Dorvan", "weight": 12}

Pretraining texts (`text_document`) and chats (`chat_document`) hold records, extractions, choices and
forms, never a tool call. Fine-tuning conversations (`Case.messages`) hold tools.

Held out means held out: `held_out(word)` decides by a hash whether a word, ours or invented, belongs
to the test side. No text of any training stage contains such a word; test tools, slots and values
are made of nothing else.
"""

import json
import random
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

Side = Literal["train", "test"]

VERBS = """
    adjust admit advise align announce approve arrange assess assign attach audit award balance bake bless
    block boil book borrow brew browse bundle burn calculate cancel capture carve catch charge chart chase
    check choose claim clean climb close collect combine compare compile confirm convert cook copy count cover
    craft crush cure cut dance deliver deposit describe design detect dig display donate draft draw dress
    drill drop dry dye edit erase escort estimate examine exchange export extend fetch file filter fix
    fold follow forecast forge freeze fry gather glue grade grill grind guard guess guide harvest heat hide
    hire hunt import inspect install insure invent invite invoice iron judge juggle knit launch learn
    lease lend lift light load locate lock log mail map mark match measure melt mend merge mix mount move mow
    name notify open order organise pack paint park patch pay peel pick pilot plan plant plot polish post pour
    praise predict press price print process promote protect publish pump purchase push quote race rank rate
    read record recycle reject release remove rename rent repair replace report reserve reset restore reverse
    review ride roast roll rotate sail salt sample scan schedule score scrub seal search sell send serve sew
    share sharpen shave ship sign simulate sketch slice smooth sort spray stack stamp start stitch stop store
    stretch submit summon survey swap sweep swim switch tag test tie tow trace track trade train transfer
    translate transport trim tune unlock update upload validate verify visit wash watch water weave weigh weld
    wipe wrap
""".split()

NOUNS = """
    account actor album alarm alert anchor apple archive arrow badge bag balloon banner barrel basket battery
    beach bean bear bell belt bench bicycle bird blanket boat bolt bonus book bottle bowl bracelet branch
    bread brick bridge brush bucket budget building bus button cabin cable cake camel camera candle canoe
    canvas car card carpet cart castle cat chain chair channel cheese chess chicken choir circuit clock cloth
    cloud coat coin concert cookie copper corn cottage couch coupon cow crane crayon crown cup curtain
    dashboard deer desk diary dinner dog doll door dragon drawer dress drum duck eagle egg engine envelope
    event exam fabric farm fence ferry festival field film fish flag flight flower flute forest fork fountain
    frame fridge frog fruit game garage garden gate gift glass glove goat grape guitar hammer harbour hat
    hedge helmet horse hotel house island jacket jar journal jungle kettle key kitchen kite kitten ladder lake
    lamp lantern laptop leaf lecture lemon letter library lion loan lobster machine magnet mango map market
    mask meadow meal medal meeting melon menu message meter mirror mission monkey moon motor mountain movie
    museum needle nest notebook oar olive onion orchard oven owl package painting palace panda pan paper
    parade parcel parrot party path peach pen pencil pepper permit phone photo piano picnic pie pigeon pillow
    pipe pizza planet plate playlist podcast poem pond poster potato printer prize pump puppet puzzle rabbit
    radio raft rail recipe report ribbon river road robot rocket roof room rope sail salad sandwich scarf
    school scooter script sensor server shed sheep shelf shell ship shirt shoe shop song soup spider spoon
    stadium stage statue story stove stream suitcase sword table tank taxi teapot tent ticket tiger timer
    toaster tower toy tractor trail train tree truck trumpet tunnel turtle umbrella vase village violin wagon
    wall wallet watch website wheel whistle window wolf yacht zebra
""".split()

# Details, by what they hold. The values of a text slot come from the list of its name in VALUES.
SLOTS: dict[str, list[str]] = {
    "person": """owner sender buyer seller author driver guest manager client tenant teacher pilot witness
        patient doctor captain sponsor editor coach winner artist carrier""".split(),
    "place": """city town origin region country port station street venue district valley harbourside
        destination county suburb terminal province borough""".split(),
    "thing": """colour material flavour style brand shape theme texture fabrication pattern topic genre
        category season finish scent tone mood method format grade""".split(),
    "number": """weight size price amount height length width depth speed quantity age distance duration
        volume floor row seats copies pages score limit level""".split(),
}
VALUES: dict[str, list[str]] = {
    "person": """Ada Alba Amir Anya Bela Boris Carla Cyrus Dana Dario Della Edgar Elena Emil Esther Fatima Felix
        Flora Gita Goran Greta Hana Hector Hugo Ines Ingrid Ivan Jana Jonas Julia Kamil Karim Kira Lars Leila
        Lena Liam Lucia Magnus Mara Marco Milan Mina Nadia Nina Noah Olga Omar Oscar Paula Pedro Petra Quentin
        Rafael Rita Rosa Ruben Sana Selma Simon Sofia Sven Tariq Tessa Tomas Uma Vera Viktor Wanda Xavier Yara
        Yusuf Zara Zeno""".split(),
    "place": """Accra Amman Athens Baku Bergen Berlin Bogota Bristol Cairo Cardiff Cork Dakar Delhi Denver Dover
        Dublin Durban Essen Fargo Florence Geneva Genoa Ghent Graz Hanoi Havana Helsinki Jaipur Kazan Kiel Kyoto
        Lagos Leeds Lima Lisbon London Lyon Madrid Malmo Manila Milwaukee Mumbai Nairobi Naples Nice Osaka Oslo
        Paris Perth Porto Prague Quito Reno Riga Rome Salem Seoul Seville Sofia Sydney Tampa Tokyo Tulsa Tunis
        Turin Utrecht Venice Vienna Warsaw York Zagreb Zurich""".split(),
    "thing": """amber antique ash bamboo black blue bold brass bronze calm canvas cedar ceramic cherry classic cobalt
        comic cotton crimson crystal dark denim ebony emerald fancy floral fresh ginger gold granite green grey
        indigo ivory jade jazz lavender leather lemon lilac linen mahogany maple marble maroon mint modern navy
        oak olive orange pastel pearl pine pink plain plum purple quartz red retro rose round royal ruby rustic
        saffron satin scarlet silk silver simple smoky soft spicy square steel striped suede sweet teal velvet
        vintage violet walnut warm wavy white wool yellow""".split(),
}  # fmt: skip

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
    "Let us {v} {n}{d}.",
    "It is time to {v} {n}{d}.",
    "Would you mind if we {v} {n}{d}?",
    "Today we must {v} {n}{d}.",
]
UNSEEN_DETAILS = [
    ("{s} set to {x}", ", having "),
    ("the {s} of {x}", ", given "),
    ("{s} being {x}", ", the "),
    ("{s} -> {x}", ": "),
]
DESCRIPTIONS = ["Use this to {v} {n}.", "Helps to {v} {n}.", "A way to {v} {n}.", "Made to {v} {n}."]
GREETINGS = [
    ("Hello.", "Hello. What can I do for you?"),
    ("Good morning.", "Good morning. What can I do for you?"),
    ("Thank you.", "You are welcome."),
    ("Thanks a lot.", "You are welcome."),
    ("How are you?", "I am fine. What can I do for you?"),
    ("Who are you?", "I am a small model that reads and writes."),
]
NOTHING_FITS = "None of my tools can do that."


def held_out(word: str) -> bool:
    """Does this word belong to the test side? One in four does, whether we listed it or invent it."""
    return zlib.crc32(word.lower().encode()) % 4 == 0


@cache
def words(kind: str, side: Side) -> tuple[str, ...]:
    """The listed words of a kind ("verb", "noun", "person", ... or "slot person", ...) on one side."""
    lists = {"verb": VERBS, "noun": NOUNS, **VALUES, **{f"slot {name}": slots for name, slots in SLOTS.items()}}
    return tuple(word for word in lists[kind] if held_out(word) == (side == "test"))


_ONSETS = [*"b br c ch cl d dr f fl g gl gr h j k kr l m n p pl pr qu r s sh sk sl st t tr v w y z".split(), ""]
_VOWELS = "a a a e e e i i i o o o u u u ai ea oo".split()
_CODAS = ["", "", "", "", "", "", "l", "m", "n", "n", "nd", "r", "s", "st", "t", "x", "ck", "ng"]


def invent(rng: random.Random, side: Side) -> str:
    """A word that does not exist, of one to three syllables, on one side."""
    while True:
        syllables = rng.choice((1, 1, 2, 2, 2, 2, 2, 2, 2, 3))
        word = "".join(rng.choice(_ONSETS) + rng.choice(_VOWELS) + rng.choice(_CODAS) for _ in range(syllables))
        if len(word) > 3 and held_out(word) == (side == "test") and word not in _TAKEN:
            return word


# Words of our own sentences that the hash gives to the test side: invented words must not meet them.
_SENTENCES = """am could each entry fields fill filled fits for from have help helps here id if it label list
    need note object repeat should slots tell thank that thinking to when writes"""
_TAKEN = frozenset(VERBS) | frozenset(NOUNS) | frozenset(_SENTENCES.split())


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

    def tool(self) -> dict[str, Any]:
        """The task as a tool: its JSON schema."""
        return {
            "name": self.name,
            "description": self.description,
            "parameters": {
                "type": "object",
                "properties": {slot.name: {"type": slot.type} for slot in self.slots},
                "required": [self.slots[0].name] if self.slots else [],
            },
        }


@dataclass(frozen=True)
class Request:
    """A sentence, the task it asks for, and the details it gives (in the task's order)."""

    text: str
    task: Task
    details: dict[str, Any]


@dataclass
class World:
    """Draws words, tasks and requests of one side.

    invented: how often a word is an invented one.
    improvised: how often a sentence is put together from invented words, so that pretraining teaches
        to find verb, noun, slots and values by how they stand together rather than by set phrases.
    """

    rng: random.Random
    side: Side = "train"
    invented: float = 0.5
    improvised: float = 0.0
    unseen_frames: bool = False
    _frames: tuple[list[str], list[tuple[str, str]]] = field(init=False)

    def __post_init__(self) -> None:
        self._frames = (UNSEEN_REQUESTS, UNSEEN_DETAILS) if self.unseen_frames else (REQUESTS, DETAILS)

    def word(self, kind: str) -> str:
        if self.rng.random() < self.invented:
            word = invent(self.rng, self.side)
            return word.capitalize() if kind in ("person", "place") else word
        return self.rng.choice(words(kind, self.side))

    def value(self, kind: str) -> Any:
        if kind == "number":
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
            verb = self.rng.choice(tasks).verb if share < 0.3 or share > 0.8 else None
            noun = self.rng.choice(tasks).noun if 0.3 <= share < 0.6 or share > 0.8 else None
            task = self.task(verb, noun)
            if all(task.name != old.name for old in tasks):
                return task

    def request(self, task: Task) -> Request:
        """Ask for a task, giving its first detail and some of the others, in any order."""
        given = [slot for number, slot in enumerate(task.slots) if number == 0 or self.rng.random() < 0.75]
        details = {slot.name: self.value(slot.kind) for slot in given}
        said = list(details.items())
        if self.rng.random() < 0.4:
            self.rng.shuffle(said)
        requests, phrases = self._frames
        phrase, before = self.improvise_detail() if self.improvising() else self.rng.choice(phrases)
        sentence = self.improvise_request() if self.improvising() else self.rng.choice(requests)
        parts = [phrase.format(s=name, x=value) for name, value in said]
        listed = before + (", ".join(parts[:-1]) + " and " if len(parts) > 1 else "") + parts[-1]
        text = sentence.format(v=task.verb, n=_a(task.noun), d=listed)
        return Request(text, task, details)

    def improvising(self) -> bool:
        return self.rng.random() < self.improvised

    def improvise_request(self) -> str:
        before = [invent(self.rng, self.side) for _ in range(self.rng.randint(1, 4))]
        return " ".join(before).capitalize() + " {v} {n}{d}" + self.rng.choice(".?!")

    def improvise_detail(self) -> tuple[str, str]:
        phrases = ["{s} L {x}", "the {s} L {x}", "a {s} L {x}", "{x} L {s}"]
        link = invent(self.rng, self.side)
        if self.rng.random() < 0.5:
            link = self.rng.choice(("=", ":", "->", "~", "/", "+"))
            phrases.append("{s}L{x}")
        phrase = self.rng.choice(phrases)
        before = self.rng.choice((" ", ", ", ": ", " - "))
        if self.rng.random() < 0.5:
            before = f"{self.rng.choice((' ', ', '))}{invent(self.rng, self.side)} "
        return phrase.replace("L", link), before


def _a(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


# --- fine-tuning: conversations with tools -----------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A conversation with tools: requests, each with its call or, where nothing fits, None."""

    tools: list[dict[str, Any]]
    requests: list[Request]
    fits: list[bool]
    results: list[dict[str, Any]]  # what the tools answer, to the requests that fit

    def messages(self) -> list[dict[str, Any]]:
        """The whole conversation, as it should go."""
        messages: list[dict[str, Any]] = []
        results = iter(self.results)
        for request, fits in zip(self.requests, self.fits, strict=True):
            messages.append({"role": "user", "content": request.text})
            messages.append(answer(request, fits))
            if fits:
                result = next(results)
                messages.append({"role": "tool", "content": result})
                messages.append({"role": "assistant", "content": say(result)})
        return messages

    def question(self) -> list[dict[str, Any]]:
        """The first request alone."""
        return self.messages()[:1]

    def row(self) -> dict[str, Any]:
        """The conversation as a row of a data file, in OpenAI's shape."""
        tools = [{"type": "function", "function": tool} for tool in self.tools]
        return {"messages": self.messages(), "tools": tools}


def answer(request: Request, fits: bool) -> dict[str, Any]:
    """The model's turn: name the task, look whether it is there, call or decline."""
    if not fits:
        thinking = f"The task is {request.task.name}. No tool fits."
        return {"role": "assistant", "thinking": thinking, "content": NOTHING_FITS}
    call = {"name": request.task.name, "arguments": request.details}
    thinking = f"The task is {request.task.name}. A tool fits."
    return {"role": "assistant", "content": None, "thinking": thinking, "tool_calls": [call]}


def say(record: dict[str, Any]) -> str:
    """A record as sentences."""
    return " ".join(f"The {name} is {value}." for name, value in record.items())


def case(world: World, fits: bool | None = None, turns: int = 1) -> Case:
    """A conversation about 2 to 4 tools. `fits` says whether the first request has its tool."""
    rng = world.rng
    tasks = world.tasks(rng.randint(2, 4))
    requests, fit, results = [], [], []
    for number in range(turns):
        fit.append(fits if fits is not None and number == 0 else rng.random() < 0.6)
        requests.append(world.request(rng.choice(tasks) if fit[-1] else world.other_task(tasks)))
        if fit[-1]:
            results.append({slot.name: world.value(slot.kind) for slot in world.slots(rng.randint(1, 2))})
    return Case([task.tool() for task in tasks], requests, fit, results)


def training_cases(count: int, seed: int) -> list[Case]:
    """What the embedded model is fine-tuned on."""
    world = World(random.Random(f"train {seed}"), "train")
    return [case(world, turns=world.rng.choice((1, 1, 2))) for _ in range(count)]


def held_out_cases(count: int, seed: int, unseen_frames: bool = False) -> list[Case]:
    """Single requests of held-out words; the first half has its tool, for the second none fits."""
    world = World(random.Random(f"test {seed} {unseen_frames}"), "test", unseen_frames=unseen_frames)
    return [case(world, fits=number < count // 2) for number in range(count)]


# --- pretraining: texts and chats without tools --------------------------------------------------------------

# A document is pieces of text, each with whether it can be predicted from what stands before it.
Document = list[tuple[str, bool]]


def text_document(rng: random.Random) -> Document:
    """Stage 1: plain text. A passage, then what follows from it, line by line."""
    passage, exchanges = _lesson(World(rng, invented=0.6, improvised=0.2))
    document: Document = [(passage + "\n", False)]
    for question, reply in exchanges:
        document += [(f"Q: {question}\nA: ", False), (f"{reply}\n", True)]
    return document


def chat_document(rng: random.Random) -> list[dict[str, str]]:
    """Stage 2: the same skills as a chat, in messages of user and assistant."""
    if rng.random() < 0.03:
        exchanges = [rng.choice(GREETINGS) for _ in range(3)]
        passage = ""
    else:
        passage, exchanges = _lesson(World(rng, invented=0.6, improvised=0.2))
        if rng.random() < 0.1:
            exchanges.append(rng.choice(GREETINGS))
    messages = []
    for number, (question, reply) in enumerate(exchanges):
        content = f"{passage}\n\n{question}" if number == 0 and passage else question
        messages += [{"role": "user", "content": content}, {"role": "assistant", "content": reply}]
    return messages


_Lesson = tuple[str, list[tuple[str, str]]]  # a passage, and questions with their replies


def _lesson(world: World) -> _Lesson:
    kinds: list[tuple[Callable[[World], _Lesson], int]] = [
        (_copying, 1), (_record, 2), (_extraction, 3), (_choice, 3), (_forms, 6),
    ]  # fmt: skip
    lessons, weights = zip(*kinds, strict=True)
    lesson: Callable[[World], _Lesson] = world.rng.choices(lessons, weights)[0]
    return lesson(world)


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
    return f"Here is a record.\n{_json(record)}", exchanges


def _extraction(world: World) -> _Lesson:
    """Write the details of sentences as JSON, in the order of a list of fields."""
    task = world.task(most_slots=5)
    fields = ", ".join(slot.name for slot in task.slots)
    requests = [world.request(task) for _ in range(3)]
    passage = world.rng.choice(("Fields: {}.", "Write these as JSON: {}.", "The details are {}.")).format(fields)
    return passage, [(request.text, _json(request.details)) for request in requests]


def _choice(world: World) -> _Lesson:
    """Choose an entry of a list by what it says about itself, or none."""
    rng = world.rng
    tasks = world.tasks(rng.randint(2, 6))
    form = rng.choice(("- {name}: {about}", "{name} = {about}", '"{name}": "{about}"', "* {about} ({name})"))
    listed = "\n".join(form.format(name=task.name, about=task.description) for task in tasks)
    exchanges = []
    for _ in range(5):
        fits = rng.random() < 0.6
        request = world.request(rng.choice(tasks) if fits else world.other_task(tasks))
        named = f"The task is {request.task.name}. "
        exchanges.append((request.text, named + ("It is in the list." if fits else "It is not in the list.")))
    return f"Choose from the list.\n{listed}", exchanges


_KEYS = {
    "title": ("title", "label", "form", "entry", "id"),
    "about": ("about", "note", "summary", "purpose", "description"),
    "fields": ("fields", "details", "slots", "entries", "properties"),
    "filled": ("values", "data", "content", "filled", "given"),
}


def _forms(world: World) -> _Lesson:
    """Choose a titled form and fill its fields, or say that none fits."""
    rng = world.rng
    tasks = world.tasks(rng.randint(2, 3 if rng.random() < 0.5 else 4))
    key = {role: rng.choice(names) for role, names in _KEYS.items()}
    style = rng.randrange(4)
    listed = "\n".join(_json(_form(task, key, style)) for task in tasks)
    thinks = rng.random() < 0.6
    answer_key = rng.choice(_KEYS["title"])
    nothing = rng.choice(("No form fits.", "None of the forms can do that.", "There is no form for that."))
    how = rng.choice(("Fill a form when one fits.", "Answer with a filled form.", "Use one of these forms."))
    passage = f"{how} Write {_json({answer_key: '...', key['filled']: '...'})}."
    if thinks:
        passage += " Name the task first."
    passage += f" If nothing fits, say: {nothing}"
    exchanges = []
    for _ in range(rng.randint(2, 4)):
        fits = rng.random() < 0.6
        request = world.request(rng.choice(tasks) if fits else world.other_task(tasks))
        named = f"The task is {request.task.name}. {'A form' if fits else 'No form'} fits.\n" if thinks else ""
        filled = _json({answer_key: request.task.name, key["filled"]: request.details}) if fits else nothing
        exchanges.append((request.text, named + filled))
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


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
