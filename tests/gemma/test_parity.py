"""The forward pass computes what transformers computes, and would not if any piece of it were wrong."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm
from transformers.models.gemma3.modeling_gemma3 import Gemma3RMSNorm

from minifc.gemma import model
from minifc.gemma.config import FULL, SLIDING
from minifc.gemma.model import CHUNK, Gemma, RMSNorm, count_positions

pytestmark = pytest.mark.parametrize("generation", ["gemma2", "gemma3"], indirect=True, scope="session")

EQUAL = 1e-5  # of the largest logit
WRONG = 1e-3

GROUPS = [  # H, K, D
    pytest.param(4, 2, 16, id="two share"),
    pytest.param(4, 4, 16, id="none share"),
    pytest.param(4, 1, 16, id="all share"),
    pytest.param(8, 2, 6, id="four share"),
    pytest.param(6, 3, 10, id="three pairs"),
]

# Whole prompts


@pytest.mark.parametrize("T", [1, 7, 8, 9, 40, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 23])
def test_logits_equal_transformers(pair: Any, random_ids: Any, gap: Any, T: int) -> None:
    """At lengths on either side of the window and of the chunks that attention is computed in."""
    ids = random_ids(2, T)
    assert gap(pair().ours(ids), pair().expected(ids)) < EQUAL


@pytest.mark.parametrize(("H", "K", "D"), GROUPS)
def test_every_way_to_share_key_heads_equals_transformers(
    pair: Any, random_ids: Any, gap: Any, H: int, K: int, D: int
) -> None:
    models = pair(num_attention_heads=H, num_key_value_heads=K, head_dim=D)
    ids = random_ids(2, CHUNK + 30)
    assert gap(models.ours(ids), models.expected(ids)) < EQUAL


@pytest.mark.parametrize(
    "overrides",
    [
        {"sliding_window": 1},
        {"sliding_window": 2},
        {"sliding_window": CHUNK},
        {"sliding_window": CHUNK + 5},
        {"sliding_window": 4096},
        {"layer_types": [FULL, FULL, SLIDING, FULL]},
        {"layer_types": [SLIDING] * 4},
        {"num_hidden_layers": 1, "layer_types": [FULL]},
        {"query_pre_attn_scalar": 7},
        {"final_logit_softcapping": 3.0},
        {"final_logit_softcapping": None},
        {"rms_norm_eps": 0.5},
        {"tie_word_embeddings": False},
    ],
    ids=str,
)
def test_every_setting_of_the_config_is_obeyed(pair: Any, random_ids: Any, gap: Any, overrides: dict[str, Any]) -> None:
    models = pair(**overrides)
    ids = random_ids(2, CHUNK + 30)
    assert gap(models.ours(ids), models.expected(ids)) < EQUAL


@pytest.mark.parametrize(
    ("of", "overrides"),
    [
        ("gemma2", {"rope_parameters": {"rope_type": "default", "rope_theta": 100.0}}),
        ("gemma2", {"attn_logit_softcapping": 5.0}),
        ("gemma2", {"attn_logit_softcapping": None}),
        ("gemma3", {"rope_parameters": {FULL: {"rope_type": "default", "rope_theta": 50.0}}}),
        ("gemma3", {"rope_parameters": {FULL: {"rope_type": "linear", "factor": 3.5, "rope_theta": 1e6}}}),
        ("gemma3", {"rope_parameters": {SLIDING: {"rope_type": "default", "rope_theta": 100.0}}}),
        ("gemma3", {"rope_parameters": None}),
    ],
    ids=str,
)
def test_every_setting_that_one_of_them_has_is_obeyed(
    pair: Any, generation: str, random_ids: Any, gap: Any, of: str, overrides: dict[str, Any]
) -> None:
    if of == generation:
        models, ids = pair(**overrides), random_ids(2, CHUNK + 30)
        assert gap(models.ours(ids), models.expected(ids)) < EQUAL


def test_logits_are_fp32_and_the_head_can_be_applied_to_few_positions(pair: Any, random_ids: Any, gap: Any) -> None:
    gemma, ids = pair().ours, random_ids(2, 20)
    logits = gemma(ids)
    assert logits.dtype == torch.float32
    assert gap(gemma.logits(gemma.hidden(ids)[:, -1]), logits[:, -1]) < EQUAL


@torch.enable_grad()
def test_gradients_equal_transformers(pair: Any, random_ids: Any, gap: Any) -> None:
    """Of every parameter: a wrong formula can have the right value, hardly the right slope too."""
    ids, models = random_ids(2, CHUNK + 10), pair()
    ours, theirs = dict(models.ours.named_parameters()), dict(models.reference.named_parameters())
    slopes = torch.autograd.grad(mean_loss(models.ours(ids), ids), list(ours.values()))
    expected = torch.autograd.grad(
        mean_loss(models.reference(ids, use_cache=False).logits, ids), [theirs[name] for name in ours]
    )
    for name, slope, wanted in zip(ours, slopes, expected, strict=True):
        assert gap(slope, wanted) < 1e-4, name


def mean_loss(logits: Tensor, ids: Tensor) -> Tensor:
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())


def test_the_first_layer_reads_bf16_embeddings_rounded_as_transformers_rounds_them(pair: Any, random_ids: Any) -> None:
    """sqrt(E) itself is rounded to bf16 before it scales: 6.9282 becomes 6.9375."""
    ids, read = random_ids(1, 20), []
    models = pair()
    reference = models.reference.model.embed_tokens
    gemma = Gemma(models.ours.config).to(torch.bfloat16)
    gemma.load_state_dict(models.ours.state_dict())
    gemma.model.layers[0].register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
    gemma(ids)
    expected = F.embedding(ids, reference.weight.bfloat16()) * reference.embed_scale.bfloat16()
    assert torch.equal(read[0], expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_norm_equals_transformers(generation: str, dtype: torch.dtype) -> None:
    """Computed in fp32, gain included, and rounded once; the squares would overflow fp16."""
    theirs = (Gemma2RMSNorm if generation == "gemma2" else Gemma3RMSNorm)(48, 1e-6)
    ours = RMSNorm(48, 1e-6)
    nn.init.normal_(ours.weight)
    theirs.load_state_dict(ours.state_dict())
    x = 1000 * torch.randn(3, 48)
    assert torch.equal(ours.to(dtype)(x.to(dtype)), theirs.to(dtype)(x.to(dtype)))


# Padding


def pad(rows: list[Tensor], side: str) -> tuple[Tensor, Tensor]:
    """Rows [T] of any lengths as ids and attention mask [B, T]. The padding is an ordinary id: only the mask tells."""
    ids = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=5, padding_side=side)
    mask = nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], batch_first=True, padding_side=side)
    return ids, mask


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("lengths", [(20, 13, 1), (90, 70, 5)], ids=str)
def test_each_padded_row_equals_the_row_alone(
    pair: Any, random_ids: Any, gap: Any, lengths: tuple[int, ...], side: str
) -> None:
    rows = [random_ids(1, length)[0] for length in lengths]
    ids, mask = pad(rows, side)
    logits = pair().ours(ids, attention_mask=mask)
    for row, real, got in zip(rows, mask.bool(), logits, strict=True):
        assert gap(got[real], pair().expected(row[None])[0]) < EQUAL


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_padded_batch_equals_transformers_padded_batch(pair: Any, random_ids: Any, gap: Any, side: str) -> None:
    ids, mask = pad([random_ids(1, length)[0] for length in (90, 70, 5)], side)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    real = mask.bool()
    logits = pair().ours(ids, attention_mask=mask)
    expected = pair().expected(ids, attention_mask=mask, position_ids=positions)
    assert gap(logits[real], expected[real]) < EQUAL


def test_a_row_of_nothing_but_padding_is_finite(pair: Any, random_ids: Any) -> None:
    mask = torch.tensor([[0], [1]]).expand(2, 20)
    assert pair().ours(random_ids(2, 20), attention_mask=mask).isfinite().all()


@pytest.mark.parametrize("T", [40, 80, 200])
def test_a_hole_in_the_mask_keeps_its_place(pair: Any, random_ids: Any, gap: Any, T: int) -> None:
    """As in transformers: nobody sees the hole, but the tokens behind it stand where they stood."""
    ids, mask = random_ids(1, T), torch.ones(1, T, dtype=torch.long)
    mask[:, -20:-10] = 0
    real = mask.bool()
    logits = pair().ours(ids, attention_mask=mask)[real]
    assert gap(logits, pair().expected(ids, attention_mask=mask)[real]) < EQUAL


# Packing


def pack(documents: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Documents [T] one after another in a single row: ids and document numbers [1, T]."""
    numbers = [torch.full_like(document, number) for number, document in enumerate(documents)]
    return torch.cat(documents)[None], torch.cat(numbers)[None]


