"""The decoding loop: greedy is argmax, sampling is transformers' sampling, and rows stop where they should."""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from minifc.errors import OptionError
from minifc.gemma import generate as generate_module
from minifc.gemma.cache import KVCache
from minifc.gemma.generate import Batch, Row, Sampling, _pick, generate, stream
from minifc.gemma.model import Gemma

N = 40  # new tokens: with a window of 8, most are made from keys the ring has overwritten


@pytest.fixture(scope="module")
def talker(pair: Any) -> Any:
    """Untied, for a tied random model says its last token again and again, and any loop could do that."""
    return pair(tie_word_embeddings=False)


def by_transformers(reference: Any, ids: Tensor, new_tokens: int, **options: Any) -> list[int]:
    """What transformers generates greedily after one prompt [1, T], with nothing to stop it."""
    options = {"do_sample": False, "pad_token_id": 0, "eos_token_id": None} | options
    out = reference.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=new_tokens, **options)
    return out[0, ids.shape[1] :].tolist()


def by_argmax(gemma: Gemma, prompt: list[int], new_tokens: int) -> list[int]:
    """The likeliest next id, again and again, reading everything anew each time."""
    ids = list(prompt)
    for _ in range(new_tokens):
        ids.append(int(gemma(torch.tensor([ids]))[0, -1].argmax()))
    return ids[len(prompt) :]


# Greedy


@pytest.mark.parametrize("length", [1, 5, 12, 80])
def test_greedy_equals_transformers(talker: Any, random_ids: Any, length: int) -> None:
    ids = random_ids(1, length)
    expected = by_transformers(talker.reference, ids, N)
    assert len(set(expected)) >= 8, "a reference that repeats itself shows nothing"
    assert generate(talker.ours, ids, N, ()) == [expected]


def test_a_tied_model_under_a_repetition_penalty_equals_transformers(pair: Any, random_ids: Any) -> None:
    """The penalty counts the prompt's ids too, and takes the tied model out of its loop."""
    ids = random_ids(1, 12)
    expected = by_transformers(pair().reference, ids, N, repetition_penalty=5.0)
    assert len(set(expected)) >= 8
    assert generate(pair().ours, ids, N, (), repetition_penalty=5.0) == [expected]


@pytest.mark.parametrize("length", [1, 12, 70])
def test_greedy_is_argmax_without_a_cache(talker: Any, random_ids: Any, length: int) -> None:
    prompt = random_ids(1, length)[0].tolist()
    expected = by_argmax(talker.ours, prompt, N)
    assert len(set(expected)) >= 8
    assert generate(talker.ours, prompt, N, ()) == [expected]


def test_prompts_of_any_lengths_together_equal_each_alone(talker: Any, random_ids: Any) -> None:
    prompts = [random_ids(1, length)[0].tolist() for length in (30, 1, 12, 75)]
    alone = [generate(talker.ours, prompt, N, ())[0] for prompt in prompts]
    assert len({tuple(row) for row in alone}) == 4
    assert generate(talker.ours, prompts, N, ()) == alone


def test_every_form_of_prompt_is_the_same_prompt(talker: Any) -> None:
    for ids in ([3, 4, 5], (3, 4, 5), [[3, 4, 5]], torch.tensor([3, 4, 5]), torch.tensor([[3, 4, 5]])):
        assert generate(talker.ours, ids, 5, ()) == [by_argmax(talker.ours, [3, 4, 5], 5)]


def test_generating_leaves_no_gradients_behind(talker: Any) -> None:
    with torch.enable_grad():
        generate(talker.ours, [3, 4, 5], 3, ())
        assert talker.ours(torch.tensor([[3, 4, 5]])).requires_grad


# Stopping


@pytest.fixture(scope="module")
def free(talker: Any) -> list[list[int]]:
    """What two prompts lead to when nothing stops them."""
    return generate(talker.ours, PROMPTS, N, ())


PROMPTS = [[3, 4, 5], [20, 30, 40, 50, 60, 70]]


def until(ids: list[int], stop_ids: Any) -> list[int]:
    """The ids before the first stop id."""
    return ids[: min((ids.index(id_) for id_ in stop_ids if id_ in ids), default=len(ids))]


@pytest.mark.parametrize(("row", "place"), [(0, 0), (0, 7), (1, 3), (1, N - 1)])
def test_a_row_ends_before_its_stop_id_and_the_others_go_on(
    talker: Any, free: list[list[int]], row: int, place: int
) -> None:
    stop_ids = (free[row][place],)
    expected = [until(ids, stop_ids) for ids in free]
    assert len(expected[row]) <= place
    assert generate(talker.ours, PROMPTS, N, stop_ids) == expected


