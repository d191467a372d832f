"""Hugging Face model folders to Gemma and back.

Tensors are mapped from the file, not read: loading takes milliseconds, and memory is used as
weights are touched. Only safetensors is read; a pickled checkpoint can run code when opened.
"""

import json
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from minifc.errors import CheckpointError
from minifc.files import read_json, whole_folder
from minifc.gemma.config import GemmaConfig, config_to_dict, load_config
from minifc.gemma.model import Gemma

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
# The one name that is not Hugging Face's here: our vocabulary module owns an untied head too.
_HEAD, _HF_HEAD = "model.embed_tokens.head", "lm_head.weight"


def stored_dtype(folder: str | Path) -> torch.dtype:
    """The dtype that a folder's weights are stored in."""
    with safe_open(_shards(Path(folder))[0], framework="pt") as file:
        dtype: torch.dtype = file.get_tensor(next(iter(file.keys()))).dtype
    return dtype


class Saveable(Protocol):
    def save(self, folder: str | Path) -> None: ...


def load_model(folder: str | Path, dtype: torch.dtype | None = None, device: str | torch.device = "cpu") -> Gemma:
    """A Gemma from a folder with config.json and safetensors, in evaluation mode.

    dtype: convert to it; by default the file's own. Raises ConfigError or CheckpointError.
    """
    folder = Path(folder)
    config = load_config(folder)
    with torch.device("meta"):
        model = Gemma(config)
    expected = {name: tensor.shape for name, tensor in model.state_dict().items()}
    state: dict[str, Tensor] = {}
    for shard in _shards(folder):
        _read(shard, expected, config, state, dtype, torch.device(device))
    if missing := sorted(set(expected) - set(state)):
        raise CheckpointError(f"{folder}: {len(missing)} tensors are in no file, {missing[0]} first")
    model.load_state_dict(state, assign=True)
    return model.eval()


def save_model(model: Gemma, tokenizer: Saveable | None, folder: str | Path, max_shard_bytes: int = 5 * 10**9) -> None:
    """Write a folder that minifc and transformers load, whole or not at all.

    The model must be plain: merge adapters first. Raises CheckpointError if it is not.
    """
    with torch.device("meta"):
        plain = set(Gemma(model.config).state_dict())
    state = model.state_dict()
    if extra := sorted(set(state) ^ plain):
        raise CheckpointError(f"the model is not a plain Gemma ({extra[0]}); call minifc.merge(model) first")
    vocab_size = model.model.embed_tokens.weight.shape[0]
    if vocab_size != model.config.vocab_size:
        raise CheckpointError(f"the table has {vocab_size} rows but the config says {model.config.vocab_size}")
    tensors = {_HF_HEAD if name == _HEAD else name: tensor.detach() for name, tensor in state.items()}
    with whole_folder(folder) as temporary:
        _write_shards(tensors, temporary, max_shard_bytes)
        dtype = str(next(iter(tensors.values())).dtype).removeprefix("torch.")
        _write_json(temporary / "config.json", config_to_dict(model.config, dtype))
        generation = {
            "bos_token_id": model.config.bos_token_id,
            "eos_token_id": list(model.config.eos_token_id),
            "pad_token_id": model.config.pad_token_id,
        }
        _write_json(temporary / "generation_config.json", generation)
        if tokenizer is not None:
            tokenizer.save(temporary)


def _shards(folder: Path) -> list[Path]:
    if (index := folder / INDEX).is_file():
        weight_map = read_json(index, CheckpointError).get("weight_map", {})
        shards = [folder / name for name in sorted(set(weight_map.values()))]
    else:
        shards = [folder / SINGLE]
    for shard in shards:
        if not shard.is_file():
            if list(folder.glob("*.bin")):
                raise CheckpointError(
                    f"{folder}: only pickled .bin weights; minifc reads safetensors, which cannot run code"
                )
            raise CheckpointError(f"{shard}: not found; download the model again")
    return shards


def _read(
    shard: Path,
    expected: dict[str, torch.Size],
    config: GemmaConfig,
    state: dict[str, Tensor],
    dtype: torch.dtype | None,
    device: torch.device,
) -> None:
    """Add one file's tensors to `state`, each checked against what the config calls for."""
    try:
        with safe_open(shard, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 (not a dict)
                ours = _HEAD if name == _HF_HEAD and not config.tie_word_embeddings else name
                if ours == _HF_HEAD:
                    continue  # some tools save the tied head a second time
                if ours not in expected:
                    raise CheckpointError(f"{shard}: {name} is no part of the model that config.json describes")
                shape = tuple(file.get_slice(name).get_shape())
                if shape != tuple(expected[ours]):
                    raise CheckpointError(
                        f"{shard}: {name} has shape {list(shape)}; config.json calls for {list(expected[ours])}"
                    )
                state[ours] = file.get_tensor(name).to(device=device, dtype=dtype)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{shard}: cut short or damaged ({error}); download it again") from None


def _write_shards(tensors: dict[str, Tensor], folder: Path, max_bytes: int) -> None:
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in tensors.items():
        if shards[-1] and size + tensor.nbytes > max_bytes:
            shards.append({})
            size = 0
        shards[-1][name] = tensor.contiguous()
        size += tensor.nbytes
    if len(shards) == 1:
        save_file(shards[0], folder / SINGLE, metadata={"format": "pt"})
        return
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        name = f"model-{number:05}-of-{len(shards):05}.safetensors"
        save_file(shard, folder / name, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(shard, name)
    total = sum(tensor.nbytes for tensor in tensors.values())
    _write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})


def _write_json(path: Path, data: object) -> None:
    path.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
