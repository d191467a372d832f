"""New tokens: a small table beside the large one must be indistinguishable from one ordinary table."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import Gemma2ForCausalLM

from minifc.data import Example, pack
from minifc.errors import OptionError, TokenizerError
from minifc.gemma.config import config_from_dict
from minifc.gemma.model import Gemma, Vocabulary
from minifc.text.tokenizer import Tokenizer, load_tokenizer
from minifc.tuning.lora import add_lora
from minifc.tuning.loss import batch_loss
from minifc.tuning.vocab import ExtendedVocabulary, RowWatch, add_tokens, check_room, extend, fold_vocabulary

# PEFT 0.21 asks transformers 5.23 in a way that the latter calls old.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

APPENDED, REUSED, BOTH = [97, 98, 99], [41, 7, 60], [98, 12, 97]
PLACES = pytest.mark.parametrize("places", [APPENDED, REUSED, BOTH], ids=["appended", "reused", "both"])
Fresh = Callable[..., Gemma]
Near = Callable[[Tensor, Tensor], bool]


def new_rows() -> Tensor:
    return 0.3 * torch.randn(3, 32, generator=torch.Generator().manual_seed(8))


def text_with(places: list[int]) -> Tensor:
    """Random ids in which each new token is read and is to be predicted, one of them twice in a row."""
    ids = torch.randint(1, 97, (2, 13), generator=torch.Generator().manual_seed(9))
    ids[0, 3:5], ids[0, 8], ids[1, 2], ids[1, 12] = places[0], places[1], places[2], places[0]
    return ids


def resized(hf: Gemma2ForCausalLM, places: list[int]) -> Gemma2ForCausalLM:
    """The usual way: one table for everything, the new rows in it."""
    hf.resize_token_embeddings(max(97, 1 + max(places)), mean_resizing=False)
    hf.model.embed_tokens.weight.data[places] = new_rows()
    return hf


def loss_of(logits: Tensor, ids: Tensor) -> Tensor:
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())


# --- one table in two pieces -------------------------------------------------------------------------------------


@PLACES
def test_lookup_and_projection_equal_an_ordinary_table(hf: Any, model: Gemma, near: Near, places: list[int]) -> None:
    table = resized(hf, places).model.embed_tokens.weight
    vocabulary = ExtendedVocabulary(model.model.embed_tokens, places, new_rows())
    every_id = torch.arange(len(table)).view(1, -1)
    assert vocabulary.size == len(table)
    assert torch.equal(vocabulary.lookup(every_id), table[every_id])
    hidden = torch.randn(5, 32)
    assert near(vocabulary.project(hidden), hidden @ table.T)
    assert torch.equal(vocabulary.table(), table)


@PLACES
def test_gradients_of_the_rows_are_the_full_tables(hf: Any, model: Gemma, near: Near, places: list[int]) -> None:
    """What a row receives as an embedding and in the head, whose softmax reaches it at every position."""
    ids = text_with(places)
    extend(model, places, new_rows())
    logits, expected = model(ids), resized(hf, places)(ids).logits
    assert near(logits, expected)
    loss_of(logits, ids).backward()
    loss_of(expected, ids).backward()
    assert near(model.model.embed_tokens.rows.grad, hf.model.embed_tokens.weight.grad[places])
    assert model.model.embed_tokens.base_layer.weight.grad is None


@PLACES
@pytest.mark.parametrize("direction", ["lookup", "project"])
def test_each_direction_alone_has_the_full_tables_gradient(
    model: Gemma, near: Near, places: list[int], direction: str
) -> None:
    base = model.model.embed_tokens
    vocabulary = ExtendedVocabulary(base, places, new_rows())
    table = vocabulary.table().requires_grad_()
    given = text_with(places) if direction == "lookup" else torch.randn(5, 32)
    ours = getattr(vocabulary, direction)(given)
    ordinary = F.embedding(given, table) if direction == "lookup" else given @ table.T
    weights = torch.randn(ours.shape)
    (ours * weights).sum().backward()
    (ordinary * weights).sum().backward()
    assert near(vocabulary.rows.grad, table.grad[places])


@PLACES
@pytest.mark.parametrize("hf", ["gemma2", "gemma3"], indirect=True)
def test_gradients_equal_pefts_trainable_tokens(hf: Any, model: Gemma, near: Near, places: list[int]) -> None:
    ids = text_with(places)
    extend(model, places, new_rows())
    config = LoraConfig(target_modules=["q_proj"], trainable_token_indices={"embed_tokens": places})
    peft = get_peft_model(resized(hf, places), config)  # B is zero: only the rows matter
    logits, expected = model(ids), peft(ids).logits
    assert near(logits, expected)
    loss_of(logits, ids).backward()
    loss_of(expected, ids).backward()
    theirs = peft.base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta["default"]
    assert near(model.model.embed_tokens.rows.grad, theirs.grad)


def test_the_large_table_is_frozen_and_shared_and_the_rows_are_fp32(fresh: Fresh) -> None:
    model = fresh().to(torch.bfloat16)
    base = model.model.embed_tokens
    extend(model, APPENDED, new_rows().bfloat16())
    vocabulary = model.model.embed_tokens
    assert vocabulary.base_layer is base
    assert vocabulary.rows.dtype == torch.float32
    assert {name for name, p in vocabulary.named_parameters() if p.requires_grad} == {"rows"}
    assert model(text_with(APPENDED)).dtype == torch.float32


@PLACES
def test_folding_gives_one_ordinary_table(model: Gemma, near: Near, places: list[int]) -> None:
    extend(model, places, new_rows())
    ids = text_with(places)
    expected = model(ids)
    fold_vocabulary(model)
    assert type(model.model.embed_tokens) is Vocabulary
    assert model.model.embed_tokens.size == max(97, 1 + max(places))
    assert near(model(ids), expected)
    fold_vocabulary(model)  # nothing left to fold
    assert near(model(ids), expected)


def test_folding_keeps_what_is_frozen_frozen(model: Gemma) -> None:
    extend(model, APPENDED, new_rows())
    add_lora(model)
    fold_vocabulary(model)
    assert not model.model.embed_tokens.weight.requires_grad


# --- tokenizer and model together --------------------------------------------------------------------------------

TAGS = ["<tool_call>", "</tool_call>"]


def test_tokens_are_appended_to_both(talker: Gemma, tokenizer: Tokenizer) -> None:
    size = tokenizer.size
    assert add_tokens(talker, tokenizer, TAGS) == [size, size + 1]
    assert tokenizer.encode("<tool_call>x</tool_call>", control_tokens=True)[:1] == [size]
    assert size not in tokenizer.encode("<tool_call>")
    assert tokenizer.decode([size, size + 1]) == "<tool_call></tool_call>"
    assert tokenizer.size == talker.model.embed_tokens.size == size + 2
    assert talker(torch.tensor([[size, size + 1]])).shape == (1, 2, size + 2)


def test_reused_ids_make_nothing_larger(talker: Gemma, tokenizer: Tokenizer) -> None:
    size, reserved = tokenizer.size, [tokenizer.control["<unused0>"], tokenizer.control["<unused1>"]]
    assert add_tokens(talker, tokenizer, TAGS, reuse_unused=True) == reserved
    assert tokenizer.decode(reserved) == "<tool_call></tool_call>"
    assert "<unused0>" not in tokenizer.control
    assert tokenizer.size == talker.model.embed_tokens.size == size
    assert talker(torch.tensor([reserved])).shape == (1, 2, size)


def test_registered_and_repeated_tokens_are_added_once(talker: Gemma, tokenizer: Tokenizer) -> None:
    size = tokenizer.size
    assert add_tokens(talker, tokenizer, ["<eos>", "<a>", "<b>", "<a>"]) == [size, size + 1]
    assert talker.model.embed_tokens.ids == (size, size + 1)


def test_nothing_new_changes_nothing(talker: Gemma, tokenizer: Tokenizer) -> None:
    assert add_tokens(talker, tokenizer, ["<eos>"]) == []
    assert type(talker.model.embed_tokens) is Vocabulary


DESCRIPTIONS = {"<tool_call>": "call a tool", "</tool_call>": "end of the call"}


@pytest.mark.parametrize("reuse", [False, True])
@pytest.mark.parametrize("init", ["mean", "pieces", DESCRIPTIONS], ids=["mean", "pieces", "description"])
def test_where_rows_start(talker: Gemma, tokenizer: Tokenizer, init: Any, reuse: bool, near: Near) -> None:
    table = talker.model.embed_tokens.weight.detach().clone()
    expected = []
    for token in TAGS:
        text = init[token] if isinstance(init, dict) else token
        pieces = range(len(table)) if init == "mean" else tokenizer.encode(text)
        expected.append(sum(table[piece] for piece in pieces) / len(pieces))
    add_tokens(talker, tokenizer, TAGS, init, reuse)
    assert near(talker.model.embed_tokens.rows.data, torch.stack(expected))


@pytest.mark.parametrize("init", ["mean", "pieces", DESCRIPTIONS], ids=["mean", "pieces", "description"])
def test_rows_start_the_same_way_every_time(fresh: Fresh, tiny: Path, init: Any) -> None:
    """transformers draws them; nothing here may depend on a seed."""
    rows = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        tokenizer = load_tokenizer(tiny)
        model = fresh(vocab_size=tokenizer.size)
        before = torch.get_rng_state()
        add_tokens(model, tokenizer, TAGS, init)
        assert torch.equal(torch.get_rng_state(), before)
        rows.append(model.model.embed_tokens.rows.detach())
    assert torch.equal(*rows)


def test_the_mean_of_all_rows_is_computed_once(
    talker: Gemma, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At full size it reads 1.2 GB."""
    mean, read = Tensor.mean, []
    monkeypatch.setattr(Tensor, "mean", lambda tensor, *a, **kw: (read.append(len(tensor)), mean(tensor, *a, **kw))[1])
    add_tokens(talker, tokenizer, TAGS, "mean")
    assert read == [talker.model.embed_tokens.base_layer.size]