@pytest.mark.parametrize("lengths", [(5, 20, 3), (5, 20, 70, 3, 1), (70, 70)], ids=str)
def test_packed_documents_equal_documents_alone(pair: Any, random_ids: Any, gap: Any, lengths: tuple[int, ...]) -> None:
    documents = [random_ids(1, length)[0] for length in lengths]
    ids, numbers = pack(documents)
    logits = pair().ours(ids, documents=numbers)[0].split(lengths)
    for document, got in zip(documents, logits, strict=True):
        assert gap(got, pair().expected(document[None])[0]) < EQUAL


@pytest.mark.parametrize("side", ["left", "right"])
def test_packed_documents_can_be_padded(pair: Any, random_ids: Any, gap: Any, side: str) -> None:
    """Padding counts as part of the document beside it, or of none: the mask decides."""
    documents = [random_ids(1, length)[0] for length in (30, 50)]
    ids, numbers = pack(documents)
    mask = torch.ones_like(ids)
    ends = (9, 0) if side == "left" else (0, 9)
    ids, mask = F.pad(ids, ends, value=5), F.pad(mask, ends)
    for number in (-1, 0, 1):
        logits = pair().ours(ids, mask, documents=F.pad(numbers, ends, value=number))
        for document, got in zip(documents, logits[mask.bool()].split([30, 50]), strict=True):
            assert gap(got, pair().expected(document[None])[0]) < EQUAL


