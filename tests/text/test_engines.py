"""The exported chat template in engines that minifc does not run: what each renders is what minifc renders.

Every program brings its own `raise_exception`, and a `tojson` that does not escape for HTML, as transformers has it.
"""

import gzip
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import jinja2
import pytest
from random_conversations import NAMES, PIECES, Drawing
from transformers import AutoTokenizer

from minifc.data import read_conversation
from minifc.errors import TemplateError
from minifc.text.calls import Call, write_call
from minifc.text.dialects import exported_template
from minifc.text.dialects.functiongemma import FUNCTIONGEMMA
from minifc.text.dialects.json_calls import JSON_CALLS
from minifc.text.template import render
from minifc.text.tokenizer import Tokenizer, load_tokenizer

Case = dict[str, Any]
Engine = Callable[[str, list[Case]], list[str]]
# JavaScript has no 3.0, no integers above 2**53, and other exponents.
NUMBERS = (0, 7, -9, 2**53, 0.1, 123456.789)
# Each language sorts other letters as it likes, and to minijinja every object that comes from Python has `items`.
PLAIN_NAMES = [name for name in NAMES if name.isascii() and name != "items"]
# Loads the cases from standard input and answers with what is rendered.
JAVASCRIPT = """
const {Template} = require('@huggingface/jinja');
const {source, cases} = JSON.parse(require('fs').readFileSync(0));
const template = new Template(source);
console.log(JSON.stringify(cases.map(variables => template.render(variables))));
"""


@pytest.fixture(scope="module")
def tokenizer(tiny: Path) -> Tokenizer:
    tokenizer = load_tokenizer(tiny)
    tokenizer.add_tokens((*JSON_CALLS.tokens, *FUNCTIONGEMMA.tokens))
    return tokenizer


def to_json(value: Any, **_: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def refuse(message: str) -> None:
    raise ValueError(message)


def with_jinja2(source: str, cases: list[Case]) -> list[str]:
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = to_json
    environment.globals["raise_exception"] = refuse
    template = environment.from_string(source)
    return [template.render(case) for case in cases]


def with_minijinja(source: str, cases: list[Case]) -> list[str]:
    """The engine of Hugging Face's and other servers that are written in Rust."""
    minijinja = pytest.importorskip("minijinja")
    environment = minijinja.Environment(templates={"chat": source}, trim_blocks=True, lstrip_blocks=True)
    environment.add_filter("tojson", to_json)
    environment.add_global("raise_exception", refuse)
    return [environment.render_template("chat", **case) for case in cases]


def with_javascript(source: str, cases: list[Case]) -> list[str]:
    """The engine of transformers.js and of node-llama-cpp. NODE_PATH says where npm has put it."""
    if (
        not shutil.which("node")
        or subprocess.run(["node", "-e", "require('@huggingface/jinja')"], capture_output=True).returncode
    ):
        pytest.skip("node has no @huggingface/jinja: npm install @huggingface/jinja")
    given = json.dumps({"source": source, "cases": cases})
    done = subprocess.run(["node", "-e", JAVASCRIPT], input=given, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr[-2000:]
    rendered: list[str] = json.loads(done.stdout)
    return rendered


ENGINES: list[Engine] = [with_jinja2, with_minijinja, with_javascript]


def random_cases(count: int, tokenizer: Tokenizer, format: Any) -> tuple[list[Case], list[str]]:
    """Variables of a template, and the texts that minifc renders of them."""
    cases, expected = list[Case](), list[str]()
    harmless = [piece for piece in PIECES if len(piece) == 1 or not piece.startswith("<")]
    for seed in range(count):
        drawing = Drawing(seed, harmless, PLAIN_NAMES, NUMBERS)
        messages = [{"role": "user", "content": "Hi."}, *drawing.conversation()[1:]]
        tools = [drawing.tool() for _ in range(drawing.rng.randint(0, 2))]
        prompt = messages[-1]["role"] != "assistant"
        with suppress(TemplateError):
            expected.append(render(messages, tokenizer, tools, format, prompt).text)
            cases.append(variables(messages, tools, prompt))
    assert len(cases) > 0.8 * count
    return cases, expected


def variables(messages: Any, tools: Any, prompt: bool) -> Case:
    return {"messages": messages, "tools": tools or None, "add_generation_prompt": prompt, "bos_token": "<bos>"}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("format", ["gemma", "course", "functiongemma"])
def test_random_conversations(tokenizer: Tokenizer, format: Any, engine: Engine) -> None:
    source = exported_template(format, tokenizer)
    cases, expected = random_cases(150, tokenizer, format)
    for found, text in zip(engine(source, cases), expected, strict=True):
        assert found == text


@pytest.mark.parametrize("engine", [with_jinja2, with_javascript])
@pytest.mark.parametrize("format", ["gemma", "functiongemma"])
def test_arguments_with_names_of_methods(tokenizer: Tokenizer, format: Any, engine: Engine) -> None:
    names = ("get", "items", "keys", "values", "properties", "type")
    schema = {"type": "object", "properties": {"get": {"type": "string"}, "values": {"type": "array"}}}
    tools = [{"name": "f", "description": "", "parameters": schema}]
    call = {"name": "f", "arguments": dict.fromkeys(names, "x")}
    messages = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "", "tool_calls": [call]}]
    (found,) = engine(exported_template(format, tokenizer), [variables(messages, tools, False)])
    assert found == render(messages, tokenizer, tools, format).text


