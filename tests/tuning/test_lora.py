"""LoRA against PEFT's, and what it promises beyond."""

import math
import weakref
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import Gemma2ForCausalLM

from minifc.errors import OptionError, ParameterError
from minifc.gemma.model import Gemma
from minifc.tuning.lora import (
    ATTENTION,
    FEED_FORWARD,
    LoraLinear,
    add_lora,
    fold_lora,
    lora_layers,
    merge_lora,
    unmerge_lora,
)
from minifc.tuning.vocab import extend

# PEFT 0.21 asks transformers 5.23 in a way that the latter calls old.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

Randomize = Callable[[nn.Module], None]
Near = Callable[[Tensor, Tensor], bool]
Packed = Callable[[nn.Linear], nn.Module]
SameLora = Callable[[nn.Module, nn.Module], None]


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def loss_of(logits: Tensor, ids: Tensor) -> Tensor:
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())


def peft_twin(
    hf: Gemma2ForCausalLM, model: Gemma, r: int, alpha: float, targets: tuple[str, ...], rs: bool, same_lora: SameLora
) -> PeftModel:
    """PEFT's LoRA on the transformers model, with our model's A and B."""
    config = LoraConfig(r=r, lora_alpha=alpha, target_modules=list(targets), lora_dropout=0.0, use_rslora=rs)
    peft = get_peft_model(hf, config)
    same_lora(peft, model)
    return peft


# --- the same numbers as PEFT ------------------------------------------------------------------------------------


@pytest.mark.parametrize("targets", [ATTENTION, FEED_FORWARD, ATTENTION + FEED_FORWARD], ids=len)
@pytest.mark.parametrize(("r", "alpha", "rslora"), [(4, 16, False), (3, 8, True)])
@pytest.mark.parametrize("hf", ["gemma2", "gemma3"], indirect=True)
def test_forward_and_gradients_equal_pefts(
    hf: Gemma2ForCausalLM,
    model: Gemma,
    ids: Tensor,
    randomize: Randomize,
    near: Near,
    same_lora: SameLora,
    targets: tuple[str, ...],
    r: int,
    alpha: float,
    rslora: bool,
) -> None:
    names = add_lora(model, r, alpha, 0.0, targets, rslora)
    assert len(names) == 2 * len(targets)
    randomize(model)
    peft = peft_twin(hf, model, r, alpha, targets, rslora, same_lora)
    logits, expected = model(ids), peft(ids).logits
    assert near(logits, expected)
    loss_of(logits, ids).backward()
    loss_of(expected, ids).backward()
    for name, layer in lora_layers(model):
        theirs = peft.get_submodule(f"base_model.model.{name}")
        assert near(layer.lora_A.weight.grad, theirs.lora_A["default"].weight.grad), name
        assert near(layer.lora_B.weight.grad, theirs.lora_B["default"].weight.grad), name


def test_training_starts_from_the_model_as_it_is(model: Gemma, ids: Tensor) -> None:
    before = model(ids)
    add_lora(model)
    assert torch.equal(model.eval()(ids), before)


def test_the_start_follows_from_the_seed(fresh: Callable[..., Gemma]) -> None:
    starts = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        model = fresh()
        add_lora(model)
        starts.append(torch.cat([layer.lora_A.weight.flatten() for _, layer in lora_layers(model)]))
    assert torch.equal(starts[0], starts[1])
    assert not torch.equal(starts[0], starts[2])


# --- which layers, which parameters ------------------------------------------------------------------------------


def test_targets_match_the_end_of_a_name(model: Gemma) -> None:
    assert add_lora(model, targets=("layers.1.self_attn.q_proj", "down_proj")) == [
        "model.layers.0.mlp.down_proj",
        "model.layers.1.self_attn.q_proj",
        "model.layers.1.mlp.down_proj",
    ]
    assert [name for name, _ in lora_layers(model)] == [
        "model.layers.0.mlp.down_proj",
        "model.layers.1.self_attn.q_proj",
        "model.layers.1.mlp.down_proj",
    ]


