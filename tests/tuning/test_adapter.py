"""Adapters on disk: our own round trip, and both directions between minifc and PEFT."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForCausalLM, LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoTokenizer, Gemma2ForCausalLM

from minifc.errors import CheckpointError, OptionError
from minifc.gemma.checkpoint import load_model, save_model
from minifc.gemma.model import Gemma, Vocabulary
from minifc.text.tokenizer import Tokenizer, load_tokenizer
from minifc.tuning import adapter as adapter_module
from minifc.tuning.adapter import adapter_format, load_adapter, merge, save_adapter
from minifc.tuning.lora import ATTENTION, FEED_FORWARD, LoraLinear, add_lora, lora_layers
from minifc.tuning.vocab import ExtendedVocabulary, add_tokens

# PEFT 0.21 asks transformers 5.23 in a way that the latter calls old.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

TAGS = ["<tool_call>", "</tool_call>", "<think>"]
PLACES = pytest.mark.parametrize("reuse", [False, True], ids=["appended", "reused"])
Fresh = Callable[..., Gemma]
Near = Callable[[Tensor, Tensor], bool]
Randomize = Callable[[nn.Module], None]


class Tuned:
    """A base model with LoRA and new tokens whose numbers differ from where they start."""

    def __init__(self, model: Gemma, tokenizer: Tokenizer, randomize: Randomize, reuse: bool, **lora: Any) -> None:
        self.model, self.tokenizer, self.size = model, tokenizer, tokenizer.size
        self.ids = add_tokens(model, tokenizer, TAGS, reuse_unused=reuse)
        add_lora(model, **{"r": 4, "alpha": 8, "dropout": 0.05} | lora)
        randomize(model)
        rows = model.model.embed_tokens.rows.data
        rows += 0.3 * torch.randn(rows.shape, generator=torch.Generator().manual_seed(5))
        model.eval()

    def text(self) -> Tensor:
        """Ids in which every new token is read, and read before others: int64 [2, 12]."""
        ids = torch.randint(1, self.size, (2, 12), generator=torch.Generator().manual_seed(6))
        ids[0, 2:5], ids[1, 0] = torch.tensor(self.ids), self.ids[1]
        return ids

    def logits(self) -> Tensor:
        with torch.no_grad():
            return self.model(self.text())


@pytest.fixture
def tune(fresh: Fresh, tiny: Path, randomize: Randomize) -> Callable[..., Tuned]:
    def make(reuse: bool = False, **lora: Any) -> Tuned:
        tokenizer = load_tokenizer(tiny)
        return Tuned(fresh(vocab_size=tokenizer.size), tokenizer, randomize, reuse, **lora)

    return make


@pytest.fixture
def tuned(tune: Callable[..., Tuned]) -> Tuned:
    return tune()


@pytest.fixture
def saved(tuned: Tuned, tmp_path: Path) -> Path:
    save_adapter(tuned.model, tuned.tokenizer, tmp_path / "adapter")
    return tmp_path / "adapter"


@pytest.fixture
def base(build: Callable[..., Gemma2ForCausalLM], tokenizer: Tokenizer) -> Gemma2ForCausalLM:
    """The same base model in transformers."""
    return build(vocab_size=tokenizer.size)


def logits_of(model: Any, ids: Tensor) -> Tensor:
    with torch.no_grad():
        result = model(ids)
    return result if isinstance(result, Tensor) else result.logits


def edit(folder: Path, **fields: Any) -> None:
    """Change fields of an adapter_config.json."""
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


# --- saving ------------------------------------------------------------------------------------------------------


def test_an_adapter_is_two_files_and_the_tokenizer(tuned: Tuned, tmp_path: Path) -> None:
    save_adapter(tuned.model, tuned.tokenizer, tmp_path / "adapter")
    files = {path.name for path in (tmp_path / "adapter").iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "added_tokens.json"} <= files
    assert not [name for name in files if name.endswith((".bin", ".pt")) or name == "model.safetensors"]
    assert {path.name for path in tmp_path.iterdir()} == {"adapter"}


def test_only_what_was_trained_is_saved(tuned: Tuned, saved: Path) -> None:
    """The usual stack writes the whole embedding and head for three new tokens."""
    trained = {id(p): p for p in tuned.model.parameters() if p.requires_grad}
    tensors = load_file(saved / "adapter_model.safetensors")
    numbers = sum(parameter.numel() for parameter in trained.values())
    assert sum(tensor.numel() for tensor in tensors.values()) == numbers
    assert save_adapter(tuned.model, tuned.tokenizer, saved) == 4 * numbers
    assert (saved / "adapter_model.safetensors").stat().st_size < 4 * numbers + 6000  # names and shapes
    assert len(tensors) == 1 + 2 * 2 * 7


def test_the_config_says_what_peft_needs(tune: Callable[..., Tuned], tmp_path: Path) -> None:
    tuned = tune(r=3, alpha=5.0, dropout=0.1, targets=("q_proj", "up_proj"), rslora=True)
    save_adapter(tuned.model, tuned.tokenizer, tmp_path / "adapter", "google/gemma-2-2b-it")
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "google/gemma-2-2b-it"
    assert (config["peft_type"], config["task_type"], config["bias"]) == ("LORA", "CAUSAL_LM", "none")
    assert (config["r"], config["lora_alpha"], config["lora_dropout"], config["use_rslora"]) == (3, 5.0, 0.1, True)
    assert config["target_modules"] == ["q_proj", "up_proj"]
    assert config["trainable_token_indices"] == {"embed_tokens": tuned.ids}


def test_the_revision_of_the_base_and_the_format_are_kept(tuned: Tuned, tmp_path: Path) -> None:
    """The revision in PEFT's own field, from which AutoPeftModelForCausalLM takes it."""
    save_adapter(tuned.model, tuned.tokenizer, tmp_path / "adapter", "google/gemma-2-2b-it@0123abc", "course")
    config = LoraConfig.from_pretrained(tmp_path / "adapter")
    assert (config.base_model_name_or_path, config.revision) == ("google/gemma-2-2b-it", "0123abc")
    assert adapter_format(tmp_path / "adapter") == "course"
    save_adapter(tuned.model, tuned.tokenizer, tmp_path / "adapter", str(tmp_path))
    config = LoraConfig.from_pretrained(tmp_path / "adapter")
    assert (config.base_model_name_or_path, config.revision) == (str(tmp_path), None)
    assert adapter_format(tmp_path / "adapter") is None


