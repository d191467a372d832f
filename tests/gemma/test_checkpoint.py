"""Folders: what transformers writes we load, what we write transformers loads, and what is damaged is named."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from minifc.errors import CheckpointError, ConfigError, MinifcError
from minifc.gemma import checkpoint
from minifc.gemma.checkpoint import INDEX, SINGLE, load_model, require_finite, save_model, stored_dtype
from minifc.gemma.config import load_config
from minifc.gemma.model import Gemma

EQUAL = 1e-5  # of the largest logit
SHARD = 60_000  # bytes: the small model's 300 kB in several files


def loaded_by_transformers(folder: Path) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()


def copy_of(model: Gemma) -> Gemma:
    """The same weights in a model that a test may change."""
    copied = Gemma(model.config).eval()
    copied.load_state_dict(model.state_dict())
    return copied


def files(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too, and what it holds."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def single(written_by_transformers: Path, tmp_path: Path) -> Path:
    """A good folder with one file of weights, to be damaged."""
    return Path(shutil.copytree(written_by_transformers, tmp_path / "single"))


@pytest.fixture
def sharded(pair: Any, tmp_path: Path) -> Path:
    """A good folder with several, to be damaged."""
    pair().reference.save_pretrained(tmp_path / "sharded", max_shard_size=SHARD)
    return tmp_path / "sharded"


# Between transformers and minifc


def test_what_transformers_writes_loads(pair: Any, random_ids: Any, gap: Any, single: Path) -> None:
    ids = random_ids(2, 40)
    assert gap(load_model(single)(ids), pair().expected(ids)) < EQUAL


def test_what_transformers_writes_in_shards_loads(pair: Any, random_ids: Any, gap: Any, sharded: Path) -> None:
    ids = random_ids(2, 40)
    assert len(list(sharded.glob("*.safetensors"))) > 2
    assert gap(load_model(sharded)(ids), pair().expected(ids)) < EQUAL


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("max_shard_bytes", [10**9, SHARD, 1])
def test_what_is_written_loads_in_minifc_and_in_transformers(
    pair: Any, random_ids: Any, gap: Any, tmp_path: Path, max_shard_bytes: int, tied: bool
) -> None:
    models, ids = pair(tie_word_embeddings=tied), random_ids(2, 40)
    save_model(models.ours, None, tmp_path / "model", max_shard_bytes)
    assert torch.equal(load_model(tmp_path / "model")(ids), models.ours(ids))
    theirs = loaded_by_transformers(tmp_path / "model")
    assert gap(theirs(ids, use_cache=False).logits, models.expected(ids)) < EQUAL
    assert gap(load_model(tmp_path / "model")(ids), models.expected(ids)) < EQUAL


def test_tensors_and_names_on_disk_are_transformers_own(pair: Any, tmp_path: Path) -> None:
    for tied in (True, False):
        models = pair(tie_word_embeddings=tied)
        save_model(models.ours, None, tmp_path / "ours")
        models.reference.save_pretrained(tmp_path / "theirs")
        ours, theirs = (load_file(tmp_path / folder / SINGLE) for folder in ("ours", "theirs"))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_an_index_names_every_tensor_s_shard(pair: Any, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    save_model(pair().ours, None, folder, SHARD)
    index = json.loads((folder / INDEX).read_text())
    found = {name: shard.name for shard in folder.glob("*.safetensors") for name in load_file(shard)}
    assert index["weight_map"] == found
    assert not (folder / SINGLE).exists()
    count = len(set(found.values()))
    assert set(found.values()) == {f"model-{i:05}-of-{count:05}.safetensors" for i in range(1, count + 1)}
    assert index["metadata"]["total_size"] == sum(t.nbytes for t in pair().ours.state_dict().values())


def test_no_shard_of_several_tensors_is_larger_than_asked(pair: Any, tmp_path: Path) -> None:
    save_model(pair().ours, None, tmp_path / "model", SHARD)
    for shard in (tmp_path / "model").glob("*.safetensors"):
        assert sum(tensor.nbytes for tensor in load_file(shard).values()) <= SHARD


def test_transformers_stops_where_the_config_says(pair: Any, tmp_path: Path) -> None:
    save_model(pair(eos_token_id=[1, 107]).ours, None, tmp_path / "model")
    generation = transformers.GenerationConfig.from_pretrained(tmp_path / "model")
    assert (generation.eos_token_id, generation.bos_token_id, generation.pad_token_id) == ([1, 107], 2, 0)


def test_the_config_is_kept(pair: Any, tmp_path: Path) -> None:
    model = pair(sliding_window=5, attn_logit_softcapping=None).ours
    save_model(model, None, tmp_path / "model")
    assert load_config(tmp_path / "model") == model.config


class Words:
    """Stands for a tokenizer: all that save_model asks of it."""

    def save(self, folder: str | Path) -> None:
        (Path(folder) / "tokenizer.json").write_text("{}")


def test_the_tokenizer_is_written_beside_the_model(pair: Any, tmp_path: Path) -> None:
    save_model(pair().ours, Words(), tmp_path / "model")
    assert set(files(tmp_path)) == {
        f"model/{name}" for name in ("config.json", "generation_config.json", "model.safetensors", "tokenizer.json")
    }


# Types and tables


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_model_keeps_the_type_it_is_stored_in(pair: Any, tmp_path: Path, dtype: torch.dtype) -> None:
    save_model(copy_of(pair().ours).to(dtype), None, tmp_path / "model")
    assert stored_dtype(tmp_path / "model") == dtype
    assert {parameter.dtype for parameter in load_model(tmp_path / "model").parameters()} == {dtype}
    assert json.loads((tmp_path / "model" / "config.json").read_text())["dtype"] == str(dtype).removeprefix("torch.")
    assert loaded_by_transformers(tmp_path / "model").dtype == dtype


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_a_model_is_converted_when_asked(pair: Any, sharded: Path, dtype: torch.dtype) -> None:
    model, stored = load_model(sharded, dtype=dtype), pair().ours.state_dict()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, stored[name].to(dtype)), name


def test_stored_dtype_reads_shards_too(sharded: Path) -> None:
    assert stored_dtype(sharded) == torch.float32


def test_a_loaded_model_is_ready_to_run_and_to_train(single: Path) -> None:
    model = load_model(single)
    assert not any(module.training for module in model.modules())
    assert all(parameter.requires_grad and parameter.device.type == "cpu" for parameter in model.parameters())


def test_training_a_loaded_model_leaves_the_file_alone(single: Path) -> None:
    """Tensors are mapped from the file: what is written to them must not reach it."""
    before, model = files(single), load_model(single)
    for parameter in model.parameters():
        parameter.add_(1)
    assert files(single) == before


def test_an_untied_head_is_its_own_table(pair: Any, random_ids: Any, gap: Any, tmp_path: Path) -> None:
    model, ids = pair(tie_word_embeddings=False).ours, random_ids(1, 20)
    save_model(model, None, tmp_path / "model")
    table = load_model(tmp_path / "model").model.embed_tokens
    assert not torch.equal(table.weight, table.head)
    assert "lm_head.weight" in load_file(tmp_path / "model" / SINGLE)
    changed = copy_of(model)
    changed.model.embed_tokens.head.zero_()
    assert gap(changed(ids), model(ids)) > 0.1


def rewrite(file: Path, change: Callable[[dict[str, Tensor]], Any]) -> None:
    """Change the tensors of a safetensors file."""
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, metadata={"format": "pt"})


def test_a_tied_head_that_was_saved_twice_is_read_once(pair: Any, random_ids: Any, gap: Any, single: Path) -> None:
    name = "model.embed_tokens.weight"
    rewrite(single / SINGLE, lambda tensors: tensors.update({"lm_head.weight": tensors[name].clone()}))
    ids = random_ids(1, 20)
    assert gap(load_model(single)(ids), pair().expected(ids)) < EQUAL


def test_a_head_that_differs_although_tied_is_refused_or_obeyed(random_ids: Any, gap: Any, single: Path) -> None:
    rewrite(single / SINGLE, lambda tensors: tensors.update({"lm_head.weight": torch.randn(199, 48)}))
    ids = random_ids(1, 20)
    try:
        logits = load_model(single)(ids)
    except CheckpointError:
        return
    assert gap(logits, loaded_by_transformers(single)(ids).logits) < EQUAL


# Damage on disk

Damage = Callable[[Path], Path]  # what it does to a folder; the file that the error must name

GATE = "model.layers.1.mlp.gate_proj.weight"


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def missing_file(folder: Path) -> Path:
    shards(folder)[0].unlink()
    return folder


def missing_last_file(folder: Path) -> Path:
    shards(folder)[-1].unlink()
    return folder


def cut_short(folder: Path) -> Path:
    file = shards(folder)[-1]
    file.write_bytes(file.read_bytes()[:-100])
    return file


def cut_in_the_header(folder: Path) -> Path:
    file = shards(folder)[-1]
    file.write_bytes(file.read_bytes()[:20])
    return file


def emptied(folder: Path) -> Path:
    shards(folder)[0].write_bytes(b"")
    return shards(folder)[0]


def holds_a_web_page(folder: Path) -> Path:
    shards(folder)[0].write_text("<!DOCTYPE html><html>404</html>")
    return shards(folder)[0]


def holder(folder: Path, name: str) -> Path:
    return next(shard for shard in shards(folder) if name in load_file(shard))


def wrong_shape(folder: Path) -> Path:
    file = holder(folder, GATE)
    rewrite(file, lambda tensors: tensors.update({GATE: torch.zeros(96, 47)}))
    return file


def turned_shape(folder: Path) -> Path:
    file = holder(folder, GATE)
    rewrite(file, lambda tensors: tensors.update({GATE: tensors[GATE].T.contiguous()}))
    return file


def in_float8(folder: Path) -> Path:
    file = holder(folder, GATE)
    rewrite(file, lambda tensors: tensors.update({GATE: tensors[GATE].to(torch.float8_e4m3fn)}))
    return file


def in_integers(folder: Path) -> Path:
    file = holder(folder, GATE)
    rewrite(file, lambda tensors: tensors.update({GATE: tensors[GATE].to(torch.int8)}))
    return file


def missing_tensor(folder: Path) -> Path:
    rewrite(holder(folder, GATE), lambda tensors: tensors.pop(GATE))
    return folder


def unknown_tensor(folder: Path) -> Path:
    file = shards(folder)[0]
    rewrite(file, lambda tensors: tensors.update({"model.layers.9.extra": torch.zeros(1)}))
    return file


@pytest.mark.parametrize("kind", ["single", "sharded"])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (missing_file, "not found"),
        (missing_last_file, "not found"),
        (cut_short, "cut short or damaged"),
        (cut_in_the_header, "cut short or damaged"),
        (emptied, "cut short or damaged"),
        (holds_a_web_page, "cut short or damaged"),
        (wrong_shape, rf"{GATE} has shape \[96, 47\]; config.json calls for \[96, 48\]"),
        (turned_shape, rf"{GATE} has shape \[48, 96\]"),
        (in_float8, f"{GATE} holds torch.float8_e4m3fn; minifc reads weights that are not quantised"),
        (in_integers, f"{GATE} holds torch.int8; minifc reads weights that are not quantised"),
        (missing_tensor, f"1 tensors are in no file, {GATE} first"),
        (unknown_tensor, "extra is no part of the model"),
    ],
)
def test_a_damaged_folder_is_refused_by_name(
    request: pytest.FixtureRequest, kind: str, damage: Damage, message: str
) -> None:
    folder: Path = request.getfixturevalue(kind)
    culprit = damage(folder)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_model(folder)
    assert str(culprit) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_config_for_another_model_is_refused(single: Path) -> None:
    data = json.loads((single / "config.json").read_text())
    (single / "config.json").write_text(json.dumps(data | {"intermediate_size": 64}))
    with pytest.raises(CheckpointError, match=r"has shape .*; config\.json calls for"):
        load_model(single)


def test_a_folder_without_config_is_refused(single: Path) -> None:
    (single / "config.json").unlink()
    with pytest.raises(ConfigError, match=r"config\.json: not found"):
        load_model(single)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        load_model(tmp_path / "nowhere")


def test_a_folder_of_something_else_is_told_what_belongs_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"not found; a model folder holds config\.json, \*\.safetensors and a"):
        stored_dtype(tmp_path)


def test_an_adapter_in_a_model_s_place_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"an adapter, not a model; name the model that it was trained on"):
        stored_dtype(tmp_path)


class Attack:
    """Unpickled, it writes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.target, "gotcha")


