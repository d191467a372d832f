"""LoRA (arXiv:2106.09685): learn a low-rank update, delta W = scaling * B A, of each frozen weight W.

    y = W x + scaling * B (A dropout(x)),   A: R x in,   B: out x R

B starts at zero, so training starts from the model as it is. The model's code does not mention LoRA:
`add_lora` replaces linear layers from outside, of any class that has `in_features` and `out_features`.

The vocabulary's table can have LoRA too, as in the course: one update for looking up ids (target `embed_tokens`) and
another for scoring them (`lm_head`), although both use one table.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minifc.cli import option, require
from minifc.errors import OptionError, TrainingError
from minifc.gemma.model import Vocabulary

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
FEED_FORWARD = ("gate_proj", "up_proj", "down_proj")
VOCABULARY = ("embed_tokens", "lm_head")  # looking up ids, and scoring them
EMBEDDING, HEAD = "model.embed_tokens", "lm_head"  # their full names; in minifc one module does both


@dataclass(frozen=True)
class LoraConfig:
    """What LoRA to add."""

    r: int = option(16, "rank of LoRA's matrices", name="rank")
    alpha: float = option(32.0, "LoRA is scaled by alpha / rank")
    dropout: float = option(0.05, "dropout on the input of LoRA, while training")
    targets: tuple[str, ...] = option(ATTENTION + FEED_FORWARD, "names of the layers with LoRA, separated by commas")
    rslora: bool = option(False, "scale by alpha / sqrt(rank) instead")

    def __post_init__(self) -> None:
        require(self.r >= 1, "r", self.r, "the rank must be at least 1")
        require(0 < self.alpha < math.inf, "alpha", self.alpha, "must be above 0, and finite")
        require(0 <= self.dropout < 1, "dropout", self.dropout, "must be at least 0 and less than 1")
        require(bool(self.targets), "targets", self.targets, "needs at least one layer name, such as q_proj")


class Lora(nn.Module):
    """A frozen module, `base_layer`, and its low-rank update. Parameter names are PEFT's."""

    def __init__(self, base: nn.Module, r: int, alpha: float, dropout: float, rslora: bool) -> None:
        super().__init__()
        self.base_layer = base
        self.r, self.alpha, self.dropout, self.rslora = r, alpha, dropout, rslora
        # alpha / r keeps the size of the update steady as r varies; rsLoRA (arXiv:2312.03732) divides by sqrt(r).
        self.scaling = alpha / (math.sqrt(r) if rslora else r)
        # fp32 whatever the base: in bf16 most updates of AdamW would be rounded away.
        self.factory_kwargs: dict[str, Any] = {"device": next(base.parameters()).device, "dtype": torch.float32}

    def matrices(self) -> dict[str, nn.Parameter]:
        """LoRA's A and B by their parameter names."""
        return {name: matrix for name, matrix in self.named_parameters() if name.startswith("lora_")}

    def reset_parameters(self) -> None:
        """Draw one of the two matrices at random and set the other to zero."""
        raise NotImplementedError

    def factors(self) -> tuple[Tensor, Tensor]:
        """Two matrices whose product, times `scaling`, is the update, in the shape of the base weight."""
        raise NotImplementedError

    @torch.no_grad()
    def merged_into(self, weight: Tensor) -> Tensor:
        """A new weight, with the update added in fp32: in bf16 small updates would be rounded away."""
        first, second = self.factors()
        return torch.addmm(weight.float(), first, second, alpha=self.scaling).to(weight.dtype)


class LoraPair(Lora):
    """LoRA on a module that multiplies by a weight [out, in]."""

    def __init__(
        self, base: nn.Module, r: int, alpha: float, dropout: float, rslora: bool, in_features: int, out_features: int
    ) -> None:
        super().__init__(base, r, alpha, dropout, rslora)
        self.lora_A = nn.utils.skip_init(nn.Linear, in_features, r, bias=False, **self.factory_kwargs)
        self.lora_B = nn.utils.skip_init(nn.Linear, r, out_features, bias=False, **self.factory_kwargs)

    def reset_parameters(self) -> None:
        nn.init.kaiming_uniform_(self.lora_A.weight, a=math.sqrt(5))
        nn.init.zeros_(self.lora_B.weight)

    def delta(self, x: Tensor) -> Tensor:  # [..., in] -> [..., out]
        A, B = self.lora_A.weight.to(x.dtype), self.lora_B.weight.to(x.dtype)
        x = F.dropout(x, self.dropout, self.training)
        return F.linear(F.linear(x, A) * self.scaling, B)  # scaled where it is small

    def factors(self) -> tuple[Tensor, Tensor]:  # [out, R] [R, in]
        return self.lora_B.weight, self.lora_A.weight


