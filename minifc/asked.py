"""The model that chat and evaluate ask: the options that name it, and how it is loaded."""

import argparse
from dataclasses import dataclass
from pathlib import Path

from minifc.devices import pick_device, pick_dtype
from minifc.gemma.checkpoint import load_model, stored_dtype
from minifc.gemma.model import Gemma
from minifc.hub import TINY, TINY_ADAPTER, find_model
from minifc.text.template import Format
from minifc.text.tokenizer import Tokenizer, load_tokenizer
from minifc.tuning.adapter import adapter_format


@dataclass(frozen=True)
class Asked:
    """A model from `folder`, and the adapter that is still to be loaded onto it, if there is one."""

    model: Gemma
    tokenizer: Tokenizer
    folder: Path
    adapter: Path | None
    format: Format


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Which model to ask."""
    parser.add_argument("--model", default=TINY, help="folder or hub id of the model (%(default)s)")
    parser.add_argument(
        "--adapter", default=TINY_ADAPTER, help="folder or hub id of its adapter, or 'none' (%(default)s)"
    )
    parser.add_argument("--format", choices=("gemma", "course"), help="whose turns (the adapter's, else gemma)")
    parser.add_argument("--device", default="auto", help="cpu, cuda, mps (%(default)s)")
    parser.add_argument("--dtype", choices=("auto", "float32", "bfloat16", "float16"), help="(the model's own)")


def load_asked(args: argparse.Namespace) -> Asked:
    """The model that these options name. The embedded one computes in fp32, in which it is faster."""
    folder, device = find_model(args.model).path, pick_device(args.device)
    stated = args.dtype or ("float32" if args.model == TINY else "auto")
    model = load_model(folder, pick_dtype(stated, stored_dtype(folder), device), device)
    tokenizer = load_tokenizer(folder)
    adapter = None if args.adapter == "none" else find_model(args.adapter).path
    format: Format = args.format or (adapter_format(adapter) if adapter else None) or "gemma"
    return Asked(model, tokenizer, folder, adapter, format)