def test_each_of_several_stop_ids_stops(talker: Any, free: list[list[int]]) -> None:
    stop_ids = (free[0][9], free[1][4], free[0][2])
    assert generate(talker.ours, PROMPTS, N, stop_ids) == [until(ids, stop_ids) for ids in free]


def test_without_stop_ids_the_config_s_own_stop(pair: Any, talker: Any, free: list[list[int]]) -> None:
    stop_ids = [free[0][5], free[1][9]]
    gemma = pair(tie_word_embeddings=False, eos_token_id=stop_ids).ours
    assert generate(gemma, PROMPTS, N) == [until(ids, stop_ids) for ids in free]


@pytest.mark.parametrize("limit", [0, 1, 2, N])
def test_no_more_than_max_new_tokens(talker: Any, free: list[list[int]], limit: int) -> None:
    assert generate(talker.ours, PROMPTS, limit, ()) == [ids[:limit] for ids in free]


def test_a_stream_gives_none_once_a_row_has_stopped(talker: Any, free: list[list[int]]) -> None:
    """Its stop id is not given either, and the other row goes on to its end."""
    stop_id = next(id_ for id_ in free[0][5:] if id_ not in free[1])
    place = free[0].index(stop_id)
    columns = zip(*stream(talker.ours, PROMPTS, N, (stop_id,)), strict=True)
    assert [list(column) for column in columns] == [free[0][:place] + [None] * (N - place), free[1]]


def test_a_stream_ends_when_all_rows_have_stopped(talker: Any, free: list[list[int]]) -> None:
    stop_ids = (free[0][5], free[1][7])
    ends = [len(until(ids, stop_ids)) for ids in free]
    steps = list(stream(talker.ours, PROMPTS, N, stop_ids))
    assert len(steps) == max(ends)
    assert [step.count(None) for step in steps] == [sum(end <= i for end in ends) for i in range(max(ends))]


def test_a_stream_gives_ids_as_they_come(talker: Any, free: list[list[int]], monkeypatch: pytest.MonkeyPatch) -> None:
    """The first id costs the prompt, each further one a forward pass over a single token per row."""
    read: list[int] = []
    hidden = Gemma.hidden
    monkeypatch.setattr(
        Gemma, "hidden", lambda self, ids, **rest: read.append(ids.shape[1]) or hidden(self, ids, **rest)
    )
    steps = stream(talker.ours, PROMPTS, N, ())
    assert next(steps) == [free[0][0], free[1][0]]
    assert read == [6]
    assert [next(steps), next(steps)] == [[row[i] for row in free] for i in (1, 2)]
    assert read == [6, 1, 1]


# Going on


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Tensor, Tensor]]:
    """Every call of the model from now on: the ids [B, T] that it read, and the logits after each, [B, T, V]."""
    calls: list[tuple[Tensor, Tensor]] = []
    hidden = Gemma.hidden

    def record(self: Gemma, ids: Tensor, *rest: Any, **options: Any) -> Tensor:
        out = hidden(self, ids, *rest, **options)
        calls.append((ids.clone(), self.logits(out.flatten(0, 1)).view(*ids.shape, -1)))
        return out

    monkeypatch.setattr(Gemma, "hidden", record)
    return calls


@pytest.mark.parametrize("room", [1, 20, 500])
def test_a_text_that_goes_on_is_read_once(talker: Any, random_ids: Any, gap: Any, seen: Any, room: int) -> None:
    """Two rows in four turns, far past the window of 8: each token is read once, and as in a text read at once."""
    gemma = talker.ours
    cache, rows = KVCache(gemma.config, 2, room), random_ids(2, 5).tolist()
    for new in (1, 30, 7, 2):
        written = list(stream(gemma, rows, 20, (), cache=cache))
        rows = [
            row + list(ids) + more
            for row, ids, more in zip(rows, zip(*written, strict=True), random_ids(2, new).tolist(), strict=True)
        ]
    read, logits = (torch.cat(parts, 1) for parts in zip(*seen, strict=True))
    assert read.tolist() == [row[: cache.length] for row in rows]
    assert cache.length == len(rows[0]) - 2 - 1  # the last two random tokens and the last written one
    assert gap(logits, gemma(read)) < 1e-5


