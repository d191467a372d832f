"""The training loop: what it does to the weights, what it records, and going on after an interruption."""

import json
import math
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._dynamo.utils import counters

from minifc.data import IGNORED, Example
from minifc.errors import CheckpointError, ParameterError, TrainingError
from minifc.gemma.model import Attention, Gemma
from minifc.tuning import loop as loop_module
from minifc.tuning.loop import (
    LoopConfig,
    adamw,
    compiled,
    count_steps,
    evaluate_loss,
    latest_checkpoint,
    recompute,
    schedule,
    train,
)
from minifc.tuning.lora import add_lora, merge_lora
from minifc.tuning.vocab import extend

Make = Callable[..., list[Example]]
Fresh = Callable[..., Gemma]
Near = Callable[..., bool]
Record = dict[str, Any]


def prepare(model: Gemma, seed: int = 0, r: int = 4, dropout: float = 0.1) -> Gemma:
    """LoRA and two new rows on it."""
    torch.manual_seed(seed)
    extend(model, [97, 98], 0.3 * torch.randn(2, 32))
    add_lora(model, r=r, alpha=8, dropout=dropout)
    return model


def trained(model: Gemma) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def run(model: Gemma, examples: list[Example], config: LoopConfig, **options: Any) -> list[Record]:
    """Train, and return what was logged."""
    records: list[Record] = []
    train(model, examples, config, log=records.append, progress=False, **options)
    return records


@pytest.fixture
def examples(make_examples: Make) -> list[Example]:
    return make_examples([12, 5, 9, 7, 11, 3, 8, 12, 6, 10])


# --- the learning rate -------------------------------------------------------------------------------------------


def test_the_schedule_warms_up_and_falls_as_a_cosine() -> None:
    rates = [schedule(step, 10, 0.2) for step in range(10)]
    assert rates[:3] == [0.5, 1.0, 1.0]
    for step in range(2, 10):
        assert rates[step] == pytest.approx((1 + math.cos(math.pi * (step - 2) / 8)) / 2)
    assert schedule(6, 10, 0.2) == pytest.approx(0.5)
    assert [schedule(step, 15, 0.1) for step in (0, 1)] == [0.5, 1.0]  # a share of a step counts as one
    assert schedule(10, 10, 0.2) == pytest.approx(0.0)  # reached after the last step


@pytest.mark.parametrize(("steps", "ratio"), [(1, 0.0), (1, 1.0), (7, 0.1), (50, 0.5), (3, 1.0), (300, 0.1)])
def test_the_schedule_rises_then_falls_and_never_stops_learning(steps: int, ratio: float) -> None:
    rates = [schedule(step, steps, ratio) for step in range(steps)]
    assert all(0 < rate <= 1 for rate in rates)
    assert max(rates) == 1
    top = rates.index(1.0)
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)


# --- learning ----------------------------------------------------------------------------------------------------


def test_one_example_is_learned_by_heart(fresh: Fresh, make_examples: Make) -> None:
    """With Gemma's own final soft-cap: at 3, as elsewhere here, no token could become certain."""
    model = prepare(fresh(final_logit_softcapping=30.0), dropout=0.0)
    (example,) = make_examples([10])
    records = run(model, [example], LoopConfig(max_steps=150, rows=1, length=10, learning_rate=2e-2))
    assert records[0]["loss"] > 3
    assert records[-1]["loss"] < 0.05
    ids = torch.tensor([example.ids])
    assert model(ids).argmax(-1)[0, :-1].tolist() == example.ids[1:]


def test_only_the_adapter_changes(model: Gemma, examples: list[Example]) -> None:
    prepare(model)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    run(model, examples, LoopConfig(rows=2, length=12))
    after = model.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == set(trained(model))


