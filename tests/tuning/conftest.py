"""Small random Gemmas, each beside its twin in transformers, and what the tests of this room compare with."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from measured import measured
from torch import Tensor, nn
from transformers import Gemma2Config, Gemma2ForCausalLM, Gemma3ForCausalLM, Gemma3TextConfig

from minifc.data import Example
from minifc.gemma.config import config_from_dict
from minifc.gemma.model import Gemma
from minifc.text.tokenizer import Tokenizer, load_tokenizer
from minifc.tuning.lora import lora_layers

# A window shorter than the texts, and weights so large that both soft-caps bite.
SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "query_pre_attn_scalar": 12,
    "sliding_window": 5,
    "attn_logit_softcapping": 5.0,
    "final_logit_softcapping": 3.0,
    "initializer_range": 0.3,
    "attn_implementation": "eager",
}
VOCABULARY = 97


@pytest.fixture(scope="session")
def build() -> Callable[..., Gemma2ForCausalLM]:
    """build(**changes): a random model of transformers, the same one for the same arguments. `kind="gemma3"` is a
    Gemma 3, which has no soft-caps."""

    def build_hf(vocab_size: int = VOCABULARY, seed: int = 1, kind: str = "gemma2", **changes: Any) -> Any:
        sizes = SIZES | changes | {"vocab_size": vocab_size}
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            if kind == "gemma2":
                hf: Any = Gemma2ForCausalLM(Gemma2Config(**sizes)).eval()
            else:
                caps = {"attn_logit_softcapping": None, "final_logit_softcapping": None}
                layer_types = ["sliding_attention", "full_attention"]
                hf = Gemma3ForCausalLM(Gemma3TextConfig(**sizes | {"layer_types": layer_types} | caps)).eval()
            for name, parameter in hf.named_parameters():
                if "norm" in name:
                    nn.init.normal_(parameter, std=0.5)
            hf.model.embed_tokens.weight.data[0].normal_(std=0.3)  # transformers leaves padding's row at 0
        return hf

    return build_hf


@pytest.fixture(scope="session")
def convert() -> Callable[[Gemma2ForCausalLM], Gemma]:
    """convert(hf): our Gemma with a copy of a transformers model's weights."""

    def to_gemma(hf: Gemma2ForCausalLM) -> Gemma:
        model = Gemma(config_from_dict(hf.config.to_dict()))
        state = {name: tensor for name, tensor in hf.state_dict().items() if name != "lm_head.weight"}
        if not hf.config.tie_word_embeddings:
            state["model.embed_tokens.head"] = hf.lm_head.weight
        model.load_state_dict(state)
        return model.eval()

    return to_gemma


@pytest.fixture
def hf(build: Callable[..., Gemma2ForCausalLM], request: pytest.FixtureRequest) -> Gemma2ForCausalLM:
    """A Gemma 2, or what a test asks for: `@pytest.mark.parametrize("hf", ["gemma2", "gemma3"], indirect=True)`."""
    return build(kind=getattr(request, "param", "gemma2"))


@pytest.fixture
def model(hf: Gemma2ForCausalLM, convert: Callable[..., Gemma]) -> Gemma:
    return convert(hf)


@pytest.fixture
def fresh(build: Callable[..., Gemma2ForCausalLM], convert: Callable[..., Gemma]) -> Callable[..., Gemma]:
    """fresh(**changes): a Gemma, with equal weights at every call with equal arguments."""
    return lambda **changes: convert(build(**changes))


@pytest.fixture
def tokenizer(tiny: Any) -> Tokenizer:
    return load_tokenizer(tiny)


@pytest.fixture
def talker(fresh: Callable[..., Gemma], tokenizer: Tokenizer) -> Gemma:
    """A model with a row for each id of `tokenizer`."""
    return fresh(vocab_size=tokenizer.size)


@pytest.fixture
def ids() -> Tensor:
    """Texts longer than the window, without padding: int64 [2, 13]."""
    return torch.randint(1, VOCABULARY, (2, 13), generator=torch.Generator().manual_seed(2))


@pytest.fixture(scope="session")
def randomize() -> Callable[[nn.Module], None]:
    """randomize(model): numbers where LoRA starts at zero, as training would give them, so that it does something."""

    def fill(model: nn.Module) -> None:
        generator = torch.Generator().manual_seed(3)
        for _, layer in lora_layers(model):
            for name, matrix in layer.matrices().items():
                if name in ("lora_B.weight", "lora_embedding_A"):
                    matrix.data.normal_(std=0.2, generator=generator)

    return fill


@pytest.fixture(scope="session")
def peft_of() -> Callable[[nn.Module, str, str], nn.Parameter]:
    """peft_of(peft, name, matrix): PEFT's parameter of a layer, by the names that minifc has for both."""

    def find(peft: nn.Module, name: str, matrix: str) -> nn.Parameter:
        kind, _, weight = matrix.partition(".")
        found = getattr(peft.get_submodule(f"base_model.model.{name}"), kind)["default"]
        return found.weight if weight else found

    return find


@pytest.fixture(scope="session")
def same_lora(peft_of: Callable[..., nn.Parameter]) -> Callable[[nn.Module, nn.Module], None]:
    """same_lora(peft, model): PEFT's A and B become those of our model."""

    def copy(peft: nn.Module, model: nn.Module) -> None:
        for name, layer in lora_layers(model):
            for matrix, parameter in layer.matrices().items():
                peft_of(peft, name, matrix).data.copy_(parameter)

    return copy


class Packed(nn.Module):
    """A linear layer with another way to hold its weight, as a quantised one has."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.codes = nn.Parameter(linear.weight.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.codes)


@pytest.fixture(scope="session")
def packed() -> type[Packed]:
    """packed(linear): the same function in a module that is no nn.Linear."""
    return Packed


@pytest.fixture(scope="session")
def near() -> Callable[..., bool]:
    """near(a, b): equal within 1e-5 of the largest number in b."""

    def compare(a: Tensor, b: Tensor, tolerance: float = 1e-5) -> bool:
        assert a.shape == b.shape
        share = float((a - b).detach().abs().max()) / max(float(b.detach().abs().max()), 1e-30)
        return share <= tolerance and measured(share) <= tolerance

    return compare


@pytest.fixture(scope="session")
def make_examples() -> Callable[..., list[Example]]:
    """make_examples(lengths, learned): random examples; of each, the last `learned[i]` tokens are learned from."""

    def make(lengths: list[int], learned: list[int] | None = None, vocab_size: int = VOCABULARY) -> list[Example]:
        generator = torch.Generator().manual_seed(4)
        examples = []
        for number, length in enumerate(lengths):
            count = length - 1 if learned is None else learned[number]
            numbers = torch.randint(1, vocab_size, (length,), generator=generator).tolist()
            mask = [False] * (length - count) + [True] * count
            examples.append(Example(numbers, mask, f"example {number}"))
        return examples

    return make
