"""How likely a model finds what the model turns of conversations say."""

import math
import sys
from collections.abc import Sequence

import torch

from minifc.data import Conversation, make_examples, pack
from minifc.gemma.model import Gemma
from minifc.text.template import Format
from minifc.text.tokenizer import Tokenizer
from minifc.tuning.loss import batch_loss


def bits_per_byte(model: Gemma, tokenizer: Tokenizer, conversations: Sequence[Conversation], format: Format) -> float:
    """Of the conversations' model turns: comparable between vocabularies, as a loss per token is not."""
    nats, count = 0.0, 0
    # However long they are with these tokens: before and after training the same conversations are measured.
    for example in make_examples(conversations, tokenizer, format, sys.maxsize).fitting:
        (batch,) = pack([example], 1, len(example.ids))
        with torch.no_grad():
            nats += float(batch_loss(model, batch.to(next(model.parameters()).device)))
        learned = [id_ for id_, mask in zip(example.ids, example.mask, strict=True) if mask]
        count += len(tokenizer.decode(learned).encode())
    return nats / math.log(2) / count if count else math.nan