def test_a_pickled_checkpoint_is_refused_unopened(single: Path, tmp_path: Path) -> None:
    attack = pickle.dumps(Attack(tmp_path / "gotcha"))
    pickle.loads(attack)
    (tmp_path / "gotcha").unlink()  # the attack works; now to the folder
    (single / SINGLE).unlink()
    (single / "pytorch_model.bin").write_bytes(attack)
    with pytest.raises(CheckpointError, match=r"only pickled \.bin weights, which can run code") as caught:
        load_model(single)
    assert str(single) in str(caught.value)
    assert not (tmp_path / "gotcha").exists()


def test_a_missing_shard_is_named_though_a_bin_file_lies_there(sharded: Path) -> None:
    """The Trainer leaves training_args.bin in every folder it writes."""
    shards(sharded)[1].unlink()
    (sharded / "training_args.bin").write_bytes(b"")
    with pytest.raises(CheckpointError, match="not found"):
        load_model(sharded)


@pytest.mark.parametrize(
    "index",
    [
        "{",
        '{"weight_map": {}}',
        *(
            pytest.param(text)
            for text in ("[]", '{"weight_map": []}', '{"weight_map": null}', '{"weight_map": {"a": 5}}')
        ),
    ],
)
def test_an_index_that_is_none_is_refused(sharded: Path, index: str) -> None:
    (sharded / INDEX).write_text(index)
    with pytest.raises(CheckpointError, match=str(sharded)):
        load_model(sharded)