def test_a_model_without_lora_has_nothing_to_save(talker: Gemma, tokenizer: Tokenizer, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="no LoRA"):
        save_adapter(talker, tokenizer, tmp_path / "adapter")
    assert not (tmp_path / "adapter").exists()


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
@pytest.mark.parametrize("part", ["rows", "lora_B"])
def test_what_is_not_finite_is_not_saved(tuned: Tuned, saved: Path, part: str, broken: float) -> None:
    before = (saved / "adapter_model.safetensors").read_bytes()
    parameter = next(p for name, p in tuned.model.named_parameters() if part in name)
    parameter.data[0, 0] = broken
    named = "trainable_tokens_delta" if part == "rows" else r"lora_B\.weight"
    with pytest.raises(CheckpointError, match=rf"not saved, as \S*{named} holds a number that is not finite.*\Z"):
        save_adapter(tuned.model, tuned.tokenizer, saved)
    assert (saved / "adapter_model.safetensors").read_bytes() == before


def test_a_save_that_fails_leaves_the_old_adapter(tuned: Tuned, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path.name: path.read_bytes() for path in saved.iterdir()}

    def full_disk(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
        path.write_bytes(b"half a fi")
        raise OSError("No space left on device")

    monkeypatch.setattr(adapter_module, "save_file", full_disk)
    tuned.model.model.embed_tokens.rows.data.zero_()
    with pytest.raises(OSError, match="No space"):
        save_adapter(tuned.model, tuned.tokenizer, saved)
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before
    assert [path.name for path in saved.parent.iterdir()] == ["adapter"]


def test_layers_of_unequal_lora_are_saved_as_such(
    fresh: Fresh, talker: Gemma, tokenizer: Tokenizer, tiny: Path, randomize: Randomize, tmp_path: Path
) -> None:
    """One rank and alpha stand in the config: a second add_lora with others must not be lost in it."""
    add_lora(talker, r=4, alpha=8, targets=("q_proj",))
    add_lora(talker, r=4, alpha=32, targets=("v_proj",))
    add_lora(talker, r=2, alpha=8, targets=("layers.1.mlp.up_proj",))
    randomize(talker)
    talker.eval()
    ids = torch.randint(1, tokenizer.size, (1, 12))
    save_adapter(talker, tokenizer, tmp_path / "adapter")
    model = fresh(vocab_size=tokenizer.size)
    load_adapter(model, load_tokenizer(tiny), tmp_path / "adapter")
    assert torch.equal(logits_of(model.eval(), ids), logits_of(talker, ids))


@pytest.mark.parametrize("option", ["dropout", "rslora"])
def test_what_one_config_cannot_say_is_not_saved(
    talker: Gemma, tokenizer: Tokenizer, tmp_path: Path, option: str
) -> None:
    add_lora(talker, targets=("q_proj",))
    add_lora(talker, targets=("v_proj",), **{option: {"dropout": 0.5, "rslora": True}[option]})
    with pytest.raises(OptionError, match="dropout or scaling"):
        save_adapter(talker, tokenizer, tmp_path / "adapter")


# --- loading into minifc -----------------------------------------------------------------------------------------


@PLACES
@pytest.mark.parametrize("rslora", [False, True])
def test_loading_gives_the_same_logits_without_any_resize(
    tune: Callable[..., Tuned], talker: Gemma, tokenizer: Tokenizer, tmp_path: Path, reuse: bool, rslora: bool
) -> None:
    tuned = tune(reuse, rslora=rslora)
    save_adapter(tuned.model, tuned.tokenizer, tmp_path / "adapter")
    load_adapter(talker, tokenizer, tmp_path / "adapter")
    assert torch.equal(logits_of(talker.eval(), tuned.text()), tuned.logits())
    assert tokenizer.size == tuned.tokenizer.size == talker.model.embed_tokens.size
    assert tokenizer.encode("<tool_call>a<think>", control_tokens=True)[::2] == [tuned.ids[0], tuned.ids[2]]
    assert "<unused0>" not in tokenizer.control or not reuse


def test_the_folder_holds_a_tokenizer_that_stands_on_its_own(tuned: Tuned, saved: Path) -> None:
    tokenizer = load_tokenizer(saved)
    assert tokenizer.control == tuned.tokenizer.control
    assert tokenizer.size == tuned.tokenizer.size


def test_loading_keeps_a_model_in_evaluation_mode(
    tune: Callable[..., Tuned], talker: Gemma, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    """load_model gives a model in evaluation mode; with an adapter on it, nothing may be dropped at random."""
    tuned = tune(dropout=0.5)
    save_adapter(tuned.model, tuned.tokenizer, tmp_path / "adapter")
    load_adapter(talker, tokenizer, tmp_path / "adapter")
    assert torch.equal(logits_of(talker, tuned.text()), tuned.logits())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_other_weights_of_the_same_shape_are_a_warning(
    fresh: Fresh, tokenizer: Tokenizer, tiny: Path, saved: Path, capsys: pytest.CaptureFixture[str], dtype: torch.dtype
) -> None:
    """As of gemma-2-2b and gemma-2-2b-it. Their names may differ or not: folders are renamed."""
    load_adapter(fresh(vocab_size=tokenizer.size).to(dtype), load_tokenizer(tiny), saved)
    assert capsys.readouterr().err == ""
    load_adapter(fresh(vocab_size=tokenizer.size, seed=2).to(dtype), tokenizer, saved)
    printed = capsys.readouterr().err
    if dtype == torch.float16:
        assert not printed
    else:
        assert printed == f"warning: {saved}: trained on other weights than these, on a model without a name\n"


def test_a_model_with_an_adapter_stops_at_the_end_of_a_turn(
    talker: Gemma, tokenizer: Tokenizer, saved: Path, tmp_path: Path
) -> None:
    """A base model knows <eos> alone, and would talk on after its turn."""
    assert talker.config.eos_token_id == (1,)
    load_adapter(talker, tokenizer, saved)
    assert talker.config.eos_token_id == (1, tokenizer.end_of_turn_id)
    merge(talker)
    save_model(talker, tokenizer, tmp_path / "merged")
    generation = json.loads((tmp_path / "merged" / "generation_config.json").read_text())
    assert generation["eos_token_id"] == [1, tokenizer.end_of_turn_id]


def test_a_loaded_adapter_can_be_trained_on(talker: Gemma, tokenizer: Tokenizer, saved: Path) -> None:
    load_adapter(talker, tokenizer, saved)
    trainable = {name for name, parameter in talker.named_parameters() if parameter.requires_grad}
    assert len(trainable) == 1 + 2 * 2 * 7
    assert all("lora_" in name or name == "model.embed_tokens.rows" for name in trainable)
    assert {layer.dropout for _, layer in lora_layers(talker)} == {0.05}


def test_loading_leaves_the_random_generator_alone(talker: Gemma, tokenizer: Tokenizer, saved: Path) -> None:
    before = torch.get_rng_state()
    load_adapter(talker, tokenizer, saved)
    assert torch.equal(torch.get_rng_state(), before)


def test_an_adapter_goes_onto_whatever_has_in_and_out_features(
    tuned: Tuned,
    talker: Gemma,
    tokenizer: Tokenizer,
    saved: Path,
    packed: Callable[[nn.Linear], nn.Module],
    tmp_path: Path,
) -> None:
    """As add_lora does, so that a quantised base can carry it; and it can be saved again from there."""
    for block in talker.model.layers:
        block.mlp.up_proj = packed(block.mlp.up_proj)
    load_adapter(talker, tokenizer, saved)
    assert torch.equal(logits_of(talker.eval(), tuned.text()), tuned.logits())
    save_adapter(talker, tokenizer, tmp_path / "again")
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (saved / name).read_bytes()


def test_an_adapter_of_some_layers_only_comes_back(
    tune: Callable[..., Tuned], talker: Gemma, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    """Targets match by the end of a name, so they can name one layer's projection."""
    tuned = tune(targets=("layers.1.self_attn.q_proj",))
    save_adapter(tuned.model, tuned.tokenizer, tmp_path / "adapter")
    load_adapter(talker, tokenizer, tmp_path / "adapter")
    assert torch.equal(logits_of(talker.eval(), tuned.text()), tuned.logits())


def test_a_bf16_base_has_an_fp32_adapter(
    fresh: Fresh, tiny: Path, tokenizer: Tokenizer, randomize: Randomize, tmp_path: Path
) -> None:
    tuned = Tuned(fresh(vocab_size=tokenizer.size).bfloat16(), load_tokenizer(tiny), randomize, False)
    save_adapter(tuned.model, tuned.tokenizer, tmp_path / "adapter")
    tensors = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
    model = fresh(vocab_size=tokenizer.size).bfloat16()
    load_adapter(model, tokenizer, tmp_path / "adapter")
    assert torch.equal(logits_of(model.eval(), tuned.text()), tuned.logits())


# --- minifc -> PEFT ----------------------------------------------------------------------------------------------


@PLACES
@pytest.mark.parametrize("rslora", [False, True])
def test_peft_loads_it_with_the_same_logits(
    tune: Callable[..., Tuned], base: Gemma2ForCausalLM, tmp_path: Path, near: Near, reuse: bool, rslora: bool
) -> None:
    """The rows count in both directions: in what follows a new token, and in the scores of the new ids."""
    tuned = tune(reuse, rslora=rslora)
    save_adapter(tuned.model, tuned.tokenizer, tmp_path / "adapter")
    if not reuse:
        base.resize_token_embeddings(tuned.size + len(TAGS), mean_resizing=False)
    untrained = logits_of(base, tuned.text())
    peft = PeftModel.from_pretrained(base, tmp_path / "adapter")
    ours, theirs = tuned.logits(), logits_of(peft, tuned.text())
    assert near(ours, theirs)
    assert near(ours[..., tuned.ids], theirs[..., tuned.ids])
    assert not near(theirs, untrained)


def test_auto_peft_resizes_by_the_folder_alone(
    tuned: Tuned, talker: Gemma, tokenizer: Tokenizer, tmp_path: Path, near: Near
) -> None:
    """Its resize is guided by the tokenizer in the adapter folder; without one, ids are out of bounds."""
    save_model(talker, tokenizer, tmp_path / "base")
    save_adapter(tuned.model, tuned.tokenizer, tmp_path / "adapter", str(tmp_path / "base"))
    peft = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "adapter", attn_implementation="eager")
    assert near(logits_of(peft, tuned.text()), tuned.logits())


# --- PEFT -> minifc ----------------------------------------------------------------------------------------------


def peft_adapter(hf: Gemma2ForCausalLM, folder: Path, **options: Any) -> PeftModel:
    """An adapter that PEFT made and wrote, B and all else random."""
    options = {"r": 4, "lora_alpha": 12, "target_modules": list(ATTENTION + FEED_FORWARD)} | options
    peft = get_peft_model(hf, LoraConfig(task_type="CAUSAL_LM", **options)).eval()
    for name, parameter in peft.named_parameters():
        if "lora_B" in name or "trainable_tokens" in name:
            parameter.data.normal_(std=0.2)
    peft.save_pretrained(folder)
    return peft


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_rslora": True},
        {"lora_dropout": 0.1},
        {"target_modules": ["v_proj", "self_attn.q_proj"]},
        {"target_modules": "all-linear"},
        {
            "rank_pattern": {"q_proj": 2, "layers.1.mlp.up_proj": 6},
            "alpha_pattern": {"v_proj": 5, "^model.layers.0.mlp.down_proj": 7},
        },
        {"rank_pattern": {"^model.layers.0.self_attn.q_proj": 3, "q_proj": 2}},
        {"layers_to_transform": [1]},
        {"layers_to_transform": 0, "layers_pattern": "layers"},
        {"exclude_modules": ["o_proj", "layers.0.self_attn.q_proj"]},
        {"exclude_modules": r".*mlp.*"},
        {"init_lora_weights": "orthogonal"},
    ],
    ids=str,
)
def test_pefts_adapter_loads_with_the_same_logits(
    hf: Gemma2ForCausalLM, model: Gemma, tokenizer: Tokenizer, ids: Tensor, tmp_path: Path, near: Near, options: Any
) -> None:
    peft = peft_adapter(hf, tmp_path / "adapter", **options)
    load_adapter(model, tokenizer, tmp_path / "adapter")
    assert near(logits_of(model.eval(), ids), logits_of(peft, ids))


