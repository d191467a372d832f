"""New tokens: a small trainable table beside the frozen one.

Resizing an embedding the usual way copies the whole table, and training it trains every row. A new token needs only
one row, so the new rows are a small table `[N, E]` that lookup and projection both use. They belong to ids after the
last one, or take the place of reserved `<unusedN>` ids.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minifc.data import Example
from minifc.errors import OptionError, TokenizerError
from minifc.gemma.model import Gemma, Vocabulary
from minifc.text.tokenizer import Tokenizer
from minifc.tuning.lora import Lora, LoraEmbedding, LoraLinear, lora_layers, plain_vocabulary

PADDING = 64  # what the number of rows is a multiple of, where tables are padded


class ExtendedVocabulary(nn.Module):
    """A vocabulary in which the rows of `ids` are trainable, whether they are new or reused."""

    index: Tensor

    def __init__(self, base: Vocabulary, ids: Sequence[int], rows: Tensor) -> None:
        super().__init__()
        self.base_layer = base
        self.ids = tuple(ids)
        device = base.weight.device
        self.rows = nn.Parameter(rows.to(device, torch.float32))  # [N, E]; fp32 like LoRA, and for its reason
        self.size = max(base.size, 1 + max(ids))
        index = torch.full((self.size,), -1)
        index[list(ids)] = torch.arange(len(ids))
        self.register_buffer("index", index.to(device), persistent=False)  # id -> its row, or -1

    def lookup(self, ids: Tensor) -> Tensor:
        """int64 [...] -> [..., E]"""
        row = self.index[ids]
        old: Tensor = self.base_layer.lookup(ids.clamp(max=self.base_layer.size - 1))
        # Not plain indexing: its gradient is added up by several threads in any order, so no run would repeat.
        new = F.embedding(row.clamp(min=0), self.rows.to(old.dtype))
        return torch.where((row >= 0)[..., None], new, old)

    def project(self, hidden: Tensor) -> Tensor:
        """[n, E] -> [n, V + N]"""
        old: Tensor = self.base_layer.project(hidden)
        new = hidden @ self.rows.to(hidden.dtype).T  # [n, N]
        if self.size > self.base_layer.size:
            old = torch.cat((old, old.new_empty(len(old), self.size - self.base_layer.size)), dim=1)
        return old.index_copy(1, torch.tensor(self.ids, device=old.device), new)

    def table(self) -> Tensor:
        """One ordinary table [V + N, E], in the base's dtype."""
        base = self.base_layer.weight.data
        table = torch.cat((base, base.new_zeros(self.size - self.base_layer.size, base.shape[1])))
        table[list(self.ids)] = self.rows.data.to(base.dtype)
        return table


Init = str | Mapping[str, str]


def add_tokens(
    model: Gemma,
    tokenizer: Tokenizer,
    tokens: Sequence[str],
    init: Init = "pieces",
    reuse_unused: bool = False,
    ids: Mapping[str, int] | None = None,
) -> list[int]:
    """Register control tokens with the tokenizer and give each a trainable row. Returns their ids.

    init: a row's first value, the same at every call: "mean" of all rows of the table, "pieces", the mean of the rows
        of the token's own spelling, or a mapping from each token to a description, whose pieces are averaged.
    reuse_unused: take `<unusedN>` ids, so that no table grows. ids: where tokens belong, if `<unusedN>` are there.
    Tokens that are registered already stay as they are. Raises TokenizerError or OptionError.
    """
    tokens = [token for token in dict.fromkeys(tokens) if token not in tokenizer.control]
    if not tokens:
        return []
    places = tokenizer.places(tokens, reuse_unused, ids)
    base = check_room(model, tokenizer, places)
    rows = _starts(base, tokenizer, tokens, init)
    tokenizer.register(places)
    extend(model, [places[token] for token in tokens], rows)
    return [places[token] for token in tokens]


def check_room(model: Gemma, tokenizer: Tokenizer, places: Mapping[str, int]) -> Vocabulary:
    """The model's table, if new tokens can have these ids. Raises TokenizerError or OptionError if they cannot."""
    base = model.model.embed_tokens
    if not isinstance(base, Vocabulary):
        raise OptionError("the model has new tokens already; add all of them in one call, or merge first")
    if base.head is not None:
        raise OptionError("the model's head is not tied to its embedding; new tokens need a tied one")
    # A table may have some rows that are no token: up to a multiple of PADDING, which suits the hardware.
    if max(places.values()) >= tokenizer.size and not tokenizer.size <= base.size < tokenizer.size + PADDING:
        raise TokenizerError(
            f"the tokenizer has {tokenizer.size} ids and the model {base.size} rows; they belong to different models"
        )
    return base


