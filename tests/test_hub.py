"""Names to folders: local ones, and repositories of a hub that speaks the real one's protocol on this machine."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import run
from huggingface_hub import constants, snapshot_download

from minifc import export, hub, hub_answers, train
from minifc.data import read_rows
from minifc.errors import CheckpointError, DataError, HubError


@pytest.fixture
def offline(fake_hub: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Turns the network off as HF_HUB_OFFLINE=1 does."""
    return lambda: monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's client waits between two attempts; here it need not."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)


def test_a_model_comes_into_the_hubs_own_cache(fake_hub: Any, tmp_path: Path) -> None:
    source = hub.find_model("google/gemma-2-2b-it")
    assert source.commit == fake_hub.commit
    assert source.path == tmp_path / "cache" / "models--google--gemma-2-2b-it" / "snapshots" / fake_hub.commit
    for name in ("config.json", "model.safetensors"):
        assert (source.path / name).read_bytes() == fake_hub.model[name]
    assert not (source.path / "pytorch_model.bin").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


def test_what_a_model_needs_is_taken(fake_hub: Any) -> None:
    names = ["config.json", "model-00001-of-00002.safetensors", "tokenizer.model", "chat_template.jinja"]
    fake_hub.files["who/model"] = dict.fromkeys([*names, "README.md", "model.gguf", "x.bin", "tokenizer.py"], b"{}")
    assert sorted(path.name for path in hub.find_model("who/model").path.iterdir()) == sorted(names)


def test_a_pinned_model_that_is_here_asks_no_network(fake_hub: Any, capsys: pytest.CaptureFixture[str]) -> None:
    source = hub.find_model("google/gemma-2-2b-it")
    fake_hub.asked.clear()
    capsys.readouterr()
    assert hub.find_model(source.name) == source
    assert fake_hub.asked == []
    assert capsys.readouterr().err == ""


def test_what_is_here_is_found_without_a_network(fake_hub: Any, offline: Callable[[], None]) -> None:
    model, data = hub.find_model("google/gemma-2-2b-it"), hub.find_data("who/rows")
    fake_hub.point_to("http://127.0.0.1:9")
    for _ in range(2):  # a network that is down, and one that is forbidden
        for name in (model.name, "google/gemma-2-2b-it"):
            assert hub.find_model(name) == model
        for name in (data.name, "who/rows"):
            assert hub.find_data(name) == data
        offline()


def test_what_is_not_here_cannot_come_without_a_network(fake_hub: Any, offline: Callable[[], None]) -> None:
    offline()
    with pytest.raises(HubError, match=r"^google/gemma-2-2b-it: not whole in the hub's cache.*HF_HUB_OFFLINE"):
        hub.find_model("google/gemma-2-2b-it")
    assert fake_hub.asked == []


@pytest.mark.parametrize("kind", ["model", "data"])
def test_half_a_download_is_not_taken_for_a_whole_one(
    fake_hub: Any, offline: Callable[[], None], no_waiting: None, kind: str
) -> None:
    lines = b"{}" * 10000
    fake_hub.files["who/half"] = {"a.json": b"{}", "b.json": lines, "README.md": b""}
    fake_hub.cut_after = fake_hub.then = 1000
    find = {"model": hub.find_model, "data": hub.find_data}[kind]
    with pytest.raises(HubError, match="run the same command again"):
        find("who/half")
    offline()
    with pytest.raises(HubError, match="not whole in the hub's cache"):
        find("who/half")


def test_another_revision_comes_beside_the_first(fake_hub: Any) -> None:
    first = hub.find_model("google/gemma-2-2b-it")
    fake_hub.commit = "f" * 40
    fake_hub.files["google/gemma-2-2b-it"] = fake_hub.model | {"config.json": b'{"model_type": "new"}'}
    second = hub.find_model("google/gemma-2-2b-it")
    assert (second.commit, second.path.parent) == (fake_hub.commit, first.path.parent)
    assert b"new" in (second.path / "config.json").read_bytes()
    assert b"new" not in (hub.find_model(first.name).path / "config.json").read_bytes()


