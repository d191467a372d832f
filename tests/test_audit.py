"""What `minifc.audit` says about a data file."""

import json
import re
from pathlib import Path

import pytest
from commands import run

from minifc import audit, train
from minifc.terminal import text_histogram

USER = {"role": "human", "content": "Add 1 and 2."}
CALL = "<think>Add.</think><tool_call>\n{'name': 'add', 'arguments': {'x': 1}}\n</tool_call>"


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """A good row, one with a misspelled tag, one with an unreadable call, one without a model turn, and a string."""
    good = [
        USER,
        {"role": "model", "content": CALL},
        {"role": "tool", "content": "<tool_response>\n3\n</tool_response>"},
    ]
    misspelled = [USER, {"role": "model", "content": "<tool_reponse>3</tool_reponse>"}]
    unreadable = [USER, {"role": "model", "content": "<tool_call>\n{add 1}\n</tool_call>"}]
    lines = [{"conversations": messages} for messages in (good, misspelled, unreadable, [USER])]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in [*lines, "not an object"]))
    return path


def test_every_finding_is_listed(rows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(audit.main, str(rows), "--format", "course", "--length", "20") == 0
    printed = capsys.readouterr().out
    found = summary_of(printed)
    assert found["rows"] == "5"
    assert found["cannot be learned from"] == "3"
    assert found["calls"] == "1"
    assert found["turns whose calls cannot be read"] == "0"
    assert found["tags that become tokens"].startswith("<think> 1 </think> 1 <tool_call> 1")
    assert found["tags that never occur"] == "<tools> </tools>"
    assert found["tags that stay text"] == "<tool_reponse> 1"
    assert found["longer than --length 20"].startswith("2,")
    assert "row 1)" in found["longest conversation"]
    for number, why in ((3, "neither JSON"), (4, "nothing to learn from"), (5, "a JSON str")):
        (line,) = [line for line in printed.splitlines() if f"row {number}:" in line]
        assert why in line


def test_lengths_are_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rows.jsonl"
    said = [1, 1, 1, 40, 160]
    messages = [[{"role": "user", "content": "a " * n}, {"role": "assistant", "content": "b"}] for n in said]
    path.write_text("".join(json.dumps({"messages": some}) + "\n" for some in messages))
    assert run(audit.main, str(path), "--length", "60") == 0
    drawn = capsys.readouterr().out.partition("have as many\n")[2].split("\n\n")[0].splitlines()
    assert drawn[0].split()[:4] == ["0", "to", "49", "3"]
    assert [line.count("#") > 0 for line in drawn].count(True) == 3
    assert any(re.search(r"-  60 -+$", line) for line in drawn)
    assert max(map(len, drawn)) <= 80


def test_text_histogram() -> None:
    assert text_histogram([5], 1000).splitlines() == ["0 to 99  1  " + "#" * 68]
    lines = text_histogram([0, 999, 999, 2500], 1000).splitlines()
    assert [line.split("  ")[-1] for line in lines if "#" in line] == ["#" * 31, "#" * 61, "#" * 31]


def test_a_row_is_shown_with_what_is_learned_from_between_marks(rows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(audit.main, str(rows), "--row", "1", "--format", "course", "--calls", "verbatim") == 0
    printed = capsys.readouterr().out
    assert printed.count("\u27ea") == printed.count("\u27eb") == 1
    learned = printed.partition("\u27ea")[2].partition("\u27eb")[0]
    assert learned == CALL + "<end_of_turn><eos>"
    assert "\033" not in printed


def summary_of(printed: str) -> dict[str, str]:
    """What the table says, by its first column; values that were wrapped are put together."""
    found: dict[str, str] = {}
    name = ""
    for line in printed.split("\n\n")[0].splitlines():
        if match := re.match(r"(\S.*?)?\s{2,}(.*)", line):
            name = match[1] or name
            found[name] = f"{found.get(name, '')} {match[2]}".strip()
    return found


def test_what_the_courses_recipe_trains_on(
    rows: Path, tmp_path: Path, tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every token, also of a turn whose call cannot be read, as the recipe's own run counts them."""
    good = rows.read_text().splitlines()[:3]
    rows.write_text("".join(line + "\n" for line in good))
    options = ["--format", "course", "--calls", "verbatim", "--learn", "all"]
    assert run(audit.main, str(rows), *options) == 0
    found = summary_of(capsys.readouterr().out)
    assert found["cannot be learned from"] == "0"
    assert found["turns whose calls cannot be read"] == "1"
    assert found["learned from"] == f"{found['tokens']} (100%)"
    assert run(audit.main, str(rows), *options, "--row", "2") == 0
    printed = capsys.readouterr().out
    assert printed.startswith("\u27ea<bos>")
    assert printed.endswith("\u27eb\n")

    recipe = ["--recipe", "course", "--eval-share", "0", "--epochs", "1", "--accumulation", "1", "--rank", "1"]
    to = tmp_path / "run"
    assert run(train.main, "--model", str(tiny), "--data", str(rows), *recipe, "--to", str(to)) == 0
    steps = [json.loads(line) for line in (to / "metrics.jsonl").read_text().splitlines()]
    assert sum(step["tokens"] for step in steps if "loss" in step) == int(found["tokens"])


def test_calls_are_counted_as_training_writes_them(rows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(audit.main, str(rows), "--row", "1") == 0
    assert '{"name": "add", "arguments": {"x": 1}}' in capsys.readouterr().out


def test_tags_spelled_in_structured_rows_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"messages": [USER, {"role": "assistant", "content": CALL}]}))
    assert run(audit.main, str(path)) == 0
    printed = capsys.readouterr().out
    assert summary_of(printed)["tags that stay text"].startswith("<think> 1 </think> 1 <tool_call> 1 </tool_call> 1")
    assert "the model's text spells tags of ours" in printed


@pytest.mark.parametrize("row", ["0", "6"])
def test_a_row_that_is_not_there(rows: Path, capsys: pytest.CaptureFixture[str], row: str) -> None:
    assert run(audit.main, str(rows), "--row", row) == 2
    assert "has rows 1 to 5" in capsys.readouterr().err


def test_a_length_that_holds_nothing(rows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(audit.main, str(rows), "--length", "0") == 2
    assert "--length 0: must be at least 1" in capsys.readouterr().err


def test_a_row_that_cannot_be_shown_says_why(rows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(audit.main, str(rows), "--row", "4") == 2
    assert "row 4: nothing to learn from" in capsys.readouterr().err


def test_what_is_doubtful_is_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rows.jsonl"
    call = {"role": "assistant", "tool_calls": [{"name": "add", "arguments": {"x": None}}]}
    row = {"messages": [USER, call], "tools": [{"name": "sum", "parameters": {}}], "id": 7}
    bad = [{"messages": [USER, {"role": "critic", "content": "x"}]}, {"messages": [USER, {"role": "owl"}]}]
    path.write_text("\n".join(map(json.dumps, [row, row, *bad])))
    assert run(audit.main, str(path)) == 0
    printed = capsys.readouterr().out
    found = summary_of(printed)
    assert (found["calls"], found["tools that are never called"]) == ("2", "1 of 1: sum")
    assert found["tools offered, none called"] == "0 of 2 conversations with tools"
    text = " ".join(printed.split())
    assert text.count("cannot be learned from:") == 1
    assert "unknown role 'critic'" in text
    assert "(and 1 more like it)" in text
    assert "note: fields that are not read: id 2" in text
    assert "so are no arguments: 2" in text
    assert text.count("warning: calls of a tool that is not offered: 2, first") == 1
    assert all(len(line) <= 80 or str(path) in line for line in printed.splitlines())
