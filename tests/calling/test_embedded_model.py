"""The embedded model: untaught it compares names and under the grammar writes valid calls; taught it loses nothing."""

import random
from pathlib import Path

import jsonschema
import pytest
import torch

from minifc.calling.grammar import Grammar
from minifc.data import toy
from minifc.data.toy.world import World, compare
from minifc.evaluation.asking import ask
from minifc.evaluation.questions import toy_questions
from minifc.gemma.checkpoint import load_model
from minifc.gemma.generate import generate
from minifc.text.calls import TAGS, TOOL_CALL
from minifc.text.template import render, stop_ids
from minifc.text.tokenizer import load_tokenizer
from minifc.text.turns import parse_calls
from minifc.tuning.adapter import load_adapter
from minifc.tuning.vocab import add_tokens

BATCH = 20
PAIRS = 100
pytestmark = pytest.mark.slow


def test_untaught_it_compares_nouns_by_more_than_their_length(tiny: Path) -> None:
    """Two names with one verb, and nouns of equally many tokens that are the same or not.

    A pretraining once ended with a model that counted tokens, and its loss hardly showed it (LOG.md, 2026-11-26).
    """
    model, tokenizer = load_model(tiny, torch.float32), load_tokenizer(tiny)
    rng = random.Random("pairs")
    world = World(rng)
    questions, expected = [], []
    while len(questions) < PAIRS:
        task = world.task()
        other = task if rng.random() < 0.3 else world.task(verb=task.verb)
        if len(tokenizer.encode(task.noun)) == len(tokenizer.encode(other.noun)):
            questions.append(f"Compare.\n\n{task.name} {other.name}")
            expected.append(compare(task.name, other.name))
    chats = [[{"role": "user", "content": question}] for question in questions]
    prompts = [render(chat, tokenizer, format="gemma", add_generation_prompt=True).ids for chat in chats]
    replies = generate(model, prompts, 48, stop_ids(tokenizer))
    written = [tokenizer.decode(reply).strip() for reply in replies]  # it may go on, to pairs that nobody asked for
    wrong = [pair for pair in zip(written, expected, strict=True) if not pair[0].startswith(pair[1])]
    assert len(wrong) <= 0.05 * PAIRS, wrong


def test_untaught_and_forced_to_begin_a_call_it_writes_a_valid_one(tiny: Path) -> None:
    """On 200 prompts; a call that did not come to its end would not parse."""
    model, tokenizer = load_model(tiny, torch.float32), load_tokenizer(tiny)
    add_tokens(model, tokenizer, list(TAGS), init="pieces")
    begin = tokenizer.control[TOOL_CALL]
    cases = toy.held_out_cases(200, seed=11)
    for start in range(0, len(cases), BATCH):
        batch = cases[start : start + BATCH]
        prompts, grammars = [], []
        for case in batch:
            asked = render(case.messages()[:1], tokenizer, case.tools, format="gemma", add_generation_prompt=True)
            prompts.append([*asked.ids, begin])
            grammars.append(Grammar(case.tools, tokenizer))
            grammars[-1].advance(begin)
        replies = generate(model, prompts, 128, stop_ids(tokenizer), constraints=grammars)
        for case, ids in zip(batch, replies, strict=True):
            calls = parse_calls([begin, *ids], tokenizer)
            assert calls
            for call in calls:
                (tool,) = [tool for tool in case.tools if tool["name"] == call.name]
                schema = tool["parameters"] | {"additionalProperties": False}
                jsonschema.validate(call.arguments, schema)


def test_taught_it_is_never_less_accurate_with_the_grammar(tiny: Path, caller: Path) -> None:
    model, tokenizer = load_model(tiny, torch.float32), load_tokenizer(tiny)
    load_adapter(model, tokenizer, caller)
    questions = toy_questions(400).questions
    free = ask(model, tokenizer, questions).score
    held = ask(model, tokenizer, questions, constrained=True).score
    assert held.exact.count >= free.exact.count
    assert held.right.count >= free.right.count
    assert held.unreadable.count == 0