def test_a_repetition_penalty_counts_what_the_cache_holds(talker: Any, random_ids: Any) -> None:
    gemma, prompt = talker.ours, random_ids(1, 40)[0].tolist()
    cache = KVCache(gemma.config)
    penalty = Sampling(repetition_penalty=5.0)
    begun = [row[0] for row in stream(gemma, prompt, 10, (), penalty, cache=cache)]
    went_on = [row[0] for row in stream(gemma, prompt + begun, 10, (), penalty, cache=cache)]
    assert begun + went_on == generate(gemma, prompt, 20, (), repetition_penalty=5.0)[0]


def test_prompts_with_beginnings_of_any_length_in_the_cache_go_on(talker: Any, random_ids: Any) -> None:
    gemma, prompts = talker.ours, [random_ids(1, length)[0].tolist() for length in (30, 9, 12)]
    cache = KVCache(gemma.config, 0)
    for prompt, held in zip(prompts, (7, 1, 11), strict=True):
        one = KVCache(gemma.config)
        gemma(torch.tensor([prompt[:held]]), cache=one)
        cache.join(one)
    steps = list(stream(gemma, prompts, N, (), cache=cache))
    assert [list(row) for row in zip(*steps, strict=True)] == generate(gemma, prompts, N, ())
    assert cache.lengths == [len(prompt) + N - 1 for prompt in prompts]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[3, 4, 5], [3, 4]], "the cache holds 2 tokens of a prompt of 2; it must be longer"),
        ([[3, 4, 5]], "the cache holds 2 rows, and there are 1 prompts"),
    ],
    ids=["nothing new", "other rows"],
)
def test_prompts_that_do_not_go_on_from_the_cache_are_refused(talker: Any, rows: list[list[int]], message: str) -> None:
    cache = KVCache(talker.ours.config, 2)
    talker.ours(torch.tensor([[3, 4], [3, 4]]), cache=cache)
    with pytest.raises(OptionError, match=message):
        next(stream(talker.ours, rows, 3, (), cache=cache))


# Rows that join and leave


@pytest.mark.parametrize("seed", range(4))
def test_rows_of_a_batch_equal_each_alone(talker: Any, random_ids: Any, seed: int) -> None:
    """Twelve rows with samplings, limits, stops and constraints of their own join, some of them in pairs, and some
    leave before their end."""
    gemma, rng = talker.ours, random.Random(seed)
    size = gemma.model.embed_tokens.size

    def row(number: int) -> Row:
        draw = random.Random(f"{seed} {number}")
        prompt = random_ids(1, draw.randint(1, 30))[0].tolist()
        sampling = draw.choice((Sampling(), Sampling(1.0, seed=number), Sampling(repetition_penalty=3.0)))
        stops = (draw.randrange(size),)
        return Row(prompt, draw.randint(1, N), stops, sampling, Odd(size) if draw.random() < 0.4 else None)

    waiting = [row(number) for number in range(12)]
    begun, batch = list[Row](), Batch(gemma)
    while waiting or batch.rows:
        if waiting and (not batch.rows or rng.random() < 0.3):
            new = [waiting.pop() for _ in range(min(len(waiting), rng.choice((1, 1, 2))))]
            batch.join(new)
            begun += new
        else:
            batch.step()
        for one in [one for one in batch.rows if one.end or rng.random() < 0.01]:
            batch.leave(one)
    assert len(begun) == 12
    assert sum(one.end is None for one in begun) < 6
    for one in begun:
        again = Odd(size) if one.constraint else None
        alone = Row(one.prompt, one.max_new_tokens, one.stop_ids, one.sampling, again)
        by_itself = Batch(gemma)
        by_itself.join([alone])
        while not alone.end:
            by_itself.step()
        assert one.ids == (alone.ids if one.end else alone.ids[: len(one.ids)])
        assert one.end in (alone.end, None)


def test_choices_tell_how_likely_they_were(talker: Any) -> None:
    """Among what was allowed; and what was forced is told."""
    gemma, odd = talker.ours, Odd(talker.ours.model.embed_tokens.size)
    row, batch, read = Row([3, 4, 5], N, (), constraint=odd, likeliest=3), Batch(gemma), [3, 4, 5]
    batch.join([row])
    while not row.end:
        batch.step()
    assert {choice.forced for choice in row.choices} == {True, False}
    for choice in row.choices:
        if choice.forced:
            assert (choice.logprob, choice.likeliest) == (0.0, ())
        else:
            scores = gemma(torch.tensor([read]))[0, -1].masked_fill(~odd.mask, -torch.inf).log_softmax(-1)
            assert choice.logprob == pytest.approx(float(scores[choice.id]), abs=1e-4)
            assert choice.likeliest[0] == (choice.id, choice.logprob)
            assert [value for _, value in choice.likeliest] == pytest.approx(scores.topk(3).values.tolist(), abs=1e-4)
        read.append(choice.id)