@pytest.mark.parametrize("tokenizer_beside", [False, True])
def test_trained_rows_of_ordinary_tokens_load(
    base: Gemma2ForCausalLM,
    talker: Gemma,
    tokenizer: Tokenizer,
    tmp_path: Path,
    near: Near,
    tokenizer_beside: bool,
) -> None:
    """PEFT trains any row: here of two pieces of text and of a turn marker, which keep their names."""
    rows = [300, tokenizer.end_of_turn_id, 301]
    peft = peft_adapter(base, tmp_path / "adapter", trainable_token_indices={"embed_tokens": rows})
    if tokenizer_beside:
        tokenizer.save(tmp_path / "adapter")
    control = dict(tokenizer.control)
    load_adapter(talker, tokenizer, tmp_path / "adapter")
    assert tokenizer.control == control
    ids = torch.tensor([[5, *rows, 9, 10]])
    assert near(logits_of(talker.eval(), ids), logits_of(peft, ids))


@pytest.fixture
def resize(base: Gemma2ForCausalLM, talker: Gemma, tokenizer: Tokenizer, tmp_path: Path) -> Callable[[Path], list[int]]:
    """resize(folder): new tokens the usual way, in transformers; their ids. Its tokenizer goes into the folder."""

    def resize_base(folder: Path) -> list[int]:
        save_model(talker, tokenizer, tmp_path / "base")
        theirs = AutoTokenizer.from_pretrained(tmp_path / "base")
        theirs.add_special_tokens({"additional_special_tokens": TAGS})
        theirs.save_pretrained(folder)
        base.resize_token_embeddings(len(theirs), mean_resizing=False)
        return theirs.convert_tokens_to_ids(TAGS)

    return resize_base


