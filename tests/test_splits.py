"""Which files are of which split: of a data set's card, of the paths alone, and of folders on the disk."""

import json
from pathlib import Path
from typing import Any

import pytest

from minifc.errors import DataError
from minifc.hub import find_data
from minifc.splits import choose


@pytest.mark.parametrize(
    ("files", "configs", "taken"),
    [
        (["train.jsonl", "valid.jsonl", "dev/a.jsonl", "eval_1.jsonl"], None, ["train.jsonl"]),
        (["train.jsonl", "more.jsonl"], None, ["train.jsonl"]),
        (["training/a.jsonl", "testing/a.jsonl"], None, ["training/a.jsonl"]),
        (["a.jsonl", "contest.jsonl", "developers.jsonl"], None, ["a.jsonl", "contest.jsonl", "developers.jsonl"]),
        (["a.jsonl", "test.jsonl"], None, ["a.jsonl"]),
        (["a.json", "b.parquet"], None, ["b.parquet"]),
        (["en/x.json", "de/x.json"], [{"data_files": "en/*"}, {"data_files": "de/*"}], ["en/x.json"]),
        (["a/x.json", "a/y.json"], [{"data_files": {"test": "a/x*", "train": ["a/y*"]}}], ["a/y.json"]),
        (["a/x.json", "b/x.json"], [{"config_name": "b", "data_dir": "b"}], ["b/x.json"]),
        (["a.json", "test.json"], [{"config_name": "default"}, "odd"], ["a.json"]),
        (["a.json"], [{"data_files": "gone.json"}], ["a.json"]),
        (["a.json"], "odd", ["a.json"]),
        (["a.json"], [{"data_files": [5, {"split": "train"}]}], ["a.json"]),
        (["a.json", "dataset_infos.json"], None, ["a.json"]),
    ],
)
def test_the_train_split_is_taken(files: list[str], configs: Any, taken: list[str]) -> None:
    assert choose(files, configs).files == taken


@pytest.mark.parametrize(
    ("files", "configs", "said"),
    [
        (["test.jsonl"], None, "no split 'train'; there is test: name one by --split"),
        (["test.json", "dev.json"], None, "there is test, validation"),
        (["x.json"], [{"data_files": {"x": "x.json"}}], "there is x: name"),
        (["data/train_sft-00000-of-00001.parquet"], None, "there is train_sft: name"),
        (
            ["t.json", "u.json"],
            [
                {"config_name": "test", "data_files": {"judge": "t.json"}, "default": True},
                {"config_name": "sft", "data_files": {"train": "u.json"}},
            ],
            "no split 'train' of the configuration 'test'; there is judge: name one by --split; configurations are "
            "'test', 'sft' (--configuration)",
        ),
        (["a.json"], [{"data_files": {"\x1b": "a.json"}}], r"there is \x1b: name"),
    ],
)
def test_no_other_split_stands_in_for_train(files: list[str], configs: Any, said: str) -> None:
    with pytest.raises(DataError) as caught:
        choose(files, configs)
    assert said in str(caught.value)


def test_another_split_and_another_configuration_are_taken_where_asked() -> None:
    configs = [{"config_name": name, "data_files": {"train": f"{name}.json", "x": "x.json"}} for name in "ab"]
    files = ["a.json", "b.json", "x.json"]
    choice = choose(files, configs, "b")
    assert (choice.files, choice.words) == (["b.json"], "its train split of the configuration 'b'")
    choice = choose(files, configs, split="x")
    assert (choice.files, choice.words) == (["x.json"], "its split 'x' of the configuration 'a'")
    with pytest.raises(DataError, match="no configuration 'c'; there is 'a', 'b'"):
        choose(files, configs, "c")


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps({"file": name}))


def test_a_cloned_data_set_is_read_as_the_hub_reads_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, "data/train.jsonl", "data/validation.jsonl", "data/test.jsonl", ".cache/train.jsonl")
    source = find_data(str(tmp_path))
    assert source.files == (tmp_path / "data" / "train.jsonl",)
    assert capsys.readouterr().err == f"{tmp_path}: its train split, data/train.jsonl\n"
    assert find_data(str(tmp_path), split="test").files == (tmp_path / "data" / "test.jsonl",)
    (tmp_path / "README.md").write_text("---\nconfigs:\n- config_name: a\n  data_files: data/v*\n---\n")
    assert find_data(str(tmp_path)).files == (tmp_path / "data" / "validation.jsonl",)
    (tmp_path / "README.md").write_text("---\n{\n---\n")
    with pytest.raises(DataError, match=r"README\.md: its head is not YAML"):
        find_data(str(tmp_path))


def test_a_file_has_no_splits(tmp_path: Path) -> None:
    write(tmp_path, "test.jsonl")
    path = tmp_path / "test.jsonl"
    assert find_data(str(path)).files == (path,)
    with pytest.raises(DataError, match="one file, which is read whole; leave out --split"):
        find_data(str(path), split="train")
