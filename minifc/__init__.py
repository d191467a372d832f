"""minifc: fine-tuning Gemma for function calling, with nothing hidden."""

import os

# Before torch is imported, because OpenMP reads it once. Threads that wait for each other sleep instead of spinning:
# on cores that other programs use too, spinning took a third of the time (LOG.md).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from minifc.calling.agent import Agent
from minifc.calling.grammar import Grammar
from minifc.calling.tools import tool
from minifc.errors import MinifcError
from minifc.gemma.cache import KVCache
from minifc.gemma.checkpoint import load_model, save_model
from minifc.gemma.generate import generate
from minifc.loading import load
from minifc.text.template import render
from minifc.text.tokenizer import load_tokenizer
from minifc.text.turns import parse_calls
from minifc.tuning.adapter import load_adapter, merge, save_adapter
from minifc.tuning.lora import add_lora
from minifc.tuning.vocab import add_tokens

__all__ = [
    "Agent",
    "Grammar",
    "KVCache",
    "MinifcError",
    "add_lora",
    "add_tokens",
    "generate",
    "load",
    "load_adapter",
    "load_model",
    "load_tokenizer",
    "merge",
    "parse_calls",
    "render",
    "save_adapter",
    "save_model",
    "tool",
]
