"""Adapters on disk, in PEFT's file format: LoRA's matrices and the rows of new tokens, nothing else.

adapter_config.json          what was trained: rank, alpha, targets, token ids
adapter_model.safetensors    the trained numbers
minifc.json                  what PEFT has no field for: the turn format, and a digest of the base model
tokenizer files              with the new tokens, so that the folder stands on its own
"""

import hashlib
import json
import re
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from minifc.errors import CheckpointError, OptionError, TokenizerError
from minifc.files import read_json, read_tensors, whole_folder
from minifc.gemma.checkpoint import first_not_finite
from minifc.gemma.model import Gemma, Vocabulary
from minifc.hub import split_revision
from minifc.text.dialects import FORMATS
from minifc.text.template import Format, stop_ids
from minifc.text.tokenizer import Tokenizer, load_tokenizer, read_added_tokens
from minifc.tuning.lora import (
    EMBEDDING,
    HEAD,
    Lora,
    LoraConfig,
    fold_lora,
    freeze,
    inject,
    lora_layers,
    matches,
    plain_vocabulary,
)
from minifc.tuning.vocab import PADDING, extend, extended, fold_vocabulary

CONFIG, WEIGHTS, RECORD = "adapter_config.json", "adapter_model.safetensors", "minifc.json"
_PREFIX = "base_model.model."
_ROWS = f"{EMBEDDING}.token_adapter.trainable_tokens_delta"  # PEFT's name; the rows themselves, no delta
PICKLED = "adapter_model.bin"  # what PEFT wrote before safetensors
# Fields of PEFT's config that do not change what is computed, or that minifc reads. Any other one means
# something minifc cannot run, unless it is empty or off; then it is refused by name.
_CHOICE_OF_LAYERS = {"exclude_modules", "layers_pattern", "layers_to_transform"}  # the tensors say which have LoRA
_UNDERSTOOD = _CHOICE_OF_LAYERS | {
    "alpha_pattern", "auto_mapping", "base_model_name_or_path", "eva_config", "inference_mode", "lora_alpha",
    "lora_dropout", "peft_type", "peft_version", "qalora_group_size", "r", "rank_pattern", "revision", "target_modules",
    "task_type", "trainable_token_indices", "use_rslora",
}  # fmt: skip
_KINDS: dict[str, tuple[type, ...]] = {
    "r": (int,), "lora_alpha": (float, int), "target_modules": (list, str), "lora_dropout": (float, int),
    "use_rslora": (bool,),
}  # fmt: skip
_HARMLESS = {
    "bias": ("none",),
    "init_lora_weights": (True, "gaussian", "eva", "orthogonal"),  # others change the base model's weights
    "megatron_core": ("megatron.core",),
}
_MERGE = "merge with PEFT first (merge_and_unload, save_pretrained) and name the merged folder"


def adapter_tensors(model: Gemma) -> dict[str, Tensor]:
    """An adapter's tensors, fp32, by PEFT's names."""
    tensors = {}
    for name, layer in lora_layers(model):
        for matrix, parameter in layer.matrices().items():
            tensors[f"{_PREFIX}{name}.{matrix}"] = parameter.detach()
    if (new := extended(model)) is not None:
        tensors[_PREFIX + _ROWS] = new.rows.detach()
    return tensors