# Sampling


@pytest.fixture
def chances(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Tensor]:
    """chances(logits, histories, **options): the probabilities [B, V] that _pick draws from."""
    drawn: list[Tensor] = []
    multinomial = torch.multinomial

    def record(probabilities: Tensor, *rest: Any, **options: Any) -> Tensor:
        drawn.append(probabilities)
        return multinomial(probabilities, *rest, **options)

    monkeypatch.setattr(generate_module.torch, "multinomial", record)

    def measure(logits: Tensor, histories: list[set[int]], **options: Any) -> Tensor:
        _pick(logits.clone(), Sampling(**options), histories, None)
        return drawn.pop()

    return measure


def expected_chances(
    logits: Tensor, prompts: Tensor, temperature: float, top_k: int, top_p: float, penalty: float
) -> Tensor:
    """The same from transformers' processors, in the order in which its generate applies them."""
    steps = transformers.LogitsProcessorList([transformers.RepetitionPenaltyLogitsProcessor(penalty)])
    steps.append(transformers.TemperatureLogitsWarper(temperature))
    if top_k:
        steps.append(transformers.TopKLogitsWarper(top_k))
    if top_p < 1:
        steps.append(transformers.TopPLogitsWarper(top_p))
    return steps(prompts, logits.clone()).softmax(-1)


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p", "penalty"),
    [
        (1.0, 0, 1.0, 1.0),
        (0.7, 0, 1.0, 1.0),
        (2.5, 0, 1.0, 1.0),
        (1.0, 1, 1.0, 1.0),
        (1.0, 10, 1.0, 1.0),
        (1.0, 199, 1.0, 1.0),
        (1.0, 1000, 1.0, 1.0),
        (1.0, 0, 0.9, 1.0),
        (1.0, 0, 0.3, 1.0),
        (1.0, 0, 1e-6, 1.0),
        (1.0, 0, 1.0, 1.3),
        (1.0, 0, 1.0, 0.5),
        (0.7, 20, 0.8, 1.3),
    ],
)
def test_chances_equal_transformers(
    chances: Any, random_ids: Any, temperature: float, top_k: int, top_p: float, penalty: float
) -> None:
    """On 50 rows of random logits: the same ids are left, with the same probabilities."""
    logits, prompts = 4 * torch.randn(50, 199), random_ids(50, 30)
    histories = [set(row) for row in prompts.tolist()]
    got = chances(logits, histories, temperature=temperature, top_k=top_k, top_p=top_p, repetition_penalty=penalty)
    expected = expected_chances(logits, prompts, temperature, top_k, top_p, penalty)
    assert torch.equal(got > 0, expected > 0)
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("penalty", [0.5, 1.0, 1.2, 5.0])
def test_greedy_under_a_penalty_equals_transformers(random_ids: Any, penalty: float) -> None:
    logits, prompts = 4 * torch.randn(50, 199), random_ids(50, 60)
    expected = transformers.RepetitionPenaltyLogitsProcessor(penalty)(prompts, logits.clone()).argmax(-1)
    histories = [set(row) for row in prompts.tolist()]
    assert _pick(logits.clone(), Sampling(repetition_penalty=penalty), histories, None) == expected.tolist()


def test_ids_are_drawn_as_often_as_their_chances_say(random_ids: Any) -> None:
    """20,000 draws: each frequency within 5 standard deviations."""
    logits, draws = torch.tensor([2.0, 1.0, 0.0, -1.0, -30.0]), 20_000
    drawn = Counter(_pick(logits.repeat(draws, 1), Sampling(temperature=1.5, top_k=3), [set()] * draws, None))
    chances = torch.tensor([2.0, 1.0, 0.0]).div(1.5).softmax(-1).tolist()
    assert set(drawn) == {0, 1, 2}
    for id_, chance in enumerate(chances):
        assert abs(drawn[id_] / draws - chance) < 5 * (chance * (1 - chance) / draws) ** 0.5


