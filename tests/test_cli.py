"""What every command does with an error."""

from collections.abc import Callable, Sequence

import pytest
import torch

from minifc.cli import OUT_OF_MEMORY, run_command


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


@pytest.mark.parametrize("main", [cuda, mps, cpu, python])
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
