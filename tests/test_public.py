"""The public face, and what is not imported."""

import ast
from pathlib import Path

import minifc

PACKAGE = Path(minifc.__file__).parent


def test_public_names_are_locked() -> None:
    assert sorted(minifc.__all__) == [
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
    assert all(hasattr(minifc, name) for name in minifc.__all__)


def imports_of(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


def test_no_rival_and_no_pickle_is_imported() -> None:
    """But for the commands that compare, and the writer of GGUF files: they import these inside the function that
    uses them."""
    rivals = {"transformers", "peft", "trl", "jsonschema", "llguidance", "xgrammar", "gguf"}
    for path in PACKAGE.rglob("*.py"):
        source = path.read_text()
        top_level = "".join(line for line in source.splitlines(keepends=True) if not line.startswith(" "))
        roots = {name.split(".")[0] for name in imports_of(path)}
        if path.name == "verify.py" or path.parent.name == "bench":
            assert not any(f"import {rival}" in top_level or f"from {rival}" in top_level for rival in rivals), path
            roots -= rivals
        if path.name == "export_gguf.py":
            assert "import gguf" not in top_level
            roots -= {"gguf"}
        assert not roots & {*rivals, "pickle", "lessons", "tests", "numpy"}, path
        assert "eval(" not in source.replace("literal_eval(", "").replace(".eval()", ""), path
