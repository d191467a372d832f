"""A random Gemma-2 checkpoint, written by transformers: python random_checkpoint.py CONFIG.json FOLDER

Plain random weights make a poor test. Drawn as here, attention scores and logits reach their soft-caps, norms have
gains of their own, and greedy decoding wanders: the table is so small beside what the layers add to the residual
stream that the next token isn't always the last one again.
"""

import json
import sys

import torch
from transformers import Gemma2Config, Gemma2ForCausalLM
from transformers.utils import logging


def main(config_file: str, folder: str) -> None:
    logging.disable_progress_bar()
    with open(config_file, encoding="utf-8") as file:
        config = Gemma2Config(**json.load(file))
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("meta"):
        model = Gemma2ForCausalLM(config)
    model.to_empty(device="cpu")
    table = 0.005 * (config.num_hidden_layers / 26) ** 0.5
    for name, parameter in model.named_parameters():
        if name == "model.norm.weight":
            parameter.data.normal_(0.05 / table, 1)
        elif "norm" in name:
            parameter.data.normal_(0, 0.3)
        elif "embed_tokens" in name:
            parameter.data.normal_(0, table)
        else:
            parameter.data.normal_(0, 0.03 if "q_proj" in name or "k_proj" in name else 0.02)
    model.tie_weights()
    model.save_pretrained(folder, max_shard_size="5GB")


if __name__ == "__main__":
    main(*sys.argv[1:])
