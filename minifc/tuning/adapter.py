"""Adapters on disk, in PEFT's file format: LoRA's matrices and the rows of new tokens, nothing else.

adapter_config.json          what was trained: rank, alpha, targets, token ids
adapter_model.safetensors    the trained numbers
tokenizer files              with the new tokens, so that the folder stands on its own
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from minifc.errors import CheckpointError, OptionError
from minifc.files import read_json, whole_folder
from minifc.gemma.model import Gemma, Vocabulary
from minifc.text.tokenizer import Tokenizer, read_added_tokens
from minifc.tuning.lora import add_lora, fold_lora, lora_layers
from minifc.tuning.vocab import ExtendedVocabulary, extend, fold_vocabulary

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."
_ROWS = "model.embed_tokens.token_adapter.trainable_tokens_delta"  # PEFT's name; the rows themselves, no delta
# What PEFT can express and minifc cannot run: refused by name unless it has a harmless value.
_UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "bias": ("none", None),
    "use_dora": (False, None),
    "fan_in_fan_out": (False, None),
    "modules_to_save": (None, []),
    "rank_pattern": ({}, None),
    "alpha_pattern": ({}, None),
    "layers_to_transform": (None, []),
    "exclude_modules": (None, []),
    "target_parameters": (None, []),
    "lora_bias": (False, None),
}


def adapter_tensors(model: Gemma) -> dict[str, Tensor]:
    """What an adapter consists of, under PEFT's names, fp32."""
    tensors = {}
    for name, layer in lora_layers(model):
        tensors[f"{_PREFIX}{name}.lora_A.weight"] = layer.lora_A.weight.detach()
        tensors[f"{_PREFIX}{name}.lora_B.weight"] = layer.lora_B.weight.detach()
    if isinstance(vocabulary := model.model.embed_tokens, ExtendedVocabulary):
        tensors[_PREFIX + _ROWS] = vocabulary.rows.detach()
    return tensors