class LoraLinear(LoraPair):
    """A linear layer with LoRA."""

    def __init__(self, base: nn.Module, r: int, alpha: float, dropout: float, rslora: bool) -> None:
        in_features, out_features = int(base.in_features), int(base.out_features)  # type: ignore[arg-type]
        super().__init__(base, r, alpha, dropout, rslora, in_features, out_features)
        self.in_features, self.out_features = in_features, out_features
        self._unmerged: Tensor | None = None  # the base weight while the update is merged into it

    def forward(self, x: Tensor) -> Tensor:  # [..., in] -> [..., out]
        y: Tensor = self.base_layer(x)
        if self._unmerged is None:
            return y + self.delta(x)
        if self.training:
            raise TrainingError("LoRA is merged into the weights and cannot learn; call unmerge_lora first")
        return y

    def merge(self) -> None:
        """Add the update to the base weight."""
        self.check_merge()
        assert isinstance(self.base_layer, nn.Linear)
        if self._unmerged is None:
            self._unmerged = self.base_layer.weight.data
            self.base_layer.weight.data = self.merged_into(self._unmerged)

    def check_merge(self) -> None:
        """Raise OptionError for a base whose weight is no plain matrix."""
        if type(self.base_layer) is not nn.Linear:
            kind = type(self.base_layer).__name__
            raise OptionError(f"a {kind} weight cannot take up LoRA; merge into the unquantised model")

    def unmerge(self) -> None:
        """Back to the base weight, bit for bit."""
        if self._unmerged is not None:
            assert isinstance(self.base_layer, nn.Linear)
            # The model may have been moved or converted in between.
            self.base_layer.weight.data, self._unmerged = self._unmerged.to(self.base_layer.weight.data), None


class LoraEmbedding(Lora):
    """A vocabulary with LoRA on looking up ids, and none on scoring them: table[id] + scaling * B A[:, id]."""

    def __init__(self, base: nn.Module, r: int, alpha: float, dropout: float, rslora: bool) -> None:
        super().__init__(base, r, alpha, dropout, rslora)
        self.size = int(base.size)  # type: ignore[arg-type]
        self.lora_embedding_A = nn.Parameter(torch.empty(r, self.size, **self.factory_kwargs))
        E = plain_vocabulary(base).weight.shape[1]
        self.lora_embedding_B = nn.Parameter(torch.empty(E, r, **self.factory_kwargs))

    def reset_parameters(self) -> None:
        """A is zero and B random, as in PEFT: a column of A belongs to one id, which may never occur."""
        nn.init.zeros_(self.lora_embedding_A)
        nn.init.normal_(self.lora_embedding_B)

    def lookup(self, ids: Tensor) -> Tensor:
        """int64 [...] -> [..., E]. There is no dropout here, as PEFT has none on embeddings."""
        row: Tensor = self.base_layer.lookup(ids)  # type: ignore[operator]
        delta = F.embedding(ids, self.lora_embedding_A.T) @ self.lora_embedding_B.T
        return row + (delta * self.scaling).to(row.dtype)

    def project(self, hidden: Tensor) -> Tensor:
        """[n, E] -> [n, V]"""
        scores: Tensor = self.base_layer.project(hidden)  # type: ignore[operator]
        return scores

    def factors(self) -> tuple[Tensor, Tensor]:  # [V, R] [R, E]
        return self.lora_embedding_A.T, self.lora_embedding_B.T


class LoraHead(LoraPair):
    """A vocabulary with LoRA on scoring ids, and none on looking them up."""

    def __init__(self, base: nn.Module, r: int, alpha: float, dropout: float, rslora: bool) -> None:
        size = int(base.size)  # type: ignore[arg-type]
        super().__init__(base, r, alpha, dropout, rslora, plain_vocabulary(base).weight.shape[1], size)
        self.size = size

    def lookup(self, ids: Tensor) -> Tensor:
        """int64 [...] -> [..., E]"""
        row: Tensor = self.base_layer.lookup(ids)  # type: ignore[operator]
        return row

    def project(self, hidden: Tensor) -> Tensor:
        """[n, E] -> [n, V]"""
        scores: Tensor = self.base_layer.project(hidden)  # type: ignore[operator]
        return scores + self.delta(hidden)


def plain_vocabulary(vocabulary: Any) -> Vocabulary:
    """The model's own vocabulary, without the modules that wrap it."""
    while not isinstance(vocabulary, Vocabulary):
        vocabulary = vocabulary.base_layer
    return vocabulary


