"""Everything is computed where the model is: what runs on a GPU cannot mix devices, and this needs none to show it.

The model is on torch's "meta" device, whose tensors have a shape and no numbers.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from minifc.data import Example
from minifc.gemma.cache import KVCache
from minifc.gemma.checkpoint import load_model, save_model
from minifc.gemma.model import Gemma
from minifc.text.tokenizer import load_tokenizer
from minifc.tuning.adapter import load_adapter, merge, save_adapter
from minifc.tuning.loop import LoopConfig, evaluate_loss, train
from minifc.tuning.lora import ATTENTION, FEED_FORWARD, VOCABULARY, add_lora, merge_lora, unmerge_lora
from minifc.tuning.vocab import RowWatch, add_tokens, extended

META = torch.device("meta")
TAGS = ["<think>", "</think>", "<tool_call>", "</tool_call>"]
EVERY_LAYER = ATTENTION + FEED_FORWARD + VOCABULARY
aten = torch.ops.aten


class OneDevice(TorchDispatchMode):
    """Refuses an operation on tensors of several devices, except copies; a single number on the CPU may take part.

    Where the numbers of a meta tensor would be needed, they are zeros: as a Python number, as a copy on the CPU, as a
    comparison (equal), and as the places where a mask is true (the first one, as often as the mask is long).
    """

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        devices = {t.device.type for t in tensors if t.ndim or t.device == META}
        name = operation.overloadpacket
        if name not in (aten.copy_, aten._to_copy):
            assert len(devices) <= 1, f"{operation}: {[(tuple(t.shape), t.device.type) for t in tensors]}"
        if "meta" not in devices:
            return operation(*args, **kwargs)
        if name is aten._local_scalar_dense:
            return torch.zeros((), dtype=args[0].dtype).item()
        if name is aten.equal:
            return True
        if name is aten._to_copy and torch.device(kwargs.get("device") or META).type == "cpu":
            return torch.zeros(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype)
        if name is aten.index:
            places = [self.places(index) for index in args[1]]
            args = (args[0], [place for group in places for place in group])
        return operation(*args, **kwargs)

    @staticmethod
    def places(index: Tensor | None) -> list[Tensor | None]:
        if index is None or index.dtype != torch.bool:
            return [index]
        return [torch.zeros(index.numel(), dtype=torch.long, device=META)] * index.ndim


@pytest.fixture
def one_device() -> Iterator[None]:
    with OneDevice():
        yield


@pytest.fixture
def base(fresh: Callable[..., Gemma], tiny: Path, tmp_path: Path) -> Path:
    """The folder of a small model and its tokenizer."""
    tokenizer = load_tokenizer(tiny)
    save_model(fresh(vocab_size=tokenizer.size), tokenizer, tmp_path / "base")
    return tmp_path / "base"


@pytest.fixture
def model(base: Path) -> Gemma:
    return load_model(base, device="meta")


def everything_is_on_meta(model: Gemma) -> bool:
    return {tensor.device for tensor in (*model.parameters(), *model.buffers())} == {META}


class CountedCache(KVCache):
    """Meta tensors have no numbers: how long the rows are is counted here."""

    def extend(self, positions: Tensor) -> dict[str, Tensor]:
        self.lengths = [length + positions.shape[1] for length in self.lengths]
        return super().extend(positions)


def use(model: Gemma) -> None:
    """Answer, with padding and a cache that wraps round, and learn."""
    assert everything_is_on_meta(model)
    ids, padding = torch.zeros(2, 6, dtype=torch.long, device=META), torch.ones(2, 6, device=META)
    window = model.config.sliding_window
    with torch.no_grad():
        assert model(ids, padding).device == META
        cache = CountedCache(model.config, 2, window + 9)
        model.hidden(ids, padding, cache=cache)
        for length in (1, window, 1, 1):  # decode; several tokens at once, round the ring; decode
            model.logits(model.hidden(ids.new_zeros(2, length), cache=cache)[:, -1])
        assert cache.length == window + 9
    example = Example([1] * 9, [False] * 4 + [True] * 5, "example")
    options = LoopConfig(max_steps=2, rows=2, length=20, gradient_checkpointing=True)
    if any(parameter.requires_grad for parameter in model.parameters()):
        records: list[dict[str, Any]] = []
        train(model, [example] * 4, options, log=records.append, progress=False)
        assert len(records) == 2
        assert all(p.grad is None for p in model.parameters())
    evaluate_loss(model, [example], options)


@pytest.mark.usefixtures("one_device")
def test_a_model_as_it_is(model: Gemma) -> None:
    use(model)


@pytest.mark.usefixtures("one_device")
@pytest.mark.parametrize(
    ("init", "reuse", "targets"),
    [("pieces", False, EVERY_LAYER), ("mean", True, ATTENTION + FEED_FORWARD)],
    ids=["appended", "reused"],
)
def test_new_tokens_and_lora(model: Gemma, base: Path, init: str, reuse: bool, targets: tuple[str, ...]) -> None:
    tokenizer = load_tokenizer(base)
    add_tokens(model, tokenizer, TAGS, init, reuse)
    add_lora(model, r=2, targets=targets)
    watch = RowWatch(model, tokenizer, [])
    use(model)
    assert len(watch.table()) == 5
    merge_lora(model)
    unmerge_lora(model)
    merge(model)
    use(model)


@pytest.fixture
def adapter(base: Path, tmp_path: Path) -> Path:
    model, tokenizer = load_model(base), load_tokenizer(base)
    add_tokens(model, tokenizer, TAGS)
    add_lora(model, r=2, targets=EVERY_LAYER)
    save_adapter(model, tokenizer, tmp_path / "adapter")
    return tmp_path / "adapter"


@pytest.mark.usefixtures("one_device")
def test_an_adapter_from_its_folder(model: Gemma, base: Path, adapter: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(base)
    load_adapter(model, tokenizer, adapter)
    assert extended(model) is not None
    use(model)
    save_adapter(model, tokenizer, tmp_path / "again")
    merge(model)
    use(model)


@pytest.mark.usefixtures("one_device")
def test_an_adapter_with_a_whole_table(model: Gemma, base: Path, adapter: Path) -> None:
    """As PEFT saves one of a model that was resized."""
    weights = adapter / "adapter_model.safetensors"
    tensors = load_file(weights)
    (rows,) = [name for name in tensors if name.endswith("trainable_tokens_delta")]
    table = torch.cat((load_model(base).model.embed_tokens.weight, tensors.pop(rows)))
    save_file(tensors | {"base_model.model.model.embed_tokens.weight": table}, weights)
    load_adapter(model, load_tokenizer(base), adapter)
    assert extended(model) is not None
    assert everything_is_on_meta(model)