@pytest.mark.parametrize("whole", [False, True], ids=["rows only", "whole embedding"])
def test_pefts_adapter_with_new_tokens_loads(
    base: Gemma2ForCausalLM,
    talker: Gemma,
    tokenizer: Tokenizer,
    resize: Callable[[Path], list[int]],
    tmp_path: Path,
    near: Near,
    whole: bool,
) -> None:
    """As PEFT leaves it after a resize, by default with the whole table, twice."""
    new = resize(tmp_path / "adapter")
    peft = peft_adapter(base, tmp_path / "adapter", trainable_token_indices={"embed_tokens": new})
    peft.save_pretrained(tmp_path / "adapter", save_embedding_layers=whole)
    load_adapter(talker, tokenizer, tmp_path / "adapter")
    ids = torch.tensor([[5, *new, 9, 10]])
    assert near(logits_of(talker.eval(), ids), logits_of(peft, ids))
    assert tokenizer.encode("".join(TAGS), control_tokens=True) == new


def test_a_whole_table_without_trained_rows_has_the_new_ones_at_its_end(
    base: Gemma2ForCausalLM,
    talker: Gemma,
    tokenizer: Tokenizer,
    resize: Callable[[Path], list[int]],
    tmp_path: Path,
    near: Near,
) -> None:
    """Resized and saved, but its new rows named nowhere in the config."""
    new = resize(tmp_path / "adapter")
    peft = peft_adapter(base, tmp_path / "adapter")
    peft.save_pretrained(tmp_path / "adapter", save_embedding_layers=True)
    load_adapter(talker, tokenizer, tmp_path / "adapter")
    ids = torch.tensor([[5, *new, 9, 10]])
    assert near(logits_of(talker.eval(), ids), logits_of(peft, ids))
    assert tokenizer.encode("".join(TAGS), control_tokens=True) == new