def test_two_runs_with_one_seed_are_equal_and_another_seed_is_not(fresh: Fresh, examples: list[Example]) -> None:
    results = []
    for seed in (0, 0, 1):
        model = prepare(fresh())
        run(model, examples, LoopConfig(rows=2, length=12, seed=seed))
        results.append(trained(model))
    assert same(results[0], results[1])
    assert not same(results[0], results[2])


def test_each_epoch_sees_each_example_once_in_an_order_of_its_own(examples: list[Example]) -> None:
    config = LoopConfig(epochs=3, rows=1, length=12, accumulation=3)
    steps = list(loop_module._steps(examples, config))
    assert count_steps(examples, config) == len(steps)
    seen = []
    for batches in steps:
        assert 1 <= len(batches) <= 3
        for batch in batches:
            for document in range(int(batch.documents.max()) + 1):
                seen.append(batch.ids[batch.documents == document].tolist())
    epochs = [seen[start : start + 10] for start in (0, 10, 20)]
    assert len(seen) == 30
    assert all(sorted(epoch) == sorted(example.ids for example in examples) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]


def test_max_steps_goes_on_beyond_the_epochs_or_stops_before(model: Gemma, examples: list[Example]) -> None:
    prepare(model)
    for max_steps in (2, 9):
        config = LoopConfig(max_steps=max_steps, rows=4, length=12)
        assert [record["step"] for record in run(model, examples, config)] == list(range(1, max_steps + 1))


def test_matrices_decay_and_vectors_do_not() -> None:
    trainable = {"matrix": nn.Parameter(torch.ones(2, 2)), "gain": nn.Parameter(torch.ones(2))}
    (optimizer,) = adamw(trainable, LoopConfig(weight_decay=0.3, learning_rate=0.1))
    for parameter in trainable.values():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert torch.allclose(trainable["matrix"], torch.tensor(0.97))
    assert torch.equal(trainable["gain"], torch.ones(2))