def test_without_document_numbers_packed_documents_see_each_other(pair: Any, random_ids: Any, gap: Any) -> None:
    """What the tests above would miss if they could not fail."""
    documents = [random_ids(1, 10)[0], random_ids(1, 10)[0]]
    logits = pair().ours(pack(documents)[0])[0, 10:]
    assert gap(logits, pair().expected(documents[1][None])[0]) > WRONG


def test_positions_restart_with_each_document_and_padding_has_none(generation: str) -> None:
    """Logits cannot show it: rotary positions are relative. Far from 0 their angles would lose digits."""
    documents = torch.tensor([[0, 0, 0, 1, 1, 2, 2, 2, 2], [9, 9, 4, 4, 4, 4, 7, 7, 7]])
    mask = torch.tensor([[1, 1, 1, 1, 1, 1, 1, 0, 0], [0, 0, 1, 1, 1, 1, 1, 1, 1]])
    expected = [[0, 1, 2, 0, 1, 0, 1, -1, -1], [-1, -1, 0, 1, 2, 3, 0, 1, 2]]
    assert count_positions(documents, mask, documents, None).tolist() == expected
    assert count_positions(documents, mask, None, None).tolist()[1] == [-1, -1, 0, 1, 2, 3, 4, 5, 6]


# Mutations: with any piece taken out, logits differ

Mutation = Callable[[pytest.MonkeyPatch, Gemma], None]


def reconfigure(**changes: Any) -> Mutation:
    """Run the model under a config that differs from the one it was loaded with."""

    def mutate(patch: pytest.MonkeyPatch, gemma: Gemma) -> None:
        config = replace(gemma.config, **changes)
        for part in (gemma, gemma.model, *(block.self_attn for block in gemma.model.layers)):
            patch.setattr(part, "config", config)

    return mutate


def without_norm(name: str) -> Mutation:
    """Take one norm out of the first layer, or the last norm of all."""

    def mutate(patch: pytest.MonkeyPatch, gemma: Gemma) -> None:
        *path, last = name.split(".")
        part = gemma.model if name == "norm" else gemma.model.layers[0].get_submodule(".".join(path))
        patch.setitem(part._modules, last, nn.Identity())

    return mutate


def replaced(name: str, make: Callable[[Any], Any]) -> Mutation:
    """Put make(original) in the place of a function of the model file; `name` may be Class.method."""

    def mutate(patch: pytest.MonkeyPatch, gemma: Gemma) -> None:
        owner, _, attribute = name.rpartition(".")
        holder = getattr(model, owner) if owner else model
        patch.setattr(holder, attribute, make(getattr(holder, attribute)))

    return mutate


def gain_without_one(_: Any) -> Any:
    return lambda norm, x: x * torch.rsqrt(x.square().mean(-1, keepdim=True) + norm.eps) * norm.weight


def pairs_side_by_side(_: Any) -> Any:
    """GPT-J's order of rotary pairs: (x[2i], x[2i + 1])."""

    def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        half = x.shape[-1] // 2
        turned = torch.stack((-x[..., 1::2], x[..., ::2]), -1).flatten(-2)
        return x * cos[..., :half].repeat_interleave(2, -1) + turned * sin[..., :half].repeat_interleave(2, -1)

    return rotate


