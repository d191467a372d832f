"""What a data set calls, and what is doubtful in it: each kind once, with its count and its first row."""

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest

from minifc.data import Conversation, read_conversation
from minifc.data.public.leaderboard import Leaderboard
from minifc.errors import DataError
from minifc.evaluation import survey as kinds
from minifc.evaluation.similar import Similar
from minifc.evaluation.survey import survey

USER, MODEL = {"role": "user", "content": "Is it late?"}, {"role": "assistant", "content": "Yes."}
CLOCK = {
    "name": "clock",
    "parameters": {"type": "object", "properties": {"zone": {"enum": ["UTC", "CET"]}}, "required": ["zone"]},
}


def calling(*calls: Any) -> dict[str, Any]:
    return {"role": "assistant", "tool_calls": [{"name": name, "arguments": arguments} for name, arguments in calls]}


def rows(*conversations: list[Any], tools: Any = (CLOCK,)) -> list[Conversation]:
    return [
        read_conversation({"messages": messages, "tools": list(tools)}, f"row {number}")
        for number, messages in enumerate(conversations, 1)
    ]


GOOD = calling(("clock", {"zone": "UTC"}))


def test_good_rows_have_no_faults() -> None:
    found = survey(
        rows([USER, GOOD], [USER, MODEL], [USER, calling(*[("clock", {"zone": z}) for z in ("UTC", "CET")])])
    )
    assert (found.calls, found.parallel, found.offering, found.declining) == (3, 1, 3, 1)
    assert found.never_called == []
    assert found.warnings() == []


@pytest.mark.parametrize(
    ("messages", "what", "first"),
    [
        ([USER, calling(("watch", {}))], kinds.NOT_OFFERED, "row 2: watch"),
        ([USER, calling(("clock", {"zone": "CEST"}))], kinds.NOT_ALLOWED, 'row 2: clock: zone: "CEST" is not'),
        ([USER, calling(("clock", {}))], kinds.NOT_ALLOWED, "row 2: clock: zone is missing"),
        ([USER, USER, MODEL], kinds.SAME_ROLE, "row 2, message 1 (user)"),
        ([USER, MODEL, MODEL], kinds.SAME_ROLE, "row 2, message 2 (assistant)"),
        ([USER, {**MODEL, "content": " \n"}], kinds.EMPTY, "row 2, message 1"),
        ([{**USER, "content": "is it LATE"}, GOOD], kinds.REPEATED, "row 2"),
    ],
)
def test_each_kind_of_fault_is_told_once(messages: list[Any], what: str, first: str) -> None:
    found = survey(rows([USER, GOOD], *[messages] * 3))
    fault = found.faults[what]
    assert fault.count == 3
    assert fault.first.startswith(first)
    assert sum(what in warning for warning in found.warnings()) == 1
    assert set(found.faults) <= {what, kinds.REPEATED}


def test_rows_that_differ_in_an_argument_are_not_the_same() -> None:
    assert not survey(rows([USER, GOOD], [USER, calling(("clock", {"zone": "CET"}))])).faults


def test_rows_that_are_nearly_the_same_are_told() -> None:
    words = "Please tell me how late it is in {} now since I must catch a train that leaves at noon from a far station"
    said = [{"role": "user", "content": f"{words.format(city)} {words.lower()[7:60]}"} for city in ("Rome", "Oslo")]
    other = {"role": "user", "content": " ".join(reversed(said[0]["content"].split()))}
    found = survey(rows([said[0], GOOD], [other, GOOD], [said[1], GOOD], [said[0], MODEL]))
    assert found.faults[kinds.SIMILAR].count == 2
    assert found.faults[kinds.SIMILAR].first == "row 3: as row 1"


def test_similar_texts_are_found_as_counting_finds_them() -> None:
    """The estimate beside the exact share, for texts that share from none to nearly all."""
    rng = random.Random(0)
    told = dict.fromkeys(range(0, 101, 10), 0)
    for share in told:
        for number in range(20):
            text = [rng.choice("abcdefghijklmnopqrstuvwxyz") + str(rng.randint(0, 99)) for _ in range(120)]
            cut = 120 * share // 100
            other = [*text[:cut], *(f"{word}x" for word in text[cut:])]
            similar = Similar()
            similar.add(" ".join(text), "one")
            told[share] += similar.add(" ".join(other), f"{number}") == "one"
    assert told[100] == 20
    assert told[70] <= 1  # of 120 words that share 70%, 54% of the runs of both
    assert sum(told[share] for share in range(0, 70, 10)) == 0


def test_a_folder_that_is_no_leaderboards_is_named(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(
            DataError, match=rf"^{re.escape(str(folder))}: no BFCL_v\*\.json; name the data folder of bfcl-eval$"
        ):
            Leaderboard.read(folder)


def test_what_a_leaderboard_has_too_is_told(tmp_path: Path) -> None:
    question = "Could you please tell me how late it is in Rome right now?"
    entry = {"id": "x", "question": [[{"role": "user", "content": question}]], "function": [{"name": "watch"}]}
    (tmp_path / "BFCL_v9_simple_python.json").write_text(json.dumps(entry) + "\n")
    leaderboard = Leaderboard.read(tmp_path)
    same = {"role": "user", "content": f"Hi. {question}"}
    found = survey(rows([USER, GOOD], [same, GOOD], [USER, MODEL]), leaderboard)
    assert found.faults[kinds.LEADERBOARD].first == "row 2: 8 words of a question of the leaderboard"
    found = survey(rows([USER, GOOD], tools=[CLOCK, {"name": "watch"}]), leaderboard)
    assert found.faults[kinds.LEADERBOARD].first == "row 1: a function name of the leaderboard"


def test_missing_refusals_and_missing_calls_are_warned_of() -> None:
    (warning,) = survey(rows([USER, GOOD])).warnings()
    assert warning.startswith("every conversation that offers tools calls one")
    (warning,) = survey(rows([USER, MODEL])).warnings()
    assert warning == "tools are offered, and no reply holds a call that is recognised"
    assert survey(rows([USER, GOOD], [USER, MODEL], tools=[CLOCK, {"name": "idle"}])).never_called == ["idle"]


def test_a_schema_that_cannot_be_followed_is_told_once() -> None:
    tool = {"name": "clock", "parameters": {"type": "object", "properties": {"zone": {"type": "nothing"}}}}
    found = survey(rows([USER, GOOD], [USER, MODEL, USER, GOOD], tools=[tool]))
    assert found.faults[kinds.NOT_FOLLOWED].count == 1
    assert kinds.NOT_ALLOWED not in found.faults


def test_tags_in_the_text_are_looked_at_too() -> None:
    call = '<tool_call>\n{"name": "%s", "arguments": {}}\n</tool_call>'
    turns = ["<tools>{'name': 'now'}</tools> Late?", call % "now", "And now?", call % "then"]
    messages = [{"role": "model" if i % 2 else "user", "content": text} for i, text in enumerate(turns)]
    found = survey([read_conversation({"conversations": messages}, "row 1")])
    assert found.calls == 2
    assert found.faults[kinds.NOT_OFFERED].first == "row 1: then"
    assert len(found.faults) == 1