def add_lora(
    model: nn.Module,
    r: int = 16,
    alpha: float = 64,
    dropout: float = 0.05,
    targets: Sequence[str] = ATTENTION + FEED_FORWARD,
    rslora: bool = False,
) -> list[str]:
    """Freeze the model and put LoRA on every layer whose name ends in one of `targets`.

    `embed_tokens` and `lm_head` put it on the vocabulary's table, new rows included.
    Draws from torch's global generator. Returns the full names of the layers, in model order.
    Raises ParameterError for a value out of range, and OptionError as `find_layers` does.
    """
    config = LoraConfig(r, alpha, dropout, tuple(targets), rslora)
    found = find_layers(model, config.targets)
    for name in found:
        inject(model, name, r, alpha, dropout, rslora).reset_parameters()
    freeze(model)
    return list(found)


def inject(model: nn.Module, name: str, r: int, alpha: float, dropout: float, rslora: bool) -> Lora:
    """Put LoRA around the layer of this name. A and B are uninitialised."""
    kind = {EMBEDDING: LoraEmbedding, HEAD: LoraHead}.get(name, LoraLinear)
    name = EMBEDDING if kind is LoraHead else name
    module = model.get_submodule(name)
    layer = kind(module, r, alpha, dropout, rslora).train(module.training)
    _replace(model, name, layer)
    return layer


def find_layers(model: nn.Module, targets: Sequence[str], new_tokens: bool = False) -> dict[str, nn.Module]:
    """The layers that `targets` name, in model order; the vocabulary, which is no linear layer, comes first.

    new_tokens: whether new tokens are about to be added; those that the model has are found.

    Raises OptionError for a target that matches nothing, so that no target is silently ignored, and
    if new tokens would learn only to be looked up, or only to be scored.
    """
    modules = dict(model.named_modules())
    linear = {name: m for name, m in modules.items() if hasattr(m, "in_features") and not name.endswith(".base_layer")}
    table = (EMBEDDING, HEAD) if EMBEDDING in modules else ()
    found = {name: modules[EMBEDDING] for name in table if _matching(name, targets)}
    if len(found) == 1 and (new_tokens or hasattr(modules[EMBEDDING], "rows")):
        raise OptionError("with new tokens, LoRA goes on both embed_tokens and lm_head, or on neither")
    found |= {name: module for name, module in linear.items() if _matching(name, targets)}
    if unmatched := set(targets) - {target for name in found for target in _matching(name, targets)}:
        known = ", ".join(sorted({name.rpartition(".")[2] for name in linear} | set(VOCABULARY)))
        raise OptionError(f"LoRA target {sorted(unmatched)[0]!r} is no linear layer here; there are {known}")
    for name, module in found.items():
        if isinstance(module, Lora):
            raise OptionError(f"{name} has LoRA already")
    return found


def matches(target: str, layer: str) -> bool:
    """Whether a target is a layer's full name, or the end of it after a dot."""
    return layer == target or layer.endswith("." + target)


def _matching(name: str, targets: Sequence[str]) -> list[str]:
    return [target for target in targets if matches(target, name)]


def freeze(model: nn.Module) -> None:
    """Leave only the adapter trainable: LoRA's matrices, and the rows of new tokens unless the table has LoRA."""
    table_has_lora = any(not isinstance(layer, LoraLinear) for _, layer in lora_layers(model))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(".lora_" in name or (name.endswith(".rows") and not table_has_lora))


def lora_layers(model: nn.Module) -> Iterator[tuple[str, Lora]]:
    """(name, layer) of everything that has LoRA."""
    for name, module in model.named_modules():
        if isinstance(module, Lora):
            yield {LoraEmbedding: EMBEDDING, LoraHead: HEAD}.get(type(module), name), module


def merge_lora(model: nn.Module) -> None:
    """Add every linear layer's update to its weight, for speed. `unmerge_lora` restores the weights bit for bit."""
    for layer in _mergeable(model).values():
        layer.merge()


def unmerge_lora(model: nn.Module) -> None:
    """Take the updates out of the weights again, for further training."""
    for layer in _linear_layers(model).values():
        layer.unmerge()


def fold_lora(model: nn.Module) -> None:
    """Merge for good, into ordinary linear layers. For the vocabulary, `fold_vocabulary` does this."""
    layers = _mergeable(model)
    for name in list(layers):
        layer = layers.pop(name)  # gone before the next one is merged, and with it the weight as it was
        layer.merge()
        _replace(model, name, layer.base_layer)


def _linear_layers(model: nn.Module) -> dict[str, LoraLinear]:
    return {name: layer for name, layer in lora_layers(model) if isinstance(layer, LoraLinear)}


def _mergeable(model: nn.Module) -> dict[str, LoraLinear]:
    """The linear layers with LoRA; raises before the first is merged, so that a refused merge changes nothing."""
    layers = _linear_layers(model)
    for layer in layers.values():
        layer.check_merge()
    return layers


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, module)