def save_adapter(
    model: Gemma, tokenizer: Tokenizer, folder: str | Path, base: str = "", format: Format | None = None
) -> int:
    """Write the adapter and its tokenizer, whole or not at all.

    base: the model that the adapter belongs to, a folder, or a repository of the hub as name or name@revision.
    format: of the turns that the adapter was trained on.
    Returns the size of the weights in bytes. Raises OptionError if there is nothing to save, and CheckpointError,
    naming the parameter, if a number is not finite.
    """
    layers = dict(lora_layers(model))
    if not layers:
        raise OptionError("the model has no LoRA to save; call minifc.add_lora first")
    shared = {(layer.dropout, layer.rslora) for layer in layers.values()}
    if len(shared) > 1:
        raise OptionError("layers with different dropout or scaling cannot be saved as one adapter")
    (dropout, rslora) = shared.pop()
    ranks = {name: layer.r for name, layer in layers.items()}
    alphas = {name: layer.alpha for name, layer in layers.items()}
    r, alpha = _most_common(ranks), _most_common(alphas)
    base, revision = split_revision(base)
    config: dict[str, Any] = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "revision": revision or None,
        "r": r,
        "lora_alpha": alpha,
        "rank_pattern": {name: own for name, own in ranks.items() if own != r},
        "alpha_pattern": {name: own for name, own in alphas.items() if own != alpha},
        "lora_dropout": dropout,
        "use_rslora": rslora,
        "target_modules": _target_names(model, layers),
        "bias": "none",
        "inference_mode": True,
    }
    if (new := extended(model)) is not None:
        config["trainable_token_indices"] = {"embed_tokens": list(new.ids)}
    tensors = {name: tensor.cpu().contiguous() for name, tensor in adapter_tensors(model).items()}
    if broken := first_not_finite(tensors):
        raise CheckpointError(
            f"{folder}: not saved, as {broken} holds a number that is not finite; train with a lower learning rate"
        )
    with whole_folder(folder) as temporary:
        save_file(tensors, temporary / WEIGHTS, metadata={"format": "pt"})
        record = {"format": format, "base": base_digest(model)}
        for name, data in ((CONFIG, config), (RECORD, record)):
            (temporary / name).write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
        tokenizer.save(temporary)
    return sum(tensor.nbytes for tensor in tensors.values())


def load_adapter(model: Gemma, tokenizer: Tokenizer, folder: str | Path) -> None:
    """Put a saved adapter onto its base model, on the model's device, and register its tokens with the tokenizer.

    Raises CheckpointError for a folder that is incomplete or does not fit the model; the model is then untouched.
    A warning on standard error says if the adapter was trained on other weights.
    """
    folder = Path(folder)
    config, record = _read_config(adapter_file(folder, CONFIG)), _read_record(folder)
    saved = read_tensors(adapter_file(folder, WEIGHTS), "copy the adapter here again")
    tensors = {name.removeprefix(_PREFIX): tensor for name, tensor in saved.items()}
    vocabulary = model.model.embed_tokens
    if not isinstance(vocabulary, Vocabulary) or any(lora_layers(model)):
        raise CheckpointError(f"{folder}: the model already has an adapter; load the base model again, or merge first")
    ids, rows = _new_rows(config, tensors, vocabulary, folder)
    layers = _check(model, folder, config, tensors, rows, ids)

    if rows is not None:
        try:
            tokenizer.register(_token_names(folder, ids, tokenizer))
        except TokenizerError as error:
            raise CheckpointError(f"{folder}: {error}; the adapter belongs to another model") from None
        extend(model, ids, rows)
    for name in layers:
        r, alpha = _rank_and_alpha(config, name)
        layer = inject(model, name, r, alpha, config["lora_dropout"], config["use_rslora"])
        for matrix, parameter in layer.matrices().items():
            parameter.data.copy_(tensors[f"{name}.{matrix}"])
    freeze(model)
    # Half precision holds too little of small numbers for the digest to be the same.
    if record.get("base") not in (None, base_digest(model)) and vocabulary.weight.dtype != torch.float16:
        made_for = config.get("base_model_name_or_path") or "a model without a name"
        print(f"warning: {folder}: trained on other weights than these, on {made_for}", file=sys.stderr)
    # Turns of any format end in one of these; a base model, which never chatted, lists <eos> alone.
    stops = tuple(dict.fromkeys((*model.config.eos_token_id, *stop_ids(tokenizer, record.get("format") or "gemma"))))
    model.config = replace(model.config, eos_token_id=stops)


