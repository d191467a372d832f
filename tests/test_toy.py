"""Held out means held out, and what the small world makes is well formed."""

import random
import re
from collections.abc import Iterator

import pytest

from minifc import pretrain
from minifc.data import toy
from minifc.data.toy import words, world
from minifc.pretrain import TOOLS_INTRODUCTION
from minifc.text.calls import write_json
from minifc.text.tokenizer import load_tokenizer
from minifc.train import WORLD_SIZE
from minifc.tuning.loop import LoopConfig, _steps


def words_of(text: str) -> set[str]:
    return set(re.findall(r"[a-z]+", text.lower()))


def assert_no_test_word(texts: Iterator[str]) -> None:
    """`held_out` decides for every word there is, so no text with such a word can hold a test word."""
    ours = words.SENTENCES
    seen: set[str] = set()
    count = 0
    for text in texts:
        count += 1
        new = words_of(text) - seen
        assert not {word for word in new if words.held_out(word)} - ours, text
        seen |= new
    assert count > 100
    assert len(seen) > 1000


def fine_tuning_texts(seed: int, count: int = WORLD_SIZE) -> Iterator[str]:
    yield TOOLS_INTRODUCTION
    for case in toy.training_cases(count, seed):
        yield write_json(case.row())


def test_test_tools_slots_and_values_are_held_out_words() -> None:
    for sentences in ("known", "unseen", "shuffled"):
        for seed in range(4):
            for case in toy.held_out_cases(400, seed, sentences):
                request = case.requests[0]
                parts = [request.task.name, *request.details, *map(str, request.details.values())]
                for tool in case.tools:
                    parts += [tool["name"], *tool["parameters"]["properties"]]
                used = words_of(" ".join(parts).replace("_", " "))
                assert all(words.held_out(word) for word in used)
                assert not used & words.SENTENCES


def numbers_of(cases: list[toy.cases.Case]) -> set[tuple[str, int]]:
    """Every number that a request gives, with what it is the number of."""
    requests = [request for case in cases for request in case.requests]
    return {(name, value) for r in requests for name, value in r.details.items() if isinstance(value, int)}


def test_numbers_stand_beside_names_that_they_never_stood_beside() -> None:
    """A number is not held out, 7 is in training too: what is unseen is what it is the number of."""
    seen = numbers_of(toy.training_cases(WORLD_SIZE, 0))
    asked = {pair for seed in range(3) for pair in numbers_of(toy.held_out_cases(400, seed))}
    assert len(asked) > 300
    assert {value for _, value in asked} & {value for _, value in seen}
    assert not {name for name, _ in asked} & {name for name, _ in seen}


def test_sentence_words_are_not_listed_as_test_words() -> None:
    kinds = ["verb", "noun", *words.VALUES, *(f"slot {name}" for name in words.SLOTS)]
    listed = {word.lower() for kind in kinds for word in words.words(kind, "test")}
    assert not listed & words.SENTENCES
    assert len(listed) > 150


@pytest.mark.parametrize("side", ["train", "test"])
def test_garbled_words_are_on_their_side_and_like_others(side: words.Side) -> None:
    rng = random.Random(0)
    said = ["parcel", "dorvan"]
    garbled = [words.garble(rng, side, said) for _ in range(500)]
    assert all(words.held_out(word) == (side == "test") for word in garbled)
    parts = {word[i : i + 3] for word in said for i in range(len(word) - 2)}
    assert sum(any(part in word for part in parts) for word in garbled) > 100
    assert sum(len(set(word)) < len(word) for word in garbled) > 250  # a letter comes twice
    assert len(set(garbled)) > 450


def test_garbled_numbers_of_a_text_have_three_digits_in_all() -> None:
    garbled = world.World(random.Random(0), garbled=1.0)
    numbers = [garbled.value("number") for _ in range(50)]
    assert len(set("".join(map(str, numbers)))) <= 3
    assert max(numbers) > 999


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_fine_tuning_texts_hold_no_test_word(seed: int) -> None:
    assert_no_test_word(fine_tuning_texts(seed, 1000))


def test_samples_of_pretraining_hold_no_test_word() -> None:
    rng = random.Random(0)
    texts = ("".join(text for text, _ in toy.text_document(rng)) for _ in range(1000))
    assert_no_test_word(texts)
    chats = (" ".join(message["content"] for message in toy.chat_document(rng)) for _ in range(1000))
    assert_no_test_word(chats)


@pytest.mark.slow
def test_all_texts_of_all_stages_hold_no_test_word(tiny) -> None:
    """Every document that pretraining reads, generated again in its order, and every fine-tuning conversation."""
    tokenizer = load_tokenizer(tiny)
    assert_no_test_word(pretrain._sample_texts(3000))  # what the vocabulary was learned from
    for stage, config, make in pretrain.STAGES:
        assert_no_test_word(_stage_texts(pretrain.Documents(tokenizer, stage, 0, make), config))
    for seed in (0, 1, 2):
        assert_no_test_word(fine_tuning_texts(seed))


def _stage_texts(documents: pretrain.Documents, config: LoopConfig) -> Iterator[str]:
    texts: list[str] = []
    make = documents.make

    def recording(tokenizer, rng):
        example = make(tokenizer, rng)
        texts.append(tokenizer.decode(example.ids))
        return example

    documents.make = recording
    for step, _ in enumerate(_steps(documents, config)):
        yield from texts
        texts.clear()
        if step == config.max_steps:
            return


def test_the_embedded_models_vocabulary_is_made_again(tiny, tmp_path) -> None:
    pretrain.build_tokenizer(tmp_path)
    assert (tmp_path / "tokenizer.json").read_text() == (tiny / "tokenizer.json").read_text()


def test_frames_of_the_second_split_are_unseen() -> None:
    assert not set(world.REQUESTS) & set(world.UNSEEN_REQUESTS)
    assert not {phrase for phrase, _ in world.DETAILS} & {phrase for phrase, _ in world.UNSEEN_DETAILS}


def test_half_of_the_requests_have_their_tool() -> None:
    cases = toy.held_out_cases(40, 0)
    assert sum(case.fits[0] for case in cases) == 20
    for case in cases:
        names = [tool["name"] for tool in case.tools]
        assert (case.requests[0].task.name in names) == case.fits[0]
        assert len(set(names)) == len(names)


def test_a_case_is_the_same_each_time_and_seeds_differ() -> None:
    assert toy.held_out_cases(5, 1) == toy.held_out_cases(5, 1)
    assert toy.held_out_cases(5, 1) != toy.held_out_cases(5, 2)
    assert toy.training_cases(5, 1) != toy.training_cases(5, 2)


def test_calls_give_what_the_request_says() -> None:
    for case in toy.held_out_cases(100, 0):
        request = case.requests[0]
        assert all(str(value) in request.text for value in request.details.values())
        assert list(request.details) == [s.name for s in request.task.slots if s.name in request.details]
