"""Names to folders: local ones, and repositories of a hub that speaks the real one's protocol on this machine."""

from pathlib import Path
from typing import Any

import pytest

from minifc import hub
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


@pytest.mark.parametrize("text", ["[]", "{}", '{"repo": "a", "revision": "main"}', "not JSON"])
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