def save_adapter(model: Gemma, tokenizer: Tokenizer, folder: str | Path, base: str = "") -> int:
    """Write the adapter and its tokenizer, whole or not at all. `base` names the model it belongs to.

    Returns the size of the weights in bytes. Raises OptionError if there is nothing to save.
    """
    layers = dict(lora_layers(model))
    if not layers:
        raise OptionError("the model has no LoRA to save; call minifc.add_lora first")
    first = next(iter(layers.values()))
    vocabulary = model.model.embed_tokens
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": first.r,
        "lora_alpha": first.alpha,
        "lora_dropout": first.dropout,
        "use_rslora": first.rslora,
        "target_modules": sorted({name.rsplit(".", 1)[-1] for name in layers}),
        "bias": "none",
        "inference_mode": True,
    }
    if isinstance(vocabulary, ExtendedVocabulary):
        config["trainable_token_indices"] = {"embed_tokens": list(vocabulary.ids)}
    tensors = {name: tensor.cpu().contiguous() for name, tensor in adapter_tensors(model).items()}
    with whole_folder(folder) as temporary:
        save_file(tensors, temporary / WEIGHTS, metadata={"format": "pt"})
        (temporary / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        tokenizer.save(temporary)
    return sum(tensor.nbytes for tensor in tensors.values())


def load_adapter(model: Gemma, tokenizer: Tokenizer, folder: str | Path) -> None:
    """Put a saved adapter onto its base model and teach the tokenizer its tokens. Nothing needs resizing first.

    Raises CheckpointError for a folder that is incomplete or belongs to another model; the model is then untouched.
    """
    folder = Path(folder)
    config = read_json(folder / CONFIG, CheckpointError)
    if config.get("peft_type") != "LORA":
        raise CheckpointError(
            f"{folder / CONFIG}: peft_type is {config.get('peft_type')!r}; minifc loads LORA adapters"
        )
    for field, harmless in _UNSUPPORTED.items():
        if (value := config.get(field)) not in (*harmless, None):
            raise CheckpointError(f"{folder / CONFIG}: {field}={value!r} is not something minifc can run")
    tensors = _read_tensors(folder / WEIGHTS)
    rows = tensors.pop(_ROWS, None)
    ids = _token_ids(config)
    _check(model, folder, tensors, rows, ids)

    if rows is not None:
        _add_named_tokens(tokenizer, folder, ids)
        extend(model, ids, rows)
    targets = config["target_modules"]
    generator = torch.get_rng_state()  # A is drawn and then overwritten: loading must not disturb the caller's seed
    add_lora(
        model,
        config["r"],
        config["lora_alpha"],
        config.get("lora_dropout", 0.0),
        targets,
        bool(config.get("use_rslora")),
    )
    torch.set_rng_state(generator)
    with torch.no_grad():
        for name, layer in lora_layers(model):
            layer.lora_A.weight.copy_(tensors[f"{name}.lora_A.weight"])
            layer.lora_B.weight.copy_(tensors[f"{name}.lora_B.weight"])


def merge(model: Gemma) -> None:
    """Fold LoRA and the new rows into ordinary weights: the same function, no extra cost, ready for `save_model`."""
    fold_lora(model)
    fold_vocabulary(model)
    model.config = replace(model.config, vocab_size=model.model.embed_tokens.size)


def _read_tensors(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise CheckpointError(f"{path}: not found; an adapter folder holds {CONFIG} and {WEIGHTS}")
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: cut short or damaged ({error})") from None
    return {name.removeprefix(_PREFIX): tensor for name, tensor in tensors.items()}


def _token_ids(config: dict[str, Any]) -> list[int]:
    indices = config.get("trainable_token_indices") or []
    if isinstance(indices, dict):
        if set(indices) != {"embed_tokens"}:
            raise CheckpointError(f"trainable_token_indices for {sorted(indices)}; minifc knows only embed_tokens")
        indices = indices["embed_tokens"]
    return list(indices)


def _check(model: Gemma, folder: Path, tensors: dict[str, Tensor], rows: Tensor | None, ids: list[int]) -> None:
    """Raise before anything is changed, if this adapter does not fit this model."""
    vocabulary = model.model.embed_tokens
    if not isinstance(vocabulary, Vocabulary) or any(lora_layers(model)):
        raise CheckpointError(f"{folder}: the model already has an adapter; load the base model again, or merge first")
    E = model.config.hidden_size
    if (rows is None) != (not ids) or (rows is not None and tuple(rows.shape) != (len(ids), E)):
        raise CheckpointError(f"{folder}: rows for new tokens do not match {CONFIG} or the model's hidden size {E}")
    new = [id_ for id_ in ids if id_ >= vocabulary.size]
    if sorted(new) != list(range(vocabulary.size, vocabulary.size + len(new))):
        raise CheckpointError(
            f"{folder}: token ids {min(ids)}..{max(ids)} do not continue the model's {vocabulary.size}; "
            "the adapter belongs to another model"
        )
    layers = {name: module for name, module in model.named_modules() if hasattr(module, "in_features")}
    for name, tensor in tensors.items():
        layer, _, matrix = name.removesuffix(".weight").rpartition(".")
        side = {"lora_A": 1, "lora_B": 0}.get(matrix)
        if side is None or layer not in layers:
            raise CheckpointError(f"{folder}: {name} belongs to no layer of this model")
        size = layers[layer].in_features if side else layers[layer].out_features
        if tensor.shape[side] != size:
            raise CheckpointError(
                f"{folder}: {name} has shape {list(tensor.shape)}, but the layer has {size}; another base model?"
            )


def _add_named_tokens(tokenizer: Tokenizer, folder: Path, ids: list[int]) -> None:
    """Register the adapter's tokens, by the names that the tokenizer beside it gives them."""
    names = {id_: name for name, id_ in read_added_tokens(folder).items()}
    if unnamed := [id_ for id_ in ids if id_ not in names]:
        raise CheckpointError(f"{folder}: added_tokens.json does not name token {unnamed[0]}")
    tokenizer.register({names[id_]: id_ for id_ in ids})
