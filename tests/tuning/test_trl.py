"""TRL's SFTTrainer beside minifc: the same losses where it runs the same thing, and its own words where it does not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from measured import measured
from torch import nn
from transformers import AutoTokenizer, Gemma2ForCausalLM

from minifc import export
from minifc.data import IGNORED, Example
from minifc.gemma.model import Gemma
from minifc.text.template import render
from minifc.text.tokenizer import Tokenizer, load_tokenizer
from minifc.tuning.loop import LoopConfig, _steps, train
from minifc.tuning.lora import ATTENTION, FEED_FORWARD, add_lora

# TRL, PEFT and transformers say much to each other.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

STEPS, RANK, ALPHA = 20, 4, 16
SEVEN = ATTENTION + FEED_FORWARD
# One conversation a row, four rows a step. TRL's warm-up starts at 0, ours a step above, so there is none.
CONFIG = LoopConfig(
    max_steps=STEPS, rows=1, length=40, accumulation=4, learning_rate=3e-3, warmup_ratio=0.0, weight_decay=0.1
)


@pytest.fixture
def trainer(tiny: Path, tmp_path: Path) -> Callable[..., Any]:
    """trainer(hf, rows, **lora): an SFTTrainer that takes these rows as they come."""
    from datasets import Dataset
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    def make(hf: Gemma2ForCausalLM, rows: list[dict[str, list[int]]], **lora: Any) -> Any:
        arguments = SFTConfig(
            output_dir=str(tmp_path / "trl"),
            max_steps=STEPS,
            per_device_train_batch_size=CONFIG.rows,
            gradient_accumulation_steps=CONFIG.accumulation,
            learning_rate=CONFIG.learning_rate,
            lr_scheduler_type="cosine",
            weight_decay=CONFIG.weight_decay,
            max_grad_norm=CONFIG.max_grad_norm,
            train_sampling_strategy="sequential",
            dataset_kwargs={"skip_prepare_dataset": True},
            gradient_checkpointing=False,
            bf16=False,
            use_cpu=True,
            logging_steps=1,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
        )
        config = LoraConfig(r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, task_type="CAUSAL_LM", **lora)
        return SFTTrainer(
            model=hf,
            args=arguments,
            train_dataset=Dataset.from_list(rows),
            processing_class=AutoTokenizer.from_pretrained(tiny),
            peft_config=config,
        )

    return make


def test_twenty_steps_equal_trls(
    build: Callable[..., Gemma2ForCausalLM],
    convert: Callable[..., Gemma],
    tokenizer: Tokenizer,
    make_examples: Callable[..., list[Example]],
    trainer: Callable[..., Any],
    same_lora: Callable[[nn.Module, nn.Module], None],
) -> None:
    hf = build(vocab_size=tokenizer.size)
    model = convert(hf)
    add_lora(model, RANK, ALPHA, 0.0, SEVEN)
    lengths, learned = [25, 31, 38, 22, 27, 33, 40, 29], [11, 20, 17, 9, 13, 12, 30, 8]
    examples = make_examples(lengths, learned, vocab_size=tokenizer.size)
    rows = []
    for _, batches in zip(range(STEPS), _steps(examples, CONFIG), strict=False):
        for batch in batches:
            real = batch.documents[0] >= 0
            labels = torch.cat((torch.tensor([IGNORED]), batch.targets[0, real][:-1]))  # theirs is not shifted yet
            rows.append({"input_ids": batch.ids[0, real].tolist(), "labels": labels.tolist()})
    assert len(rows) == STEPS * CONFIG.accumulation

    theirs = trainer(hf, rows, target_modules=list(SEVEN))
    same_lora(theirs.model, model)
    theirs.train()
    expected = [record["loss"] for record in theirs.state.log_history if "loss" in record]
    records: list[dict[str, Any]] = []
    train(model, examples, CONFIG, log=records.append, progress=False)
    losses = [record["loss"] for record in records]
    assert len(expected) == len(losses) == STEPS
    assert measured(max(abs(a - b) for a, b in zip(losses, expected, strict=True))) < 1e-4
    assert losses[-1] < losses[0] - 0.1


def test_trl_crashes_on_new_rows_of_a_tied_model(
    build: Callable[..., Gemma2ForCausalLM], tokenizer: Tokenizer, trainer: Callable[..., Any]
) -> None:
    """FAILURES row 23, TRL 1.16 with PEFT 0.21. When this test fails, compare the lean recipe with TRL too."""
    hf = build(vocab_size=tokenizer.size)
    hf.resize_token_embeddings(tokenizer.size + 2, mean_resizing=False)
    rows = [{"input_ids": [5, 6, tokenizer.size], "labels": [5, 6, tokenizer.size]}] * 80
    new = {"embed_tokens": [tokenizer.size, tokenizer.size + 1]}
    with pytest.raises(AttributeError, match="'TrainableTokensWrapper' object has no attribute 'bias'"):
        trainer(hf, rows, target_modules=list(SEVEN), trainable_token_indices=new).train()


def test_trl_refuses_lora_on_the_head(
    build: Callable[..., Gemma2ForCausalLM], tokenizer: Tokenizer, trainer: Callable[..., Any]
) -> None:
    """FAILURES row 24, TRL 1.16. When this test fails, compare the course's recipe with TRL too."""
    rows = [{"input_ids": [5, 6, 7], "labels": [5, 6, 7]}] * 80
    with pytest.raises(Exception, match="adapter to `lm_head` is not supported"):
        trainer(build(vocab_size=tokenizer.size), rows, target_modules=[*SEVEN, "embed_tokens", "lm_head"]).train()


