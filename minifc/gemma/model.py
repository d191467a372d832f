"""The forward pass of Gemma 2 and of the text part of Gemma 3, and nothing else.

Gemma 2: Improving Open Language Models at a Practical Size, arXiv:2408.00118.
Gemma 3 Technical Report, arXiv:2503.19786: norms of queries and keys instead of soft-caps, and rotary positions of
longer waves on full layers, of which there are fewer.

Module names are Hugging Face's, so a checkpoint loads with a plain `load_state_dict`.

Axes: B batch, T tokens, S keys seen, E hidden_size, H heads, K key/value heads,
G = H / K query heads that share one key/value head, D head_dim, F ffn size,
V vocabulary, W window.
"""

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minifc.gemma.config import FULL, SLIDING, GemmaConfig

if TYPE_CHECKING:
    from minifc.gemma.cache import KVCache


CHUNK = 64  # queries that attend at once


class Vocabulary(nn.Module):
    """The table that turns ids into vectors and vectors back into a score per id.

    One module owns both directions because Gemma ties them: what changes a row
    changes it for reading and for writing. `head` is None unless the model is untied.
    """

    def __init__(self, config: GemmaConfig) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(config.vocab_size, config.hidden_size))  # [V, E]
        self.head: nn.Parameter | None = None  # [V, E]
        if not config.tie_word_embeddings:
            self.head = nn.Parameter(torch.empty(config.vocab_size, config.hidden_size))

    @property
    def size(self) -> int:
        return self.weight.shape[0]

    def lookup(self, ids: Tensor) -> Tensor:
        """int64 [...] -> [..., E]"""
        return F.embedding(ids, self.weight)

    def project(self, hidden: Tensor) -> Tensor:
        """[n, E] -> [n, V]. Flat and contiguous: a strided input makes torch copy the whole table."""
        return F.linear(hidden, self.weight if self.head is None else self.head)


class RMSNorm(nn.Module):
    """Root mean square norm, arXiv:1910.07467. Gemma stores the gain as its distance from 1."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:  # [..., size]
        h = x.float()  # the squares overflow fp16 and lose digits in bf16
        h = h * torch.rsqrt(h.square().mean(-1, keepdim=True) + self.eps)
        return (h * (1.0 + self.weight.float())).to(x.dtype)


def softcap(x: Tensor, cap: float | None) -> Tensor:
    """Squeeze scores smoothly into (-cap, cap), so that none can run away (arXiv:2408.00118, section 2)."""
    return x if cap is None else torch.tanh(x / cap) * cap


def rope_angles(config: GemmaConfig, positions: Tensor, kind: str = FULL) -> tuple[Tensor, Tensor]:
    """Rotary positions, arXiv:2104.09864: cosines and sines, fp32 [B, 1, T, D], for int64 positions [B, T].

    A factor stretches the positions that a model was trained on over a longer context (arXiv:2306.15595).
    """
    theta, factor = config.rope(kind)
    even = torch.arange(0, config.head_dim, 2, device=positions.device, dtype=torch.float32)
    frequencies = theta ** -(even / config.head_dim) / factor  # [D/2], from 1 down to nearly 1/theta
    angles = positions[:, None, :, None].float() * frequencies  # [B, 1, T, D/2]
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair (x[i], x[i + D/2]) by its angle. x is [B, heads, T, D]."""
    first, second = x.chunk(2, dim=-1)
    return x * cos.to(x.dtype) + torch.cat((-second, first), dim=-1) * sin.to(x.dtype)


def causal_mask(
    positions: Tensor, key_positions: Tensor, window: int | None, documents: Tensor | None = None
) -> Tensor:
    """Which keys each query may see: bool [B, 1, T, S] from positions int64 [B, T] and [B, S].

    A position of -1 marks padding, which nobody sees. In a packed row (`documents`,
    int64 [B, T], queries and keys alike) a query sees its own document only.
    """
    queries, keys = positions[:, :, None], key_positions[:, None, :]
    mask = (keys <= queries) & (keys >= 0)  # [B, T, S]; as int64, their distances would take eight times the memory
    if window is not None:
        mask &= keys > queries - window
    if documents is not None:
        mask &= documents[:, :, None] == documents[:, None, :]
    return mask[:, None]