def test_the_only_likely_id_is_picked_whatever_the_draw(talker: Any) -> None:
    greedy = generate(talker.ours, PROMPTS, N, ())
    assert generate(talker.ours, PROMPTS, N, (), temperature=1.0, top_k=1) == greedy
    assert generate(talker.ours, PROMPTS, N, (), temperature=5.0, top_p=1e-6) == greedy


def test_the_same_seed_gives_the_same_ids_and_another_seed_others(talker: Any) -> None:
    first, again, other = (generate(talker.ours, PROMPTS, N, (), temperature=1.0, seed=seed) for seed in (7, 7, 8))
    assert first == again != other
    assert first != generate(talker.ours, PROMPTS, N, ())


def test_a_seed_neither_reads_nor_disturbs_torch_s_own(talker: Any) -> None:
    before = torch.get_rng_state()
    generate(talker.ours, PROMPTS, 5, (), temperature=1.0, seed=7)
    assert torch.equal(before, torch.get_rng_state())


def test_without_a_seed_torch_s_own_decides(talker: Any) -> None:
    def run(seed: int) -> list[list[int]]:
        torch.manual_seed(seed)
        return generate(talker.ours, PROMPTS, N, (), temperature=1.0)

    assert run(1) == run(1) != run(2)


# Refusing


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": -0.1},
        {"top_k": -1},
        {"top_p": 0.0},
        {"top_p": -0.5},
        {"top_p": 1.01},
        {"top_p": float("nan")},
        {"repetition_penalty": 0.0},
        {"repetition_penalty": -1.0},
        *(
            pytest.param(options)
            for options, raises in (
                ({"temperature": float("nan")}, RuntimeError),
                ({"repetition_penalty": float("nan")}, pytest.fail.Exception),
                ({"top_k": 2.5, "temperature": 1.0}, TypeError),
            )
        ),
    ],
    ids=str,
)
def test_options_out_of_range_are_refused_by_name(talker: Any, options: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=f"{next(iter(options))}="):
        generate(talker.ours, PROMPTS, 3, (), **options)


@pytest.mark.parametrize("temperature", [1e-3, pytest.param(1e-39)])
def test_hardly_any_temperature_is_greedy(talker: Any, temperature: float) -> None:
    """Logits over 1e-39 are infinite in fp32, and their softmax is not a number."""
    assert generate(talker.ours, PROMPTS, N, (), temperature=temperature) == generate(talker.ours, PROMPTS, N, ())


@pytest.mark.parametrize("ids", [[], [[]], [[3], []], torch.empty(0), torch.empty(2, 0)], ids=str)
def test_an_empty_prompt_is_refused(talker: Any, ids: Any) -> None:
    with pytest.raises(OptionError, match="every prompt needs at least one token"):
        generate(talker.ours, ids, 3, ())


@pytest.mark.parametrize("id_", [-1, 199])
def test_an_id_outside_the_vocabulary_is_refused(talker: Any, id_: int) -> None:
    with pytest.raises(OptionError, match=str(id_)):
        generate(talker.ours, [3, id_], 3, ())


def test_options_are_checked_before_the_model_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def untouched(*_: Any) -> Iterator[Any]:
        raise AssertionError("the model was asked")

    monkeypatch.setattr(generate_module, "stream", untouched)
    with pytest.raises(OptionError):
        generate(None, PROMPTS, temperature=-1.0)  # type: ignore[arg-type]


# Constraints


class Odd:
    """Only odd ids; after each id that 3 divides, the ids 1, 5, 7 without a choice."""

    def __init__(self, size: int) -> None:
        self.mask = torch.arange(size) % 2 == 1
        self.taken: list[int] = []

    def allowed(self, left: int) -> Tensor:
        return self.mask

    def forced(self, left: int) -> list[int]:
        return [1, 5, 7] if self.taken and self.taken[-1] % 3 == 0 else []

    def advance(self, id_: int) -> None:
        self.taken.append(id_)


def constrained_by_argmax(gemma: Gemma, prompt: list[int], new_tokens: int) -> list[int]:
    """The likeliest allowed id, or what must come, reading everything anew each time."""
    odd, ids, queue = Odd(gemma.model.embed_tokens.size), list(prompt), []
    while len(ids) < len(prompt) + new_tokens:
        scores = gemma(torch.tensor([ids]))[0, -1].masked_fill(~odd.mask, -torch.inf)
        ids.append(queue.pop(0) if queue else int(scores.argmax()))
        odd.advance(ids[-1])
        queue = queue or odd.forced(0)
    return ids[len(prompt) :]