def test_a_token_without_a_description_starts_from_its_own_pieces(talker: Gemma, tokenizer: Tokenizer) -> None:
    expected = talker.model.embed_tokens.weight[tokenizer.encode("</tool_call>")].mean(0)
    add_tokens(talker, tokenizer, TAGS, {"<tool_call>": "call a tool"})
    assert torch.equal(talker.model.embed_tokens.rows[1], expected)


# --- refusals, with model and tokenizer as they were -------------------------------------------------------------


def assert_unchanged(model: Gemma, tokenizer: Tokenizer, size: int) -> None:
    assert "<tool_call>" not in tokenizer.control
    assert tokenizer.size == size
    assert type(model.model.embed_tokens) is Vocabulary


def test_adding_twice_is_refused(talker: Gemma, tokenizer: Tokenizer) -> None:
    add_tokens(talker, tokenizer, ["<a>"])
    with pytest.raises(OptionError, match="already"):
        add_tokens(talker, tokenizer, TAGS)
    assert "<tool_call>" not in tokenizer.control
    assert talker.model.embed_tokens.ids == (tokenizer.size - 1,)


def test_an_untied_head_is_refused(hf: Gemma2ForCausalLM, tokenizer: Tokenizer) -> None:
    config = config_from_dict(hf.config.to_dict() | {"tie_word_embeddings": False, "vocab_size": tokenizer.size})
    model, size = Gemma(config), tokenizer.size
    with pytest.raises(OptionError, match="tied"):
        add_tokens(model, tokenizer, TAGS)
    assert_unchanged(model, tokenizer, size)


