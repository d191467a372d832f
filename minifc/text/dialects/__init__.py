"""The formats of turns. A format's chat template is a Jinja file: minifc runs it, and export writes it as it stands.

gemma: the instruct model's own turns. course: the notebook's. own: the chat template that came with the model.
"""

import json
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from typing import Any

from minifc.errors import TemplateError
from minifc.text.calls import TAGS
from minifc.text.tokenizer import Tokenizer

FORMATS = ("gemma", "course", "own")
_INCLUDE = "{%- include 'turns.jinja' %}\n"
_NO_TOKENS = "{%- set control_tokens = [] %}"


def chat_template(format: str, tokenizer: Tokenizer) -> str:
    """The Jinja source of a format; of `own`, the one in the tokenizer's folder. Raises TemplateError."""
    if format == "own":
        return _own_template(tokenizer.settings.get("chat_template"))
    if format not in FORMATS:
        raise TemplateError(f"format {format!r} is not one of {', '.join(FORMATS)}")
    return _read(format)


@cache
def _read(format: str) -> str:
    folder = files(__package__)
    source = (folder / f"{format}.jinja").read_text(encoding="utf-8")
    return source.replace(_INCLUDE, (folder / "turns.jinja").read_text(encoding="utf-8"))


def _own_template(found: Any) -> str:
    """From tokenizer_config.json: one template, or a list of named ones."""
    if isinstance(found, list):
        named = {one.get("name"): one.get("template") for one in found if isinstance(one, dict)}
        found = named.get("tool_use") or named.get("default")
    if not isinstance(found, str) or not found:
        raise TemplateError("format 'own': the model's folder has no chat template; use gemma or course")
    return found


def exported_template(format: str, tokenizer: Tokenizer) -> str:
    """The template for other programs, where a spelled control token would be a real one: content may have none."""
    names: Iterable[str] = (name for name in (*TAGS, *tokenizer.control) if not name.startswith("<unused"))
    tokens = json.dumps([*dict.fromkeys(names), "<unused"], ensure_ascii=False)
    return chat_template(format, tokenizer).replace(_NO_TOKENS, f"{{%- set control_tokens = {tokens} %}}", 1)