def test_a_model_and_a_data_set_of_one_name_do_not_meet(fake_hub: Any) -> None:
    fake_hub.files["who/rows"] = {"config.json": b"{}"}
    assert hub.find_model("who/rows").path != hub.find_data("who/rows").path


def test_a_repository_without_the_files_that_are_needed_is_named(fake_hub: Any) -> None:
    fake_hub.files["who/empty"] = {"x.bin": b"", "dataset_infos.json": b"{}"}
    with pytest.raises(HubError, match=r"https://huggingface\.co/datasets/who/empty: holds no \*\.parquet or"):
        hub.find_data("who/empty")
    fake_hub.files["who/nothing"] = {"x.bin": b""}
    with pytest.raises(HubError, match=r"https://huggingface\.co/who/nothing: holds no \*\.json or"):
        hub.find_model("who/nothing")


def test_a_data_set_comes_too(fake_hub: Any) -> None:
    source = hub.find_data("who/rows")
    assert source.files == (source.path / "train.jsonl",)
    assert source.commit == fake_hub.commit


def test_other_splits_in_the_cache_are_not_read(fake_hub: Any) -> None:
    """The datasets library brings them into the same folder."""
    fake_hub.files["who/rows"] = {"train.jsonl": b'{"a": 1}\n', "test.jsonl": b'{"a": 2}\n', "[x].jsonl": b'{"a": 3}\n'}
    snapshot_download("who/rows", repo_type="dataset")
    rows = read_rows(hub.find_data("who/rows").files)
    assert [row["a"] for _, row in rows] == [1]


def test_a_data_sets_train_split_is_taken_and_said(fake_hub: Any, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet", "dataset_infos.json"]
    fake_hub.files["who/rows"] = dict.fromkeys(names, b"{}")
    source = hub.find_data("who/rows")
    assert [path.name for path in source.path.rglob("*.*")] == ["train-00000-of-00001.parquet"]
    assert f"who/rows: its train split, {names[0]}\n" in capsys.readouterr().err
    fake_hub.files["who/shards"] = {f"train-{number}.jsonl": b"{}" for number in range(7)}
    hub.find_data("who/shards")
    assert "train-4.jsonl and 2 more\n" in capsys.readouterr().err


def test_of_several_configurations_the_default_is_taken_and_said(
    fake_hub: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_hub.files["who/rows"] = dict.fromkeys(["calls.json", "chats.json"], b"{}")
    configs: list[Any] = [
        {"config_name": "chats", "data_files": "chats.json"},
        {"config_name": "calls", "data_files": [{"split": "test", "path": "calls.json"}], "default": True},
    ]
    fake_hub.card("who/rows", configs=configs)
    with pytest.raises(DataError, match="who/rows: no split 'train' of the configuration 'calls'; there is test"):
        hub.find_data("who/rows")
    source = hub.find_data("who/rows", split="test")
    assert source.files == (source.path / "calls.json",)
    assert "who/rows: its split 'test' of the configuration 'calls', calls.json\n" in capsys.readouterr().err
    assert hub.find_data("who/rows", "chats").files == (source.path / "chats.json",)
    with pytest.raises(DataError, match="no configuration 'x'; there is 'chats', 'calls'"):
        hub.find_data("who/rows", "x")


def test_a_card_that_is_no_yaml_is_named(fake_hub: Any) -> None:
    fake_hub.files["who/rows"] = {"a.json": b"{}", "README.md": b"---\n{\n---\n"}
    with pytest.raises(HubError, match="who/rows: the hub's answer cannot be used"):
        hub.find_data("who/rows")


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
    assert len(read_rows(hub.find_data("who/rows").files)) == 4
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


def test_a_connection_that_breaks_is_taken_up_where_it_broke(fake_hub: Any) -> None:
    fake_hub.cut_after = 12 * 2**20
    source = hub.find_model("google/gemma-2-2b-it")
    assert (source.path / "model.safetensors").read_bytes() == fake_hub.model["model.safetensors"]
    assert fake_hub.ranges == [f"bytes={10 * 2**20}-"]


def test_after_an_interruption_what_came_whole_is_kept(fake_hub: Any, no_waiting: None) -> None:
    fake_hub.cut_after = fake_hub.then = 1000
    with pytest.raises(HubError, match="run the same command again"):
        hub.find_model("google/gemma-2-2b-it")
    fake_hub.cut_after = 0
    fake_hub.asked.clear()
    assert (hub.find_model("google/gemma-2-2b-it").path / "model.safetensors").is_file()
    assert not any(path.endswith("config.json") for path in fake_hub.asked)


def test_an_unreachable_hub_is_one_line(fake_hub: Any) -> None:
    fake_hub.point_to("http://127.0.0.1:9")
    with pytest.raises(HubError, match=r"google/gemma-2-2b-it: .*again") as caught:
        hub.find_model("google/gemma-2-2b-it")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        "./gemma",
        "../gemma",
        "/gemma/it",
        "~/gemma",
        ".google/gemma",
        "google/.gemma",
        "google/..",
        "gemma",
        "a/b/c",
        "google//gemma",
        "google/gemma/",
        "google\\gemma",
        "runs/2026",
        "weights/tinny",
        "who/gemma.gguf",
        "who/model.safetensors",
        "who/rows.json",
        "google/gemma\n",
        "google/gemma@../../x",
        "google/gemma@/x",
        "google/gemma@.x",
        "google/gemma@a//b",
    ],
)
def test_a_path_is_no_name_of_the_hub(fake_hub: Any, name: str) -> None:
    with pytest.raises(CheckpointError, match=r"no such (folder|file)"):
        hub.find_model(name)
    with pytest.raises(DataError, match="no such file"):
        hub.find_data(name)
    assert fake_hub.asked == []


