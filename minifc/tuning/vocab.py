"""New tokens: a few rows of their own beside the frozen table.

Resizing an embedding the usual way copies all of it, and training it trains every row. A new
token needs one row, so the new rows are a small table `[N, E]` that lookup and projection both
use. It stands for ids after the last one (`resize`), or takes over reserved `<unusedN>` ids.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from minifc.errors import OptionError, TokenizerError
from minifc.gemma.model import Gemma, Vocabulary
from minifc.text.tokenizer import Tokenizer
from minifc.tuning.data import Example


class ExtendedVocabulary(nn.Module):
    """A vocabulary in which the rows of `ids` are trainable, whether they are new or reused."""

    index: Tensor

    def __init__(self, base: Vocabulary, ids: Sequence[int], rows: Tensor) -> None:
        super().__init__()
        self.base = base
        self.ids = tuple(ids)
        self.rows = nn.Parameter(rows.float())  # [N, E]; fp32 like LoRA, and for its reason
        self.size = max(base.size, 1 + max(ids))
        index = torch.full((self.size,), -1)
        index[list(ids)] = torch.arange(len(ids))
        self.register_buffer("index", index.to(rows.device), persistent=False)  # id -> row of it, or -1

    def lookup(self, ids: Tensor) -> Tensor:
        """int64 [...] -> [..., E]"""
        row = self.index[ids]
        old: Tensor = self.base.lookup(ids.clamp(max=self.base.size - 1))
        new = self.rows.to(old.dtype)[row.clamp(min=0)]
        return torch.where((row >= 0)[..., None], new, old)

    def project(self, hidden: Tensor) -> Tensor:
        """[n, E] -> [n, V + N]"""
        old: Tensor = self.base.project(hidden)
        new = hidden @ self.rows.to(hidden.dtype).T  # [n, N]
        if self.size > self.base.size:
            old = torch.cat((old, old.new_empty(len(old), self.size - self.base.size)), dim=1)
        return old.index_copy(1, torch.tensor(self.ids, device=old.device), new)

    def table(self) -> Tensor:
        """One ordinary table [V + N, E], in the base's dtype."""
        base = self.base.weight.data
        table = torch.cat((base, base.new_zeros(self.size - self.base.size, base.shape[1])))
        table[list(self.ids)] = self.rows.data.to(base.dtype)
        return table


Init = str | Mapping[str, str]


def add_tokens(
    model: Gemma,
    tokenizer: Tokenizer,
    tokens: Sequence[str],
    init: Init = "pieces",
    reuse_unused: bool = False,
) -> list[int]:
    """Register control tokens with the tokenizer and give each a trainable row. Returns their ids.

    init says where the rows start, always the same way for the same model: "mean" (of all rows),
    "pieces" (of the rows of the token's own spelling), or a description for each token, whose
    pieces' mean it is. `reuse_unused` puts them on `<unusedN>` ids, so that no table grows.
    Tokens registered already are left as they are. Raises TokenizerError or OptionError.
    """
    tokens = [token for token in dict.fromkeys(tokens) if token not in tokenizer.control]
    if not tokens:
        return []
    base = model.model.embed_tokens
    if not isinstance(base, Vocabulary):
        raise OptionError("the model has new tokens already; add all of them in one call, or merge first")
    if base.head is not None:
        raise OptionError("the model's head is not tied to its embedding; new tokens need a tied one")
    if not reuse_unused and tokenizer.size != base.size:
        raise TokenizerError(
            f"the tokenizer has {tokenizer.size} ids and the model {base.size} rows; they belong to different models"
        )
    rows = torch.stack([_start(base, tokenizer, token, init) for token in tokens])
    ids = tokenizer.add_tokens(tokens, reuse_unused)
    extend(model, ids, rows)
    return ids


def extend(model: Gemma, ids: Sequence[int], rows: Tensor) -> None:
    """Put rows [N, E] for `ids` beside the model's table."""
    base = model.model.embed_tokens
    assert isinstance(base, Vocabulary)
    base.requires_grad_(False)
    model.model.embed_tokens = ExtendedVocabulary(base, ids, rows)  # type: ignore[assignment]


def fold_vocabulary(model: Gemma) -> None:
    """One ordinary table again, new rows included."""
    extended = model.model.embed_tokens
    if isinstance(extended, ExtendedVocabulary):
        base = extended.base
        base.weight = nn.Parameter(extended.table(), requires_grad=base.weight.requires_grad)
        model.model.embed_tokens = base


def _start(base: Vocabulary, tokenizer: Tokenizer, token: str, init: Init) -> Tensor:
    if init == "mean":
        return base.weight.data.float().mean(0)
    if isinstance(init, str) and init != "pieces":
        raise OptionError(f"init={init!r}; it is 'mean', 'pieces' or a description for each token")
    text = init.get(token, token) if isinstance(init, Mapping) else token
    pieces = tokenizer.encode(text)
    if not pieces:
        raise OptionError(f"the description of {token} is empty")
    return base.weight.data[pieces].float().mean(0)


class RowWatch:
    """Whether the new tokens are being learned: how often each occurs, and what its row has received."""

    def __init__(self, model: Gemma, tokenizer: Tokenizer, examples: Sequence[Example]) -> None:
        vocabulary = model.model.embed_tokens
        self.names: list[str] = []
        if not isinstance(vocabulary, ExtendedVocabulary):
            return
        self.rows, self.start = vocabulary.rows, vocabulary.rows.detach().clone()
        self.names = [tokenizer.decode([id_]) for id_ in vocabulary.ids]
        read = Counter(id_ for example in examples for id_ in example.ids)
        written = Counter(i for e in examples for i, mask in zip(e.ids, e.mask, strict=True) if mask)
        self.counts = [(read[id_], written[id_]) for id_ in vocabulary.ids]
        self.gradients = torch.zeros(len(vocabulary.ids), device=self.rows.device)

    def __call__(self, record: Mapping[str, Any]) -> None:
        """Take in a record of the training loop."""
        if self.names and "row_gradients" in record:
            self.gradients += torch.tensor(record["row_gradients"], device=self.rows.device)

    def table(self) -> list[list[str]]:
        """A row per token: occurrences, occurrences learned from, sum of gradient norms, distance from the start."""
        head = ["new token", "read", "written", "gradient", "moved"]
        if not self.names:
            return [head]
        moved = (self.rows.detach() - self.start).norm(dim=1) / self.start.norm(dim=1)
        numbers = zip(self.names, self.counts, self.gradients.tolist(), moved.tolist(), strict=True)
        return [head, *([f"`{name}`", f"{r:,}", f"{w:,}", f"{g:.2g}", f"{m:.0%}"] for name, (r, w), g, m in numbers)]