@pytest.mark.parametrize("difference", [-1, 64, 100])
def test_a_tokenizer_of_another_model_is_refused(fresh: Fresh, tokenizer: Tokenizer, difference: int) -> None:
    size = tokenizer.size
    model = fresh(vocab_size=size + difference)
    with pytest.raises(TokenizerError, match=f"{size} ids.*{size + difference} rows"):
        add_tokens(model, tokenizer, TAGS)
    assert_unchanged(model, tokenizer, size)
    assert check_room(model, tokenizer, tokenizer.places(TAGS, reuse_unused=True)) is model.model.embed_tokens


def test_of_a_table_that_is_padded_the_padding_is_used_first(fresh: Fresh, tokenizer: Tokenizer) -> None:
    """Gemma 3's from 4B on has 63 rows that are no token."""
    size = tokenizer.size
    model = fresh(vocab_size=size + len(TAGS) - 1)
    assert add_tokens(model, tokenizer, TAGS) == list(range(size, size + len(TAGS)))
    vocabulary = model.model.embed_tokens
    assert vocabulary.size == size + len(TAGS)
    ids = torch.arange(size, size + len(TAGS))
    assert torch.equal(vocabulary.lookup(ids), vocabulary.rows)
    fold_vocabulary(model)
    assert torch.equal(model.model.embed_tokens.weight[ids], vocabulary.rows)