def test_a_name_that_the_hub_cannot_have_is_not_asked_for(fake_hub: Any) -> None:
    with pytest.raises(HubError, match="no name that the hub has"):
        hub.find_model("who/a..b")
    assert fake_hub.asked == []


def _answers(body: object = None, status: int = 200, **headers: str) -> Any:
    """A lie: this instead of the true body, if any, and these headers beside the true ones."""
    said = body if isinstance(body, bytes) else json.dumps(body).encode()
    return lambda _, true, before: (status, true if body is None else said, before | headers)


def _info(**fields: object) -> Any:
    return _answers({"id": "google/gemma-2-2b-it", "sha": "0" * 40, "siblings": []} | fields)


def _tree(path: object, **fields: object) -> Any:
    return _answers([{"type": "file", "path": path, "size": 2, "oid": "0" * 40} | fields])


_LIES: dict[str, tuple[str, Any, str]] = {  # which answer, what becomes of it, what is said
    "html": ("revision", _answers(b"<html>Sign in to this network</html>"), "not JSON"),
    "truncated JSON": ("revision", _answers(b'{"id": "google/gemma-2-2b-it", "sha": "01'), "not JSON"),
    "JSON too deep": ("revision", _answers(b"[" * 100_000), "not JSON"),
    "a list": ("revision", _answers([1, 2]), "not a description"),
    "null": ("revision", _answers(b"null"), "not a description"),
    "no fields": ("revision", _answers({}), "not a description"),
    "no sha": ("revision", _answers({"id": "a/b"}), "not 40 hex digits, None"),
    "sha null": ("revision", _info(sha=None), "not 40 hex digits, None"),
    "sha empty": ("revision", _info(sha=""), "not 40 hex digits, ''"),
    "sha upwards": ("revision", _info(sha="../../../outside"), "not 40 hex digits"),
    "sha absolute": ("revision", _info(sha="{tmp}/outside"), "not 40 hex digits"),
    "sha with slashes": ("revision", _info(sha="a/b/c"), "not 40 hex digits"),
    "sha with controls": ("revision", _info(sha="0" * 39 + "\x1b"), "not 40 hex digits"),
    "sha with a line": ("revision", _info(sha="0" * 40 + "\n"), "not 40 hex digits"),
    "sha a number": ("revision", _info(sha=5), "not 40 hex digits"),
    "a date that is none": ("revision", _info(lastModified="yesterday"), "cannot be used"),
    "siblings of nothing": ("revision", _info(siblings=[{}]), "cannot be used"),
    "error 500": ("revision", _answers(b"oops", 500), "answered with an error .*500"),
    "error 404 without a reason": ("revision", _answers(b"", 404), "answered with an error .*404"),
    "error 418": ("revision", _answers(b"a\nb\nc", 418), "answered with an error .*418"),
    "onward to elsewhere": ("revision", _answers(b"", 302, Location="/elsewhere"), "no such list"),
    "round and round": (
        "revision",
        _answers(b"", 302, Location="/api/models/google/gemma-2-2b-it/revision/main"),
        "redirect",
    ),
    "commit header upwards": ("revision", _answers(X_Repo_Commit="../../../outside"), "not asked for, '../"),
    "files: html": ("tree", _answers(b"<html>"), "not JSON"),
    "files: a dict": ("tree", _answers({"path": "config.json"}), "not a list of files"),
    "files: names": ("tree", _answers(["config.json"]), "not a list of files"),
    "files: without a name": ("tree", _answers([{"type": "file"}]), "leads elsewhere, None"),
    "files: without a digest": ("tree", _tree("a.json", oid=None), "not in hex"),
    "files: without a size": ("tree", _answers([{"type": "file", "path": "a.json", "oid": "0"}]), "cannot be used"),
    "files: upwards": ("tree", _tree("../../../../outside/a.json"), "leads elsewhere"),
    "files: up and down": ("tree", _tree("a/../../b.json"), "leads elsewhere"),
    "files: absolute": ("tree", _tree("/{tmp}/outside/a.json"), "leads elsewhere"),
    "files: backslashes": ("tree", _tree("..\\a.json"), "leads elsewhere"),
    "files: a drive": ("tree", _tree("C:a.json"), "leads elsewhere"),
    "files: controls": ("tree", _tree("\x1b[2Ja.json"), "leads elsewhere"),
    "files: half a character": ("tree", _tree("\ud800.json"), "leads elsewhere"),
    "files: too long": ("tree", _tree("a" * 300 + ".json"), "leads elsewhere"),
    "files: digest upwards": (
        "tree",
        _tree("a.json", lfs={"oid": "../../../outside/a", "size": 2, "pointerSize": 2}),
        "not in hex",
    ),
    "files: more of them nowhere": (
        "tree",
        _answers(Link='</api/models/google/gemma-2-2b-it/tree/main>; rel="next"'),
        "no such list",
    ),
    "files: more of them elsewhere": ("tree", _answers(Link='</elsewhere>; rel="next"'), "no such list"),
    "files: without end": (
        "tree",
        _answers(Link='<{hub}/api/models/google/gemma-2-2b-it/tree/main>; rel="next"'),
        "no end of answers",
    ),
    "etag upwards": ("HEAD", _answers(ETag='"../../../outside/a"'), "no digest"),
    "etag absolute": ("HEAD", _answers(ETag='"{tmp}/outside/a"'), "no digest"),
    "etag of dots": ("HEAD", _answers(ETag='".."'), "no digest"),
    "etag of the large file upwards": ("HEAD", _answers(X_Linked_Etag="../../../outside/a"), "no digest"),
    "etag too long": ("HEAD", _answers(ETag='"' + "a" * 300 + '"'), "no digest"),
    "etag upwards, elsewhere": (
        "HEAD",
        _answers(b"", 302, ETag='"../../../outside/a"', Location="http://localhost:9/a"),
        "no digest",
    ),
    "etag empty": ("HEAD", _answers(ETag=""), "no digest"),
    "etag empty in the end": ("HEAD", _answers(ETag="W/W"), "no digest"),
    "file: commit upwards": ("HEAD", _answers(X_Repo_Commit="../../../outside"), "not asked for, '../"),
    "file: another commit": ("HEAD", _answers(X_Repo_Commit="f" * 40), "not asked for, 'fff"),
    "file: commit upwards, not found": (
        "HEAD",
        _answers(b"", 404, X_Repo_Commit="../../../outside", X_Error_Code="EntryNotFound"),
        "not asked for, '../",
    ),
    "file: round and round": ("HEAD", _answers(b"", 302, Location="?again"), "redirect"),
    "file: error 500": ("HEAD", _answers(b"", 500), "answered with an error .*500"),
    "file: shorter than said": ("GET", _answers(b"short"), "should be of size"),
    "file: cut": ("GET", _answers(b"short", Content_Length="9999"), "cannot be reached .*closed"),
    "file: another part": ("GET", _answers(Content_Range="bytes a-b/c"), "cannot be used"),
}


