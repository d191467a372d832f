"""Fine-tuning: conversations with tools. None of this is in what the embedded model was pretrained on."""

import random
from dataclasses import dataclass
from typing import Any, Literal

from minifc.data.toy.world import Request, World

NOTHING_FITS = "None of my tools can do that."
Sentences = Literal["known", "unseen", "shuffled"]


@dataclass(frozen=True)
class Case:
    """A conversation with tools: requests, for some of which there is a tool."""

    tools: list[dict[str, Any]]
    requests: list[Request]
    results: list[dict[str, Any]]  # what the tools answer, to the requests that fit

    @property
    def fits(self) -> list[bool]:
        """For each request, whether there is a tool for it."""
        names = [tool["name"] for tool in self.tools]
        return [request.task.name in names for request in self.requests]

    def messages(self) -> list[dict[str, Any]]:
        """The whole conversation, as it should go."""
        messages: list[dict[str, Any]] = []
        results = iter(self.results)
        for request, fits in zip(self.requests, self.fits, strict=True):
            messages.append({"role": "user", "content": request.text})
            messages.append(answer(request, self.tools))
            if fits:
                result = next(results)
                messages.append({"role": "tool", "content": result})
                messages.append({"role": "assistant", "content": say(result)})
        return messages

    def row(self) -> dict[str, Any]:
        """The conversation as a row of a data file, in OpenAI's shape."""
        tools = [{"type": "function", "function": tool} for tool in self.tools]
        return {"messages": self.messages(), "tools": tools}


def answer(request: Request, tools: list[dict[str, Any]]) -> dict[str, Any]:
    """The model's turn: look for the task among the tools, then call or decline."""
    names = [tool["name"] for tool in tools]
    thinking = request.search(names)
    if request.task.name not in names:
        return {"role": "assistant", "thinking": f"{thinking} No tool fits.", "content": NOTHING_FITS}
    call = {"name": request.task.name, "arguments": request.details}
    return {"role": "assistant", "content": None, "thinking": f"{thinking} {request.note()}", "tool_calls": [call]}


def say(record: dict[str, Any]) -> str:
    """A record as sentences."""
    return " ".join(f"The {name} is {value}." for name, value in record.items())


def case(world: World, fits: bool | None = None, turns: int = 1, closed: bool = False) -> Case:
    """A conversation about 2 to 4 tools. `fits`: whether the first request has its tool; `closed` as in Task.tool."""
    rng = world.rng
    tasks = world.tasks(rng.randint(2, 4))
    requests, results = [], []
    for number in range(turns):
        fitting = fits if fits is not None and number == 0 else rng.random() < 0.6
        requests.append(world.request(rng.choice(tasks) if fitting else world.other_task(tasks)))
        if fitting:
            results.append({slot.name: world.value(slot.kind) for slot in world.slots(rng.randint(1, 2))})
    return Case([task.tool(closed) for task in tasks], requests, results)


def training_cases(count: int, seed: int, shuffled: float = 0.0, closed: bool = True) -> list[Case]:
    """What the embedded model is fine-tuned on: requests that name their details in the tool's order.

    closed: every second conversation has closed tools, so that the model meets such as `minifc.tool` makes.
    """
    world = World(random.Random(f"train {seed}"), "train", improvised=0.3, shuffled=shuffled)
    return [case(world, turns=world.rng.choice((1, 1, 2, 3)), closed=closed and i % 2 == 1) for i in range(count)]


def held_out_cases(count: int, seed: int, sentences: Sentences = "known") -> list[Case]:
    """Single requests of held-out words; the first half has its tool, for the second none fits.

    sentences: as in training; in forms that no training text has; or known ones that give
        their details in any order, where training keeps to the tool's.
    """
    rng = random.Random(f"test {seed} {sentences}")
    world = World(rng, "test", unseen=sentences == "unseen", shuffled=float(sentences == "shuffled"))
    return [case(world, fits=number < count // 2) for number in range(count)]
