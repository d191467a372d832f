"""Hugging Face model folders to Gemma and back, and GGUF files to Gemma.

Tensors are mapped from the file, not read: loading takes milliseconds, and memory is used as
weights are touched. Quantised ones are dequantised one by one, into their place in the model. Only
safetensors and GGUF are read; a pickled checkpoint can run code when opened.
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from minifc.errors import CheckpointError, ConfigError
from minifc.files import read_json, whole_folder
from minifc.gemma.config import GEMMA3, MODEL_FOLDER, GemmaConfig, config_to_dict, load_config
from minifc.gemma.from_gguf import holds_gain, parameter_name
from minifc.gemma.model import Gemma
from minifc.gguf import is_gguf, read_gguf

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
# The one name that is not Hugging Face's here: our vocabulary module owns an untied head too.
_TABLE = "model.embed_tokens.weight"
_HEAD, _HF_HEAD = "model.embed_tokens.head", "lm_head.weight"
# A multimodal checkpoint's language model, in the official files and as transformers 5 writes it; and its other parts.
_LANGUAGE = re.compile(r"language_model\.(?=model\.|lm_head\.)|(?<=^model\.)language_model\.")
_OTHER_PART = re.compile(r"(model\.)?(vision_tower|multi_modal_projector)\.")


def stored_dtype(folder: str | Path) -> torch.dtype | None:
    """The dtype that a folder's or a GGUF file's weights are stored in, None if they are quantised; for a Gemma 3 in
    float16, bfloat16, which it was made from.
    """
    dtype = read_gguf(folder).stored_dtype() if is_gguf(folder) else _first_dtype(_shards(Path(folder))[0][0])
    if dtype == torch.float16 and load_config(folder).model_type == GEMMA3:
        return torch.bfloat16
    return dtype


def _first_dtype(shard: Path) -> torch.dtype:
    with _open(shard) as file:
        names = list(file.keys())
        if not names:
            raise CheckpointError(f"{shard}: holds no tensors; download it again")
        dtype: torch.dtype = file.get_tensor(names[0]).dtype
    return dtype


class Saveable(Protocol):
    def save(self, folder: str | Path) -> None: ...


def load_model(folder: str | Path, dtype: torch.dtype | None = None, device: str | torch.device = "cpu") -> Gemma:
    """A Gemma from a folder with config.json and safetensors, or from a GGUF file, in evaluation mode.

    dtype: convert to it; by default the file's own, or fp32 where it is quantised.
    Raises ConfigError or CheckpointError.
    """
    folder = Path(folder)
    config = load_config(folder)
    try:
        with torch.device("meta"):
            model = Gemma(config)
    except (RuntimeError, TypeError):  # more numbers than 64 bits can count
        raise ConfigError(f"{folder}: its sizes are out of all proportion; download it again") from None
    expected = {name: tensor.shape for name, tensor in model.state_dict().items()}
    read = _read_gguf if is_gguf(folder) else _read_folder
    state = read(folder, expected, dtype, torch.device(device))
    if any(tensor.dtype == torch.float16 for tensor in state.values()):
        require_range(config, torch.float16)
    if config.tie_word_embeddings:
        head, table = state.pop(_HEAD, None), state.get(_TABLE)
        if head is not None and table is not None and not torch.equal(head, table):
            raise CheckpointError(f"{folder}: {_HF_HEAD} differs from the embedding that config.json ties it to")
    model.load_state_dict(state, assign=True)
    return model.eval()


def save_model(model: Gemma, tokenizer: Saveable | None, folder: str | Path, max_shard_bytes: int = 5 * 10**9) -> None:
    """Write a folder that minifc and transformers load, whole or not at all. Weights that were in it go.

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


def require_range(config: GemmaConfig, dtype: torch.dtype) -> None:
    """Raise CheckpointError for a model whose values do not fit a dtype."""
    if dtype == torch.float16 and config.model_type == GEMMA3:
        raise CheckpointError(
            "Gemma 3 cannot compute in float16: its residual reaches 100,000 and float16 ends at 65,504; "
            "use --dtype bfloat16 or float32"
        )


def require_finite(model: Gemma, folder: str | Path) -> None:
    """Raise CheckpointError naming a weight that holds NaN or infinity.

    Loading maps weights without reading them; this reads all of them, seconds at full size.
    """
    if name := first_not_finite(dict(model.named_parameters())):
        raise CheckpointError(f"{folder}: {name} holds a number that is not finite; download the model again")


def first_not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """The name of the first tensor that holds NaN or infinity, or None. No tensor may be empty."""
    for name, tensor in tensors.items():
        if not all(torch.isfinite(extreme) for extreme in torch.aminmax(tensor.detach())):  # NaN goes through both
            return name
    return None


