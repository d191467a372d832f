"""Rows made from public data: arguments fit their schemas, follow from the words, and are drawn the same again."""

import json
import random
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from minifc.calling.schema import read_schema
from minifc.calling.validation import find_error
from minifc.data import read_conversation
from minifc.data.public import asking, intents, joining, seal, sgd, values
from minifc.data.public.catalogue import Entry, entries, read_catalogue
from minifc.data.public.compose import MAKERS, Pool, Row, apart
from minifc.data.public.functions import Ask, Function, Parameter, Request
from minifc.data.public.leaderboard import Leaderboard, questions
from minifc.data.public.mixture import DEV, HELD_OUT_DOMAINS, TRAINING, make_rows
from minifc.data.public.sources import fingerprint, sources
from minifc.data.public.tools import show, styled_name
from minifc.errors import DataError
from minifc.evaluation.bfcl import find_error as leaderboard_error
from minifc.evaluation.bfcl import read_bfcl
from minifc.text.calls import Call

CATEGORIES = [category for category in MAKERS if category != "answered"]
SHARES = {category: {"catalogue": 20} for category in CATEGORIES} | {"irrelevance": {"catalogue": 15, "missing": 5}}


@pytest.fixture(scope="module")
def pool() -> Pool:
    beside = [Function(["mow_lawn"], ["Mow the lawn."], [], "garden", "mow the lawn", "seal/mowLawn")]
    return Pool({"catalogue": entries()}, {}, [], [], beside)


@pytest.fixture(scope="module")
def rows(pool: Pool) -> list[Row]:
    found, left_out = make_rows(pool, 1500, SHARES, 3, None)
    assert left_out.total() < 300
    return found


def calls_of(row: Row) -> list[dict[str, Any]]:
    return [call["function"] for call in row["messages"][1].get("tool_calls", [])]


# --- the catalogue -----------------------------------------------------------------------------------------------