@pytest.mark.parametrize("lie", _LIES)
def test_whatever_a_hub_answers_nothing_is_written_outside_the_cache(
    fake_hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_waiting: None, lie: str
) -> None:
    monkeypatch.setattr(hub_answers, "MOST_ANSWERS", 100)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a").write_text("mine")
    answer, change, said = _LIES[lie]

    def lied(status: int, body: bytes, headers: dict[str, str]) -> tuple[int, bytes, dict[str, str]]:
        status, body, headers = change(status, body, headers)
        for place, value in (("{tmp}", str(tmp_path)), ("{hub}", constants.ENDPOINT)):
            body = body.replace(place.encode(), value.encode())
            headers = {name: header.replace(place, value) for name, header in headers.items()}
        return status, body, headers

    fake_hub.files["google/gemma-2-2b-it"] = {"config.json": b"{}", "model.safetensors": b"weights"}
    fake_hub.lies[answer] = lied
    with pytest.raises(HubError, match=said) as caught:
        hub.find_model("google/gemma-2-2b-it")
    assert "\n" not in str(caught.value)
    assert "cannot be reached" not in str(caught.value) or lie == "file: cut"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "outside"] or not (tmp_path / "cache").exists()
    assert [path.name for path in outside.iterdir()] == ["a"]
    assert (outside / "a").read_text() == "mine"
    fake_hub.lies.clear()
    assert hub.find_model("google/gemma-2-2b-it").commit == fake_hub.commit


