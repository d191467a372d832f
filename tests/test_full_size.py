"""minifc.verify on random weights of the official layouts: 2b whole, and all three shapes at two layers."""

import json
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from measured import measured
from safetensors import safe_open

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
# What the three official config.json differ in (2b's own file is read from the shared folder).
SHAPES: dict[str, dict[str, Any]] = {
    "2b": {},
    "9b": {
        "hidden_size": 3584,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "intermediate_size": 14336,
    },
    "27b": {
        "hidden_size": 4608,
        "num_attention_heads": 32,
        "num_key_value_heads": 16,
        "head_dim": 128,
        "intermediate_size": 36864,
        "query_pre_attn_scalar": 144,
    },
}


@pytest.fixture
def checkpoint(shared: Path, tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """checkpoint(**changes): a random checkpoint of gemma-2-2b-it with these fields of config.json changed."""

    def make(**changes: Any) -> Path:
        config = json.loads((shared / "gemma-2-2b-it" / "config.json").read_text()) | changes
        (tmp_path / "config.json").write_text(json.dumps(config))
        script = ROOT / "tests" / "random_checkpoint.py"
        subprocess.run([sys.executable, script, tmp_path / "config.json", tmp_path / "model"], check=True)
        return tmp_path / "model"

    yield make
    shutil.rmtree(tmp_path / "model", ignore_errors=True)


def verify(folder: Path, table: Path, *options: str) -> tuple[str, list[dict[str, Any]]]:
    """What the command prints, and its table."""
    command = [sys.executable, "-m", "minifc.verify", folder, "--to", table, *options]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr.splitlines()[-1]
    return result.stdout, json.loads(table.read_text())


def assert_exact(printed: str, table: list[dict[str, Any]], layers: int) -> None:
    assert "pass: within 1e-04" in printed
    assert len(table) == layers + 3  # embedding, layers, logits, decoding
    assert all(row["largest"] > 0 for row in table)
    measured(max(row["share"] for row in table))
    equal, distinct = re.search(r"(\d+) greedy tokens equal.* (\d+) distinct", printed).groups()
    assert int(equal) >= 16
    assert int(distinct) >= 8, printed


def test_2b_at_full_size(checkpoint: Callable[..., Path]) -> None:
    """Also that the layout is the official one, and that one model after the other fits into 16 GB."""
    folder = checkpoint()
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == 5_228_683_776
    assert len(index["weight_map"]) == 288
    for name, size in (("1", 4_988_025_760), ("2", 240_691_728)):
        shard = folder / f"model-0000{name}-of-00002.safetensors"
        assert abs(shard.stat().st_size - size) < 4096  # but for the header's spelling
    printed, table = verify(folder, ROOT / ".ci" / "full-size.json")
    print(printed)
    assert_exact(printed, table, 26)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024  # bytes; of the largest child
    print(f"peak memory {peak / 1e9:.1f} GB")
    assert peak < 16 * 2**30


@pytest.mark.parametrize("shape", SHAPES)
def test_each_shape_at_two_layers(checkpoint: Callable[..., Path], shape: str, tmp_path: Path) -> None:
    layers = {"num_hidden_layers": 2, "layer_types": ["sliding_attention", "full_attention"]}
    folder = checkpoint(**SHAPES[shape], **layers, vocab_size=16_000, sliding_window=64)
    with safe_open(next(folder.glob("*.safetensors")), framework="pt") as file:
        assert file.get_slice("model.embed_tokens.weight").get_dtype() == "BF16"
    printed, table = verify(folder, tmp_path / "table.json", "--tokens", "90")  # past the window
    assert_exact(printed, table, 2)