@pytest.mark.parametrize(
    ("change", "noted"),
    [(lambda n: n + 2, True), (lambda n: -1, True), (str, False), (float, False), (lambda n: None, False)],
    ids=["more", "negative", "string", "float", "null"],
)
def test_an_index_of_other_sizes_is_noted_where_every_tensor_is_there(
    sharded: Path, capsys: pytest.CaptureFixture[str], change: Callable[[int], Any], noted: bool
) -> None:
    """Tools that merge or convert models count a tied head, or not at all."""
    index = json.loads((sharded / INDEX).read_text())
    index["metadata"]["total_size"] = change(index["metadata"]["total_size"])
    (sharded / INDEX).write_text(json.dumps(index))
    load_model(sharded)
    said = capsys.readouterr().err
    assert said.count("\n") == noted
    assert ("total_size is" in said) == noted


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_number_that_is_not_finite_is_named(pair: Any, value: float, dtype: torch.dtype) -> None:
    model = copy_of(pair().ours).to(dtype)
    require_finite(model, "model")
    model.model.layers[1].mlp.up_proj.weight[3, 2] = value
    with pytest.raises(CheckpointError, match=r"^model: model\.layers\.1\.mlp\.up_proj\.weight holds"):
        require_finite(model, "model")


def test_a_full_disk_is_an_os_error_and_leaves_nothing(
    pair: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """safetensors has a word of its own for it."""

    def full(*_: Any, **__: Any) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(OSError, match=r"model: not written; .*No space left"):
        save_model(pair().ours, None, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "damage",
    [
        missing_file,
        pytest.param(emptied),
        pytest.param(holds_a_web_page),
    ],
)
def test_stored_dtype_refuses_damage_as_loading_does(single: Path, damage: Damage) -> None:
    damage(single)
    with pytest.raises(CheckpointError, match=str(single)):
        stored_dtype(single)


# Saving whole or not at all


class FullDisk:
    """A tokenizer whose saving fails after it has begun."""

    def save(self, folder: str | Path) -> None:
        (Path(folder) / "tokenizer.json").write_text("{")
        raise OSError("no space left on device")


@pytest.mark.parametrize("existing", [True, False])
def test_a_failed_save_leaves_everything_as_it_was(pair: Any, tmp_path: Path, existing: bool) -> None:
    """The folder that was there, or none; and nothing beside it."""
    if existing:
        save_model(pair().ours, Words(), tmp_path / "model")
    before = files(tmp_path)
    with pytest.raises(OSError, match="no space left"):
        save_model(pair(sliding_window=5).ours, FullDisk(), tmp_path / "model", SHARD)
    assert files(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["model"] * existing


def test_a_failure_between_shards_leaves_nothing(pair: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Path] = []

    def fails_at_the_second(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
        if written:
            raise OSError("no space left on device")
        save_file(tensors, path, metadata)
        written.append(path)

    monkeypatch.setattr(checkpoint, "save_file", fails_at_the_second)
    with pytest.raises(OSError, match="no space left"):
        save_model(pair().ours, None, tmp_path / "model", SHARD)
    assert len(written) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_save_replaces_the_shards_of_an_earlier_one(pair: Any, random_ids: Any, tmp_path: Path) -> None:
    """An index left over from before would be read instead of the new file."""
    before, after = pair().ours, pair(sliding_window=5).ours
    save_model(before, None, tmp_path / "model", SHARD)
    save_model(after, None, tmp_path / "model")
    assert [path.name for path in shards(tmp_path / "model")] == [SINGLE]
    ids = random_ids(1, 20)
    assert torch.equal(load_model(tmp_path / "model")(ids), after(ids))


def test_a_model_can_be_saved_over_the_folder_it_is_mapped_from(random_ids: Any, single: Path) -> None:
    ids, model = random_ids(1, 20), load_model(single)
    expected = model(ids)
    save_model(model, None, single)
    assert torch.equal(load_model(single)(ids), expected)
    assert torch.equal(model(ids), expected)


def test_a_folder_is_made_with_those_above_it(pair: Any, tmp_path: Path) -> None:
    save_model(pair().ours, None, tmp_path / "a" / "b" / "model")
    assert (tmp_path / "a" / "b" / "model" / SINGLE).is_file()


def test_a_link_to_a_folder_can_be_saved_to(pair: Any, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    save_model(pair().ours, None, tmp_path / "link")
    assert {path.name for path in tmp_path.iterdir()} == {"disk", "link"}


def test_a_file_in_the_way_is_refused_and_kept(pair: Any, tmp_path: Path) -> None:
    (tmp_path / "model").write_text("mine")
    with pytest.raises(MinifcError, match="model"):
        save_model(pair().ours, None, tmp_path / "model")
    assert files(tmp_path) == {"model": b"mine"}


# Models that are no plain Gemma


def with_more(model: Gemma) -> None:
    model.model.layers[0].self_attn.q_proj.register_parameter("lora_A", nn.Parameter(torch.zeros(1)))


def with_less(model: Gemma) -> None:
    model.model.norm = nn.Identity()


def with_more_rows(model: Gemma) -> None:
    model.model.embed_tokens.weight = nn.Parameter(torch.zeros(203, 48))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (with_more, r"not a plain Gemma \(.*lora_A\); call minifc\.merge"),
        (with_less, r"not a plain Gemma \(model\.norm\.weight\)"),
        (with_more_rows, "the table has 203 rows but the config says 199"),
    ],
)
def test_only_a_plain_model_is_written(
    pair: Any, tmp_path: Path, change: Callable[[Gemma], None], message: str
) -> None:
    model = copy_of(pair().ours)
    change(model)
    with pytest.raises(CheckpointError, match=message):
        save_model(model, None, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []
