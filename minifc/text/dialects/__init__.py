"""The formats of turns, and the dialects in which they write calls.

gemma: the instruct model's own turns. course: the notebook's. functiongemma: google/functiongemma-270m-it's. own: the
chat template that came with the model. A format's chat template is a Jinja file: minifc runs it, and export writes it,
with and without its marks around what the model writes.
"""

import json
import re
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from typing import Any

from minifc.errors import TemplateError
from minifc.text.dialects.dialect import DELIMITER as DELIMITER
from minifc.text.dialects.dialect import Characters as Characters
from minifc.text.dialects.dialect import Dialect as Dialect
from minifc.text.dialects.dialect import Part as Part
from minifc.text.dialects.dialect import Syntax as Syntax
from minifc.text.dialects.dialect import to_bytes as to_bytes
from minifc.text.dialects.functiongemma import CALL as CALL
from minifc.text.dialects.functiongemma import FUNCTIONGEMMA
from minifc.text.dialects.json_calls import JSON_CALLS
from minifc.text.tokenizer import Tokenizer

FORMATS = ("gemma", "course", "functiongemma", "own")
_INCLUDE = re.compile(r"^ *\{%- include '(\w+\.jinja)' %\}\n", re.M)
_GENERATION = re.compile(r"{%- (end)?generation %}")
_NO_TOKENS = "{%- set control_tokens = [] %}"


def dialect_of(format: str, tokenizer: Tokenizer) -> Dialect:
    """How a format writes calls; of `own`, as far as the chat template tells. Raises TemplateError."""
    if format == "functiongemma" or (format == "own" and CALL in chat_template(format, tokenizer)):
        return FUNCTIONGEMMA
    if format not in FORMATS:
        raise TemplateError(f"format {format!r} is not one of {', '.join(FORMATS)}")
    return JSON_CALLS


def chat_template(format: str, tokenizer: Tokenizer) -> str:
    """The Jinja source of a format; of `own`, the one in the tokenizer's folder. Raises TemplateError."""
    if format == "own":
        return _own_template(tokenizer.settings.get("chat_template"))
    if format not in FORMATS:
        raise TemplateError(f"format {format!r} is not one of {', '.join(FORMATS)}")
    return _read(f"{format}.jinja")


@cache
def _read(name: str) -> str:
    """A template with those that it includes put in: other programs take one file."""
    source = (files(__package__) / name).read_text(encoding="utf-8")
    return _INCLUDE.sub(lambda include: _read(include[1]), source)


def _own_template(found: Any) -> str:
    """From tokenizer_config.json: one template, or a list of named ones."""
    if isinstance(found, list):
        named = {one.get("name"): one.get("template") for one in found if isinstance(one, dict)}
        found = named.get("tool_use") or named.get("default")
    if not isinstance(found, str) or not found:
        raise TemplateError("format 'own': the model's folder has no chat template; use gemma, course or functiongemma")
    return found


def exported_template(format: str, tokenizer: Tokenizer, training: bool = False) -> str:
    """The template for other programs, where a spelled control token would be a real one: content may have none.

    training: with transformers' `{% generation %}` around what the model writes, which few other engines know.
    """
    written = dialect_of(format, tokenizer).tokens
    names: Iterable[str] = (name for name in (*written, *tokenizer.control) if not name.startswith("<unused"))
    tokens = json.dumps([*dict.fromkeys(names), "<unused"], ensure_ascii=False)
    source = chat_template(format, tokenizer).replace(_NO_TOKENS, f"{{%- set control_tokens = {tokens} %}}", 1)
    return source if training or format == "own" else _GENERATION.sub("", source)