def test_gradients_are_shortened_to_the_limit(model: Gemma, examples: list[Example]) -> None:
    """Plain gradient descent at rate 1 then moves the weights by exactly the limit; the record has the full length."""
    prepare(model, dropout=0.0)
    before = trained(model)

    def descent(trainable: dict[str, nn.Parameter], config: LoopConfig) -> list[torch.optim.Optimizer]:
        return [torch.optim.SGD(trainable.values(), lr=config.learning_rate)]

    config = LoopConfig(max_steps=1, rows=8, length=12, learning_rate=1.0, warmup_ratio=1.0, max_grad_norm=1e-2)
    (record,) = run(model, examples, config, make_optimizers=descent)
    change = torch.cat([(after - before[name]).flatten() for name, after in trained(model).items()])
    assert change.norm().item() == pytest.approx(1e-2, rel=1e-3)
    assert record["gradient_norm"] > 0.1


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The layers whose attention has run, in order."""
    seen: list[int] = []
    forward = Attention.forward
    monkeypatch.setattr(Attention, "forward", lambda self, *args: seen.append(self.layer) or forward(self, *args))
    return seen


def test_gradient_checkpointing_computes_the_same_gradients_again(
    fresh: Fresh, examples: list[Example], calls: list[int]
) -> None:
    """Bit for bit, dropout included; and attention does run twice per layer and step."""
    results, counts = [], []
    for checkpointing in (False, True):
        model = prepare(fresh(), dropout=0.2)
        calls.clear()
        run(model, examples, LoopConfig(max_steps=3, rows=8, length=12, gradient_checkpointing=checkpointing))
        results.append(trained(model))
        counts.append(len(calls))
    assert same(*results)
    assert counts == [3 * 2, 2 * 3 * 2]


def test_a_second_run_computes_no_more_than_the_first(model: Gemma, examples: list[Example], calls: list[int]) -> None:
    """Gradient checkpointing of a model that was trained with it before must not add up."""
    prepare(model)
    counts = []
    for _ in range(2):
        calls.clear()
        run(model, examples, LoopConfig(max_steps=1, rows=8, length=12, gradient_checkpointing=True))
        counts.append(len(calls))
        assert not any("forward" in vars(block) for block in model.model.layers)
    assert counts == [4, 4]


def test_gradient_checkpointing_ends_with_a_run_that_fails(model: Gemma, examples: list[Example]) -> None:
    prepare(model)
    with pytest.raises(Interrupted):
        train(model, examples, LoopConfig(length=12, gradient_checkpointing=True), log=interrupt_after(1))
    assert not any("forward" in vars(block) for block in model.model.layers)


def test_what_changes_a_block_leaves_the_others_change_as_it_was(model: Gemma) -> None:
    block = model.model.layers[0]
    with compiled(model):
        before = block.forward
        with recompute(model):
            assert isinstance(block.forward, partial)
            assert block.forward.args[0] is before
        assert block.forward is before
    assert not any("forward" in vars(block) for block in model.model.layers)


def test_mixed_precision_trains_fp32_weights_nearly_as_well(fresh: Fresh, examples: list[Example]) -> None:
    losses = []
    for autocast in (False, True):
        model = prepare(fresh(), dropout=0.0)
        records = run(model, examples, LoopConfig(epochs=3, rows=8, length=12, autocast=autocast))
        assert {tensor.dtype for tensor in trained(model).values()} == {torch.float32}
        losses.append([record["loss"] for record in records])
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
    assert losses[1] != losses[0]


# --- records and evaluation --------------------------------------------------------------------------------------


def test_a_record_per_step(model: Gemma, examples: list[Example]) -> None:
    prepare(model)
    config = LoopConfig(epochs=2, rows=2, length=12, accumulation=2, learning_rate=1e-3)
    records = run(model, examples, config)
    steps = list(loop_module._steps(examples, config))
    assert [record["step"] for record in records] == list(range(1, len(steps) + 1))
    tokens = 0
    for step, (record, batches) in enumerate(zip(records, steps, strict=True)):
        tokens += sum(int((batch.documents >= 0).sum()) for batch in batches)
        assert record["learning_rate"] == pytest.approx(1e-3 * schedule(step, len(steps), 0.1))
        assert record["supervised"] == sum(batch.supervised for batch in batches)
        assert record["tokens"] == tokens
        assert record["tokens_per_second"] > 0
        assert record["gradient_norm"] > 0
        assert json.loads(json.dumps(record)) == record
    assert tokens == 2 * sum(len(example.ids) for example in examples)


def plain_loss(model: Gemma, examples: list[Example]) -> float:
    """Mean over all supervised tokens of all examples, one example at a time."""
    total, count = 0.0, 0
    with torch.no_grad():
        for example in examples:
            logits = model(torch.tensor([example.ids]))[0, :-1]
            targets = torch.tensor([i if m else IGNORED for i, m in zip(example.ids, example.mask, strict=True)][1:])
            total += F.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="sum").item()
            count += int((targets != IGNORED).sum())
    return total / count


def test_the_recorded_loss_is_the_mean_over_the_steps_tokens(model: Gemma, make_examples: Make) -> None:
    examples = make_examples([12, 12, 12], [1, 11, 4])
    prepare(model, dropout=0.0)
    expected = plain_loss(model, examples)
    records = run(model, examples, LoopConfig(rows=1, length=12, accumulation=3))
    assert [record["loss"] for record in records] == [pytest.approx(expected, rel=1e-5)]


def test_evaluation_loss_equals_a_plain_computation_without_dropout(model: Gemma, make_examples: Make) -> None:
    examples = make_examples([12, 5, 9, 12], [1, 4, 8, 2])
    prepare(model, dropout=0.5)
    run(model, examples, LoopConfig(max_steps=2, rows=1, length=12))  # so that LoRA's B is not zero
    expected = plain_loss(model.eval(), examples)
    for training in (True, False):
        model.train(training)
        ours = evaluate_loss(model, examples, LoopConfig(rows=2, length=20))
        assert ours == pytest.approx(expected, rel=1e-5)
        assert model.training is training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_evaluation_comes_when_asked_and_at_the_end_and_changes_nothing(
    fresh: Fresh, examples: list[Example], make_examples: Make
) -> None:
    kept = make_examples([8, 9], [3, 4])
    results = []
    for eval_every in (0, 2):
        model = prepare(fresh())
        records = run(
            model, examples, LoopConfig(max_steps=5, rows=2, length=12, eval_every=eval_every), evaluation=kept
        )
        evaluated = {record["step"]: record["eval_loss"] for record in records if "eval_loss" in record}
        assert list(evaluated) == ([2, 4, 5] if eval_every else [5])
        assert evaluated[5] == pytest.approx(plain_loss(model, kept), rel=1e-5)
        results.append(trained(model))
    assert same(*results)


def test_a_trained_model_is_in_evaluation_mode(model: Gemma, examples: list[Example]) -> None:
    prepare(model)
    run(model, examples, LoopConfig(max_steps=1, rows=2, length=12))
    assert not any(module.training for module in model.modules())


# --- refusals ----------------------------------------------------------------------------------------------------


def test_nothing_trainable_is_refused(model: Gemma, examples: list[Example]) -> None:
    model.requires_grad_(False)
    with pytest.raises(TrainingError, match="add_lora"):
        run(model, examples, LoopConfig(length=12))


@contextmanager
def seconds(limit: int) -> Iterator[None]:
    """Fail instead of hanging."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"not done after {limit} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(limit)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("max_steps", [0, 3])