def merge(model: Gemma) -> None:
    """Fold LoRA and the new rows into ordinary weights: the same function at no extra cost, ready for `save_model`."""
    fold_lora(model)
    fold_vocabulary(model)
    model.config = replace(model.config, vocab_size=model.model.embed_tokens.size)


def adapter_file(folder: Path, name: str) -> Path:
    """A file of a saved adapter. Raises CheckpointError if it is not there."""
    if not (folder / name).is_file():
        if name == WEIGHTS and (folder / PICKLED).is_file():
            raise CheckpointError(f"{folder / PICKLED}: pickled, which can run code; {_MERGE}")
        pickled = f"; of an adapter with {PICKLED}, {_MERGE}" if name == WEIGHTS else ""
        raise CheckpointError(f"{folder / name}: not found; an adapter folder holds {CONFIG} and {WEIGHTS}{pickled}")
    return folder / name


def adapter_format(folder: str | Path) -> Format | None:
    """The turn format that a saved adapter was trained on; None if that was not recorded."""
    format: Format | None = _read_record(Path(folder)).get("format")
    return format


def lora_config(folder: Path) -> LoraConfig:
    """What LoRA a saved adapter has. Raises CheckpointError."""
    config = _read_config(adapter_file(folder, CONFIG))
    targets = config["target_modules"]
    names = (targets,) if isinstance(targets, str) else tuple(targets)
    return LoraConfig(config["r"], float(config["lora_alpha"]), config["lora_dropout"], names, config["use_rslora"])


@torch.no_grad()
def base_digest(model: Gemma) -> str:
    """Tells the base model under an adapter from others of its shape, in whatever precision it was loaded.

    All norms and the rows of the first ids, the turn markers among them, are different in a model trained further.
    """
    norms = [parameter for name, parameter in model.named_parameters() if "norm" in name]
    digest = hashlib.sha256()
    for weight in (plain_vocabulary(model.model.embed_tokens).weight[:256], *norms):
        digest.update(bytes(weight.to("cpu", torch.bfloat16).flatten().view(torch.uint8).tolist()))
    return digest.hexdigest()


def _read_record(folder: Path) -> dict[str, Any]:
    """What minifc wrote beside PEFT's files; PEFT's own adapters have no such file."""
    path = folder / RECORD
    record = read_json(path, CheckpointError) if path.is_file() else {}
    if not isinstance(record, dict) or record.get("format") not in (None, *FORMATS):
        raise CheckpointError(f"{path}: not what minifc wrote there; delete it to go on without it")
    return record


def _read_config(path: Path) -> dict[str, Any]:
    config = read_json(path, CheckpointError)
    kind = config.get("peft_type") if isinstance(config, dict) else None
    if kind != "LORA":
        raise CheckpointError(f"{path}: peft_type is {kind!r}; minifc loads only LORA; {_MERGE}")
    config = {"lora_dropout": 0.0, "use_rslora": False} | config
    for field, kinds in _KINDS.items():
        if not isinstance(config.get(field), kinds):
            raise CheckpointError(f"{path}: {field} is {config.get(field)!r}, not a {kinds[0].__name__}")
    targets = config["target_modules"]
    if not isinstance(targets, str) and not all(isinstance(name, str) for name in targets):
        raise CheckpointError(f"{path}: target_modules is {targets!r}, not a list of names")
    if not 0 <= config["lora_dropout"] <= 1:
        raise CheckpointError(f"{path}: lora_dropout is {config['lora_dropout']!r}, not between 0 and 1")
    for field in ("rank_pattern", "alpha_pattern"):
        patterns = config.get(field) or {}
        numbers = _KINDS["r" if field == "rank_pattern" else "lora_alpha"]
        if not isinstance(patterns, dict) or not all(isinstance(value, numbers) for value in patterns.values()):
            raise CheckpointError(f"{path}: {field} is not an object of names with numbers")
        if odd := [key for key in patterns if not re.fullmatch(r"\^?[\w.]+", key)]:
            raise CheckpointError(f"{path}: {field} {odd[0]!r} is more than the end of a name; {_MERGE}")
        number = "r" if field == "rank_pattern" else "lora_alpha"
        for value in (config[number], *patterns.values()):
            if isinstance(value, bool) or not abs(value) < 1e9 or (number == "r" and value < 1):
                raise CheckpointError(f"{path}: {number} or {field} is {value!r}, which is none of LoRA's")
    for field, value in config.items():
        if value and field not in _UNDERSTOOD and value not in _HARMLESS.get(field, ()):
            raise CheckpointError(f"{path}: {field}={value!r} is not something minifc can run; {_MERGE}")
    return config


