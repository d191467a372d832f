"""Checks of lesson 11: each calls what you wrote, and says what is wrong with it."""

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from minifc.tuning.lora import LoraLinear


class _Largest(TorchDispatchMode):
    """The most numbers that any new matrix holds. What lies in W's own memory, such as W transposed, is not new."""

    def __init__(self, W):
        super().__init__()
        self.own, self.numbers = W.untyped_storage().data_ptr(), 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.untyped_storage().data_ptr() != self.own:
            self.numbers = max(self.numbers, result.numel())
        return result


def with_change(candidate):
    torch.manual_seed(0)
    layer = LoraLinear(nn.Linear(40, 30, bias=False), r=4, alpha=10, dropout=0.0, rslora=False).requires_grad_(False)
    layer.reset_parameters()
    x, W, A, B = torch.randn(2, 3, 40), layer.base_layer.weight, layer.lora_A.weight, layer.lora_B.weight
    found = candidate(x, W, A, B, 10)
    assert found.shape == (2, 3, 30), f"2 x 3 inputs of 40 numbers become 2 x 3 x 30, not {list(found.shape)}"
    assert torch.allclose(found, layer(x), atol=1e-5), "with B at zero it must give what W alone gives"
    B.normal_()
    found, plain = candidate(x, W, A, B, 10), x @ W.T
    ratio = float((found - plain).norm() / (layer(x) - plain).norm())
    assert torch.allclose(found, layer(x), atol=1e-4), f"the change is {ratio:.2f} times what it should be: alpha / r"
    with _Largest(W) as spy:
        candidate(x, W, A, B, 10)
    assert spy.numbers < W.numel(), "a matrix as large as W was made; send x through A first, then through B"


def rank_needed(candidate):
    change = torch.diag(torch.tensor([3.0, 2.0, 1.0, 1.0]))  # squares 9, 4, 1, 1 of 15
    assert candidate(change, 0.5) == 1, "squares 9, 4, 1, 1: the first holds 60%, so half needs one pair"
    assert candidate(change, 0.8) == 2, "9 + 4 of 15 are 87%: two pairs hold 80%"
    assert candidate(change, 0.9) == 3, "9 + 4 + 1 of 15 are 93%: three pairs hold 90%"
    torch.manual_seed(0)
    low = torch.randn(20, 3) @ torch.randn(3, 30)
    assert candidate(low, 0.9999) == 3, "a product through three numbers has rank 3"


def merged(candidate):
    torch.manual_seed(0)
    W, A, B = torch.randn(50, 40).bfloat16(), torch.randn(4, 40), 0.02 * torch.randn(50, 4)
    before = W.clone()
    found = candidate(W, A, B, 2.0)
    assert found.dtype == torch.bfloat16, f"the result is {found.dtype}, and W is bf16"
    assert torch.equal(W, before), "W itself was changed; it is still needed to go on training"
    exact = W.double() + 2.0 * (B.double() @ A.double())
    error, best = (found - exact).abs().sum(), (exact.bfloat16() - exact).abs().sum()
    assert error < 1.0001 * best, f"rounding costs {error / best:.3f} times what a single rounding costs; add in fp32"
    found = candidate(W.float(), A, B, 2.0)
    assert found.dtype == torch.float32, f"an fp32 weight stays fp32, yours is {found.dtype}"
    assert torch.allclose(found, W.float() + 2.0 * (B @ A), atol=1e-6), "in fp32 nothing is rounded to bf16"
