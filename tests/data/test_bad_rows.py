"""Bad rows among good ones: an error, or left out and counted up to a bound."""

import json
from pathlib import Path

import pytest
from commands import run

from minifc import audit, evaluate, train
from minifc.data import read_conversations
from minifc.data.bad_rows import BadRows
from minifc.errors import DataError

USER, MODEL = {"role": "user", "content": "Is it late?"}, {"role": "assistant", "content": "Yes."}
GOOD = json.dumps({"messages": [USER, MODEL]})
LATE = json.dumps({"messages": [USER, MODEL, {"role": "system", "content": "x"}]})  # the chat template refuses it
BAD = ["{", json.dumps({"messages": [USER, {"role": "critic", "content": "x"}]}), LATE]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join([GOOD, *BAD, *[GOOD] * 6]))
    return path


def test_bad_rows_are_left_out_up_to_a_bound(file: Path) -> None:
    bad = BadRows(2)
    assert len(read_conversations(file, bad)) == 8
    assert [str(error).partition(": ")[0][-5:] for error in bad.errors] == ["row 2", "row 3"]
    with pytest.raises(DataError, match=r"row 3: .*unknown role 'critic'.*\(more bad rows than --skip-bad 1\)"):
        read_conversations(file, BadRows(1))
    with pytest.raises(DataError, match=r"row 2: line 2 is neither .*\(--skip-bad N leaves out N such rows\)"):
        read_conversations(file)


def test_a_file_that_is_no_json_at_all_is_one_error(file: Path) -> None:
    file.write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match=r"rows\.jsonl: line 1 is neither of a JSON file nor JSON Lines"):
        read_conversations(file, BadRows(5))


def test_train_leaves_out_what_it_may(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also what only the chat template refuses, in the training rows or in those that are kept apart."""
    options = ["--model", "weights/tiny", "--data", str(file), "--max-steps", "1", "--eval-share", "0.3"]
    assert run(train.main, *options, "--skip-bad", "2", "--to", str(tmp_path / "a")) == 2
    (line,) = capsys.readouterr().err.splitlines()[-1:]
    assert "more bad rows than --skip-bad 2" in line
    assert run(train.main, *options, "--skip-bad", "3", "--to", str(tmp_path / "b")) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "left out: 3 rows cannot be learned from (--skip-bad)" in printed
    assert run(train.main, "--skip-bad", "1") == 2
    assert "means something only with --data" in capsys.readouterr().err


def test_evaluate_and_audit_have_the_same_bound(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(evaluate.main, "--data", str(file)) == 2
    assert "--skip-bad N leaves out" in capsys.readouterr().err
    assert run(evaluate.main, "--skip-bad", "1") == 2
    assert "--skip-bad 1: has no effect without --data" in capsys.readouterr().err
    assert run(audit.main, str(file), "--skip-bad", "2") == 2
    assert "3 bad rows are more than --skip-bad 2" in capsys.readouterr().err
    assert run(audit.main, str(file), "--skip-bad", "3") == 0
    assert "row 2: line 2" in capsys.readouterr().out
