"""Exercises of lesson 19. Replace each `raise` by your code, then: python -m lessons.check 19"""

from minifc.gemma.config import GemmaConfig


def parameters(config: GemmaConfig) -> int:
    """How many numbers a Gemma-2 of this configuration has, by arithmetic.

    Per block: q, k, v and o; gate, up and down; four norms. And the table, and the last norm. (Lesson 4 has them all.)
    The head is the table once more, and is not counted again.
    """
    raise NotImplementedError


def cache_bytes(config: GemmaConfig, tokens: int, bytes_each: int = 2) -> int:
    """The bytes of one row's keys and values after so many tokens.

    `config.layer_types` says of each layer "sliding_attention" or "full_attention"; a sliding one keeps no more than
    the window.
    """
    raise NotImplementedError


def training_bytes(frozen: int, trained: int) -> int:
    """The bytes that weights, gradients and AdamW take in a training with LoRA, activations not counted.

    The `frozen` numbers are bf16, and have neither gradient nor optimiser. The `trained` ones, their gradients and the
    two that AdamW keeps for each are fp32.
    """
    raise NotImplementedError