def _most_common(values: Mapping[str, Any]) -> Any:
    return Counter(values.values()).most_common(1)[0][0]


def _target_names(model: Gemma, layers: Mapping[str, Lora]) -> list[str]:
    """As short as they can be: `q_proj` if every q_proj has LoRA, full names otherwise."""
    short = {name.rpartition(".")[2] for name in layers}
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    plain = (
        name for name in linear if name not in layers and ".lora_" not in name and not name.endswith(".base_layer")
    )
    partial = {name.rpartition(".")[2] for name in plain} & short
    return sorted((short - partial) | {name for name in layers if name.rpartition(".")[2] in partial})


def _rank_and_alpha(config: dict[str, Any], name: str) -> tuple[int, float]:
    """Of one layer: the first pattern that the end of its name matches, or else the adapter's."""

    def pick(patterns: Mapping[str, Any] | None, default: Any) -> Any:
        for key, value in (patterns or {}).items():
            if name == key.removeprefix("^") or matches(key, name):
                return value
        return default

    return pick(config.get("rank_pattern"), config["r"]), pick(config.get("alpha_pattern"), config["lora_alpha"])


def _new_rows(
    config: dict[str, Any], tensors: dict[str, Tensor], vocabulary: Vocabulary, folder: Path
) -> tuple[list[int], Tensor | None]:
    """The ids and rows of new tokens. Takes them, and whole tables, out of `tensors`.

    PEFT writes the whole embedding and head of a resized model, beside rows that it trained or instead
    of them. The base has the old rows; the new ones are what stands after them.
    """
    ids, rows = _token_ids(config, folder), tensors.pop(_ROWS, None)
    whole = [name for name in tensors if name.startswith((f"{EMBEDDING}.", f"{HEAD}.")) and ".lora_" not in name]
    tables = {name: tensors.pop(name) for name in whole}
    if rows is not None or not tables:
        return ids, rows
    name, table = next(iter(tables.items()))
    old = vocabulary.weight.data
    if not all(torch.equal(table, other) for other in tables.values()):
        raise CheckpointError(f"{folder}: {' and '.join(tables)} differ, though the base model ties them")
    if table.ndim != 2 or table.shape[1] != old.shape[1] or not torch.equal(table[: len(old)].to(old), old):
        raise CheckpointError(f"{folder}: {name} is a table that is not the base model's; {_MERGE}")
    if len(table) == len(old):
        return ids, None
    return list(range(len(old), len(table))), table[len(old) :].float()


def _token_ids(config: dict[str, Any], folder: Path) -> list[int]:
    indices = config.get("trainable_token_indices") or []
    if isinstance(indices, dict):
        if set(indices) != {"embed_tokens"}:
            raise CheckpointError(
                f"{folder}: trained rows of {sorted(indices)}; minifc knows only embed_tokens; {_MERGE}"
            )
        indices = indices["embed_tokens"]
    if (
        not isinstance(indices, list)
        or not all(type(id_) is int and id_ >= 0 for id_ in indices)
        or len(set(indices)) < len(indices)
    ):
        raise CheckpointError(f"{folder}: trainable_token_indices are not a list of token ids")
    return indices