@pytest.mark.parametrize("wrong", ["lm_heads", "proj", "_proj", "q_project"])
def test_an_unknown_target_is_named_and_the_model_untouched(model: Gemma, wrong: str) -> None:
    before = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    with pytest.raises(OptionError, match=f"'{wrong}'.*q_proj"):
        add_lora(model, targets=("q_proj", wrong))
    assert {name: parameter.requires_grad for name, parameter in model.named_parameters()} == before


def test_only_the_adapter_is_trainable(model: Gemma) -> None:
    extend(model, [97, 98], torch.randn(2, 32))
    names = add_lora(model, targets=("q_proj", "up_proj"))
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    matrices = {f"{name}.lora_{side}.weight" for name in names for side in "AB"}
    assert trainable == matrices | {"model.embed_tokens.rows"}


def test_a_second_lora_on_a_layer_is_refused(model: Gemma) -> None:
    add_lora(model, targets=("q_proj",))
    with pytest.raises(OptionError, match=r"layers\.0\.self_attn\.q_proj has LoRA already"):
        add_lora(model, targets=("v_proj", "q_proj"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"r": 0}, "r=0: the rank must be at least 1"),
        ({"dropout": 1.0}, "dropout=1.0: must be at least 0 and less than 1"),
        ({"dropout": -0.1}, "dropout=-0.1: must be at least 0 and less than 1"),
        ({"targets": ()}, "targets=(): needs at least one layer name, such as q_proj"),
        *(({"alpha": alpha}, f"alpha={alpha}: must be above 0, and finite") for alpha in (0, -1, math.inf, math.nan)),
    ],
    ids=str,
)
def test_parameters_out_of_range_are_refused_by_their_own_names(
    model: Gemma, options: dict[str, object], message: str
) -> None:
    """Not as options of a command."""
    before = weights(model)
    with pytest.raises(ParameterError) as error:
        add_lora(model, **options)
    assert str(error.value) == message
    assert weights(model).keys() == before.keys()


# --- dropout -----------------------------------------------------------------------------------------------------


def test_dropout_is_on_what_goes_into_the_change_and_only_while_training(randomize: Randomize) -> None:
    base = nn.Linear(6, 4, bias=False)
    layer = LoraLinear(base, 2, 4, 0.5, False)
    randomize(layer)
    x = torch.randn(3, 6)
    A, B = layer.lora_A.weight, layer.lora_B.weight
    torch.manual_seed(7)
    kept = F.dropout(x, 0.5)
    torch.manual_seed(7)
    torch.testing.assert_close(layer(x), base(x) + kept @ A.T @ B.T * 2)
    torch.testing.assert_close(layer.eval()(x), base(x) + x @ A.T @ B.T * 2)


def test_lora_on_a_model_in_evaluation_mode_does_not_drop(model: Gemma, ids: Tensor, randomize: Randomize) -> None:
    assert not model.training
    add_lora(model, dropout=0.5)
    randomize(model)
    assert torch.equal(model(ids), model(ids))


# --- merging -----------------------------------------------------------------------------------------------------


@pytest.fixture
def tuned(model: Gemma, randomize: Randomize) -> Gemma:
    add_lora(model, r=4, alpha=8)
    randomize(model)
    return model.eval()


def test_merged_is_the_same_function_without_the_detour(tuned: Gemma, ids: Tensor, near: Near) -> None:
    expected = tuned(ids)
    merge_lora(tuned)
    assert near(tuned(ids), expected)
    for _, layer in lora_layers(tuned):
        layer.lora_B.weight.data.zero_()  # no longer in use
    assert near(tuned(ids), expected)


def test_unmerging_is_bit_exact(tuned: Gemma, ids: Tensor) -> None:
    before, logits = weights(tuned), tuned(ids)
    merge_lora(tuned)
    name = "model.layers.0.mlp.up_proj.base_layer.weight"
    assert not torch.equal(weights(tuned)[name], before[name])
    assert not torch.equal(tuned(ids), logits)
    unmerge_lora(tuned)
    after = weights(tuned)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert torch.equal(tuned(ids), logits)


def test_unmerging_follows_a_model_that_was_converted(tuned: Gemma) -> None:
    before = {name: layer.base_layer.weight.bfloat16() for name, layer in lora_layers(tuned)}
    merge_lora(tuned)
    tuned.bfloat16()
    unmerge_lora(tuned)
    assert all(torch.equal(layer.base_layer.weight, before[name]) for name, layer in lora_layers(tuned))