def test_no_examples_are_refused(model: Gemma, max_steps: int) -> None:
    prepare(model)
    with seconds(2), pytest.raises(TrainingError):
        run(model, [], LoopConfig(max_steps=max_steps, length=12))


def test_a_loss_that_is_not_finite_stops_the_run(model: Gemma, examples: list[Example]) -> None:
    prepare(model)
    model.model.norm.weight.data[3] = math.nan
    before = trained(model)
    with pytest.raises(TrainingError, match="step 1: the loss is nan"):
        run(model, examples, LoopConfig(rows=2, length=12))
    assert same(trained(model), before)


def test_a_gradient_that_is_not_finite_stops_the_run_too(model: Gemma, examples: list[Example]) -> None:
    """The soft-cap hides an overflow from the loss, so the weights would be ruined and saved before it shows."""
    prepare(model)
    model.model.norm.weight.data[3] = math.inf
    before = trained(model)
    with pytest.raises(TrainingError, match="step 1"):
        run(model, examples, LoopConfig(max_steps=1, rows=2, length=12))
    assert same(trained(model), before)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # torch hides it while it compiles
@pytest.mark.parametrize("recomputing", [False, True])
def test_compiled_blocks_learn_the_same_and_are_compiled_once_for_each_kind(
    fresh: Fresh, examples: list[Example], near: Near, recomputing: bool
) -> None:
    """Six layers, of which three slide: twice."""
    config = LoopConfig(rows=2, length=12, max_steps=4, gradient_checkpointing=recomputing)
    results = []
    for compile in (False, True):
        model = prepare(fresh(num_hidden_layers=6), dropout=0.0)
        torch.compiler.reset()
        counters.clear()
        run(model, examples, replace(config, compile=compile), evaluation=examples[:3])
        results.append(trained(model))
        assert counters["stats"]["unique_graphs"] == (2 if compile else 0)
        assert not any("forward" in vars(block) for block in model.model.layers)
    assert all(near(results[0][name], results[1][name], 1e-4) for name in results[0])


