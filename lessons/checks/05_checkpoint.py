"""Checks of lesson 5: each calls what you wrote, and says what is wrong with it."""

import struct

import torch
from safetensors.torch import save


def tensors(candidate):
    weights = {"one": torch.tensor([1.0, 2.0]), "three": torch.tensor([3.0]), "two": torch.tensor([4.0, 5.0])}
    found = candidate(save(weights, metadata={"format": "pt"}))
    assert "__metadata__" not in found, "__metadata__ is a remark, not a tensor"
    assert set(found) == set(weights), f"the file holds tensors one, two and three; yours are {sorted(found)}"
    for name, tensor in weights.items():
        size = 4 * len(tensor)
        assert len(found[name]) == size, f"{name} has {size} bytes and yours {len(found[name])}: from a begin to an end"
        numbers = struct.unpack(f"<{len(tensor)}f", bytes(found[name]))
        assert list(numbers) == tensor.tolist(), (
            f"{name} should hold {tensor.tolist()}; the numbers begin after 8 bytes and the list"
        )
    assert candidate(save({}, metadata={"format": "pt"})) == {}, "a file may hold no tensor at all"


def bfloat16(candidate):
    assert candidate(b"\x80\x3f") == 1.0, "the bytes 80 3f are 1.0: the lower byte comes first, the missing half is 0"
    for number in (-2.5, 0.0, 3.140625, 1e30, -1.1754943508222875e-38):
        stored = torch.tensor([number]).bfloat16()
        two_bytes = stored.view(torch.int16).item().to_bytes(2, "little", signed=True)
        found = candidate(two_bytes)
        assert found == stored.float().item(), f"{two_bytes.hex(' ')} stands for {stored.float().item()}, not {found}"


def first_mismatch(candidate):
    base = {"door": torch.tensor([100.0, 1.0]), "layer 0": torch.tensor([0.01, 0.0]), "logits": torch.tensor([5.0])}
    assert candidate(base, dict(base), 1e-4) is None, "nothing differs: None"
    off = base | {"layer 0": torch.tensor([0.02, 0.0]), "logits": torch.tensor([50.0])}
    assert candidate(base, off, 1e-4) == "layer 0", "layer 0 comes first; that logits differ more follows from it"
    close = base | {"door": torch.tensor([100.001, 1.0])}
    assert candidate(base, close, 1e-4) is None, "0.001 beside a largest value of 100 is a share of 0.00001: equal"
    small = base | {"layer 0": torch.tensor([0.01005, 0.0])}
    assert candidate(base, small, 1e-4) == "layer 0", "0.00005 beside a largest value of 0.01 is half a percent"
    wide = {"door": torch.ones(1000)}
    one = torch.ones(1000)
    one[7] = 1.001
    assert candidate(wide, {"door": one}, 1e-4) == "door", "one of 1,000 values is off by 0.001; the largest one counts"
    lower = base | {"logits": torch.tensor([-5.0])}
    assert candidate(base, lower, 1e-4) == "logits", "a value that is too low differs as well as one that is too high"
    nothing = base | {"layer 0": torch.tensor([float("nan"), 0.0])}
    assert candidate(base, nothing, 1e-4) == "layer 0", "NaN must not pass: ask `not share <= allowed`"
