"""Where to compute, and in which precision."""

import sys

import torch

from minifc.errors import OptionError


def pick_device(name: str) -> torch.device:
    """The device of this name; "auto" is the best there is. Raises OptionError if the device is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.empty(0, device=name).tolist()  # "meta" is a device too, and computes nothing
    except (RuntimeError, AssertionError, NotImplementedError):
        raise OptionError(f"--device {name}: not there; use cpu, or leave the choice to --device auto") from None
    return torch.device(name)


def pick_dtype(name: str, stored: torch.dtype | None, device: torch.device) -> torch.dtype:
    """The dtype of this name; "auto" is the checkpoint's own, or fp32 for bf16 on a GPU that has no bf16. A processor
    without bf16 keeps it, since fp32 takes twice the memory, and what would be faster is said.

    stored: None for a quantised checkpoint, which has none of its own: then it is what the device computes fast.
    """
    if name != "auto":
        dtype: torch.dtype = getattr(torch, name)
        return dtype
    if stored is None:
        return torch.bfloat16 if computes_bfloat16(device) else torch.float32
    if stored == torch.bfloat16 and device.type == "cuda" and not computes_bfloat16(device):
        note = "this GPU has no bfloat16: computing in float32 (--dtype float16 halves the memory)"
        print(note, file=sys.stderr)
        return torch.float32
    if stored == torch.bfloat16 and device.type == "cpu" and not computes_bfloat16(device):
        note = "this processor has no bfloat16: --dtype float32 is several times faster, in twice the memory"
        print(note, file=sys.stderr)
    return stored


def computes_bfloat16(device: torch.device) -> bool:
    """Whether a device has instructions for bf16. One without computes in it all the same, at a tenth of the speed."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":  # AVX512-BF16 and AMX
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return device.type == "mps"


def name_of(dtype: torch.dtype) -> str:
    """A dtype as users write it, such as bfloat16."""
    return str(dtype).removeprefix("torch.")