def test_without_a_compiler_the_training_is_not_compiled(
    model: Gemma, examples: list[Example], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(torch, "compile", None)
    run(prepare(model), examples, LoopConfig(rows=2, length=12, max_steps=1, compile=True))
    assert (
        capsys.readouterr().out == "no C++ compiler (g++ or clang++): trained without torch.compile, which is slower\n"
    )


def test_what_may_be_wrong_with_compiled_gradients_is_said(
    model: Gemma, examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    """g++ can compile them wrongly (LOG.md, 2026-11-27); the loss looks right then."""
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    prepare(model)
    model.model.layers[0].self_attn.k_proj.lora_B.weight.register_hook(lambda gradient: gradient * math.nan)
    before = trained(model)
    with pytest.raises(TrainingError, match=r"step 1: the gradient is nan; .*without torch\.compile"):
        run(model, examples, LoopConfig(rows=2, length=12, compile=True))
    assert same(trained(model), before)


@pytest.mark.parametrize(
    "options",
    [
        {"epochs": 0},
        {"rows": 0},
        {"length": 0},
        {"accumulation": 0},
        {"look_ahead": 0},
        {"max_steps": -1},
        {"eval_every": -1},
        {"save_every": -1},
        {"weight_decay": -0.1},
        {"weight_decay": math.inf},
        {"weight_decay": math.nan},
        {"learning_rate": 0.0},
        {"learning_rate": math.nan},
        {"learning_rate": math.inf},
        {"max_grad_norm": 0.0},
        {"max_grad_norm": math.inf},
        {"warmup_ratio": 1.5},
    ],
    ids=str,
)
def test_options_out_of_range_are_refused_by_name(options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(ParameterError, match=f"^{name}={options[name]}: must be "):
        LoopConfig(**options)


# --- states ------------------------------------------------------------------------------------------------------

LONG = LoopConfig(epochs=4, rows=1, length=12, accumulation=2, learning_rate=1e-2, save_every=3)


class Interrupted(Exception):
    pass


def interrupt_after(step: int) -> Callable[[Record], None]:
    def log(record: Record) -> None:
        if record["step"] == step:
            raise Interrupted

    return log


def run_until(model: Gemma, examples: list[Example], config: LoopConfig, states: Path, step: int) -> None:
    with pytest.raises(Interrupted):
        train(model, examples, config, log=interrupt_after(step), checkpoints=states, progress=False)


@pytest.fixture
def states(fresh: Fresh, examples: list[Example], tmp_path: Path) -> Path:
    """What a run that was interrupted in step 8 leaves: the state after step 6."""
    run_until(prepare(fresh()), examples, LONG, tmp_path / "states", 8)
    return tmp_path / "states"


@pytest.mark.parametrize("changes", [{}, {"gradient_checkpointing": True}, {"max_steps": 12}], ids=str)
def test_a_resumed_run_is_bit_for_bit_the_uninterrupted_one(
    fresh: Fresh, examples: list[Example], tmp_path: Path, changes: dict[str, Any]
) -> None:
    """Interrupted twice: in the first epoch and in a later one, with dropout and accumulation."""
    config = LoopConfig(**vars(LONG) | changes)
    whole = prepare(fresh())
    expected = run(whole, examples, config)
    assert len(expected) >= 12

    for seed, stop in ((0, 5), (98, 11)):  # all that a resumed run starts with is overwritten by the state
        run_until(prepare(fresh(), seed), examples, config, tmp_path / "states", stop)
    model = prepare(fresh(), seed=99)
    records = run(model, examples, config, checkpoints=tmp_path / "states")
    assert same(trained(model), trained(whole))
    numbers = ("step", "loss", "learning_rate", "gradient_norm", "supervised")
    assert [[r[n] for n in numbers] for r in records] == [[r[n] for n in numbers] for r in expected[9:]]


def test_saving_states_changes_nothing(fresh: Fresh, examples: list[Example], tmp_path: Path) -> None:
    results = []
    for folder in (None, tmp_path / "states"):
        model = prepare(fresh())
        run(model, examples, LONG, checkpoints=folder)
        results.append(trained(model))
    assert same(*results)


def test_one_state_is_kept_and_it_is_small(states: Path, model: Gemma) -> None:
    """Trained numbers, two moments of each, and the generator; not the base model."""
    assert [path.name for path in states.iterdir()] == ["step-000006"]
    assert {path.name for path in (states / "step-000006").iterdir()} == {"state.json", "state.safetensors"}
    numbers = sum(tensor.numel() for tensor in trained(prepare(model)).values())
    assert (states / "step-000006" / "state.safetensors").stat().st_size < 3 * 4 * numbers + 30_000


@pytest.mark.parametrize(
    "change",
    [{"learning_rate": 2e-2}, {"rows": 2}, {"seed": 1}, {"epochs": 5}, {"warmup_ratio": 0.2}, {"max_steps": 30}],
    ids=str,
)
def test_a_state_of_other_options_is_refused_by_name(
    model: Gemma, examples: list[Example], states: Path, change: dict[str, Any]
) -> None:
    prepare(model)
    before = trained(model)
    with pytest.raises(CheckpointError, match=f"{next(iter(change))}=.*same options") as error:
        run(model, examples, LoopConfig(**vars(LONG) | change), checkpoints=states)
    assert str(states) in str(error.value)
    assert same(trained(model), before)


def test_how_often_to_look_and_save_may_change(
    fresh: Fresh, examples: list[Example], make_examples: Make, states: Path
) -> None:
    whole, model = prepare(fresh()), prepare(fresh())
    run(whole, examples, LONG)
    config = LoopConfig(**vars(LONG) | {"save_every": 0, "eval_every": 2})
    run(model, examples, config, evaluation=make_examples([7]), checkpoints=states)
    assert same(trained(model), trained(whole))


@pytest.mark.parametrize("r", [1, 8])
def test_a_state_of_another_rank_is_refused(model: Gemma, examples: list[Example], states: Path, r: int) -> None:
    prepare(model, r=r)
    with pytest.raises(CheckpointError, match="step-000006"):
        run(model, examples, LONG, checkpoints=states)


def test_a_state_without_some_layers_is_refused(model: Gemma, examples: list[Example], tmp_path: Path) -> None:
    add_lora(model, r=4, targets=("q_proj",))
    run_until(model, examples, LONG, tmp_path / "states", 5)
    add_lora(model, r=4, targets=("v_proj",))
    with pytest.raises(CheckpointError, match=r"v_proj.*another run"):
        run(model, examples, LONG, checkpoints=tmp_path / "states")


@pytest.mark.parametrize("damage", ["cut short", "missing"])
@pytest.mark.parametrize("name", ["state.json", "state.safetensors"])
def test_a_damaged_state_is_named(model: Gemma, examples: list[Example], states: Path, name: str, damage: str) -> None:
    path = states / "step-000006" / name
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError, match=name):
        run(prepare(model), examples, LONG, checkpoints=states)


@pytest.mark.parametrize("broken", ["save_file", "json"])
def test_a_save_that_fails_leaves_the_state_before_it(
    fresh: Fresh, examples: list[Example], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """Whole or not at all: after it, the run goes on from the older state to the same end."""
    whole = prepare(fresh())
    run(whole, examples, LONG)
    first = prepare(fresh())
    save_file, dumps, calls = loop_module.save_file, json.dumps, []

    def fill_disk(tensors: dict[str, Tensor], path: Path) -> None:
        calls.append(path)
        if len(calls) == 2:
            path.write_bytes(b"half a fi")
            raise OSError("No space left on device")
        save_file(tensors, path)

    def fill_disk_with_json(value: Any, **_: Any) -> str:
        calls.append(Path())
        if len(calls) == 2:
            raise OSError("No space left on device")
        return dumps(value)

    with monkeypatch.context() as patch:
        if broken == "save_file":
            patch.setattr(loop_module, "save_file", fill_disk)
        else:
            patch.setattr(loop_module.json, "dumps", fill_disk_with_json)
        with pytest.raises(OSError, match="No space"):
            run(first, examples, LONG, checkpoints=tmp_path / "states")
    assert [path.name for path in (tmp_path / "states").iterdir()] == ["step-000003"]
    model = prepare(fresh())
    run(model, examples, LONG, checkpoints=tmp_path / "states")
    assert same(trained(model), trained(whole))


@pytest.mark.parametrize("part", ["parameter", "optimizer"])
def test_a_state_that_is_not_finite_is_not_saved(
    model: Gemma, examples: list[Example], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    """The one before it stays. Losses and gradients of such a run may be finite: only its last update was not."""
    prepare(model)

    class Spoiling(torch.optim.AdamW):
        count = 0

        def step(self, closure: Any = None) -> None:
            super().step()
            self.count += 1
            if self.count == 6:
                parameter = next(iter(self.state))
                spoiled = parameter.data if part == "parameter" else self.state[parameter]["exp_avg"]
                spoiled[0, 0] = math.nan

    monkeypatch.setattr(torch.optim, "AdamW", Spoiling)
    with pytest.raises(TrainingError, match=rf"^step 6: {part}\.model\.\S+ holds a number that is not finite.*\Z"):
        run(model, examples, LONG, checkpoints=tmp_path / "states")
    assert [path.name for path in (tmp_path / "states").iterdir()] == ["step-000003"]


def test_what_a_killed_save_leaves_behind_is_no_state(states: Path) -> None:
    (states / ".step-000009.x1y2").mkdir()
    assert latest_checkpoint(states) == states / "step-000006"
    assert latest_checkpoint(states / "nowhere") is None
    (states / "step-1000000").mkdir()  # past a million steps, names have a digit more
    (states / "step-last").mkdir()  # somebody's own
    assert latest_checkpoint(states) == states / "step-1000000"


# In fp16 the gradient of a single token, scaled by 65536, overflows: the first step is left out, the scale halved.
HALF = LoopConfig(**vars(LONG) | {"epochs": 1, "accumulation": 1})


def test_a_run_in_fp16_resumes_bit_for_bit(fresh: Fresh, make_examples: Make, tmp_path: Path) -> None:
    """The scale of its gradients is part of the state."""
    examples = make_examples([12] * 8, [1] * 8)
    whole = prepare(fresh().half())
    run(whole, examples, HALF)
    run_until(prepare(fresh().half()), examples, HALF, tmp_path / "states", 5)
    model = prepare(fresh().half())
    run(model, examples, HALF, checkpoints=tmp_path / "states")
    assert same(trained(model), trained(whole))


def test_a_step_that_fp16_leaves_out_has_no_gradient_in_the_record(fresh: Fresh, make_examples: Make) -> None:
    records = run(prepare(fresh().half()), make_examples([12] * 8, [1] * 8), HALF)
    assert "gradient_norm" not in records[0]
    assert "row_gradients" not in records[0]
    assert all(math.isfinite(record["gradient_norm"]) for record in records[2:])
    json.dumps(records, allow_nan=False)


def test_a_merged_model_does_not_learn(model: Gemma, examples: list[Example]) -> None:
    prepare(model)
    merge_lora(model)
    with pytest.raises(TrainingError, match="unmerge_lora first"):
        run(model, examples, LoopConfig(rows=2, length=12))


def test_a_state_can_be_saved_before_the_first_step_counts(fresh: Fresh, make_examples: Make, tmp_path: Path) -> None:
    """A step that overflows in fp16 leaves the optimiser without any state."""
    examples = make_examples([12] * 3, [1] * 3)
    run(
        prepare(fresh().half()), examples, LoopConfig(**vars(HALF) | {"save_every": 1}), checkpoints=tmp_path / "states"
    )
    assert latest_checkpoint(tmp_path / "states") == tmp_path / "states" / "step-000002"