@pytest.mark.parametrize("engine", ENGINES)
def test_arguments_follow_the_schemas_that_a_schema_names(tokenizer: Tokenizer, engine: Engine) -> None:
    """As pydantic writes nested models: $defs, a $ref, an option that is one, and in version 1 an allOf around it."""
    place = {"type": "object", "properties": {"city": {"type": "string"}, "zip": {"type": "integer"}}}
    trip = {"type": "object", "properties": {"by": {"type": "string"}, "stops": {"items": {"$ref": "#/$defs/Place"}}}}
    schema = {
        "type": "object",
        "properties": {
            "to": {"$ref": "#/$defs/Place"},
            "trip": {"anyOf": [{"$ref": "#/$defs/Trip"}, {"type": "null"}]},
            "old": {"allOf": [{"$ref": "#/$defs/Place"}], "description": "Before."},
            "lost": {"$ref": "#/$defs/nothing"},
        },
        "$defs": {"Place": place, "Trip": trip},
    }
    there = {"zip": 1234.0, "city": "Rome"}
    arguments = {"lost": there, "old": there, "trip": {"stops": [there], "by": "rail"}, "to": there}
    tool = {"name": "f", "description": "", "parameters": schema}
    messages = [
        {"role": "user", "content": "Hi."},
        {"role": "assistant", "content": "", "tool_calls": [{"name": "f", "arguments": arguments}]},
    ]
    text = render(messages, tokenizer, [tool], "gemma").text
    named = '{"city": "Rome", "zip": 1234}'
    written = f'"to": {named}, "trip": {{"by": "rail", "stops": [{named}]}}, "old": {named}, "lost": {{"zip": 1234.0, '
    assert written in text
    assert write_call(Call("f", arguments), tool) in text
    (found,) = engine(exported_template("gemma", tokenizer), [variables(messages, [tool], False)])
    assert whole(found) == whole(text)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("format", ["gemma", "course", "functiongemma"])
def test_a_thousand_real_conversations(shared: Path, tokenizer: Tokenizer, format: Any, engine: Engine) -> None:
    cases, expected = list[Case](), list[str]()
    for path in sorted((shared / "calls").glob("*.jsonl.gz")):
        with gzip.open(path) as lines:
            for number, line in enumerate(islice(lines, 150)):
                conversation = read_conversation(json.loads(line), f"{path.name} {number}")
                if any("<" in str(message.get("content")) for message in conversation.messages):
                    continue
                try:
                    expected.append(render(conversation.messages, tokenizer, conversation.tools, format).text)
                except TemplateError:  # FunctionGemma's calls have no way to write every key
                    continue
                cases.append(variables(conversation.messages, conversation.tools, False))
    assert len(cases) >= 1000
    for found, text in zip(engine(exported_template(format, tokenizer), cases), expected, strict=True):
        assert whole(found) == whole(text)


def whole(text: str) -> str:
    """JavaScript has no 3.0, and minijinja hands it to a filter that is written in Python as 3."""
    return re.sub(r"(\d)\.0\b", r"\1", text)


def test_the_template_for_training_marks_what_the_model_writes(
    tiny: Path, tmp_path: Path, tokenizer: Tokenizer
) -> None:
    tokenizer.save(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    plain, training = (exported_template("gemma", tokenizer, training) for training in (False, True))
    assert "generation %}" not in plain
    messages = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}]
    assert theirs.apply_chat_template(messages, chat_template=plain, tokenize=False) == theirs.apply_chat_template(
        messages, chat_template=training, tokenize=False
    )
    marked = theirs.apply_chat_template(
        messages, chat_template=training, return_dict=True, return_assistant_tokens_mask=True
    )
    learned = [id_ for id_, mask in zip(marked["input_ids"], marked["assistant_masks"], strict=True) if mask]
    assert theirs.decode(learned) == "Hello.<end_of_turn>"
