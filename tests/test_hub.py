"""Names to folders: local ones, and repositories of a hub that speaks the real one's protocol on this machine."""

import json
from pathlib import Path
from typing import Any

import pytest
from commands import run

from minifc import export, hub, train
from minifc.data import read_rows
from minifc.errors import CheckpointError, DataError, HubError


def test_a_model_comes_whole_once_and_then_without_the_network(fake_hub: Any, tmp_path: Path) -> None:
    source = hub.find_model("google/gemma-2-2b-it")
    assert source.commit == fake_hub.commit
    assert source.path == Path("weights/google/gemma-2-2b-it")
    for name in ("config.json", "model.safetensors"):
        assert (source.path / name).read_bytes() == fake_hub.model[name]
    assert not (source.path / "pytorch_model.bin").exists()
    fake_hub.asked.clear()
    assert hub.find_model("google/gemma-2-2b-it") == source
    assert hub.find_model(f"google/gemma-2-2b-it@{fake_hub.commit}").path == source.path
    assert fake_hub.asked == []


def test_a_data_set_comes_too(fake_hub: Any) -> None:
    source = hub.find_data("who/rows")
    assert [path.name for path in source.path.glob("*.jsonl")] == ["train.jsonl"]
    assert source.commit == fake_hub.commit


def test_a_data_sets_train_split_is_taken_and_said(fake_hub: Any, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet", "dataset_infos.json"]
    fake_hub.files["who/rows"] = dict.fromkeys(names, b"{}")
    source = hub.find_data("who/rows")
    assert [path.name for path in source.path.rglob("*.parquet")] == ["train-00000-of-00001.parquet"]
    assert f"who/rows: its train split, {names[0]}\n" in capsys.readouterr().err
    fake_hub.files["who/shards"] = {f"train-{number}.jsonl": b"{}" for number in range(7)}
    hub.find_data("who/shards")
    assert "train-4.jsonl and 2 more\n" in capsys.readouterr().err


def test_of_several_configurations_the_default_is_taken(fake_hub: Any) -> None:
    fake_hub.files["who/rows"] = dict.fromkeys(["calls.json", "chats.json"], b"{}")
    fake_hub.cards["who/rows"] = {
        "configs": [
            {"config_name": "chats", "data_files": "chats.json"},
            {"config_name": "calls", "data_files": [{"split": "train", "path": "calls.json"}], "default": True},
        ]
    }
    assert [path.name for path in hub.find_data("who/rows").path.glob("*.json")] == ["calls.json"]


@pytest.mark.parametrize(
    ("files", "configs", "taken"),
    [
        (["train.jsonl", "valid.jsonl", "dev/a.jsonl", "eval_1.jsonl"], None, ["train.jsonl"]),
        (["a.jsonl", "contest.jsonl", "developers.jsonl"], None, ["a.jsonl", "contest.jsonl", "developers.jsonl"]),
        (["test.jsonl"], None, ["test.jsonl"]),
        (["a.json", "b.parquet"], None, ["b.parquet"]),
        (["en/x.json", "de/x.json"], [{"data_files": "en/*"}, {"data_files": "de/*"}], ["en/x.json"]),
        (["a/x.json", "a/y.json"], [{"data_files": {"test": "a/x*", "train": ["a/y*"]}}], ["a/y.json"]),
        (["test.json"], [{"data_files": [{"split": "test", "path": "test.json"}]}], ["test.json"]),
        (["a.json", "test.json"], [{"config_name": "default"}, "odd"], ["a.json"]),
        (["a.json"], [{"data_files": "gone.json"}], ["a.json"]),
        (["a.json"], "odd", ["a.json"]),
        (["a.json"], [{"data_files": [5, {"split": "train"}]}], ["a.json"]),
    ],
)
def test_train_files(files: list[str], configs: Any, taken: list[str]) -> None:
    assert hub.train_files(files, configs) == taken


@pytest.mark.parametrize("damage", ["lost", "cut short"])
def test_a_damaged_download_is_mended_by_the_same_command(
    fake_hub: Any, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    source = hub.find_model("google/gemma-2-2b-it")
    path = source.path / "model.safetensors"
    path.unlink() if damage == "lost" else path.write_bytes(path.read_bytes()[:1000])
    (source.path / "config.json").write_text('{"model_type": "gemma2", "my": "own"}')
    fake_hub.asked.clear()
    assert hub.find_model("google/gemma-2-2b-it") == source
    assert path.read_bytes() == fake_hub.model["model.safetensors"]
    assert capsys.readouterr().err.startswith("weights/google/gemma-2-2b-it/model.safetensors: lost or cut short;")
    assert not any(path.endswith("config.json") for path in fake_hub.asked)
    assert "my" in (source.path / "config.json").read_text()  # changed on purpose
    fake_hub.asked.clear()
    assert hub.find_model("google/gemma-2-2b-it") == source
    assert not fake_hub.asked


def test_a_folder_of_the_owners_name_is_no_obstacle(fake_hub: Any, tmp_path: Path) -> None:
    (tmp_path / "google").mkdir()
    (tmp_path / "who").mkdir()
    assert hub.find_model("google/gemma-2-2b-it").commit == fake_hub.commit
    assert hub.find_data("who/rows").commit == fake_hub.commit
    with pytest.raises(HubError, match="no folder of that name"):
        hub.find_model("google/gemma")


def test_a_revision_stands_in_the_name_of_what_came_from_the_hub(fake_hub: Any, tmp_path: Path) -> None:
    source = hub.find_model("google/gemma-2-2b-it")
    assert source.name == f"google/gemma-2-2b-it@{fake_hub.commit}"
    assert hub.find_model(source.name).path == source.path
    assert hub.split_revision(source.name) == ("google/gemma-2-2b-it", fake_hub.commit)
    assert hub.split_revision("google/gemma-2-2b-it") == ("google/gemma-2-2b-it", "")
    (tmp_path / "my" / "model@home").mkdir(parents=True)
    assert hub.split_revision("my/model@home") == ("my/model@home", "")


def test_a_run_from_the_hub_to_an_exported_model(fake_hub: Any, tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By names alone; the commits of both stand in the run, and the base's in the adapter. Then without the network."""
    rows = [{"messages": [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}]}] * 4
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    fake_hub.files["who/tiny"] = {path.name: path.read_bytes() for path in tiny.iterdir()}
    fake_hub.files["who/rows"] = {"data/train.jsonl": lines, "data/test.jsonl": lines * 9}
    options = ["--model", "who/tiny", "--data", "who/rows", "--max-steps", "1", "--to", "run"]
    assert run(train.main, *options) == 0
    commits = json.loads(Path("run/config.json").read_text())["commits"]
    assert (commits["model"], commits["data"]) == (fake_hub.commit, fake_hub.commit)
    config = json.loads(Path("run/adapter/adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == ("who/tiny", fake_hub.commit)
    assert len(read_rows(hub.find_data("who/rows").path)) == 4
    fake_hub.asked.clear()
    assert run(export.main, "run", "--to", "exported") == 0
    assert "base_model: who/tiny\n" in Path("exported/README.md").read_text()
    assert not fake_hub.asked


def test_a_gated_model_names_the_licence_page_and_the_login(fake_hub: Any) -> None:
    fake_hub.gated = True
    with pytest.raises(HubError, match=r"gated.*https://huggingface\.co/google/gemma-2-2b-it.*hf auth login"):
        hub.find_model("google/gemma-2-2b-it")
    fake_hub.gated = False
    assert hub.find_model("google/gemma-2-2b-it").commit == fake_hub.commit


def test_an_unknown_repository_or_revision_is_named(fake_hub: Any) -> None:
    with pytest.raises(HubError, match="who/nothing: not on the hub"):
        hub.find_model("who/nothing")
    with pytest.raises(HubError, match="no revision 'v9'"):
        hub.find_model("google/gemma-2-2b-it@v9")


def test_another_revision_than_the_one_downloaded_is_not_mixed_in(fake_hub: Any) -> None:
    hub.find_model("google/gemma-2-2b-it")
    with pytest.raises(HubError, match="holds revision main, not v2"):
        hub.find_model("google/gemma-2-2b-it@v2")


def test_a_data_set_is_not_taken_for_the_model_of_that_name(fake_hub: Any) -> None:
    hub.find_data("who/rows")
    with pytest.raises(HubError, match="holds the dataset of that name, not a model"):
        hub.find_model("who/rows")


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{}",
        '{"repo": "a", "revision": "main"}',
        '{"repo": "a", "kind": "model", "revision": "b", "commit": "c", "files": ["d"]}',
        '{"repo": "a", "kind": "model", "revision": "b", "commit": "c", "files": {"d": "5"}}',
        "not JSON",
    ],
)
def test_a_damaged_record_of_a_download_is_named(fake_hub: Any, text: str) -> None:
    folder = hub.find_model("google/gemma-2-2b-it").path
    (folder / ".cache" / "minifc.json").write_text(text)
    with pytest.raises(HubError, match=r"minifc\.json: not"):
        hub.find_model("google/gemma-2-2b-it")


def test_a_connection_that_breaks_is_taken_up_where_it_broke(fake_hub: Any) -> None:
    fake_hub.cut_after = 12 * 2**20
    source = hub.find_model("google/gemma-2-2b-it")
    assert (source.path / "model.safetensors").read_bytes() == fake_hub.model["model.safetensors"]
    assert fake_hub.ranges == [f"bytes={10 * 2**20}-"]


def test_after_an_interruption_what_came_whole_is_kept(fake_hub: Any) -> None:
    fake_hub.cut_after = fake_hub.then = 1000
    with pytest.raises(HubError, match="run the same command again"):
        hub.find_model("google/gemma-2-2b-it")
    folder = Path("weights/google/gemma-2-2b-it")
    assert sorted(path.name for path in folder.iterdir()) == [".cache", "config.json"]
    fake_hub.cut_after = 0
    fake_hub.asked.clear()
    assert (hub.find_model("google/gemma-2-2b-it").path / "model.safetensors").is_file()
    assert not any(path.endswith("config.json") for path in fake_hub.asked)


def test_an_unreachable_hub_is_one_line(fake_hub: Any) -> None:
    fake_hub.point_to("http://127.0.0.1:9")
    with pytest.raises(HubError, match=r"google/gemma-2-2b-it: .*again") as caught:
        hub.find_model("google/gemma-2-2b-it")
    assert "\n" not in str(caught.value)


def test_a_slip_in_a_folder_name_does_not_ask_the_hub(fake_hub: Any, tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    with pytest.raises(CheckpointError, match="weights/tinny: no such folder"):
        hub.find_model("weights/tinny")
    with pytest.raises(DataError, match=r"rows\.jsonl: no such file"):
        hub.find_data("rows.jsonl")
    assert fake_hub.asked == []


def test_a_path_is_no_name_of_the_hub(fake_hub: Any) -> None:
    for name in ("../gemma", "./gemma"):
        with pytest.raises(CheckpointError, match="no such folder"):
            hub.find_model(name)
    with pytest.raises(HubError, match="no name that the hub has"):
        hub.find_model("who/a..b")
    assert fake_hub.asked == []