# --- an exported model ---------------------------------------------------------------------------------------------

ASKED = {"role": "user", "content": "Find a song."}
CALLED = [
    ASKED,
    {"role": "assistant", "content": "", "tool_calls": [
        {"type": "function", "function": {"name": "find_song", "arguments": {"title": "Blue"}}}
    ]},
    {"role": "tool", "name": "find_song", "content": '{"number": 3}'},
    {"role": "assistant", "content": "It is song 3."},
]  # fmt: skip
PLAIN = {"report_to": "none", "save_strategy": "no", "disable_tqdm": True, "use_cpu": True, "bf16": False}


def find_song(title: str) -> str:
    """Finds a song.

    Args:
        title: its title
    """
    return title


@pytest.fixture
def exported(tiny: Path, caller: Path, tmp_path: Path) -> Path:
    export.main([str(caller), "--to", str(tmp_path / "exported"), "--dtype", "float32", "--model", str(tiny)])
    return tmp_path / "exported"


def test_trl_goes_on_with_an_exported_model(exported: Path, tmp_path: Path) -> None:
    """With the template for training it learns from the tokens that minifc learns from."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    schema = {"type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"]}
    tools = [{"type": "function", "function": {"name": "find_song", "description": "Finds.", "parameters": schema}}]
    training = SFTConfig(
        str(tmp_path / "trl"),
        max_steps=1,
        chat_template_path=str(exported / export.TRAINING_TEMPLATE),
        assistant_only_loss=True,
        gradient_checkpointing=False,
        **PLAIN,
    )
    rows = Dataset.from_list([{"messages": CALLED, "tools": tools}] * 8)
    trainer = SFTTrainer(model=str(exported), args=training, train_dataset=rows)
    rendered = render(CALLED, load_tokenizer(exported), tools, "gemma")
    labels = [id_ if learned else IGNORED for id_, learned in zip(rendered.ids, rendered.mask, strict=True)]
    assert trainer.train_dataset[0]["input_ids"] == rendered.ids
    assert trainer.train_dataset[0]["labels"] == labels
    assert trainer.train().training_loss > 0


def test_trls_grpo_takes_an_exported_model(exported: Path, tmp_path: Path) -> None:
    """Tools, template and response_template: what the model writes comes to the reward as a message."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    seen: list[Any] = []

    def reward(completions: list[Any], **_: Any) -> list[float]:
        seen.extend(completions)
        return [float(number) for number in range(len(completions))]

    training = GRPOConfig(
        str(tmp_path / "trl"),
        max_steps=1,
        per_device_train_batch_size=2,
        num_generations=2,
        max_completion_length=40,
        gradient_checkpointing=False,
        **PLAIN,
    )
    rows = Dataset.from_list([{"prompt": [ASKED]}] * 4)
    trainer = GRPOTrainer(str(exported), reward, training, train_dataset=rows, tools=[find_song])
    trainer.train()
    assert [message["role"] for (message, *_) in seen] == ["assistant", "assistant"]
