"""LoRA on the vocabulary, the course's own form: two changes of one table, against PEFT and through files."""

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from peft import AutoPeftModelForCausalLM, PeftModel, get_peft_model
from peft import LoraConfig as PeftConfig
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoTokenizer, Gemma2ForCausalLM

from minifc.cli import from_args
from minifc.data import pack
from minifc.errors import CheckpointError, OptionError
from minifc.gemma.checkpoint import load_model, save_model
from minifc.gemma.config import load_config
from minifc.gemma.model import Gemma
from minifc.text.tokenizer import Tokenizer, load_tokenizer
from minifc.train import RECIPES
from minifc.tuning.adapter import load_adapter, merge, save_adapter
from minifc.tuning.lora import ATTENTION, FEED_FORWARD, VOCABULARY, LoraConfig, add_lora, lora_layers
from minifc.tuning.loss import batch_loss
from minifc.tuning.vocab import add_tokens, extend

pytestmark = [
    # PEFT 0.21 asks transformers 5.23 in a way that the latter calls old, and warns of what is tested here.
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning"),
    pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers` to `True`:UserWarning"),
]

COURSE = ATTENTION + FEED_FORWARD + VOCABULARY
TAGS = ["<tool_call>", "</tool_call>"]
Fresh = Callable[..., Gemma]
Near = Callable[[Tensor, Tensor], bool]
Randomize = Callable[[nn.Module], None]
PeftOf = Callable[[nn.Module, str, str], nn.Parameter]
SameLora = Callable[[nn.Module, nn.Module], None]


def logits_of(model: Any, ids: Tensor) -> Tensor:
    with torch.no_grad():
        result = model(ids)
    return result if isinstance(result, Tensor) else result.logits


def peft_twin(hf: Gemma2ForCausalLM, model: Gemma, targets: tuple[str, ...], same_lora: SameLora) -> PeftModel:
    """PEFT's LoRA on the transformers model, with our model's A and B."""
    layer = next(layer for _, layer in lora_layers(model))
    config = PeftConfig(r=layer.r, lora_alpha=layer.alpha, target_modules=list(targets), lora_dropout=0.0)
    peft = get_peft_model(hf, config)
    same_lora(peft, model)
    return peft


@pytest.fixture
def course(talker: Gemma, tokenizer: Tokenizer, randomize: Randomize) -> Callable[..., list[int]]:
    """course(reuse): new tokens and the course's LoRA on `talker`, all numbers random; the ids of the tokens."""

    def teach(reuse: bool = False) -> list[int]:
        new = add_tokens(talker, tokenizer, TAGS, reuse_unused=reuse)
        add_lora(talker, r=4, alpha=8, targets=COURSE)
        randomize(talker)
        talker.eval()
        return new

    return teach


@pytest.mark.parametrize("targets", [("embed_tokens",), ("lm_head",), VOCABULARY, COURSE], ids=len)
@pytest.mark.parametrize("tied", [True, False])
def test_forward_and_gradients_equal_pefts(
    build: Callable[..., Gemma2ForCausalLM],
    convert: Callable[..., Gemma],
    ids: Tensor,
    randomize: Randomize,
    near: Near,
    peft_of: PeftOf,
    same_lora: SameLora,
    targets: tuple[str, ...],
    tied: bool,
) -> None:
    hf = build(tie_word_embeddings=tied)
    model = convert(hf)
    names = add_lora(model, 4, 16, 0.0, targets)
    assert {name.rpartition(".")[2] for name in names} == set(targets)
    randomize(model)
    peft = peft_twin(hf, model, targets, same_lora)
    logits, expected = model(ids), peft(ids).logits
    assert near(logits, expected)
    for scores in (logits, expected):
        F.cross_entropy(scores[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).backward()
    for name, layer in lora_layers(model):
        for matrix, parameter in layer.matrices().items():
            assert near(parameter.grad, peft_of(peft, name, matrix).grad), (name, matrix)


def test_new_rows_are_changed_by_it_too_and_stay_frozen_themselves(model: Gemma) -> None:
    """As with PEFT, where LoRA lies over the whole resized table."""
    extend(model, [97, 98], torch.randn(2, 32))
    add_lora(model, targets=COURSE)
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert not any(name.endswith(".rows") for name in trainable)
    shapes = {
        name: tuple(matrix.shape) for name, layer in lora_layers(model) for name, matrix in layer.matrices().items()
    }
    assert shapes["lora_embedding_A"] == (16, 99)


@pytest.mark.parametrize(("recipe", "count"), [("course", 29_032_704), ("lean", 20_785_152)])
def test_the_recipes_train_so_many_numbers_of_2b(shared: Path, recipe: str, count: int) -> None:
    """COURSE.md's figure, and README's, for 8 new tokens."""
    given, values = Namespace(), RECIPES[recipe]
    config = from_args(LoraConfig, given, values)
    with torch.device("meta"):
        model = Gemma(load_config(shared / "gemma-2-2b-it"))
        extend(model, list(range(256_000, 256_008)), torch.empty(8, 2304))
    add_lora(model, config.r, config.alpha, config.dropout, config.targets)
    assert sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad) == count


@pytest.mark.parametrize("target", VOCABULARY)
def test_new_tokens_must_be_learned_in_both_directions(model: Gemma, target: str) -> None:
    extend(model, [97, 98], torch.randn(2, 32))
    with pytest.raises(OptionError, match="both embed_tokens and lm_head"):
        add_lora(model, targets=("q_proj", target))


def test_a_second_lora_on_the_table_is_refused(model: Gemma) -> None:
    add_lora(model, targets=VOCABULARY)
    with pytest.raises(OptionError, match="has LoRA already"):
        add_lora(model, targets=("lm_head",))


def test_the_loss_in_chunks_has_the_gradients_of_the_plain_one(
    model: Gemma, make_examples: Callable[..., Any], randomize: Randomize, near: Near, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What serves reading only has no part in a chunk."""
    monkeypatch.setattr("minifc.tuning.loss.CHUNK_ELEMENTS", 2 * 97)
    add_lora(model, dropout=0.0, targets=COURSE)
    randomize(model)
    (batch,) = pack(make_examples([11]), 1, 11)
    batch_loss(model, batch).backward()
    chunked = {n: p.grad.clone() for n, p in model.named_parameters() if p.requires_grad}
    model.zero_grad()
    F.cross_entropy(model(batch.ids)[0, :-1], batch.ids[0, 1:], reduction="sum").backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert near(chunked[name], parameter.grad), name


# --- merging -----------------------------------------------------------------------------------------------------


def test_merging_unties_the_table_exactly(
    talker: Gemma, tokenizer: Tokenizer, course: Callable[..., list[int]], tmp_path: Path, near: Near
) -> None:
    """The usual merge adds both changes to the one tied table (peft #2018, #2777)."""
    new = course()
    ids = torch.tensor([[5, *new, 9, 10, *new]])
    expected = logits_of(talker, ids)
    merge(talker)
    assert not talker.config.tie_word_embeddings
    assert near(logits_of(talker, ids), expected)
    save_model(talker, tokenizer, tmp_path / "merged")
    assert near(logits_of(load_model(tmp_path / "merged"), ids), expected)
    theirs = Gemma2ForCausalLM.from_pretrained(tmp_path / "merged", attn_implementation="eager")
    assert theirs.lm_head.weight is not theirs.model.embed_tokens.weight
    assert near(logits_of(theirs, ids), expected)


@pytest.mark.parametrize("target", VOCABULARY)
def test_merging_one_direction_leaves_the_other(
    model: Gemma, ids: Tensor, randomize: Randomize, near: Near, target: str
) -> None:
    before = model.model.embed_tokens.weight.detach().clone()
    add_lora(model, targets=(target,))
    randomize(model)
    expected = logits_of(model.eval(), ids)
    merge(model)
    assert near(logits_of(model, ids), expected)
    table = model.model.embed_tokens
    assert torch.equal(table.weight if target == "lm_head" else table.head, before)


# --- files -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reuse", [False, True], ids=["appended", "reused"])
def test_saving_and_loading_gives_the_same_logits(
    talker: Gemma,
    fresh: Fresh,
    tokenizer: Tokenizer,
    tiny: Path,
    course: Callable[..., list[int]],
    tmp_path: Path,
    reuse: bool,
) -> None:
    size = tokenizer.size
    new = course(reuse)
    save_adapter(talker, tokenizer, tmp_path / "adapter")
    model, plain = fresh(vocab_size=size), load_tokenizer(tiny)
    load_adapter(model, plain, tmp_path / "adapter")
    ids = torch.tensor([[5, *new, 9, 10]])
    assert not any(module.training for module in model.modules())  # or the head would drop out
    assert torch.equal(logits_of(model, ids), logits_of(talker, ids))
    trainable = [{name for name, p in m.named_parameters() if p.requires_grad} for m in (talker, model)]
    assert trainable[0] == trainable[1]


def test_the_file_holds_no_table(
    talker: Gemma, tokenizer: Tokenizer, course: Callable[..., list[int]], tmp_path: Path
) -> None:
    """PEFT's has two of them: 2.4 GB at full size."""
    course()
    save_adapter(talker, tokenizer, tmp_path / "adapter")
    tensors = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert not any(tensor.shape == (tokenizer.size, 32) for tensor in tensors.values())


def test_peft_loads_it_where_there_are_no_new_rows(
    build: Callable[..., Gemma2ForCausalLM],
    talker: Gemma,
    tokenizer: Tokenizer,
    randomize: Randomize,
    tmp_path: Path,
    near: Near,
) -> None:
    add_lora(talker, r=4, alpha=8, targets=COURSE)
    randomize(talker)
    save_adapter(talker.eval(), tokenizer, tmp_path / "adapter")
    peft = PeftModel.from_pretrained(build(vocab_size=tokenizer.size), tmp_path / "adapter")
    ids = torch.tensor([[5, 9, 10, 11]])
    assert near(logits_of(talker, ids), logits_of(peft, ids))


def test_peft_refuses_new_rows_beside_it(
    talker: Gemma, fresh: Fresh, tokenizer: Tokenizer, tiny: Path, course: Callable[..., list[int]], tmp_path: Path
) -> None:
    """PEFT 0.21 cannot hold rows and LoRA of one table; it says so, and does not run something else. Should this
    change, the folder loads there as it is."""
    save_model(talker, tokenizer, tmp_path / "base")
    course()
    save_adapter(talker, tokenizer, tmp_path / "adapter", str(tmp_path / "base"))
    with pytest.raises(TypeError, match="trainable_token_indices cannot be applied"):
        AutoPeftModelForCausalLM.from_pretrained(tmp_path / "adapter")


@pytest.fixture
def from_peft(
    build: Callable[..., Gemma2ForCausalLM], talker: Gemma, tokenizer: Tokenizer, tmp_path: Path
) -> tuple[PeftModel, list[int], Path]:
    """The course's run as PEFT saves it: resized, LoRA on all nine, both tables in the file. Model, new ids, folder."""
    folder = tmp_path / "adapter"
    save_model(talker, tokenizer, tmp_path / "base")
    theirs = AutoTokenizer.from_pretrained(tmp_path / "base")
    theirs.add_special_tokens({"additional_special_tokens": TAGS})
    base = build(vocab_size=tokenizer.size)
    base.resize_token_embeddings(len(theirs), mean_resizing=False)
    options = {"r": 4, "lora_alpha": 12, "target_modules": list(COURSE)}
    peft = get_peft_model(base, PeftConfig(task_type="CAUSAL_LM", **options)).eval()
    for name, parameter in peft.named_parameters():
        if "lora_B" in name or "embedding_A" in name:
            parameter.data.normal_(std=0.2)
    peft.save_pretrained(folder)
    theirs.save_pretrained(folder)
    return peft, theirs.convert_tokens_to_ids(TAGS), folder


def test_pefts_own_file_of_the_course_loads(
    talker: Gemma, tokenizer: Tokenizer, from_peft: tuple[PeftModel, list[int], Path], near: Near
) -> None:
    peft, new, folder = from_peft
    load_adapter(talker, tokenizer, folder)
    ids = torch.tensor([[5, *new, 9, 10]])
    assert near(logits_of(talker.eval(), ids), logits_of(peft, ids))
    assert tokenizer.encode("".join(TAGS), control_tokens=True) == new


def test_two_tables_that_differ_are_refused(
    talker: Gemma, tokenizer: Tokenizer, from_peft: tuple[PeftModel, list[int], Path]
) -> None:
    _, _, folder = from_peft
    tensors = load_file(folder / "adapter_model.safetensors")
    tensors["base_model.model.lm_head.base_layer.weight"][3] += 1
    save_file(tensors, folder / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match="differ, though the base model ties them"):
        load_adapter(talker, tokenizer, folder)