def test_a_whole_table_that_is_not_the_bases_is_refused(
    base: Gemma2ForCausalLM, talker: Gemma, tokenizer: Tokenizer, resize: Callable[[Path], list[int]], tmp_path: Path
) -> None:
    """Trained as a whole, which minifc does not represent."""
    resize(tmp_path / "adapter")
    base.model.embed_tokens.weight.data[5] += 1
    peft_adapter(base, tmp_path / "adapter").save_pretrained(tmp_path / "adapter", save_embedding_layers=True)
    assert_refused(talker, tokenizer, tmp_path / "adapter", "table that is not the base model's")


@pytest.mark.parametrize("multiple", [8, 64])
def test_rows_that_pad_a_resized_table_need_no_names(
    base: Gemma2ForCausalLM,
    talker: Gemma,
    tokenizer: Tokenizer,
    resize: Callable[[Path], list[int]],
    tmp_path: Path,
    near: Near,
    multiple: int,
) -> None:
    new = resize(tmp_path / "adapter")
    base.resize_token_embeddings(max(new) + 1, pad_to_multiple_of=multiple, mean_resizing=False)
    assert len(base.model.embed_tokens.weight) > max(new) + 1
    peft = peft_adapter(base, tmp_path / "adapter")
    peft.save_pretrained(tmp_path / "adapter", save_embedding_layers=True)
    load_adapter(talker, tokenizer, tmp_path / "adapter")
    ids = torch.tensor([[5, *new, 9, 10]])
    assert near(logits_of(talker.eval(), ids), logits_of(peft, ids))
    assert tokenizer.encode("".join(TAGS), control_tokens=True) == new


