"""What a Gemma-2 checkpoint says about itself in config.json."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from minifc.errors import ConfigError
from minifc.files import read_json

MODEL_FOLDER = "a model folder holds config.json, *.safetensors and a tokenizer"
SLIDING, FULL = "sliding_attention", "full_attention"
_CAPS = ("attn_logit_softcapping", "final_logit_softcapping")
_REQUIRED = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
)


@dataclass(frozen=True)
class GemmaConfig:
    """Hugging Face's field names, and the axis letters used in every shape comment:

    B batch, T tokens, S keys seen, E hidden_size, H heads, K key/value heads,
    D head_dim, F ffn size, V vocabulary, W window.
    """

    vocab_size: int  # V
    hidden_size: int  # E
    intermediate_size: int  # F
    num_hidden_layers: int
    num_attention_heads: int  # H
    num_key_value_heads: int  # K
    head_dim: int  # D
    query_pre_attn_scalar: float  # queries are scaled by this to the power of -1/2
    sliding_window: int  # W: a query on a sliding layer sees itself and the W - 1 keys before it
    layer_types: tuple[str, ...]
    max_position_embeddings: int = 8192
    attn_logit_softcapping: float | None = 50.0
    final_logit_softcapping: float | None = 30.0
    rope_theta: float = 10000.0
    rms_norm_eps: float = 1e-6
    initializer_range: float = 0.02
    tie_word_embeddings: bool = True
    pad_token_id: int = 0
    bos_token_id: int = 2
    eos_token_id: tuple[int, ...] = (1,)

    def __post_init__(self) -> None:
        for name in (*_REQUIRED, "sliding_window", "max_position_embeddings"):
            if type(value := getattr(self, name)) is not int or value < 1:
                raise ConfigError(f"{name} is {value!r}; it must be a whole number above 0")
        for name in ("query_pre_attn_scalar", "rope_theta", "rms_norm_eps", *_CAPS):
            value = getattr(self, name)
            if not (name in _CAPS and value is None) and (type(value) not in (int, float) or not 0 < value < math.inf):
                raise ConfigError(f"{name} is {value!r}; it must be a number above 0")
        if type(self.tie_word_embeddings) is not bool:
            raise ConfigError(f"tie_word_embeddings is {self.tie_word_embeddings!r}; it must be true or false")
        for name in ("pad_token_id", "bos_token_id"):
            if type(value := getattr(self, name)) is not int or value < 0:
                raise ConfigError(f"{name} is {value!r}; it must be an id")
        if self.num_attention_heads % self.num_key_value_heads:
            raise ConfigError(
                f"num_attention_heads={self.num_attention_heads} is not a multiple of "
                f"num_key_value_heads={self.num_key_value_heads}"
            )
        if len(self.layer_types) != self.num_hidden_layers:
            raise ConfigError(
                f"layer_types names {len(self.layer_types)} layers but num_hidden_layers is {self.num_hidden_layers}"
            )
        if unknown := set(self.layer_types) - {SLIDING, FULL}:
            raise ConfigError(f"layer_types holds {sorted(unknown)}; Gemma-2 has only {SLIDING!r} and {FULL!r}")
        if self.pad_token_id in self.eos_token_id:
            # Where padding is ignored, a model trained so never learns to stop.
            raise ConfigError(f"pad_token_id={self.pad_token_id} is a stop token too; padding needs an id of its own")
        if self.head_dim % 2:
            raise ConfigError(f"head_dim={self.head_dim} is odd; rotary positions turn dimensions in pairs")


# Fields of config.json with one value that minifc can represent. A file that says
# otherwise describes another computation, so it is refused instead of run wrongly.
_FIXED: dict[str, tuple[Any, ...]] = {
    "model_type": ("gemma2",),
    "hidden_activation": ("gelu_pytorch_tanh", None),
    "attention_bias": (False, None),
    "use_bidirectional_attention": (False, None),
    "quantization_config": (None,),
}


def config_from_dict(data: dict[str, Any]) -> GemmaConfig:
    """Both generations of config.json: `rope_theta` at the top or inside `rope_parameters`,
    with or without `layer_types` (the default alternates, starting with a sliding layer).

    Raises ConfigError for what is missing or what minifc cannot represent.
    """
    for field, allowed in _FIXED.items():
        if (value := data.get(field, allowed[-1])) not in allowed:
            raise ConfigError(f"{field} is {value!r}; minifc runs only Gemma-2 with {field}={allowed[0]!r}")
    if missing := [field for field in _REQUIRED if field not in data]:
        raise ConfigError(f"missing {', '.join(missing)}")

    rope_theta = data.get("rope_theta", 10000.0)
    for name in ("rope_parameters", "rope_scaling"):
        rope = data.get(name) or {}
        if not isinstance(rope, dict) or any(isinstance(value, dict) for value in rope.values()):
            raise ConfigError(f"{name} is {rope!r}; minifc runs only Gemma-2 with one kind of rotary positions")
        if (kind := rope.get("rope_type", rope.get("type", "default"))) != "default":
            raise ConfigError(f"rope_type is {kind!r}; minifc runs only Gemma-2 with the default rotary positions")
        rope_theta = rope.get("rope_theta", rope_theta)

    nullable = (*_CAPS, "sliding_window")
    fields = [field for field in GemmaConfig.__dataclass_fields__ if field in data]
    values = {field: data[field] for field in fields if data[field] is not None or field in nullable}
    defaults = {"query_pre_attn_scalar": 256, "sliding_window": 4096}  # transformers'
    layer_types = data.get("layer_types")
    if layer_types is None:
        count = data["num_hidden_layers"]
        layer_types = [FULL if i % 2 else SLIDING for i in range(count if type(count) is int else 0)]
    eos = data.get("eos_token_id")
    eos = 1 if eos is None else eos
    if not _ids(eos):
        raise ConfigError(f"eos_token_id is {eos!r}; it must be an id or a list of ids")
    values |= {
        "rope_theta": float(rope_theta) if type(rope_theta) is int else rope_theta,
        "layer_types": tuple(layer_types),
        "eos_token_id": tuple(eos) if isinstance(eos, list) else (eos,),
    }
    return GemmaConfig(**defaults | values)


def config_to_dict(config: GemmaConfig, dtype: str) -> dict[str, Any]:
    """The newer generation of config.json, as transformers reads it. `dtype` is "bfloat16" or the like."""
    data = asdict(config)
    theta = data.pop("rope_theta")
    return data | {
        "architectures": ["Gemma2ForCausalLM"],
        "model_type": "gemma2",
        "dtype": dtype,
        "hidden_activation": "gelu_pytorch_tanh",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "layer_types": list(config.layer_types),
        "eos_token_id": list(config.eos_token_id),
        "rope_parameters": {"rope_type": "default", "rope_theta": theta},
        "query_pre_attn_scalar": _whole(config.query_pre_attn_scalar),  # transformers takes an int only
        "use_cache": True,
    }


def _whole(number: float) -> float:
    return int(number) if number == int(number) else number


def load_config(folder: str | Path) -> GemmaConfig:
    """Read `folder`/config.json, and the stop ids from the generation_config.json beside it, which decide
    where there are any. Raises ConfigError naming the file.
    """
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise ConfigError(f"{path}: not found; {MODEL_FOLDER}")
    data = _object(path)
    beside = path.with_name("generation_config.json")
    stops = _object(beside).get("eos_token_id") if beside.is_file() else None
    if stops is not None:
        if not _ids(stops):
            raise ConfigError(f"{beside}: eos_token_id is {stops!r}; it must be an id or a list of ids")
        data["eos_token_id"] = stops
    try:
        return config_from_dict(data)
    except (ConfigError, TypeError, ValueError) as error:
        raise ConfigError(f"{path}: {error}") from None


def _object(path: Path) -> dict[str, Any]:
    data = read_json(path, ConfigError)
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: holds a JSON {type(data).__name__}, not an object")
    return data


def _ids(value: object) -> bool:
    """One id or a list of ids."""
    return all(type(item) is int for item in (value if isinstance(value, list) else [value]))
