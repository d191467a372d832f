"""A hook of MkDocs: formulas become MathML as the pages are built, so that no script has to typeset them."""

import html
import re
from typing import Any

from latex2mathml.converter import convert

FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', flags=re.S)


def on_page_content(text: str, page: Any, **_: Any) -> str:
    def mathml(found: re.Match[str]) -> str:
        tag, latex = found[1], html.unescape(found[2]).strip()
        formula = convert(latex, display="block" if tag == "div" else "inline")
        return f'<div class="formula">{formula}</div>' if tag == "div" else formula

    text = FORMULA.sub(mathml, text)
    assert "arithmatex" not in text, f"{page.file.src_path}: a formula is left over"
    return text