@pytest.mark.parametrize("init", ["zeros", "Pieces", ""])
def test_an_unknown_init_is_refused(talker: Gemma, tokenizer: Tokenizer, init: str) -> None:
    size = tokenizer.size
    with pytest.raises(OptionError, match=f"init='{init}'"):
        add_tokens(talker, tokenizer, TAGS, init)
    assert_unchanged(talker, tokenizer, size)


def test_more_tokens_than_reserved_ids_are_refused(talker: Gemma, tokenizer: Tokenizer) -> None:
    size, reserved = tokenizer.size, sum(name.startswith("<unused") for name in tokenizer.control)
    with pytest.raises(TokenizerError, match=f"only {reserved} <unusedN>"):
        add_tokens(talker, tokenizer, [*TAGS, *(f"<t{i}>" for i in range(reserved))], reuse_unused=True)
    assert_unchanged(talker, tokenizer, size)


def test_an_empty_description_does_not_become_a_row_of_nan(talker: Gemma, tokenizer: Tokenizer) -> None:
    with pytest.raises(OptionError):
        add_tokens(talker, tokenizer, ["<tool_call>"], {"<tool_call>": ""})


# --- watching the rows -------------------------------------------------------------------------------------------


def test_the_watch_counts_occurrences_gradients_and_movement(talker: Gemma, tokenizer: Tokenizer) -> None:
    a, b = add_tokens(talker, tokenizer, ["<a>", "<b>"])
    examples = [Example([9, a, a, 10], [False, False, True, True]), Example([9, b, a], [False, False, False])]
    watch = RowWatch(talker, tokenizer, examples)
    rows = talker.model.embed_tokens.rows
    total = torch.zeros(2)
    for batch in pack(examples, 1, 4):
        rows.grad = None
        batch_loss(talker, batch).backward()
        watch({"row_gradients": rows.grad.norm(dim=1).tolist()})
        total += rows.grad.norm(dim=1)
    rows.data[0] *= 1.5
    head, *table = watch.table()
    assert head == ["new token", "read", "written", "gradient", "moved"]
    assert [row[0:3] for row in table] == [["`<a>`", "3", "1"], ["`<b>`", "1", "0"]]
    assert [row[3] for row in table] == [f"{float(number):.2g}" for number in total]
    assert [row[4] for row in table] == ["50%", "0%"]


def test_watching_a_model_without_new_tokens_shows_none(talker: Gemma, tokenizer: Tokenizer) -> None:
    """As when the data's tags are tokens of the model already."""
    assert add_tokens(talker, tokenizer, ["<eos>"]) == []
    assert RowWatch(talker, tokenizer, []).table()[1:] == []


def test_every_module_of_an_extended_model_moves_with_it(model: Gemma) -> None:
    extend(model, APPENDED, new_rows())
    model.to("meta")
    tensors: list[Tensor | nn.Parameter] = [*model.parameters(), *model.buffers()]
    assert all(tensor.device.type == "meta" for tensor in tensors)


def test_tokens_go_where_they_belong(fresh: Fresh, tokenizer: Tokenizer) -> None:
    """On reserved ids the table does not grow, and may have more rows than the tokenizer ids; these are trained."""
    reserved = [id_ for name, id_ in tokenizer.control.items() if name.startswith("<unused")]
    size = tokenizer.size
    model = fresh(vocab_size=size + 5)
    wanted = {"<a>": reserved[7], "<b>": reserved[3]}
    assert add_tokens(model, tokenizer, ["<a>", "<b>"], ids=wanted) == [reserved[7], reserved[3]]
    assert (tokenizer.size, model.model.embed_tokens.size) == (size, size + 5)
    assert model.model.embed_tokens.rows.requires_grad
    assert tokenizer.decode([reserved[3]]) == "<b>"
