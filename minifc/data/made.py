"""Rows for training, made of the examples that tools bring along, without another model.

What is varied: values (of an enum, of other examples, of well-known names, numbers as long as the example's), the
frame of a request, how many requests are in one turn, which other tools stand beside, the names of tools and
parameters, and whether the right tool is there at all. What a request says of optional arguments decides which
of them its call has: those that an example leaves out stay out.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from minifc.data.wordings import Path, Wording, other_value
from minifc.text.calls import Call, write_json
from minifc.text.examples import Example

KINDS = ("simple", "joined", "masked", "taken away", "no call")
REFUSAL = "No tool fits."
TRIES = 8  # for each row
# Around a request in the imperative, which is written with a small letter and without a full stop.
FRAMES = (
    "{}.", "{}!", "Please {}.", "Could you {}?", "Can you please {}?", "I need you to {}.", "I'd like you to {}.",
    "{}, please.", "Would you {}?", "Hi! {}.", "Now {}.",
)  # fmt: skip
JOINS = ("{} {}", "{} And also: {}", "{} Then: {}", "{} After that: {}")
# With these a request hardly begins in the imperative.
_NO_VERBS = set(
    "a an the i i'm i'd i'll we it is are am was were do does did can could would will shall should may might what "
    "what's which who whose where when why how there this that these those my our your his her their any please hi "
    "hello hey no not yes two three all both some if in on at for from to with".split()
)


@dataclass
class Maker:
    """The same seed makes the same rows.

    tools: schemas. examples: by the names of their tools. unsaid: requests that no row may be, since somebody is asked
        them later.
    """

    tools: Sequence[dict[str, Any]]
    examples: Mapping[str, Sequence[Example]]
    seed: int = 0
    unsaid: Sequence[str] = ()
    rng: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.by_name = {tool["name"]: tool for tool in self.tools}
        self.wordings = {
            name: [Wording.of(example.request, example.calls) for example in some if example.calls]
            for name, some in self.examples.items()
        }
        everything = [example for some in self.examples.values() for example in some]
        self.answers = {_plain(example.request): list(example.calls) for example in everything}
        self.known: dict[str, list[Any]] = {}  # by the names of arguments
        for call in (call for example in everything for call in example.calls):
            for name, value in call.arguments.items():
                self.known.setdefault(name, []).extend(value if isinstance(value, list) else [value])

    def rows(self, count: int) -> Iterator[dict[str, Any]]:
        """At most so many rows of each kind for each tool; fewer where the examples say no more different things."""
        makers = {
            "simple": self._simple, "joined": self._joined, "masked": self._masked,
            "taken away": self._taken_away, "no call": self._no_call,
        }  # fmt: skip
        kept = set(map(_plain, self.unsaid))
        for tool in self.tools:
            for kind in KINDS:
                said: set[str] = set()
                for _ in range(TRIES * count):
                    row = makers[kind](tool["name"])
                    if row is None or (key := write_json(row)) in said:
                        continue
                    if _plain(row["messages"][0]["content"]) in kept:
                        continue
                    said.add(key)
                    yield row | {"kind": kind, "tool": tool["name"]}
                    if len(said) == count:
                        break

    def _simple(self, name: str) -> dict[str, Any] | None:
        asked = self._ask(name)
        return row_of(*asked, self._beside({name})) if asked else None

    def _joined(self, name: str) -> dict[str, Any] | None:
        """Two or three requests in one turn, the first of this tool."""
        names = [name, *(self.rng.choice(list(self.by_name)) for _ in range(self.rng.choice((1, 1, 2))))]
        asked = [one for one in map(self._ask, names) if one]
        if len(asked) < 2:
            return None
        text = asked[0][0]
        for more, _ in asked[1:]:
            text = self.rng.choice(JOINS).format(text if text[-1] in ".!?" else f"{text}.", more)
        calls = [call for _, some in asked for call in some]
        if len({write_json([call.name, call.arguments]) for call in calls}) < len(calls):
            return None  # the same twice is one request
        return row_of(text, calls, self._beside({call.name for call in calls}))

    def _masked(self, name: str) -> dict[str, Any] | None:
        """With other names for tools and parameters: what decides is what their descriptions say."""
        asked = self._ask(name)
        if not asked:
            return None
        text, calls = asked
        tools, renamed = [], dict[str, tuple[str, dict[str, str]]]()
        for tool in self._beside({call.name for call in calls}):
            if not tool.get("description"):
                return None  # then nothing would tell it
            properties = (tool.get("parameters") or {}).get("properties") or {}
            names = {old: f"arg_{number}" for number, old in enumerate(properties, 1)}
            renamed[tool["name"]] = f"tool_{self.rng.randint(100, 999)}", names
            tools.append(_renamed(tool, *renamed[tool["name"]]))
        if len({tool["name"] for tool in tools}) < len(tools):
            return None
        made = [
            Call(renamed[call.name][0], {renamed[call.name][1].get(k, k): v for k, v in call.arguments.items()})
            for call in calls
        ]
        return row_of(text, made, tools)

    def _taken_away(self, name: str) -> dict[str, Any] | None:
        """A request of this tool, where there are only others."""
        asked = self._ask(name)
        others = [tool for tool in self.tools if tool["name"] != name]
        if not asked or not others:
            return None
        tools = self.rng.sample(others, self.rng.randint(1, min(4, len(others))))
        return row_of(asked[0], [], tools)

    def _no_call(self, name: str) -> dict[str, Any] | None:
        """What an example says is no call of this tool."""
        asked = [example.request for example in self.examples.get(name, ()) if not example.calls]
        return row_of(self._framed(self.rng.choice(asked)), [], self._beside({name})) if asked else None

    def _ask(self, name: str) -> tuple[str, list[Call]] | None:
        """A request that calls this tool, with values of its own."""
        if not self.wordings.get(name):
            return None
        wording = self.rng.choice(self.wordings[name])
        values: dict[Path, Any] = {}
        for slot in wording.slots:
            schema = self._schema(wording, slot.path)
            values[slot.path] = other_value(slot.value, schema, self.known.get(str(slot.path[1]), ()), self.rng)
        text, calls = wording.filled(values)
        if (answer := self.answers.get(_plain(text))) is not None and answer != calls:
            return None  # an example says otherwise
        return self._framed(text), calls

    def _schema(self, wording: Wording, path: Path) -> Any:
        """What the tool says of a value in its call."""
        schema: Any = (self.by_name.get(wording.calls[path[0]].name) or {}).get("parameters")
        for step in path[1:]:
            if not isinstance(schema, Mapping):
                return None
            schema = schema.get("items") if isinstance(step, int) else (schema.get("properties") or {}).get(step)
        return schema

    def _framed(self, text: str) -> str:
        """Another frame around a request in the imperative; any other as it is."""
        first = text.split(maxsplit=1)[0].strip(",.!").lower()
        if text[-1] == "?" or first in _NO_VERBS or not first.isalpha() or self.rng.random() < 0.3:
            return text
        bare = text.rstrip(".! ")
        if "." in bare or "!" in bare:  # several sentences
            return text
        frame = self.rng.choice(FRAMES)
        begins = frame.startswith("{}") or frame.split("{}")[0].endswith(("! ", ". "))
        return frame.format(bare if begins else bare[0].lower() + bare[1:])

    def _beside(self, names: set[str]) -> list[dict[str, Any]]:
        """These tools and up to four others, in any order."""
        others = [tool for tool in self.tools if tool["name"] not in names]
        some = self.rng.sample(others, self.rng.randint(0, min(4, len(others))))
        tools = [*some, *(self.by_name[name] for name in sorted(names) if name in self.by_name)]
        self.rng.shuffle(tools)
        return tools


def row_of(text: str, calls: Sequence[Call], tools: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A request and its answer as a row in OpenAI's form. tools: schemas."""
    made = [
        {"type": "function", "function": {"name": call.name, "arguments": write_json(call.arguments)}} for call in calls
    ]
    answer = {"content": None, "tool_calls": made} if made else {"content": REFUSAL}
    return {
        "messages": [{"role": "user", "content": text}, {"role": "assistant", **answer}],
        "tools": [{"type": "function", "function": tool} for tool in tools],
    }


def _renamed(tool: Mapping[str, Any], name: str, names: Mapping[str, str]) -> dict[str, Any]:
    parameters = dict(tool.get("parameters") or {})
    if "properties" in parameters:
        parameters["properties"] = {names[old]: schema for old, schema in parameters["properties"].items()}
        parameters["required"] = [names.get(old, old) for old in parameters.get("required") or []]
    return {**tool, "name": name, "parameters": parameters}


def _plain(text: str) -> str:
    return " ".join(text.lower().split()).rstrip(".!?")
