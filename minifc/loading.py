"""One way in: whatever names a model, to a model that answers.

A source is a model folder, a GGUF file, a run folder, an adapter folder, or a repository of the hub that holds a
model or an adapter. An adapter brings its base model and its format of turns with it.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from minifc.devices import pick_device, pick_dtype
from minifc.errors import CheckpointError
from minifc.files import read_json
from minifc.gemma.checkpoint import load_model, stored_dtype
from minifc.gemma.model import Gemma
from minifc.gguf import is_gguf, read_gguf
from minifc.hub import TINY, TINY_ADAPTER, Source, find_model
from minifc.text.dialects import CALL, FORMATS
from minifc.text.template import Format
from minifc.text.tokenizer import Tokenizer, load_tokenizer
from minifc.tuning.adapter import CONFIG, adapter_format, load_adapter

DTYPES = ("auto", "float32", "bfloat16", "float16")
RUN_ADAPTER = "adapter"  # the adapter's folder in a run folder


@dataclass(frozen=True)
class Located:
    """Where the parts of a model are; nothing is loaded yet."""

    base: Source
    adapter: Path | None
    format: Format


@dataclass(frozen=True)
class Loaded:
    """A model that answers, its tokenizer, and the format of its turns."""

    model: Gemma
    tokenizer: Tokenizer
    format: Format
    base: Source
    adapter: Path | None


def load(
    source: str | Path = TINY_ADAPTER,
    *,
    base: str | Path | None = None,
    format: Format | None = None,
    dtype: str | torch.dtype = "auto",
    device: str | torch.device = "auto",
) -> Loaded:
    """Load a model with everything that belongs to it, in evaluation mode.

    source: a model folder, GGUF file, run folder, adapter folder, or hub id (`owner/name`, `owner/name@revision`).
    base: the base model of an adapter, if it is not where the adapter says. format: the turns to use instead of
        the recorded ones. dtype: of the weights; by default as stored, and for quantised ones bfloat16 where the
        device is fast at it, else float32. device: by default the best there is.
    Raises CheckpointError, ConfigError, TokenizerError or HubError for what is missing, damaged or does not fit.
    """
    return _load(locate(source, base, format), dtype, device)


def _load(located: Located, dtype: str | torch.dtype, device: str | torch.device) -> Loaded:
    model, tokenizer = load_base(located, dtype, device)
    if located.adapter:
        load_adapter(model, tokenizer, located.adapter)
    return Loaded(model, tokenizer, located.format, located.base, located.adapter)


def locate(source: str | Path, base: str | Path | None = None, format: Format | None = None) -> Located:
    """Find the base model, the adapter and the format that a source stands for, as `load` does."""
    found = find_model(str(source))
    folder = found.path
    run = folder if is_run(folder) else None
    adapter = folder / RUN_ADAPTER if run else folder if (folder / CONFIG).is_file() else None
    if adapter is None:
        if base is not None:
            raise CheckpointError(f"{source}: no adapter, so it has no base model {base}")
        return Located(found, None, format or adapter_format(folder) or _template_format(folder) or "gemma")
    name = str(base) if base is not None else base_name(adapter)
    if not name:
        raise CheckpointError(f"{adapter / CONFIG}: does not name its base model; name it (base=, or --model)")
    return Located(find_model(name), adapter, format or adapter_format(adapter) or _run_format(run) or "gemma")


def is_run(folder: Path) -> bool:
    """Whether a folder is one that training left: it holds its adapter in a folder of its own."""
    return (folder / RUN_ADAPTER / CONFIG).is_file()


def base_name(adapter: Path) -> str:
    """The base model that an adapter names, with its revision; "" if it names none. Raises CheckpointError."""
    config = read_json(adapter / CONFIG, CheckpointError)
    if not isinstance(config, dict):
        raise CheckpointError(f"{adapter / CONFIG}: holds a JSON {type(config).__name__}, not an object")
    base, revision = config.get("base_model_name_or_path") or "", config.get("revision")
    if not isinstance(base, str):
        raise CheckpointError(f"{adapter / CONFIG}: the base model's name is {base!r}, not a string")
    return f"{base}@{revision}" if revision and not Path(base).exists() else base


def _template_format(model: Path) -> Format | None:
    """The format that an exported GGUF file names; functiongemma, if that is what a model's own chat template writes:
    it knows no other format."""
    if is_gguf(model):
        metadata = read_gguf(model).metadata
        if (named := metadata.get("minifc.format")) in FORMATS:
            return named
        return "functiongemma" if CALL in str(metadata.get("tokenizer.chat_template")) else None
    files = (model / "chat_template.jinja", model / "tokenizer_config.json")
    found = any(CALL in file.read_text(encoding="utf-8", errors="replace") for file in files if file.is_file())
    return "functiongemma" if found else None


def _run_format(run: Path | None) -> Format | None:
    """The format in a run's settings, for an adapter that does not record one."""
    settings = read_json(run / "config.json", CheckpointError) if run and (run / "config.json").is_file() else {}
    group: Any = settings.get("run", {}) if isinstance(settings, dict) else None
    if not isinstance(group, dict) or group.get("format") not in (None, *FORMATS):
        raise CheckpointError(f"{run}/config.json: not the settings of a run; name the format of the turns (--format)")
    format: Format | None = group.get("format")
    return format


def load_base(
    located: Located, dtype: str | torch.dtype = "auto", device: str | torch.device = "auto"
) -> tuple[Gemma, Tokenizer]:
    """The base model and its tokenizer, without the adapter. The embedded model computes in fp32: it is faster so."""
    folder, place = located.base.path, pick_device(str(device))
    if isinstance(dtype, str):
        stated = "float32" if dtype == "auto" and located.base.name == TINY else dtype
        dtype = pick_dtype(stated, stored_dtype(folder), place)
    return load_model(folder, dtype, place), load_tokenizer(folder)


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """The options of every command that asks a model."""
    parser.add_argument(
        "--model", metavar="SOURCE",
        help=f"model folder, GGUF file, run folder, adapter, or hub id of a folder (default: {TINY_ADAPTER})",
    )  # fmt: skip
    parser.add_argument("--adapter", metavar="SOURCE", help="adapter or run to put onto --model (default: none)")
    parser.add_argument("--format", choices=FORMATS, help="format of the turns (default: the adapter's, else gemma)")
    parser.add_argument("--device", default="auto", help="cpu, cuda or mps (default: the best there is)")
    parser.add_argument("--dtype", choices=DTYPES, default="auto", help="dtype of the weights (default: as stored)")


def locate_from(args: argparse.Namespace) -> Located:
    """What the options of `add_model_options` name."""
    if args.adapter:
        located = locate(args.adapter, args.model, args.format)
        if located.adapter is None:
            raise CheckpointError(f"--adapter {args.adapter}: neither an adapter nor a run; name a model by --model")
        return located
    return locate(args.model or TINY_ADAPTER, None, args.format)


def load_from(args: argparse.Namespace) -> Loaded:
    """Load what the options of `add_model_options` name."""
    return _load(locate_from(args), args.dtype, args.device)