@pytest.fixture
def prompts(random_ids: Any) -> list[list[int]]:
    return [random_ids(1, length)[0].tolist() for length in (4, 11, 30)]


def test_a_constraint_picks_the_likeliest_of_what_is_allowed(talker: Any, prompts: list[list[int]]) -> None:
    gemma = talker.ours
    expected = [constrained_by_argmax(gemma, prompt, N) for prompt in prompts]
    assert any(id_ % 3 == 0 for row in expected for id_ in row), "nothing was forced"
    for prompt, row in zip(prompts, expected, strict=True):
        odd = Odd(gemma.model.embed_tokens.size)
        assert generate(gemma, prompt, N, (), constraints=[odd]) == [row]
        assert odd.taken == row
    constraints = [Odd(gemma.model.embed_tokens.size) for _ in prompts]
    assert generate(gemma, prompts, N, (), constraints=constraints) == expected


def test_rows_without_a_constraint_are_free(talker: Any, prompts: list[list[int]]) -> None:
    odd = Odd(talker.ours.model.embed_tokens.size)
    free, bound, also_free = generate(talker.ours, prompts, N, (), constraints=[None, odd, None])
    assert [free, also_free] == generate(talker.ours, [prompts[0], prompts[2]], N, ())
    assert bound == constrained_by_argmax(talker.ours, prompts[1], N)


def test_what_is_forced_on_every_row_from_the_start(talker: Any, prompts: list[list[int]]) -> None:
    """Then ids stand behind the prompts before the model is asked for the first time."""

    class Begun(Odd):
        def forced(self, left: int) -> list[int]:
            return super().forced(left) if self.taken else [9, 4, 2]

    gemma = talker.ours
    V = gemma.model.embed_tokens.size
    together = generate(gemma, prompts, N, (), constraints=[Begun(V) for _ in prompts])
    for prompt, row in zip(prompts, together, strict=True):
        assert row[:3] == [9, 4, 2]
        odd = Odd(V)
        for id_ in row[:3]:
            odd.advance(id_)
        assert generate(gemma, prompt + row[:3], N - 3, (), constraints=[odd]) == [row[3:]]


def test_ids_that_a_constraint_does_not_know_never_come(talker: Any, prompts: list[list[int]]) -> None:
    """A model's table may be longer than the tokenizer's."""
    size = talker.ours.model.embed_tokens.size
    (row,) = generate(talker.ours, prompts[0], N, (), constraints=[Odd(size // 4)])
    assert max(row) < size // 4
    with pytest.raises(OptionError, match=f"tokenizer has {size + 1} tokens, the model {size}"):
        generate(talker.ours, prompts[0], N, (), constraints=[Odd(size + 1)])


def test_what_is_forced_is_not_asked(talker: Any, prompts: list[list[int]], monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    logits = talker.ours.logits
    monkeypatch.setattr(talker.ours, "logits", lambda hidden: asked.append(1) or logits(hidden))
    odd = Odd(talker.ours.model.embed_tokens.size)
    (row,) = generate(talker.ours, prompts[0], N, (), constraints=[odd])
    forced = sum(id_ % 3 == 0 for id_ in row[:-3]) * 3
    assert forced
    assert len(asked) <= N - forced


class Closing:
    """Like a grammar inside a call that takes so many more ids: with fewer left, nothing is allowed any more."""

    def __init__(self, size: int, needed: int) -> None:
        self.needed, self.mask = needed, torch.ones(size, dtype=torch.bool)

    def allowed(self, left: int) -> Tensor:
        return self.mask & (left >= self.needed)

    def forced(self, left: int) -> list[int]:
        return []

    def advance(self, id_: int) -> None:
        self.needed = max(0, self.needed - 1)


def test_a_row_that_stops_inside_a_call_does_not_hold_up_the_others(talker: Any, free: list[list[int]]) -> None:
    """Its constraint is asked no more: it would allow nothing, and nothing cannot be drawn from."""
    stop_id = next(id_ for id_ in free[0] if id_ not in free[1])
    expected = [until(free[0], (stop_id,)), free[1]]
    size, open_ = talker.ours.model.embed_tokens.size, len(expected[0]) + 3  # ids that complete its call
    options: dict[str, Any] = {"temperature": 1e-3, "constraints": [Closing(size, open_), None]}
    assert generate(talker.ours, PROMPTS, N, (stop_id,), **options) == expected