def test_the_catalogue_is_large_and_no_name_is_two_functions() -> None:
    names = Counter(name for entry in entries() for name in entry.function.names)
    assert len(entries()) > 550
    assert [name for name, count in names.items() if count > 1] == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("== a_b\nDo.\n* x integer: X. <int 1 2>\ni do it\n", "does not say 'x'"),
        ("== a_b\nDo.\n* x integer: X. <int 1 2>\ni do {x} and {y}\n", "'y', which is no parameter"),
        ("== a_b\nDo.\n* x integer: X. <int 1 2>\n", "no wording"),
        ("== a_b\nDo.\nx integer\ni do it\n", "neither a parameter nor a wording"),
    ],
)
def test_a_catalogue_that_cannot_be_asked_from_is_an_error(text: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        list(read_catalogue(text, "test"))


def test_every_argument_is_said_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each value that was drawn for a call stands in the request, and every argument was drawn."""
    drawn: list[values.Value] = []
    plain = asking._draw

    def noted(entry: Entry, name: str, rng: random.Random) -> values.Value:
        drawn.append(plain(entry, name, rng))
        return drawn[-1]

    monkeypatch.setattr(asking, "_draw", noted)
    rng = random.Random(0)
    for entry in entries():
        follow = {name for name, kind in entry.kinds.items() if kind.startswith(("up date", "state"))}
        drawn.clear()
        ask = asking.ask(entry, rng)
        meant = [value.meant for value in drawn if bare(value.said) in bare(ask.text)]
        for name, argument in ask.calls[0].items():
            for part in argument.values() if isinstance(argument, dict) else [argument]:
                assert name in follow or part in meant, ask


def bare(text: str) -> str:
    """Without what may differ at the beginning of a sentence, and without articles."""
    return re.sub(r"\b(an?|one)\b ?", "", text.lower())


def test_a_becomes_an_only_where_it_is_an_article() -> None:
    text = "a apple, a 8-sided die, a euro, a one, where a is 2, Serie A in May"
    assert asking._article(text) == "an apple, an 8-sided die, a euro, a one, where a is 2, Serie A in May"
    assert asking._article("A orange") == "An orange"


def test_a_request_may_lack_what_is_required() -> None:
    lacking = [entry for entry in entries() if entry.lacking]
    assert len(lacking) > 40
    for entry in lacking:
        ask = asking.ask_lacking(entry, random.Random(0))
        assert ask.missing
        assert ask.calls == ()
        assert "{" not in ask.text


def test_many_calls_differ_and_share_what_is_said_once() -> None:
    text = (
        "== a_b\nDo.\n* city string: City. <pool city>\n* day string: Day. <pool weekday>\nf rain in {city} on {day}\n"
    )
    (entry,) = read_catalogue(text, "test")
    rng = random.Random(1)
    asks = [ask for ask in (asking.ask_many(entry, 3, rng) for _ in range(50)) if ask]
    assert len(asks) > 20
    for ask in asks:
        assert len({json.dumps(call) for call in ask.calls}) == 3
        assert all(call["city"] in ask.text and call["day"] in ask.text for call in ask.calls)


@pytest.mark.parametrize(
    ("kind", "said", "meant"),
    [
        ("percent 5 5", "5%", 0.05),
        ("percent100 5 5", "5%", 5),
        ("span days 14 14", "2 weeks", 14),
        ("span minutes 90 90", "90 minutes", 90),
        ("large 213000000 213000000", "213 million", 213_000_000),
        ("of true=with a return", "with a return", True),
        ("of 12=monthly", "monthly", 12),
        ("of US=America", "America", "US"),
        ("digits 7 7", "7", "7"),
        ("start_speed 3 3", "from rest", 0),
    ],
)
def test_what_is_said_is_not_always_what_is_meant(kind: str, said: str, meant: Any) -> None:
    rng = random.Random(0)
    drawn = [values.draw(kind, rng) for _ in range(60)]
    assert values.Value(said, meant) in drawn
    assert all(type(value.meant) is type(meant) for value in drawn)


def test_times_and_dates_are_read_right() -> None:
    rng = random.Random(0)
    times = {value.said: value.meant for value in (values.draw("time HH:MM", rng) for _ in range(3000))}
    assert times["half past three in the afternoon"] == "15:30"
    assert times["noon"] == "12:00"
    assert times["a quarter to nine in the evening"] == "20:45"
    assert times["a quarter past ten in the morning"] == "10:15"
    dates = [values.draw("date %m/%d/%Y", rng) for _ in range(300)]
    assert all(value.order.strftime("%m/%d/%Y") == value.meant for value in dates)
    assert all(str(value.order.year) in value.said for value in dates)


def test_an_unknown_kind_is_an_error() -> None:
    with pytest.raises(DataError, match="no kind of value"):
        values.draw("nothing 1 2", random.Random(0))


def test_expressions_are_python() -> None:
    for seed in range(100):
        value = values.draw("expr x", random.Random(seed))
        compile(value.meant, "expression", "eval")
        assert value.meant.replace("**", "^").replace("*", "") == value.said


# --- rows --------------------------------------------------------------------------------------------------------


def test_rows_are_conversations_whose_calls_fit_their_schemas(rows: list[Row]) -> None:
    for row in rows:
        conversation = read_conversation(row, "row")
        tools = {tool["name"]: tool["parameters"] for tool in conversation.tools}
        assert len(tools) == len(row["tools"])
        for call in calls_of(row):
            assert find_error(call["arguments"], read_schema(tools[call["name"]], call["name"])) is None, row


def test_numbers_are_floats_and_integers_are_not(rows: list[Row]) -> None:
    seen = Counter()
    for row in rows:
        tools = {tool["function"]["name"]: tool["function"]["parameters"]["properties"] for tool in row["tools"]}
        for call in calls_of(row):
            for name, value in call["arguments"].items():
                kind = tools[call["name"]][name]["type"]
                seen[kind] += 1
                assert {"number": float, "integer": int}.get(kind, type(value)) is type(value)
    assert min(seen[kind] for kind in ("string", "integer", "number", "boolean", "array", "object")) > 5


def test_categories_are_what_they_say(rows: list[Row]) -> None:
    for row in rows:
        names, called = [tool["function"]["name"] for tool in row["tools"]], [call["name"] for call in calls_of(row)]
        assert len(called) == len([json.dumps(call) for call in calls_of(row)])
        match row["category"]:
            case "simple":
                assert names == called
            case "multiple":
                assert len(called) == 1
                assert called[0] in names
                assert len(names) > 1
            case "parallel":
                assert len(called) > 1
                assert len(set(called)) == 1
            case "parallel_multiple":
                assert len(set(called)) > 1
                assert set(called) <= set(names)
            case "irrelevance":
                assert called == []
                assert row["messages"][1]["content"].startswith("No ")


def test_the_same_seed_makes_the_same_rows(pool: Pool, rows: list[Row]) -> None:
    again, _ = make_rows(pool, 1500, SHARES, 3, None)
    other, _ = make_rows(pool, 1500, SHARES, 4, None)
    assert again == rows
    assert other != rows


def test_any_beginning_is_a_mixture(rows: list[Row]) -> None:
    counts = Counter(row["category"] for row in rows[:300])
    assert all(30 < counts[category] < 90 for category in CATEGORIES)


def test_functions_that_may_do_the_same_do_not_stand_beside_each_other() -> None:
    functions = {entry.function.names[0]: entry.function for entry in entries()}
    assert not apart(functions["bmi"], functions["bmi_imperial"])
    assert apart(functions["bmi"], functions["disk_area"])
    weather = replace(functions["weather_now"], group="sgd/Weather/find")
    assert not apart(weather, functions["forecast_days"])
    bmi = Function(["get_bmi"], ["Retrieve the body mass index"], [], "Health", "get the BMI", "seal/getBMI")
    assert not apart(bmi, functions["bmi"])


def test_shown_functions_have_many_names_and_defaults_are_told() -> None:
    parameter = Parameter("unit", {"type": "string", "enum": ["cm", "m"]}, ["Unit of length."], False, "cm")
    function = Function(["disk_area"], ["Area of a disk."], [parameter], "geometry", "area of a disk", "x")
    rng = random.Random(0)
    shown = [show(function, rng, set()) for _ in range(300)]
    names = {one.tool["name"] for one in shown}
    assert {"disk_area", "diskArea", "DiskArea", "geometry.disk_area", "geometry.diskArea"} < names
    assert len(names) > 15  # some masked
    for one in shown:
        (described,) = one.tool["parameters"]["properties"].values()
        assert described.get("default") == "cm" or "cm" in described["description"]
        assert "enum" in described or "'m'" in described["description"]
    assert "circle.find" not in {styled_name("in_circle", "geometry", rng) for _ in range(100)}


def test_several_requests_become_one_in_their_order() -> None:
    function = entries()[0].function
    asks = [Ask(f"Find the {word}.", function, [{}], "x", [f"find the {word}"]) for word in ("cat", "dog", "owl")]
    texts = {joining.joined(asks, random.Random(seed)) for seed in range(200)}
    assert len(texts) > 20
    for text in texts:
        assert text.index("cat") < text.index("dog") < text.index("owl")
        assert text[0].isupper() or text[0].isdigit()
        assert text[-1] in ".?!"


# --- what people said --------------------------------------------------------------------------------------------


def test_labelled_spans_become_arguments() -> None:
    spans = [("party_size_number", "four"), ("city", "Rome"), ("restaurant_type", "pub")]
    ask = intents.spans_to_ask("snips BookRestaurant", "a pub in Rome for four", spans, "snips/BookRestaurant")
    assert ask
    assert ask.calls == [{"party_size": 4, "city": "Rome", "place_type": "pub"}]
    twice = [("currency_name", "euro"), ("currency_name", "yen")]
    ask = intents.spans_to_ask("nlu qa_currency", "euro to yen", twice, "nlu/qa_currency")
    assert ask
    assert ask.calls == [{"from_currency": "euro", "to_currency": "yen"}]
    assert intents.spans_to_ask("nlu qa_currency", "euro", twice[:1], "") is None  # one is missing
    assert intents.spans_to_ask("snips BookRestaurant", "x", [("party_size_number", "many")], "") is None
    assert intents.spans_to_ask("snips BookRestaurant", "x", [("color", "red")], "") is None


def test_intents_are_well_formed() -> None:
    for key, (function, slots) in intents.intents().items():
        assert {parameter.name for parameter in function.parameters} == set(slots.values()), key


def write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value) if not isinstance(value, str) else value, encoding="utf-8")


def test_snips_nlu_and_clinc_are_read(tmp_path: Path) -> None:
    data = [
        {"text": "play "},
        {"text": "Halo", "entity": "track"},
        {"text": " on my  phone", "entity": "playlist_owner"},
    ]
    write(tmp_path / "a.json", {"PlayMusic": [{"data": data}]})
    (ask,) = intents.read_snips(tmp_path, ["a.json"])
    assert (ask.text, ask.calls) == ("play Halo on my phone", [{"track": "Halo"}])
    entity = {"entity": "time", "value": "nine am"}
    labelled = [
        {"text": "set an alarm for nine am", "intent": "alarm_set", "entities": [entity]},
        {"text": "how is iron made", "intent": "qa_factoid", "entities": []},
        {"text": "yes", "intent": "general_affirm", "entities": []},
    ]
    write(tmp_path / "b.json", {"test_data_annotation": labelled})
    first, second = intents.read_nlu(tmp_path, ["b.json"])
    assert isinstance(first, Ask)
    assert first.calls == [{"time": "nine am"}]
    assert second == Request("how is iron made", (), "nlu/qa_factoid")
    parts = {"oos_train": [["how is glue made", "oos"], ["hi", "greeting"]], "oos_val": [], "oos_test": []}
    write(tmp_path / "c.json", {"train": [], **parts})
    assert [one.text for one in intents.read_clinc(tmp_path, ["c.json"])] == ["how is glue made"]


def test_typed_transcripts() -> None:
    texts = {intents.as_typed("what is it that i said", random.Random(seed)) for seed in range(30)}
    assert "What is it that I said?" in texts
    assert "what is it that I said" in texts


SLOTS = [
    {"name": "city", "description": "City", "is_categorical": False, "possible_values": []},
    {"name": "time", "description": "Time", "is_categorical": False, "possible_values": []},
    {"name": "seats", "description": "Seats", "is_categorical": True, "possible_values": ["1", "2"]},
    {"name": "outside", "description": "Outside", "is_categorical": True, "possible_values": ["True", "False"]},
]
INTENT = {
    "name": "BookTable",
    "description": "Book a table",
    "required_slots": ["city", "time"],
    "optional_slots": {"seats": "2", "outside": "dontcare"},
}


def turn(text: str, acts: list[tuple[str, str, str]], opens: bool = True) -> dict[str, Any]:
    actions = [{"act": "INFORM", "slot": s, "values": [said], "canonical_values": [v]} for s, said, v in acts]
    actions += [{"act": "INFORM_INTENT", "slot": "intent", "values": [], "canonical_values": []}] if opens else []
    frame = {"service": "Restaurants_1", "actions": actions, "state": {"active_intent": "BookTable"}}
    return {"speaker": "USER", "utterance": text, "frames": [frame]}


def write_dialogue(folder: Path, turns: list[dict[str, Any]]) -> None:
    service = [{"service_name": "Restaurants_1", "description": "", "slots": SLOTS, "intents": [INTENT]}]
    for split in ("train", "dev", "test"):
        for place in (folder, *(folder / f"sgd_x/data/v{number}" for number in range(1, 6))):
            write(place / split / "schema.json", service)
    write(folder / "train/dialogues_001.json", [{"turns": turns}])


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        (
            [turn("Hi, book a table for two in Rome at half past seven.",
                  [("city", "Rome", "Rome"), ("time", "half past seven", "19:30"), ("seats", "two", "2")])],
            {"city": "Rome", "time": "19:30", "seats": 2},
        ),
        (
            [turn("I want a table outside in Rome, please.", [("city", "Rome", "Rome"), ("outside", "True", "True")]),
             turn("At 7 pm.", [("time", "7 pm", "19:00")], opens=False)],
            {"city": "Rome", "time": "19:00", "outside": True},
        ),
        ([turn("I would like a table somewhere in Rome.", [("city", "Rome", "Rome")])], None),
        ([turn("Get me a nice table at 7 pm.", [("city", "Rome", "Rome"), ("time", "7 pm", "19:00")])], None),
    ],
)  # fmt: skip
def test_dialogues_become_requests_that_say_all(
    tmp_path: Path, turns: list[dict[str, Any]], expected: dict[str, Any] | None
) -> None:
    write_dialogue(tmp_path, turns)
    found = list(sgd.read_sgd(tmp_path, ["train/dialogues_001.json"]))
    assert [ask.calls[0] for ask in found] == ([expected] if expected else [])
    for ask in found:
        kinds = {parameter.name: parameter for parameter in ask.function.parameters}
        assert kinds["seats"].schema == {"type": "integer"}
        assert kinds["seats"].default == 2
        assert kinds["city"].required
        assert "HH:MM" in kinds["time"].texts[0]


def says(who: str, text: str, acts: list[tuple[str, str, str]], **more: Any) -> dict[str, Any]:
    actions = [
        {"act": act, "slot": slot, "values": [v] * bool(v), "canonical_values": [v] * bool(v)} for act, slot, v in acts
    ]
    return {"speaker": who, "utterance": text, "frames": [{"service": "Restaurants_1", "actions": actions} | more]}


ASKED = turn("I want a table in Rome at 7 pm.", [("city", "Rome", "Rome"), ("time", "7 pm", "19:00")])
CALLED = {"method": "BookTable", "parameters": {"city": "Rome", "time": "19:00"}}
BOOKED = [{"name": "Da Enzo", "city": "Rome", "outside": "True"}, {"name": "Roscioli"}, {"name": "Armando"}]
ANSWER = says("SYSTEM", "Da Enzo has one.", [("OFFER", "name", "Da Enzo")], service_call=CALLED, service_results=BOOKED)
MORE = [
    says("USER", "Is it outside?", [("REQUEST", "outside", "")]),
    says("SYSTEM", "Yes, outside.", [("INFORM", "outside", "True")]),
]


@pytest.mark.parametrize(
    ("turns", "more"),
    [
        ([ANSWER], []),
        ([ANSWER, *MORE], [("Is it outside?", "Yes, outside.")]),
        ([ANSWER, says("USER", "Another one?", [("REQUEST_ALTS", "", "")]), MORE[1]], []),
        ([ANSWER, MORE[0], says("SYSTEM", "No, inside.", [("INFORM", "outside", "False")])], []),
    ],
    ids=["answer", "question", "another", "not as returned"],
)
def test_answers_say_what_the_service_returned(
    tmp_path: Path, pool: Pool, turns: list[dict[str, Any]], more: list[tuple[str, str]]
) -> None:
    write_dialogue(tmp_path, [ASKED, *turns])
    (found,) = sgd.read_exchanges(tmp_path, ["train/dialogues_001.json"])
    assert found.result == {"count": 3, "results": [{"name": "Da Enzo", "city": "Rome", "outside": True}, BOOKED[1]]}
    assert (found.answer, found.more) == ("Da Enzo has one.", more)
    made = MAKERS["answered"](replace(pool, exchanges=[found]), "sgd", random.Random(0))
    assert made is not None
    conversation = read_conversation(made, "row")
    assert [message["role"] for message in conversation.messages] == [
        "user", "assistant", "tool", *["assistant", *["user", "assistant"] * len(more)],
    ]  # fmt: skip
    assert conversation.messages[1]["tool_calls"]


def test_after_a_result_another_call_may_be_asked_for(tmp_path: Path, pool: Pool) -> None:
    write_dialogue(tmp_path, [ASKED, ANSWER, *MORE])
    exchanges = list(sgd.read_exchanges(tmp_path, ["train/dialogues_001.json"]))
    made = [MAKERS["answered"](replace(pool, exchanges=exchanges), "sgd", random.Random(seed)) for seed in range(20)]
    going_on = [row["messages"] for row in made if row and len(row["messages"]) > 6]
    assert 5 <= len(going_on) <= 15
    for messages in going_on:
        assert [message["role"] for message in messages[-3:]] == ["assistant", "user", "assistant"]
        (first,), later = messages[1]["tool_calls"], messages[-1]["tool_calls"]
        assert first["function"]["arguments"] == {"city": "Rome", "time": "19:00"}
        assert later
        assert first["function"]["name"] not in {call["function"]["name"] for call in later}


@pytest.mark.parametrize(
    "answer",
    [
        says("SYSTEM", "For how many?", [("REQUEST", "seats", "")]),
        says("SYSTEM", "At Armando.", [("OFFER", "name", "Armando")], service_call=CALLED, service_results=BOOKED),
        says("SYSTEM", "Da Enzo.", [("OFFER", "name", "Da Enzo")], service_results=BOOKED,
             service_call=CALLED | {"parameters": {"city": "Rome"}}),
    ],
    ids=["asks back", "says another result", "another call"],
)  # fmt: skip
def test_what_the_service_did_not_return_at_once_is_no_answer(tmp_path: Path, answer: dict[str, Any]) -> None:
    write_dialogue(tmp_path, [ASKED, answer])
    assert list(sgd.read_exchanges(tmp_path, ["train/dialogues_001.json"])) == []


def test_requests_of_seal_tools_whose_arguments_are_not_said_are_left_out(tmp_path: Path) -> None:
    parameters = {"name": {"type": "str", "description": "Name"}, "age": {"type": "int", "description": "Age"}}
    tool = {"api_name": "getPet", "api_description": "Get a pet", "field": "Pets", "parameters": parameters}
    tools = "Seal-Tools_Dataset/tool.jsonl"
    write(tmp_path / tools, json.dumps(tool | {"required": ["name"]}))
    asked = [
        ("Find the pet Rex, aged 4.", {"name": "Rex", "age": "4"}),
        ("Find the pet Rex.", {"name": "Bello"}),
        ("Find the pet Rex.", {"name": "Rex", "age": 4}),
        ("Find a pet aged 4.", {"age": 4}),
    ]
    lines = [json.dumps({"query": q, "calling": [{"api": "getPet", "parameters": p}]}) for q, p in asked]
    write(tmp_path / "dev.jsonl", "\n".join(lines))
    functions = seal.read_functions(tmp_path)
    assert functions["getPet"].names == ["get_pet"]
    found = list(seal.read_requests(tmp_path, [tools, "dev.jsonl"], functions))
    assert [one.calls[0][1] for one in found] == [{"name": "Rex", "age": 4}]


def test_functions_whose_descriptions_name_examples_are_asked_for() -> None:
    def parameter(name: str, kind: str, text: str, required: bool = True) -> Parameter:
        return Parameter(name, {"type": kind}, [text], required)

    art = parameter("artForm", "string", "The form of art (e.g., knitting, weaving)")
    known = [art, parameter("count", "integer", "How many", False), parameter("user_id", "string", "ID of the user")]
    place = parameter("location", "string", "Where (e.g., city, Paris)")
    functions = {
        "getArt": Function(
            ["get_art"], ["Retrieve art"], known, "Arts", "retrieve art of a specific form", "seal/getArt"
        ),
        "getPlace": Function(["get_place"], ["Retrieve it"], [place], "Arts", "retrieve it", "seal/getPlace"),
        "isArt": Function(["is_art"], ["Whether it is art"], [art], "Arts", "whether it is art", "seal/isArt"),
    }
    (entry,) = seal.read_entries(functions)
    assert entry.kinds == {"artForm": "of knitting; weaving", "count": "exact 2 90", "user_id": "id AA9999"}
    rng = random.Random(0)
    for _ in range(50):
        ask = asking.ask(entry, rng)
        assert ask.calls[0].keys() >= {"artForm", "user_id"}
        assert all(str(value) in ask.text or value in range(13) for value in ask.calls[0].values())
        assert "art of a form" in ask.text
        assert ask.source == "seal/functions"


# --- the leaderboard, what is held out, and where it comes from --------------------------------------------------


def test_rows_that_share_words_or_names_with_the_leaderboard_are_left_out(tmp_path: Path, pool: Pool) -> None:
    plain, _ = make_rows(pool, 200, SHARES, 3, None)
    row = next(row for row in plain if len(row["messages"][0]["content"].split()) > 12)
    tool = plain[0]["tools"][0]["function"]["name"]
    entry = {"id": "x", "question": [[row["messages"][0]]], "function": [{"name": tool}]}
    write(tmp_path / "BFCL_v9_simple_python.json", json.dumps(entry) + "\n")
    leaderboard = Leaderboard.read(tmp_path)
    assert leaderboard.shares(row)
    said = {"role": "user", "content": row["messages"][0]["content"]}
    assert leaderboard.shares({"tools": [], "messages": [{"role": "user", "content": "Hi."}, said]})
    assert leaderboard.shares(plain[0]) == "a function name of the leaderboard"
    kept, left_out = make_rows(pool, 200, SHARES, 3, leaderboard)
    assert left_out["a function name of the leaderboard"] >= 1
    assert not any(leaderboard.shares(one) for one in kept)


def test_questions_in_the_leaderboard_s_form_are_answered_by_their_own_rows(tmp_path: Path, rows: list[Row]) -> None:
    for name, text in questions(rows).items():
        write(tmp_path / "data" / name, text)
    asked = read_bfcl(tmp_path, ["simple_python", "multiple", "parallel", "parallel_multiple", "irrelevance"])
    by_text = {row["messages"][0]["content"]: row for row in rows}
    assert len(asked) == len(rows)
    for entry in asked:
        row = by_text[entry.messages[0]["content"]]
        calls = [Call(call["name"], call["arguments"]) for call in calls_of(row)]
        assert leaderboard_error(calls, entry) is None
        assert leaderboard_error(calls[1:] if calls else [Call("x", {})], entry)


def test_shares_are_as_their_comments_say() -> None:
    counts = {category: sum(some.values()) for category, some in TRAINING.items()}
    assert sum(counts.values()) == 1070
    assert counts["irrelevance"] == 210
    assert all(sum(some.values()) == 100 for some in DEV.values())
    assert set(HELD_OUT_DOMAINS) < {entry.function.domain for entry in entries()}


def test_sources_have_a_commit_a_licence_and_a_hash(tmp_path: Path) -> None:
    for source in sources().values():
        assert source.url.startswith("https://")
        assert len(source.commit) == 40
        assert len(source.sha256) == 64
        assert source.licence
        assert source.names(tmp_path) == []
    assert fingerprint({"a": "1"}) != fingerprint({"a": "2"})


def test_every_pool_and_unit_is_there_and_used() -> None:
    kinds = " ".join(kind for entry in entries() for kind in entry.kinds.values())
    used = {name for names in re.findall(r"\bpool ([a-z_|]+)", kinds) for name in names.split("|")}
    assert used | {"home_state"} == set(values.pools())
    units = {kind.split()[3] for entry in entries() for kind in entry.kinds.values() if kind.startswith("unit ")}
    assert units == set(values._UNITS)
