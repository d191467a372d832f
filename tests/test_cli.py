"""What every command does with an error."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Sequence

import pytest
import torch
from safetensors import SafetensorError

from minifc.cli import OUT_OF_MEMORY, run_command
from minifc.devices import pick_device
from minifc.errors import CheckpointError, DataError


def cuda(argv: Sequence[str]) -> None:
    raise torch.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 1.46 GiB.\nGPU 0 has a total capacity of 14 GiB"
    )


def mps(argv: Sequence[str]) -> None:
    raise RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB, other allocations: 1.00 MB)")


def cpu(argv: Sequence[str]) -> None:
    torch.empty(2**50)  # more than any address space holds


def python(argv: Sequence[str]) -> None:
    raise MemoryError


def mapped(argv: Sequence[str]) -> None:
    raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM), "model.safetensors")


def library(argv: Sequence[str]) -> None:
    raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")


def file(argv: Sequence[str]) -> None:
    """As safetensors speaks, and minifc of a file that safetensors cannot read."""
    try:
        raise SafetensorError("I/O error: Cannot allocate memory (os error 12)")
    except SafetensorError as error:
        raise CheckpointError(f"model.safetensors: cut short or damaged ({error})") from None


def device(argv: Sequence[str]) -> None:
    """A GPU whose memory others have taken."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "empty", lambda *_, **__: cuda(argv))
        pick_device("cuda")


@pytest.mark.parametrize("main", [cuda, mps, cpu, python, mapped, library, file, device])
def test_out_of_memory_is_one_line_with_what_to_try(
    main: Callable[[Sequence[str]], None], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        run_command(main, [])
    assert exit_.value.code == 2
    assert capsys.readouterr().err == f"error: {OUT_OF_MEMORY}\n"


def test_out_of_memory_shows_its_traceback_on_demand() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        run_command(cuda, ["--debug"])


def test_another_error_of_torch_keeps_its_traceback() -> None:
    """It is a fault of minifc, and not to be mended by trying something else."""

    def main(argv: Sequence[str]) -> None:
        torch.ones(2) @ torch.ones(3)

    with pytest.raises(RuntimeError, match="inconsistent tensor size"):
        run_command(main, [])


def test_data_that_speaks_of_memory_is_no_lack_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    def main(argv: Sequence[str]) -> None:
        raise DataError("rows.jsonl, row 1: a call that cannot be read: 'out of memory'")

    with pytest.raises(SystemExit):
        run_command(main, [])
    assert "rows.jsonl, row 1" in capsys.readouterr().err


PRINTS = r"""
import sys
from minifc.cli import run_command
from minifc.terminal import note, progress
def main(argv):
    note("\u2026 \u4eca\u65e5 \U0001f600")
    print("\ud800 \u2192")
    print("\u00e9", file=sys.stderr)
    with progress(1, "\u4eca", "row") as bar:
        bar.update()
run_command(main, [])
"""


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_what_a_terminal_cannot_show_is_no_crash(encoding: str) -> None:
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    ended = subprocess.run([sys.executable, "-c", PRINTS], env=environment, capture_output=True)
    assert (ended.returncode, ended.stdout.count(b"\n")) == (0, 2), ended.stderr
