"""The Schema-Guided Dialogue data set: what people say to services, with the arguments that they say.

A row is a user's turn in which the intent is told with all arguments that it requires, or two turns that do so
together. Schemas come in six wordings (SGD-X). Times are 24-hour as in the annotation, whatever words they are said in;
other values are the user's own words. Where the service was called at once, its results and the answer are there too.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from minifc.data.public.functions import NO_DEFAULT, Ask, Exchange, Function, Parameter

_DOMAINS = {
    "Alarm": "time", "Banks": "finance", "Buses": "travel", "Calendar": "time", "Events": "events",
    "Flights": "travel", "Homes": "realestate", "Hotels": "travel", "Media": "media", "Messaging": "messages",
    "Movies": "media", "Music": "music", "Payment": "finance", "RentalCars": "travel", "Restaurants": "food",
    "RideSharing": "travel", "Services": "health", "Trains": "travel", "Travel": "travel", "Weather": "weather",
}  # fmt: skip
_FINDING = ("Search", "Find", "Get", "Lookup", "Check")
_TIME = re.compile(r"\d{2}:\d{2}")
_FILLER = re.compile(r"^(hi|hello|hey|yes|yeah|sure|okay|ok|no|great|thanks|thank you|perfect)\b[,.! ]*", re.I)
_SHOWN = 2  # results in a tool's answer, however many there are
_QUESTIONS = 2  # about a result, at most
Schemas = Mapping[str, Mapping[str, tuple[list[Function], dict[str, Any]]]]  # by service and intent


def read_sgd(folder: Path, names: Iterable[str]) -> Iterator[Ask]:
    """The requests of these files' dialogues, each with one of the six wordings of its schema in turn."""
    for ask, _, _ in _asks(folder, names):
        yield ask


def read_exchanges(folder: Path, names: Iterable[str]) -> Iterator[Exchange]:
    """The requests that were answered at once, with the service's results and the answer in words."""
    for ask, turns, arguments in _asks(folder, names):
        if exchange := _exchange(ask, turns, arguments):
            yield exchange


def _asks(folder: Path, names: Iterable[str]) -> Iterator[tuple[Ask, Sequence[Any], set[str]]]:
    """Each request, the turns after it, and the arguments' original names."""
    count = 0
    for split in ("train", "dev", "test"):
        schemas = _schemas(folder, split)
        for name in sorted(name for name in names if name.startswith(f"{split}/dialogues_")):
            for dialogue in json.loads((folder / name).read_text(encoding="utf-8")):
                for service, intent, text, arguments, end in _requests(dialogue, schemas):
                    functions, _ = schemas[service][intent]
                    count += 1
                    original = functions[0]
                    shown = functions[count % len(functions)]
                    renamed = dict(
                        zip((p.name for p in original.parameters), (p.name for p in shown.parameters), strict=True)
                    )
                    call = {renamed[name]: value for name, value in arguments.items()}
                    yield Ask(text, shown, [call], f"sgd/{service}"), dialogue["turns"][end:], set(arguments)


def _exchange(ask: Ask, turns: Sequence[Any], arguments: set[str]) -> Exchange | None:
    """What a service returned and what was said about it, in the turns after a request; None if it was not called with
    these arguments, or if more was said than it returned."""
    frame = turns[0]["frames"][0] if turns and len(turns[0]["frames"]) == 1 else {}
    if set(frame.get("service_call", {}).get("parameters", {})) != arguments:
        return None
    results = [{slot: _plain(value) for slot, value in one.items()} for one in frame["service_results"]]
    first = results[0] if results else {}
    if not _told_from(first, frame["actions"]):
        return None
    more: list[tuple[str, str]] = []
    for question, answer in zip(turns[1::2], turns[2::2], strict=False):
        acts = {action["act"] for one in question["frames"] for action in one["actions"]}
        if acts != {"REQUEST"} or len(more) == _QUESTIONS or not _told_from(first, answer["frames"][0]["actions"]):
            break
        more.append((question["utterance"].strip(), answer["utterance"].strip()))
    shown = first if len(results) == 1 else {"count": len(results), "results": results[:_SHOWN]}
    return Exchange(ask, shown, turns[0]["utterance"].strip(), more)


def _told_from(result: Mapping[str, Any], actions: Sequence[Any]) -> bool:
    """Whether a system's turn says nothing of its own, and asks nothing."""
    acts = {action["act"] for action in actions}
    told = [action for action in actions if action["act"] in ("OFFER", "INFORM")]
    return acts <= {"OFFER", "INFORM", "INFORM_COUNT", "NOTIFY_SUCCESS", "NOTIFY_FAILURE"} and all(
        result.get(action["slot"]) == _plain(action["canonical_values"][0]) for action in told
    )


def _plain(text: str) -> Any:
    """A result's value: true and false are not said in words."""
    return {"True": True, "False": False}.get(text, text)


def _schemas(folder: Path, split: str) -> Schemas:
    versions = [folder / split / "schema.json"]
    versions += [folder / "sgd_x/data" / f"v{number}" / split / "schema.json" for number in range(1, 6)]
    read = [json.loads(file.read_text(encoding="utf-8")) for file in versions]
    found: dict[str, dict[str, tuple[list[Function], dict[str, Any]]]] = {}
    for services in zip(*read, strict=True):
        name = services[0]["service_name"]
        found[name] = {}
        for intents in zip(*(service["intents"] for service in services), strict=True):
            functions = [
                _function(service, intent, services[0], intents[0])
                for service, intent in zip(services, intents, strict=True)
            ]
            found[name][intents[0]["name"]] = (functions, intents[0])
    return found