class Attention(nn.Module):
    """Grouped-query attention (arXiv:2305.13245), its scores soft-capped or its queries and keys normed."""

    def __init__(self, config: GemmaConfig, layer: int) -> None:
        super().__init__()
        self.config, self.layer = config, layer
        self.window = config.sliding_window if config.layer_types[layer] == SLIDING else None
        E, D = config.hidden_size, config.head_dim
        self.q_proj = nn.Linear(E, config.num_attention_heads * D, bias=False)
        self.k_proj = nn.Linear(E, config.num_key_value_heads * D, bias=False)
        self.v_proj = nn.Linear(E, config.num_key_value_heads * D, bias=False)
        self.o_proj = nn.Linear(config.num_attention_heads * D, E, bias=False)
        self.q_norm = RMSNorm(D, config.rms_norm_eps) if config.qk_norm else nn.Identity()
        self.k_norm = RMSNorm(D, config.rms_norm_eps) if config.qk_norm else nn.Identity()

    def forward(
        self, x: Tensor, rope: tuple[Tensor, Tensor], mask: Tensor, cache: "KVCache | None"
    ) -> Tensor:  # [B, T, E]
        B, T, _ = x.shape
        c = self.config
        H, K, D = c.num_attention_heads, c.num_key_value_heads, c.head_dim
        q = self.q_proj(x).view(B, T, H, D).transpose(1, 2)  # [B, H, T, D]
        k = self.k_proj(x).view(B, T, K, D).transpose(1, 2)  # [B, K, T, D]
        v = self.v_proj(x).view(B, T, K, D).transpose(1, 2)
        q, k = self.q_norm(q), self.k_norm(k)
        q, k = rotate(q, *rope) * c.query_pre_attn_scalar**-0.5, rotate(k, *rope)
        if cache is not None:
            k, v = cache.update(self.layer, k, v)  # [B, K, S, D]

        spans = self.spans(T, k.shape[2])
        out = [attend(q[:, :, a:b], k[:, :, i:j], v[:, :, i:j], mask[:, :, a:b, i:j], c) for a, b, i, j in spans]
        joined = torch.cat(out, dim=2)  # [B, H, T, D]
        return self.o_proj(joined.transpose(1, 2).reshape(B, T, H * D))

    def spans(self, T: int, S: int) -> list[tuple[int, int, int, int]]:
        """Chunks of queries a .. b, and the keys i .. j that any query of the chunk can see.

        What lies after a chunk, or on a sliding layer before its window, need not be computed.
        Keys that come out of a cache may be out of order, and few queries look at them.
        """
        if S != T:
            return [(0, T, 0, S)]
        reach = S if self.window is None else self.window - 1
        return [(a, min(a + CHUNK, T), max(0, a - reach), min(a + CHUNK, T)) for a in range(0, T, CHUNK)]


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, config: GemmaConfig) -> Tensor:
    """Soft-capped attention of q [B, H, T, D] over k and v [B, K, S, D]: [B, H, T, D]."""
    B, H, T, D = q.shape
    K = k.shape[1]
    # The G query heads of a group stand one below the other, so that they share their keys without a copy.
    scores = (q.reshape(B, K, H // K * T, D) @ k.transpose(-1, -2)).view(B, H, T, -1)  # [B, H, T, S]
    scores = softcap(scores.float(), config.attn_logit_softcapping)
    # Not -inf: a padded query sees nothing, and softmax over nothing is NaN.
    scores = scores.masked_fill(~mask, torch.finfo(torch.float32).min)
    weights = scores.softmax(-1).to(v.dtype).view(B, K, H // K * T, -1)
    return (weights @ v).view(B, H, T, D)


class MLP(nn.Module):
    """Gated feed-forward, arXiv:2002.05202, with the tanh form of GELU."""

    def __init__(self, config: GemmaConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:  # [B, T, E], [B, T, F] inside
        return self.down_proj(F.gelu(self.gate_proj(x), approximate="tanh") * self.up_proj(x))


class Block(nn.Module):
    """Attention and feed-forward, each with a norm before and another after it, before the residual sum."""

    def __init__(self, config: GemmaConfig, layer: int) -> None:
        super().__init__()
        E, eps = config.hidden_size, config.rms_norm_eps
        self.self_attn = Attention(config, layer)
        self.mlp = MLP(config)
        self.input_layernorm = RMSNorm(E, eps)
        self.post_attention_layernorm = RMSNorm(E, eps)
        self.pre_feedforward_layernorm = RMSNorm(E, eps)
        self.post_feedforward_layernorm = RMSNorm(E, eps)

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor], mask: Tensor, cache: "KVCache | None") -> Tensor:
        x = x + self.post_attention_layernorm(self.self_attn(self.input_layernorm(x), rope, mask, cache))
        return x + self.post_feedforward_layernorm(self.mlp(self.pre_feedforward_layernorm(x)))


class Decoder(nn.Module):
    """Everything between the ids and the head."""

    def __init__(self, config: GemmaConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = Vocabulary(config)
        self.layers = nn.ModuleList(Block(config, i) for i in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(
        self, ids: Tensor, positions: Tensor, documents: Tensor | None, cache: "KVCache | None"
    ) -> Tensor:  # [B, T, E]
        x = self.embed_tokens.lookup(ids)
        x = x * torch.tensor(self.config.hidden_size**0.5, dtype=x.dtype)  # rounded as the checkpoint was trained
        keys = {SLIDING: positions, FULL: positions} if cache is None else cache.extend(positions)
        windows = {SLIDING: self.config.sliding_window, FULL: None}
        masks = {kind: causal_mask(positions, keys[kind], windows[kind], documents) for kind in keys}
        ropes = dict.fromkeys(keys, rope_angles(self.config, positions))
        if self.config.rope(SLIDING) != self.config.rope(FULL):
            ropes[SLIDING] = rope_angles(self.config, positions, SLIDING)
        for block, kind in zip(self.layers, self.config.layer_types, strict=True):
            x = block(x, ropes[kind], masks[kind], cache)
        return self.norm(x)


class Gemma(nn.Module):
    """A language model of Gemma 2 or Gemma 3."""

    def __init__(self, config: GemmaConfig) -> None:
        super().__init__()
        self.config = config
        self.model = Decoder(config)

    def forward(
        self,
        ids: Tensor,
        attention_mask: Tensor | None = None,
        positions: Tensor | None = None,
        documents: Tensor | None = None,
        cache: "KVCache | None" = None,
    ) -> Tensor:
        """Logits fp32 [B, T, V] for ids int64 [B, T].

        attention_mask [B, T]: 0 where a token is padding, on either side; with a cache on the left only.
        positions int64 [B, T]: where each token stands, -1 for padding, counting up by one within
            a document; by default from 0 at the first real token, of each document if there are several.
        documents int64 [B, T]: which of the documents packed into a row a token belongs to.
        cache: keys and values of what came before; these tokens are added to it.
        """
        hidden = self.hidden(ids, attention_mask, positions, documents, cache)
        return self.logits(hidden.flatten(0, 1)).view(*ids.shape, -1)

    def hidden(
        self,
        ids: Tensor,
        attention_mask: Tensor | None = None,
        positions: Tensor | None = None,
        documents: Tensor | None = None,
        cache: "KVCache | None" = None,
    ) -> Tensor:
        """[B, T, E] before the head: enough for prefill and training, where few positions need logits."""
        if documents is not None and cache is not None:
            raise ValueError("packed documents are for training; a cache continues one conversation per row")
        if positions is None:
            positions = count_positions(ids, attention_mask, documents, cache)
        return self.model(ids, positions, documents, cache)

    def logits(self, hidden: Tensor) -> Tensor:
        """[n, E] -> fp32 [n, V]"""
        return softcap(self.model.embed_tokens.project(hidden).float(), self.config.final_logit_softcapping)


def count_positions(
    ids: Tensor, attention_mask: Tensor | None, documents: Tensor | None, cache: "KVCache | None"
) -> Tensor:
    """int64 [B, T]: each row, or each document of it, counts from its first real token; padding is -1."""
    real = torch.ones_like(ids) if attention_mask is None else attention_mask.long()
    index = torch.arange(ids.shape[1], device=ids.device)[None]  # [1, T]
    starts = real.argmax(-1, keepdim=True)  # [B, 1]: the first real token
    if documents is not None:
        changes = torch.ones_like(documents, dtype=torch.bool)
        changes[:, 1:] = documents[:, 1:] != documents[:, :-1]
        starts = torch.maximum(starts, torch.where(changes, index, 0).cummax(-1).values)  # [B, T]
    positions = index - starts
    if cache is not None:
        positions = positions + cache.next_positions(ids.shape[0], ids.device)[:, None]
    return positions.masked_fill(real == 0, -1)