def _shards(folder: Path) -> tuple[list[Path], int | None]:
    """The files that hold the weights, and their bytes as an index states them.

    Raises CheckpointError naming a file that is missing.
    """
    index, stated = folder / INDEX, None
    if (folder / SINGLE).is_file() or not index.is_file():
        shards = [folder / SINGLE]
    else:
        data = read_json(index, CheckpointError)
        names = data.get("weight_map") if isinstance(data, dict) else None
        if not isinstance(names, dict) or not names or not all(isinstance(n, str) for n in names.values()):
            raise CheckpointError(f"{index}: no weight_map of tensor names to file names; download it again")
        if outside := [name for name in names.values() if Path(name).name != name]:
            raise CheckpointError(f"{index}: {outside[0]} is not a file name in this folder")
        shards = [folder / name for name in sorted(set(names.values()))]
        metadata = data.get("metadata")
        stated = metadata.get("total_size") if isinstance(metadata, dict) else None
    for shard in shards:
        if not shard.is_file():
            if list(folder.glob("pytorch_model*.bin")):
                raise CheckpointError(
                    f"{folder}: only pickled .bin weights, which can run code; minifc reads safetensors"
                )
            if (folder / "adapter_config.json").is_file():
                raise CheckpointError(f"{folder}: an adapter, not a model; name the model that it was trained on")
            advice = "download the model again" if index.is_file() else MODEL_FOLDER
            raise CheckpointError(f"{shard}: not found; {advice}")
    return shards, stated


@contextmanager
def _open(shard: Path) -> Iterator[Any]:
    """A safetensors file; CheckpointError if it is not a whole one."""
    try:
        with safe_open(shard, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{shard}: cut short or damaged ({error}); download it again") from None


def _read_folder(
    folder: Path, expected: dict[str, torch.Size], dtype: torch.dtype | None, device: torch.device
) -> dict[str, Tensor]:
    """All tensors of a folder, each checked against what the config calls for."""
    state: dict[str, Tensor] = {}
    shards, stated = _shards(folder)
    size = sum(_read_shard(shard, expected, state, dtype, device) for shard in shards)
    _require_all(folder, expected, state)
    if stated is not None and str(stated) not in (str(size), f"{size:.1f}"):
        # Tools that merge or convert models write what they have counted; every tensor is there, in its shape.
        print(f"note: {folder / INDEX}: total_size is {stated}, and the files hold {size} bytes", file=sys.stderr)
    return state


def _read_shard(
    shard: Path,
    expected: dict[str, torch.Size],
    state: dict[str, Tensor],
    dtype: torch.dtype | None,
    device: torch.device,
) -> int:
    """Add one file's tensors to `state`; their size in bytes."""
    size, left_out = 0, 0
    with _open(shard) as file:
        for name in file.keys():  # noqa: SIM118 (not a dict)
            if _OTHER_PART.match(name):
                size += file.get_tensor(name).nbytes
                left_out += 1
                continue
            ours = _own_name(_LANGUAGE.sub("", name, count=1))
            _require_shape(shard, name, tuple(file.get_slice(name).get_shape()), expected, ours, "config.json")
            tensor = file.get_tensor(name)
            if tensor.dtype not in _DTYPES:
                raise CheckpointError(
                    f"{shard}: {name} holds {tensor.dtype}; minifc reads weights that are not quantised"
                )
            size += tensor.nbytes
            state[ours] = tensor.to(device=device, dtype=dtype)
    if left_out:
        print(
            f"{shard}: {left_out} tensors are for images and are left out; minifc runs the text part", file=sys.stderr
        )
    return size


def _read_gguf(
    path: Path, expected: dict[str, torch.Size], dtype: torch.dtype | None, device: torch.device
) -> dict[str, Tensor]:
    """All tensors of a GGUF file, of one dtype, each checked against what the metadata call for."""
    file = read_gguf(path)
    dtype = dtype or stored_dtype(path) or torch.float32
    state: dict[str, Tensor] = {}
    for name, info in file.tensors.items():
        ours = _own_name(parameter_name(name))
        _require_shape(path, name, info.shape, expected, ours, "its metadata")
        tensor = file.tensor(name, torch.float32) - 1 if holds_gain(name) else file.tensor(name, dtype)
        state[ours] = tensor.to(device=device, dtype=dtype)
    _require_all(path, expected, state)
    return state


def _require_all(source: Path, expected: dict[str, torch.Size], state: dict[str, Tensor]) -> None:
    if missing := sorted(set(expected) - set(state)):
        raise CheckpointError(f"{source}: {len(missing)} tensors are in no file, {missing[0]} first")


def _own_name(name: str) -> str:
    """Our name for a parameter of Hugging Face's."""
    return _HEAD if name == _HF_HEAD else name


def _require_shape(
    file: Path, name: str, found: tuple[int, ...], expected: dict[str, torch.Size], ours: str, settings: str
) -> None:
    """Raise CheckpointError for a tensor that the settings don't call for."""
    # Some tools save a tied head a second time; whether it is the same is checked when all is read.
    shape = expected.get(_TABLE if ours == _HEAD else ours)
    if shape is None:
        raise CheckpointError(f"{file}: {name} is no part of the model that {settings} describes")
    if found != tuple(shape):
        raise CheckpointError(f"{file}: {name} has shape {list(found)}; {settings} calls for {list(shape)}")


def _write_shards(tensors: dict[str, Tensor], folder: Path, max_bytes: int) -> None:
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in tensors.items():
        if shards[-1] and size + tensor.nbytes > max_bytes:
            shards.append({})
            size = 0
        # An untied head may share the table's memory, which safetensors refuses.
        shards[-1][name] = tensor.clone() if name == _HF_HEAD else tensor.contiguous()
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