def test_merging_twice_adds_once_and_unmerging_unmerged_does_nothing(tuned: Gemma) -> None:
    before = weights(tuned)
    unmerge_lora(tuned)
    merge_lora(tuned)
    once = weights(tuned)
    merge_lora(tuned)
    assert all(torch.equal(once[name], tensor) for name, tensor in weights(tuned).items())
    unmerge_lora(tuned)
    assert all(torch.equal(before[name], tensor) for name, tensor in weights(tuned).items())


@pytest.mark.parametrize("merged_before", [False, True])
def test_folding_leaves_an_ordinary_model(
    tuned: Gemma, fresh: Callable[..., Gemma], ids: Tensor, near: Near, merged_before: bool
) -> None:
    expected = tuned(ids)
    if merged_before:
        merge_lora(tuned)
    fold_lora(tuned)
    assert not any(isinstance(module, LoraLinear) for module in tuned.modules())
    plain = fresh()
    plain.load_state_dict(tuned.state_dict())  # strict: the same names and no others
    assert near(plain(ids), expected)


def test_folding_holds_one_old_weight_at_a_time(tuned: Gemma, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them at once would be a second model in memory."""
    merge, old = LoraLinear.merge, []

    def watched(layer: LoraLinear) -> None:
        assert not any(weight() is not None for weight in old)
        merge(layer)
        assert layer._unmerged is not None
        old.append(weakref.ref(layer._unmerged))

    monkeypatch.setattr(LoraLinear, "merge", watched)
    fold_lora(tuned)
    assert len(old) == 2 * 7


def test_a_bf16_base_takes_up_the_change_in_fp32() -> None:
    """The numbers are multiples of 2^-8, so the fp32 sum is exact; only the last rounding is bf16's."""
    base = nn.Linear(32, 32, bias=False, dtype=torch.bfloat16)
    layer = LoraLinear(base, 4, 8, 0.0, False)
    for matrix in (layer.lora_A, layer.lora_B):
        assert matrix.weight.dtype == torch.float32
        matrix.weight.data = torch.randint(-255, 256, matrix.weight.shape) / 256
    A, B, W = layer.lora_A.weight.double(), layer.lora_B.weight.double(), base.weight.detach().clone()
    layer.merge()
    assert base.weight.dtype == torch.bfloat16
    assert torch.equal(base.weight, (W.double() + 2 * B @ A).to(torch.bfloat16))
    in_bf16 = W + 2 * (B.bfloat16() @ A.bfloat16())
    assert not torch.equal(base.weight, in_bf16)
    layer.unmerge()
    assert torch.equal(base.weight, W)


def test_anything_with_in_and_out_features_takes_lora(
    model: Gemma, ids: Tensor, randomize: Randomize, packed: Packed
) -> None:
    model.model.layers[1].mlp.up_proj = packed(model.model.layers[1].mlp.up_proj)
    before = model(ids)
    assert "model.layers.1.mlp.up_proj" in add_lora(model, targets=("up_proj",))
    assert torch.equal(model.eval()(ids), before)
    randomize(model)
    assert not torch.equal(model(ids), before)


def test_merging_into_another_kind_of_weight_is_refused_by_name(model: Gemma, packed: Packed) -> None:
    model.model.layers[1].mlp.up_proj = packed(model.model.layers[1].mlp.up_proj)
    add_lora(model, targets=("up_proj",))
    with pytest.raises(OptionError, match="Packed"):
        merge_lora(model)
    with pytest.raises(OptionError, match="Packed"):
        fold_lora(model)


def test_a_refused_merge_leaves_the_model_as_it_was(model: Gemma, randomize: Randomize, packed: Packed) -> None:
    """Half merged, the first layers would silently stop learning."""
    model.model.layers[1].mlp.up_proj = packed(model.model.layers[1].mlp.up_proj)
    add_lora(model, targets=("up_proj",))
    randomize(model)
    before = weights(model)
    with pytest.raises(OptionError):
        merge_lora(model)
    assert all(torch.equal(before[name], tensor) for name, tensor in weights(model).items())