def test_a_row_without_a_name_between_named_ones_is_refused(
    talker: Gemma, tokenizer: Tokenizer, saved: Path, tuned: Tuned
) -> None:
    (saved / "tokenizer.json").unlink()
    names = json.loads((saved / "added_tokens.json").read_text())
    (saved / "added_tokens.json").write_text(
        json.dumps({name: i for name, i in names.items() if i == max(names.values())})
    )
    assert_refused(talker, tokenizer, saved, "does not name token")


def test_a_pickled_adapter_is_to_be_merged_with_peft(talker: Gemma, tokenizer: Tokenizer, saved: Path) -> None:
    (saved / "adapter_model.safetensors").rename(saved / "adapter_model.bin")
    assert_refused(talker, tokenizer, saved, r"adapter_model\.bin: pickled, which can run code; merge with PEFT first")


def test_a_pattern_of_targets_is_understood_or_refused(
    hf: Gemma2ForCausalLM, model: Gemma, tokenizer: Tokenizer, ids: Tensor, tmp_path: Path, near: Near
) -> None:
    """PEFT takes a string for a regular expression; its letters are not names of layers."""
    peft = peft_adapter(hf, tmp_path / "adapter", target_modules=r".*layers\.\d\.mlp\.(up|down)_proj")
    refusal = ""
    try:
        load_adapter(model, tokenizer, tmp_path / "adapter")
    except CheckpointError as error:
        refusal = str(error)
    if refusal:
        assert "target_modules" in refusal
        assert_untouched(model)
    else:
        assert near(logits_of(model.eval(), ids), logits_of(peft, ids))


@pytest.mark.parametrize(
    ("option", "value"),
    [("use_dora", True), ("modules_to_save", ["lm_head"]), ("bias", "lora_only"), ("init_lora_weights", "pissa")],
)
@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning")
def test_what_peft_wrote_and_minifc_cannot_run_is_refused_by_name(
    hf: Gemma2ForCausalLM, model: Gemma, tokenizer: Tokenizer, tmp_path: Path, option: str, value: Any
) -> None:
    """Each changes what the base model or LoRA computes (pissa: the base weights), so to ignore it would be wrong."""
    peft_adapter(hf, tmp_path / "adapter", **{option: value})
    assert_refused(model, tokenizer, tmp_path / "adapter", option)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rank_pattern", {"(q|k)_proj": 4}),
        ("alpha_pattern", {".*": 2}),
        ("target_parameters", ["mlp.experts"]),
        ("lora_bias", True),
        ("fan_in_fan_out", True),
        ("alora_invocation_tokens", [5, 6]),
        ("use_qalora", True),
    ],
)
def test_a_field_that_changes_the_computation_is_refused_by_name(
    talker: Gemma, tokenizer: Tokenizer, saved: Path, field: str, value: Any
) -> None:
    edit(saved, **{field: value})
    assert_refused(talker, tokenizer, saved, f"{field}.*; merge with PEFT first")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("r", "8"),
        ("r", 4.5),
        ("lora_alpha", "16"),
        ("lora_alpha", [16]),
        ("lora_dropout", "none"),
        ("use_rslora", "yes"),
        ("target_modules", 7),
        ("rank_pattern", ["q_proj"]),
        ("rank_pattern", {"q_proj": "8"}),
        ("alpha_pattern", "q_proj"),
        ("trainable_token_indices", 5),
        ("trainable_token_indices", {"embed_tokens": ["<think>"]}),
        ("trainable_token_indices", {"embed_tokens": [-1]}),
        ("trainable_token_indices", {"embed_tokens": [5, 5, 5]}),
        ("lora_dropout", 1.5),
        ("lora_alpha", float("nan")),
        ("alpha_pattern", {"q_proj": float("inf")}),
        ("rank_pattern", {"q_proj": 0}),
    ],
)
def test_a_field_of_the_wrong_kind_is_refused_by_name(
    talker: Gemma, tokenizer: Tokenizer, saved: Path, field: str, value: Any
) -> None:
    edit(saved, **{field: value})
    assert_refused(talker, tokenizer, saved, field)


def test_a_rank_of_nothing_is_refused(talker: Gemma, tokenizer: Tokenizer, saved: Path) -> None:
    edit(saved, r=0, rank_pattern={"_proj": 4})
    assert_refused(talker, tokenizer, saved, "r or rank_pattern is 0")


@pytest.mark.parametrize("text", ["[]", '{"format": "chatml"}', "{"])
def test_a_damaged_record_is_named(talker: Gemma, tokenizer: Tokenizer, saved: Path, text: str) -> None:
    (saved / "minifc.json").write_text(text)
    assert_refused(talker, tokenizer, saved, r"minifc\.json")


def test_adapters_of_another_method_are_refused(talker: Gemma, tokenizer: Tokenizer, saved: Path) -> None:
    edit(saved, peft_type="IA3")
    assert_refused(talker, tokenizer, saved, "adapter_config.json")


# --- damaged and foreign adapters: an error that names the folder, model and tokenizer as they were ---------------


