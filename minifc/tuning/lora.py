"""LoRA (arXiv:2106.09685): learn a small change B A beside each frozen weight W.

    y = W x + scaling * B (A dropout(x)),   A: R x in,   B: out x R

B starts at zero, so training starts from the model as it is. The model knows nothing of this:
`add_lora` replaces linear layers from outside, whatever they are, as long as they have
`in_features` and `out_features`.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minifc.errors import OptionError
from minifc.options import option, require

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
FEED_FORWARD = ("gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class LoraConfig:
    """What LoRA to add."""

    r: int = option(16, "rank of the change")
    alpha: float = option(32.0, "the change is scaled by alpha / r")
    dropout: float = option(0.05, "on what goes into the change, while training")
    targets: tuple[str, ...] = option(ATTENTION + FEED_FORWARD, "names of the linear layers, separated by commas")
    rslora: bool = option(False, "scale by alpha / sqrt(r) instead")

    def __post_init__(self) -> None:
        require(self.r >= 1, "r", self.r, "the rank must be at least 1")
        require(0 <= self.dropout < 1, "dropout", self.dropout, "must be at least 0 and less than 1")
        require(bool(self.targets), "targets", "", "needs at least one layer name, such as q_proj")


class LoraLinear(nn.Module):
    """A frozen linear layer and its low-rank change. Parameter names are PEFT's."""

    def __init__(self, base: nn.Module, r: int, alpha: float, dropout: float, rslora: bool) -> None:
        super().__init__()
        self.base = base
        self.in_features, self.out_features = int(base.in_features), int(base.out_features)  # type: ignore[arg-type]
        self.r, self.alpha, self.dropout, self.rslora = r, alpha, dropout, rslora
        # alpha / r keeps the size of the change steady as r varies; rsLoRA (arXiv:2312.03732) divides by sqrt(r).
        self.scaling = alpha / (math.sqrt(r) if rslora else r)
        device = next(base.parameters()).device
        # fp32 whatever the base: in bf16 most updates of AdamW would be rounded away.
        form = {"bias": False, "device": device, "dtype": torch.float32}
        self.lora_A = nn.utils.skip_init(nn.Linear, self.in_features, r, **form)
        self.lora_B = nn.utils.skip_init(nn.Linear, r, self.out_features, **form)
        nn.init.zeros_(self.lora_B.weight)
        self._unmerged: Tensor | None = None  # the base weight while the change is merged into it

    def forward(self, x: Tensor) -> Tensor:  # [..., in] -> [..., out]
        y: Tensor = self.base(x)
        if self._unmerged is not None:
            return y
        A, B = self.lora_A.weight.to(x.dtype), self.lora_B.weight.to(x.dtype)
        x = F.dropout(x, self.dropout, self.training)
        return y + F.linear(F.linear(x, A), B) * self.scaling

    def delta(self) -> Tensor:
        """The change as one matrix, fp32 [out, in]."""
        return self.lora_B.weight @ self.lora_A.weight * self.scaling

    @torch.no_grad()
    def merge(self) -> None:
        """Add the change to the base weight, in fp32: in bf16 small changes would vanish one by one."""
        self.check_merge()
        assert isinstance(self.base, nn.Linear)
        if self._unmerged is None:
            self._unmerged = self.base.weight.data
            self.base.weight.data = (self._unmerged.float() + self.delta()).to(self._unmerged.dtype)

    def check_merge(self) -> None:
        """Raise OptionError for a base whose weight is no plain matrix."""
        if type(self.base) is not nn.Linear:
            kind = type(self.base).__name__
            raise OptionError(f"a {kind} weight cannot take up LoRA; merge into the unquantised model")

    def unmerge(self) -> None:
        """Back to the base weight, bit for bit."""
        if self._unmerged is not None:
            assert isinstance(self.base, nn.Linear)
            self.base.weight.data, self._unmerged = self._unmerged, None


def add_lora(
    model: nn.Module,
    r: int = 16,
    alpha: float = 64,
    dropout: float = 0.05,
    targets: Sequence[str] = ATTENTION + FEED_FORWARD,
    rslora: bool = False,
) -> list[str]:
    """Freeze the model and give every layer whose name ends in one of `targets` a trainable change.

    Draws A from torch's global generator. Returns the full names of the layers, in model order.
    Raises OptionError as `find_layers` does.
    """
    config = LoraConfig(r, alpha, dropout, tuple(targets), rslora)
    found = find_layers(model, config.targets)
    for name in found:
        nn.init.kaiming_uniform_(inject(model, name, r, alpha, dropout, rslora).lora_A.weight, a=math.sqrt(5))
    freeze(model)
    return list(found)


def inject(model: nn.Module, name: str, r: int, alpha: float, dropout: float, rslora: bool) -> LoraLinear:
    """Put a LoraLinear around the layer of this name, with B zero and A as the memory happens to be."""
    module = model.get_submodule(name)
    layer = LoraLinear(module, r, alpha, dropout, rslora).train(module.training)
    _replace(model, name, layer)
    return layer


def find_layers(model: nn.Module, targets: Sequence[str]) -> dict[str, nn.Module]:
    """The layers that `targets` name, in model order.

    Raises OptionError for a target that matches nothing, so that no target is silently ignored.
    """
    found: dict[str, nn.Module] = {}
    unmatched = set(targets)
    for name, module in model.named_modules():
        if name.endswith(".base") or not (hasattr(module, "in_features") and hasattr(module, "out_features")):
            continue
        matches = {target for target in targets if name == target or name.endswith("." + target)}
        if matches:
            if isinstance(module, LoraLinear):
                raise OptionError(f"{name} has LoRA already")
            found[name] = module
            unmatched -= matches
    if unmatched:
        linear = (name for name, module in model.named_modules() if hasattr(module, "in_features"))
        known = sorted({name.rpartition(".")[2] for name in linear})
        raise OptionError(f"LoRA target {sorted(unmatched)[0]!r} is no linear layer here; there are {', '.join(known)}")
    return found


def freeze(model: nn.Module) -> None:
    """Leave only the adapter trainable: LoRA's matrices and the rows of new tokens."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(".lora_" in name or name.endswith(".rows"))


def lora_layers(model: nn.Module) -> Iterator[tuple[str, LoraLinear]]:
    """(name, layer) of every layer that has LoRA."""
    for name, module in model.named_modules():
        if isinstance(module, LoraLinear):
            yield name, module


def merge_lora(model: nn.Module) -> None:
    """Fold every change into its weight, for speed. `unmerge_lora` takes it back exactly."""
    layers = [layer for _, layer in lora_layers(model)]
    for layer in layers:
        layer.check_merge()  # all before the first: a refused merge leaves the model as it was
    for layer in layers:
        layer.merge()


def unmerge_lora(model: nn.Module) -> None:
    """The changes beside their weights again, ready to be trained on."""
    for _, layer in lora_layers(model):
        layer.unmerge()


def fold_lora(model: nn.Module) -> None:
    """Merge for good: ordinary linear layers again."""
    merge_lora(model)
    for name, layer in list(lora_layers(model)):
        _replace(model, name, layer.base)


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, module)