def _check(
    model: Gemma, folder: Path, config: dict[str, Any], tensors: dict[str, Tensor], rows: Tensor | None, ids: list[int]
) -> list[str]:
    """The layers that the adapter is for. Raises before anything is changed if it does not fit this model."""
    vocabulary = model.model.embed_tokens
    E, other = model.config.hidden_size, "the adapter belongs to another model"
    if (rows is None) != (not ids) or (rows is not None and tuple(rows.shape) != (len(ids), E)):
        raise CheckpointError(f"{folder}: rows for new tokens do not match {CONFIG} or the hidden size {E}; {other}")
    if rows is not None and vocabulary.head is not None:
        raise CheckpointError(f"{folder}: new tokens need a tied embedding, and this model's head is its own")
    new = sorted(id_ for id_ in ids if id_ >= vocabulary.size)
    if new != list(range(vocabulary.size, vocabulary.size + len(new))):
        raise CheckpointError(f"{folder}: token ids {new} do not continue the model's {vocabulary.size}; {other}")

    V = vocabulary.size + len(new)
    linear: dict[str, Any] = {name: module for name, module in model.named_modules() if hasattr(module, "in_features")}
    layers = list(dict.fromkeys(name.rpartition(".lora_")[0] for name in tensors))
    if EMBEDDING in layers:  # innermost, so that saving and loading agree
        layers = [EMBEDDING, *(name for name in layers if name != EMBEDDING)]
    for name in layers:
        r, _ = _rank_and_alpha(config, name)
        if name == EMBEDDING:
            shapes = {"lora_embedding_A": (r, V), "lora_embedding_B": (E, r)}
        elif name == HEAD:
            shapes = {"lora_A.weight": (r, E), "lora_B.weight": (V, r)}
        elif name in linear:
            layer = linear[name]
            shapes = {"lora_A.weight": (r, layer.in_features), "lora_B.weight": (layer.out_features, r)}
        else:
            raise CheckpointError(f"{folder}: {name} is no layer of this model; {other}")
        for matrix, shape in shapes.items():
            tensor = tensors.get(f"{name}.{matrix}")
            if tensor is None or tuple(tensor.shape) != shape:
                found = "missing" if tensor is None else f"{list(tensor.shape)}"
                raise CheckpointError(f"{folder}: {matrix} of {name} is {found}, not {list(shape)}; {other}")
    targets = config["target_modules"]
    chosen = any(config.get(field) for field in _CHOICE_OF_LAYERS)  # a target may be left with no layer
    for target in targets if isinstance(targets, list) and not chosen else []:
        if not any(matches(target, name) for name in layers):
            raise CheckpointError(f"{folder}: it has nothing for its target {target!r}")
    if broken := first_not_finite(tensors | ({} if rows is None else {_ROWS: rows})):
        raise CheckpointError(f"{folder}: {broken} holds a number that is not finite; the adapter cannot be used")
    return layers


def _token_names(folder: Path, ids: list[int], tokenizer: Tokenizer) -> dict[str, int]:
    """The names of the adapter's new tokens, from the tokenizer beside it. An id that `tokenizer` has may be of
    ordinary text, whose row was trained: it keeps its name.
    """
    added = read_added_tokens(folder)
    if not added and (max(ids) >= tokenizer.size or any(folder.glob("tokenizer.*"))):
        added = dict(load_tokenizer(folder).control.items() - tokenizer.control.items())
    names = {id_: name for name, id_ in added.items()}
    new = [id_ for id_ in ids if id_ >= tokenizer.size]
    unnamed = [id_ for id_ in new if id_ not in names]
    last = max((id_ for id_ in new if id_ in names), default=max(ids))
    if unnamed and not (min(unnamed) > last and len(unnamed) < PADDING):  # rows behind the last name are padding
        raise CheckpointError(f"{folder}: the tokenizer beside the adapter does not name token {unnamed[0]}")
    return {names[id_]: id_ for id_ in ids if id_ in names}
