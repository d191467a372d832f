"""Engines that are measured beside each other: each in a process of its own, taking turns."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

from minifc.cli import Parser
from minifc.data import Example, make_examples, read_conversations
from minifc.errors import DataError, OptionError
from minifc.files import write_text
from minifc.gemma.checkpoint import save_model
from minifc.hub import find_data
from minifc.loading import load_base, locate
from minifc.packaged import GEMMA_270M
from minifc.terminal import progress


@dataclass(frozen=True)
class Measured:
    """What one process found."""

    tokens_per_second: float
    peak_bytes: int  # of the process, from the first measured token on
    result: float | None = None  # tells whether the engines computed the same

    def write(self) -> None:
        """For the process that started this one."""
        print(json.dumps(asdict(self)))


def add_work_options(parser: Parser) -> None:
    """The options of every benchmark whose engines take turns."""
    parser.add_argument("--model", default=GEMMA_270M, help="model folder, GGUF file or hub id (%(default)s)")
    parser.add_argument("--data", required=True, help="file, folder or hub id of conversations")
    parser.add_argument("--repeats", type=int, default=3, help="processes of each engine, taking turns (%(default)s)")


@contextmanager
def prepared(model: str, data: str, length: int) -> Iterator[tuple[str, int, list[Example]]]:
    """A model in bfloat16 in a folder that every engine can load, the bytes of its weights, and the conversations of
    at most `length` tokens. Raises DataError if there are none."""
    loaded, tokenizer = load_base(locate(model), "bfloat16", "cpu")
    weights = sum(parameter.numel() * parameter.itemsize for parameter in loaded.parameters())
    examples = make_examples(read_conversations(find_data(data).files), tokenizer, "gemma", length).fitting
    if not examples:
        raise DataError(f"{data}: every conversation is longer than {length} tokens")
    with tempfile.TemporaryDirectory() as folder:
        save_model(loaded, tokenizer, folder)
        del loaded
        yield folder, weights, examples


def take_turns(module: str, engines: Sequence[str], work: Mapping[str, Any], repeats: int) -> dict[str, list[Measured]]:
    """Run `python -m MODULE ENGINE FILE` for each engine, `repeats` times in turn; FILE holds the work as JSON.

    Raises OptionError with an engine's last line where one fails.
    """
    found: dict[str, list[Measured]] = {engine: [] for engine in engines}
    with tempfile.TemporaryDirectory() as folder, progress(repeats * len(engines), "measuring", "process") as bar:
        file = Path(folder) / "work.json"
        write_text(file, json.dumps(work))
        for _ in range(repeats):
            for engine in engines:
                command = [sys.executable, "-m", module, engine, str(file)]
                ended = subprocess.run(command, capture_output=True, text=True, check=False)
                if ended.returncode:
                    last = (ended.stderr.strip() or "no message").splitlines()[-1]
                    raise OptionError(f"{engine} failed: {last}")
                found[engine].append(Measured(**json.loads(ended.stdout.splitlines()[-1])))
                bar.update()
    return found


def summary(found: Mapping[str, Sequence[Measured]], weights: int, result: str = "") -> list[list[str]]:
    """Of each engine the median speed, its range, and how many times as fast minifc is, the first of them; and memory
    at the peak, also without `weights`, the bytes of the model. result: the name of what tells that all are equal."""
    first = median(one.tokens_per_second for one in next(iter(found.values())))
    table = [["", "tokens/s", "range", "minifc", "GB", "without weights", *([result] if result else [])]]
    for engine, runs in found.items():
        speeds = [one.tokens_per_second for one in runs]
        peak = median(one.peak_bytes for one in runs)
        table.append(
            [
                engine,
                f"{median(speeds):,.0f}",
                f"{min(speeds):,.0f}-{max(speeds):,.0f}",
                f"{first / median(speeds):.2f}x",
                f"{peak / 1e9:.2f}",
                f"{(peak - weights) / 1e9:.2f}",
                *([f"{median(one.result or 0.0 for one in runs):.4f}"] if result else []),
            ]
        )
    return table


def require(command: str, *packages: str) -> None:
    """Raise OptionError unless what a benchmark compares with is installed."""
    if missing := [package for package in packages if find_spec(package) is None]:
        raise OptionError(f"{command} compares with {' and '.join(packages)}; pip install {' '.join(missing)}")


def forget_peak() -> None:
    """Let the peak of this process's memory be counted from now on: loading is not what is measured."""
    if Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5")


def peak_bytes() -> int:
    """Of this process's memory."""
    status = Path("/proc/self/status")
    if status.exists():
        lines = status.read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    import resource

    kilobytes = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * kilobytes


def quiet() -> None:
    """Let other libraries show no progress, and look for nothing on the hub."""
    os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