def test_a_hub_that_does_not_answer_is_not_waited_for(fake_hub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_answers, "SECONDS", 0.1)

    def silent(status: int, body: bytes, headers: dict[str, str]) -> tuple[int, bytes, dict[str, str]]:
        time.sleep(1)
        return status, body, headers

    fake_hub.lies["revision"] = silent
    with pytest.raises(HubError, match="cannot be reached"):
        hub.find_model("google/gemma-2-2b-it")


def test_a_commit_that_another_program_left_in_the_cache_is_checked(fake_hub: Any, offline: Callable[[], None]) -> None:
    folder = hub.find_model("google/gemma-2-2b-it").path.parent.parent
    (folder / "refs" / "main").write_text("../refs")
    offline()
    with pytest.raises(HubError, match="not 40 hex digits"):
        hub.find_model("google/gemma-2-2b-it")


def test_only_what_the_hub_answers_is_checked(fake_hub: Any) -> None:
    """An ETag that is not used may be of any kind."""
    fake_hub.lies["tree"] = lambda status, body, headers: (status, body, headers | {"ETag": 'W/"a-b/c+d="'})
    fake_hub.lies["HEAD"] = lambda status, body, headers: (
        status,
        body,
        headers | {"X_Linked_Etag": '"' + "0" * 64 + '"'},
    )
    assert hub.find_model("google/gemma-2-2b-it").commit == fake_hub.commit