def assert_untouched(model: Gemma) -> None:
    assert type(model.model.embed_tokens) is Vocabulary
    assert not any(isinstance(module, LoraLinear) for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())


def assert_refused(model: Gemma, tokenizer: Tokenizer, folder: Path, match: str | None = None) -> None:
    control, size = dict(tokenizer.control), tokenizer.size
    with pytest.raises(CheckpointError, match=match) as error:
        load_adapter(model, tokenizer, folder)
    assert str(folder) in str(error.value)
    assert_untouched(model)
    assert (tokenizer.control, tokenizer.size) == (control, size)


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_missing_file_is_named(talker: Gemma, tokenizer: Tokenizer, saved: Path, name: str) -> None:
    (saved / name).unlink()
    assert_refused(talker, tokenizer, saved, name)


def test_new_tokens_without_a_tokenizer_are_refused(talker: Gemma, tokenizer: Tokenizer, saved: Path) -> None:
    """Their names stand nowhere else."""
    (saved / "added_tokens.json").unlink()
    (saved / "tokenizer.json").unlink()
    assert_refused(talker, tokenizer, saved)


def test_a_missing_folder_is_named(talker: Gemma, tokenizer: Tokenizer, tmp_path: Path) -> None:
    assert_refused(talker, tokenizer, tmp_path / "nowhere", "not found")


@pytest.mark.parametrize("kept", [0, 5, 500, -1])
def test_cut_short_weights_are_refused(talker: Gemma, tokenizer: Tokenizer, saved: Path, kept: int) -> None:
    path = saved / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    assert_refused(talker, tokenizer, saved, "adapter_model.safetensors: cut short")


def test_a_cut_short_config_is_refused(talker: Gemma, tokenizer: Tokenizer, saved: Path) -> None:
    path = saved / "adapter_config.json"
    path.write_text(path.read_text()[:50])
    assert_refused(talker, tokenizer, saved, "adapter_config.json")


@pytest.mark.parametrize("field", ["r", "lora_alpha", "target_modules"])
def test_a_config_without_a_needed_field_is_refused(
    talker: Gemma, tokenizer: Tokenizer, saved: Path, field: str
) -> None:
    path = saved / "adapter_config.json"
    path.write_text(json.dumps({key: value for key, value in json.loads(path.read_text()).items() if key != field}))
    assert_refused(talker, tokenizer, saved, field)


def test_a_config_that_is_no_object_is_refused(talker: Gemma, tokenizer: Tokenizer, saved: Path) -> None:
    (saved / "adapter_config.json").write_text("[]")
    assert_refused(talker, tokenizer, saved)


@pytest.mark.parametrize("target", ["lm_head", "qproj"])
def test_a_target_that_the_model_lacks_is_refused(
    talker: Gemma, tokenizer: Tokenizer, saved: Path, target: str
) -> None:
    edit(saved, target_modules=["q_proj", target])
    assert_refused(talker, tokenizer, saved, target)


@pytest.mark.parametrize("rank", [1, 2, 8])
def test_a_rank_other_than_the_config_says_is_refused(
    talker: Gemma, tokenizer: Tokenizer, saved: Path, rank: int
) -> None:
    """With rank 1 in the file, a plain copy would repeat it for every rank of the model."""
    path = saved / "adapter_model.safetensors"
    tensors = load_file(path)
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    save_file(tensors | {name: torch.randn(rank, 32)}, path)
    assert_refused(talker, tokenizer, saved)


@pytest.mark.parametrize("part", ["lora_A", "trainable_tokens_delta"])
def test_a_number_that_is_not_finite_is_refused(talker: Gemma, tokenizer: Tokenizer, saved: Path, part: str) -> None:
    tensors = load_file(saved / "adapter_model.safetensors")
    name = next(name for name in tensors if part in name)
    tensors[name][0, 0] = float("nan")
    save_file(tensors, saved / "adapter_model.safetensors")
    assert_refused(talker, tokenizer, saved, "not finite")


@pytest.mark.parametrize("side", ["lora_A", "lora_B"])
def test_a_layer_without_its_matrices_is_refused(talker: Gemma, tokenizer: Tokenizer, saved: Path, side: str) -> None:
    path = saved / "adapter_model.safetensors"
    tensors = load_file(path)
    del tensors[f"base_model.model.model.layers.1.mlp.up_proj.{side}.weight"]
    save_file(tensors, path)
    assert_refused(talker, tokenizer, saved, "up_proj")


def test_rows_of_unequal_number_are_refused(talker: Gemma, tokenizer: Tokenizer, saved: Path, tuned: Tuned) -> None:
    edit(saved, trainable_token_indices={"embed_tokens": tuned.ids[:2]})
    assert_refused(talker, tokenizer, saved, "rows")
    edit(saved, trainable_token_indices=None)
    assert_refused(talker, tokenizer, saved, "rows")