def _function(service: Any, intent: Any, original: Any, first: Any) -> Function:
    """One wording of an intent. Slots stand in the same order in every wording of a schema."""
    base = original["service_name"].partition("_")[0]
    names = [slot["name"] for slot in original["slots"]]
    wanted = [*first["required_slots"], *first["optional_slots"]]
    parameters = []
    for slot in wanted:
        said = service["slots"][names.index(slot)]
        default = first["optional_slots"].get(slot, "dontcare")
        parameters.append(
            Parameter(
                said["name"],
                _schema(original["slots"][names.index(slot)]),
                [_described(said["description"], slot)],
                slot in first["required_slots"],
                NO_DEFAULT
                if default in ("dontcare", "2019-03-01")
                else _value(default, original["slots"][names.index(slot)]),
            )
        )
    verb = "find" if first["name"].startswith(_FINDING) else "act"
    words = "_".join(word.lower() for word in re.findall("[A-Z][a-z]*", intent["name"])) or intent["name"]
    purpose = intent["description"][0].lower() + intent["description"][1:].rstrip(".")
    return Function([words], [intent["description"]], parameters, _DOMAINS[base], purpose, f"sgd/{base}/{verb}")


def _described(text: str, slot: str) -> str:
    if slot.endswith("time") and slot != "time_of_day":
        return f"{text.rstrip('.')}, as HH:MM in 24 hours"
    return text


def _schema(slot: Any) -> dict[str, Any]:
    values = slot["possible_values"] if slot["is_categorical"] else []
    if values and set(values) <= {"True", "False"}:
        return {"type": "boolean"}
    if values and all(value.isdecimal() for value in values):
        return {"type": "integer"}
    return {"type": "string", "enum": values} if values else {"type": "string"}


def _value(text: str, slot: Any) -> Any:
    kind = _schema(slot)["type"]
    if kind == "boolean":
        return text == "True"
    return int(text) if kind == "integer" else text


def _requests(dialogue: Any, schemas: Schemas) -> Iterator[tuple[str, str, str, dict[str, Any], int]]:
    """(service, intent, text, arguments under the original names, turns until its end) of each request that says all
    it needs."""
    users = [turn for turn in dialogue["turns"] if turn["speaker"] == "USER"]
    told = [_told(turn) for turn in users]
    done = set()
    for number, (turn, one) in enumerate(zip(users, told, strict=True)):
        if one is None or one[1] not in schemas[one[0]]:
            continue
        service, intent, informed, opens = one
        text, end = _clean(turn["utterance"]), 2 * number + 1  # the user begins, and turns alternate
        if opens and number + 1 < len(told) and not _complete(informed, schemas[service][intent][1]):
            following = told[number + 1]
            if following and following[:2] == (service, intent) and not following[3]:
                if informed.keys() & following[2].keys():
                    continue
                informed, end = informed | following[2], end + 2
                text = f"{text} {_clean(users[number + 1]['utterance'])}"
        elif not opens:
            continue
        arguments = _arguments(informed, text, schemas[service][intent])
        if arguments is not None and (service, intent) not in done and _is_request(text):
            done.add((service, intent))
            yield service, intent, text, arguments, end


def _clean(text: str) -> str:
    text = _FILLER.sub("", text.strip())
    text = re.sub(r"\s+", " ", text)
    text = text[:1].upper() + text[1:]
    return text if text[-1:] in ".?!" else text + "."


def _is_request(text: str) -> bool:
    return 5 <= len(text.split()) <= 60 and not re.search(r"\b(that one|this one|the same|there|them)\b", text, re.I)


def _told(turn: Any) -> tuple[str, str, dict[str, tuple[str, str]], bool] | None:
    """Service, intent, what is informed (as said, canonical), and whether the intent is told here; None: no request."""
    if len(turn["frames"]) != 1:
        return None
    frame = turn["frames"][0]
    acts = {action["act"] for action in frame["actions"]}
    if not acts <= {"INFORM", "INFORM_INTENT"} or not acts:
        return None
    informed = {}
    for action in frame["actions"]:
        if action["act"] == "INFORM":
            if action["slot"] in informed or len(action["values"]) != 1:
                return None
            informed[action["slot"]] = (action["values"][0], action["canonical_values"][0])
    return frame["service"], frame["state"]["active_intent"], informed, "INFORM_INTENT" in acts


def _complete(informed: Mapping[str, Any], intent: Any) -> bool:
    return set(intent["required_slots"]) <= informed.keys()


def _arguments(informed: Mapping[str, tuple[str, str]], text: str, schema: Any) -> dict[str, Any] | None:
    """The arguments, typed; None where one is missing, of another intent, or not to be found in the text."""
    functions, intent = schema
    kinds = {parameter.name: parameter.schema for parameter in functions[0].parameters}
    if not _complete(informed, intent) or not informed.keys() <= kinds.keys() or not informed:
        return None
    arguments: dict[str, Any] = {}
    for slot, (said, canonical) in informed.items():
        kind = kinds[slot]
        if canonical == "dontcare":
            if slot in intent["required_slots"]:
                return None
            continue
        if kind["type"] == "boolean":
            arguments[slot] = canonical == "True"
        elif kind["type"] == "integer":
            if not canonical.isdecimal():
                return None
            arguments[slot] = int(canonical)
        elif "enum" in kind:
            if canonical not in kind["enum"]:
                return None
            arguments[slot] = canonical
        elif slot.endswith("time"):
            if not _TIME.fullmatch(canonical):
                return None
            arguments[slot] = canonical
        elif said.lower() in text.lower():
            arguments[slot] = text[text.lower().index(said.lower()) :][: len(said)]
        else:
            return None
    return arguments or None