def extend(model: Gemma, ids: Sequence[int], rows: Tensor) -> None:
    """Put rows [N, E] for `ids` beside the model's table."""
    base = model.model.embed_tokens
    assert isinstance(base, Vocabulary)
    base.requires_grad_(False)
    model.model.embed_tokens = ExtendedVocabulary(base, ids, rows).train(base.training)  # type: ignore[assignment]


def fold_vocabulary(model: Gemma) -> None:
    """One ordinary table again, new rows included; two, for lookup and for projection, if the table has LoRA."""
    updates = [update for _, update in lora_layers(model) if not isinstance(update, LoraLinear)]
    new, layer = extended(model), plain_vocabulary(model.model.embed_tokens)
    if new is not None:
        layer.weight = nn.Parameter(new.table(), requires_grad=False)
    if updates and layer.head is None:
        layer.head = nn.Parameter(layer.weight.data, requires_grad=False)
        model.config = replace(model.config, tie_word_embeddings=False)
    for update in updates:
        side = "weight" if isinstance(update, LoraEmbedding) else "head"
        merged = update.merged_into(getattr(layer, side).data)
        setattr(layer, side, nn.Parameter(merged, requires_grad=False))
    model.model.embed_tokens = layer


def extended(model: Gemma) -> ExtendedVocabulary | None:
    """The model's table with new tokens, LoRA on it taken off; None if there are none."""
    layer: nn.Module = model.model.embed_tokens
    while isinstance(layer, Lora):
        layer = layer.base_layer
    return layer if isinstance(layer, ExtendedVocabulary) else None


def _starts(base: Vocabulary, tokenizer: Tokenizer, tokens: Sequence[str], init: Init) -> Tensor:
    """fp32 [N, E]"""
    if init == "mean":
        return base.weight.data.mean(0, dtype=torch.float32).repeat(len(tokens), 1)
    if isinstance(init, str) and init != "pieces":
        raise OptionError(f"init={init!r}; it is 'mean', 'pieces' or a description for each token")
    texts = [init.get(token, token) if isinstance(init, Mapping) else token for token in tokens]
    pieces = [tokenizer.encode(text) for text in texts]
    if not all(pieces):
        raise OptionError(f"the description of {tokens[pieces.index([])]} is empty")
    return torch.stack([base.weight.data[ids].float().mean(0) for ids in pieces])


class RowWatch:
    """Whether the new tokens are learned: how often each occurs, and the gradients of its row."""

    def __init__(self, model: Gemma, tokenizer: Tokenizer, examples: Sequence[Example]) -> None:
        new = extended(model)
        self.names: list[str] = []
        if new is None:
            return
        self.vocabulary = model.model.embed_tokens
        self.ids = torch.tensor(new.ids, device=new.rows.device)
        self.start = self._read()
        self.names = [tokenizer.decode([id_]) for id_ in new.ids]
        read = Counter(id_ for example in examples for id_ in example.ids)
        written = Counter(i for e in examples for i, mask in zip(e.ids, e.mask, strict=True) if mask)
        self.counts = [(read[id_], written[id_]) for id_ in new.ids]
        # With LoRA on the table, the new rows themselves are frozen.
        self.gradients = torch.zeros(len(new.ids)) if new.rows.requires_grad else None

    def __call__(self, record: Mapping[str, Any]) -> None:
        """Take in a record of the training loop."""
        if self.names and self.gradients is not None and "row_gradients" in record:
            self.gradients += torch.tensor(record["row_gradients"])

    def table(self) -> list[list[str]]:
        """A row per token: occurrences, occurrences learned from, sum of gradient norms, distance from the start."""
        head = ["new token", "read", "written", "gradient", "moved"]
        if not self.names:
            return [head]
        moved = ((self._read() - self.start).norm(dim=1) / self.start.norm(dim=1)).tolist()
        gradients = ["LoRA's"] * len(self.names)
        if self.gradients is not None:
            gradients = [f"{gradient:.2g}" for gradient in self.gradients.tolist()]
        numbers = zip(self.names, self.counts, gradients, moved, strict=True)
        return [
            head,
            *([f"`{name}`", f"{r:,}", f"{w:,}", gradient, f"{m:.0%}"] for name, (r, w), gradient, m in numbers),
        ]

    @torch.no_grad()
    def _read(self) -> Tensor:
        """The embeddings of the new tokens, fp32 [N, E]."""
        return self.vocabulary.lookup(self.ids).float()