def test_trained_rows_of_another_module_are_refused(talker: Gemma, tokenizer: Tokenizer, saved: Path) -> None:
    edit(saved, trainable_token_indices={"embed_tokens": [1], "lm_head": [1]})
    assert_refused(talker, tokenizer, saved, "lm_head")


@pytest.mark.parametrize(
    "changes", [{"hidden_size": 40}, {"num_hidden_layers": 1}, {"intermediate_size": 40}, {"head_dim": 6}], ids=str
)
def test_an_adapter_of_a_model_of_other_sizes_is_refused(
    fresh: Fresh, tokenizer: Tokenizer, saved: Path, changes: dict[str, int]
) -> None:
    assert_refused(fresh(vocab_size=tokenizer.size, **changes), tokenizer, saved)


@pytest.mark.parametrize("difference", [-10, -1])
def test_an_adapter_of_a_larger_vocabulary_is_refused(
    fresh: Fresh, tokenizer: Tokenizer, saved: Path, difference: int
) -> None:
    """Its ids would leave a gap."""
    assert_refused(fresh(vocab_size=tokenizer.size + difference), tokenizer, saved, "another model")


@pytest.mark.parametrize("others", [1, 3, 50])
def test_an_adapter_of_a_smaller_vocabulary_is_refused(
    fresh: Fresh, tokenizer: Tokenizer, saved: Path, others: int
) -> None:
    """As on a model that was given tokens of its own: the adapter's ids are those, not free and not `<unusedN>`."""
    tokenizer.add_tokens([f"<other{number}>" for number in range(others)])
    assert_refused(fresh(vocab_size=tokenizer.size), tokenizer, saved)


def test_an_adapter_with_rows_is_refused_by_an_untied_model(talker: Gemma, tokenizer: Tokenizer, saved: Path) -> None:
    talker.model.embed_tokens.head = nn.Parameter(torch.randn(tokenizer.size, 32))
    assert_refused(talker, tokenizer, saved, "tied")


def test_an_adapter_is_loaded_once(talker: Gemma, tokenizer: Tokenizer, saved: Path, tuned: Tuned) -> None:
    load_adapter(talker, tokenizer, saved)
    with pytest.raises(CheckpointError, match="already has an adapter") as error:
        load_adapter(talker, tokenizer, saved)
    assert str(saved) in str(error.value)
    assert torch.equal(logits_of(talker.eval(), tuned.text()), tuned.logits())


# --- merging for good --------------------------------------------------------------------------------------------


@PLACES
def test_a_merged_model_is_an_ordinary_one_with_the_same_logits(
    tune: Callable[..., Tuned], tmp_path: Path, near: Near, reuse: bool
) -> None:
    """Saved and loaded, in minifc and in transformers: the tied table gets its rows once, for both directions."""
    tuned = tune(reuse)
    expected = tuned.logits()
    with pytest.raises(CheckpointError, match="merge"):
        save_model(tuned.model, tuned.tokenizer, tmp_path / "merged")
    merge(tuned.model)
    assert tuned.model.config.vocab_size == tuned.tokenizer.size
    assert near(tuned.logits(), expected)
    save_model(tuned.model, tuned.tokenizer, tmp_path / "merged")
    assert near(logits_of(load_model(tmp_path / "merged"), tuned.text()), expected)
    theirs = Gemma2ForCausalLM.from_pretrained(tmp_path / "merged", attn_implementation="eager")
    assert theirs.lm_head.weight is theirs.model.embed_tokens.weight
    assert near(logits_of(theirs, tuned.text()), expected)
    assert load_tokenizer(tmp_path / "merged").control == tuned.tokenizer.control


def test_a_merged_model_takes_a_new_adapter(tuned: Tuned, tmp_path: Path, randomize: Randomize) -> None:
    """Stage after stage: what was new becomes the base of the next."""
    merge(tuned.model)
    save_model(tuned.model, tuned.tokenizer, tmp_path / "merged")
    (new,) = add_tokens(tuned.model, tuned.tokenizer, ["<more>"])
    add_lora(tuned.model)
    randomize(tuned.model)
    ids = torch.tensor([[5, new, tuned.ids[0], 9]])
    expected = logits_of(tuned.model.eval(), ids)
    save_adapter(tuned.model, tuned.tokenizer, tmp_path / "second")
    model, tokenizer = load_model(tmp_path / "merged"), load_tokenizer(tmp_path / "merged")
    load_adapter(model, tokenizer, tmp_path / "second")
    assert torch.equal(logits_of(model.eval(), ids), expected)
    assert isinstance(model.model.embed_tokens, ExtendedVocabulary)


def test_the_adapter_folder_can_be_moved(tuned: Tuned, saved: Path, talker: Gemma, tokenizer: Tokenizer) -> None:
    moved = shutil.move(saved, saved.with_name("elsewhere"))
    load_adapter(talker, tokenizer, moved)
    assert torch.equal(logits_of(talker.eval(), tuned.text()), tuned.logits())