def every_key_seen(causal_mask: Any) -> Any:
    return lambda positions, keys, *rest: causal_mask(torch.full_like(positions, positions.max()), keys, *rest)


def other_key_heads(attend: Any) -> Any:
    return lambda q, k, v, seen, config: attend(q, k.flip(1), v.flip(1), seen, config)


def gelu_by_erf(_: Any) -> Any:
    return lambda mlp, x: mlp.down_proj(F.gelu(mlp.gate_proj(x)) * mlp.up_proj(x))


def gate_and_up_swapped(_: Any) -> Any:
    return lambda mlp, x: mlp.down_proj(F.gelu(mlp.up_proj(x), approximate="tanh") * mlp.gate_proj(x))


MUTATIONS: dict[str, Mutation] = {
    "no cap on attention": reconfigure(attn_logit_softcapping=None),
    "no cap on logits": reconfigure(final_logit_softcapping=None),
    "no cap": replaced("softcap", lambda _: lambda x, cap: x),
    "gain w, not 1 + w": replaced("RMSNorm.forward", gain_without_one),
    "no window": reconfigure(sliding_window=4096),
    "window one too wide": reconfigure(sliding_window=9),
    "window one too narrow": reconfigure(sliding_window=7),
    "full layers first": reconfigure(layer_types=(FULL, SLIDING, FULL, SLIDING)),
    "no causal mask": replaced("causal_mask", every_key_seen),
    "no embedding scale": reconfigure(hidden_size=1),
    "query scale from head_dim": reconfigure(query_pre_attn_scalar=16),
    "no query scale": reconfigure(query_pre_attn_scalar=1),
    "no rotary positions": replaced("rotate", lambda _: lambda x, cos, sin: x),
    "rotary pairs side by side": replaced("rotate", pairs_side_by_side),
    "rotation backwards": replaced("rotate", lambda rotate: lambda x, cos, sin: rotate(x, -cos, sin)),
    "another rope_theta": reconfigure(rope_theta=100.0),
    "another rope_theta on sliding layers": reconfigure(rope_local_base_freq=100.0),
    "another key head": replaced("attend", other_key_heads),
    "gelu by erf": replaced("MLP.forward", gelu_by_erf),
    "gate and up swapped": replaced("MLP.forward", gate_and_up_swapped),
    "no input norm": without_norm("input_layernorm"),
    "no norm after attention": without_norm("post_attention_layernorm"),
    "no norm before feed-forward": without_norm("pre_feedforward_layernorm"),
    "no norm after feed-forward": without_norm("post_feedforward_layernorm"),
    "no last norm": without_norm("norm"),
}


# What only one of them has.
MUTATIONS2 = {"no cap on attention", "no cap on logits", "no cap"}
MUTATIONS3: dict[str, Mutation] = {
    "no norm of queries": without_norm("self_attn.q_norm"),
    "no norm of keys": without_norm("self_attn.k_norm"),
    "positions not scaled": reconfigure(rope_factor=1.0),
    "one kind of positions": reconfigure(rope_theta=10_000.0, rope_factor=1.0),
}


@pytest.mark.parametrize("name", [*MUTATIONS, *MUTATIONS3])
def test_mutations_are_noticed(
    pair: Any, generation: str, random_ids: Any, gap: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    if name in (MUTATIONS2 if generation == "gemma3" else MUTATIONS3):
        return
    mutation, ids = (MUTATIONS | MUTATIONS3)[name], random_ids(2, 40)
    least = WRONG / 2 if (generation, name) == ("gemma3", "gelu by erf") else WRONG  # two GELUs differ by 5e-4 at most
    mutation(monkeypatch, pair().ours)
    assert (pair().ours(ids) - pair().expected(ids)).abs().max() > least
    monkeypatch.undo()
    assert gap(pair().ours(ids), pair().expected(ids)) < EQUAL


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_mask_that_is_not_passed_on_is_noticed(pair: Any, random_ids: Any, gap: Any, side: str) -> None:
    """On the left padding would be read; on the right it comes too late to harm the row's real tokens."""
    row = random_ids(1, 13)[0]
    ids, mask = pad([random_ids(1, 20)[0], row], side)
    got = pair().ours(ids)[1][mask[1].bool()]
    difference = gap(got, pair().expected(row[None])[0])
    assert difference > WRONG if side == "left" else difference < EQUAL
