"""What a checkpoint of Gemma 2 or Gemma 3 says about itself in config.json."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from minifc.errors import ConfigError
from minifc.files import read_json
from minifc.gemma.from_gguf import config_data
from minifc.gguf import is_gguf, read_gguf

MODEL_FOLDER = "a model folder holds config.json, *.safetensors and a tokenizer"
GEMMA2, GEMMA3 = "gemma2", "gemma3_text"  # Hugging Face's names of the architectures
GEMMA3_MULTIMODAL = "gemma3"  # text_config and vision_config; minifc runs the text part
SLIDING, FULL = "sliding_attention", "full_attention"
_CAPS = ("attn_logit_softcapping", "final_logit_softcapping")
_NULLABLE = (*_CAPS, "rope_local_base_freq")
_SIZES = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
)
_POSITIVE = ("query_pre_attn_scalar", "rope_theta", "rope_local_base_freq", "rope_factor", "rms_norm_eps")


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
    model_type: str = GEMMA2
    max_position_embeddings: int = 8192
    attn_logit_softcapping: float | None = 50.0
    final_logit_softcapping: float | None = 30.0
    rope_theta: float = 10000.0
    rope_local_base_freq: float | None = None  # the rope_theta of sliding layers, where that is another
    rope_factor: float = 1.0  # positions on full layers are divided by it
    rms_norm_eps: float = 1e-6
    initializer_range: float = 0.02
    tie_word_embeddings: bool = True
    pad_token_id: int = 0
    bos_token_id: int = 2
    eos_token_id: tuple[int, ...] = (1,)

    @property
    def qk_norm(self) -> bool:
        """Whether queries and keys are normed, which took the place of soft-caps in Gemma 3."""
        return self.model_type == GEMMA3

    def rope(self, kind: str) -> tuple[float, float]:
        """A kind of layer's base of the rotary frequencies, and what positions are divided by."""
        if kind == SLIDING and self.rope_local_base_freq is not None:
            return self.rope_local_base_freq, 1.0
        return self.rope_theta, self.rope_factor

    def __post_init__(self) -> None:
        if self.model_type not in (GEMMA2, GEMMA3):
            raise ConfigError(f"model_type is {self.model_type!r}; minifc runs {GEMMA2} and {GEMMA3}")
        for name in (*_SIZES, "sliding_window", "max_position_embeddings"):
            if type(value := getattr(self, name)) is not int or value < 1:
                raise ConfigError(f"{name} is {value!r}; it must be a whole number above 0")
        for name in (*_POSITIVE, *_CAPS):
            value = getattr(self, name)
            if value is None and name in _NULLABLE:
                continue
            if type(value) not in (int, float) or not 0 < value < math.inf:
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
            raise ConfigError(f"layer_types holds {sorted(unknown)}; Gemma has only {SLIDING!r} and {FULL!r}")
        if self.pad_token_id in self.eos_token_id:
            # Where padding is ignored, a model trained so never learns to stop.
            raise ConfigError(f"pad_token_id={self.pad_token_id} is a stop token too; padding needs an id of its own")
        if self.head_dim % 2:
            raise ConfigError(f"head_dim={self.head_dim} is odd; rotary positions turn dimensions in pairs")


# Fields of config.json with one value that minifc can represent. A file that says
# otherwise describes another computation, so it is refused instead of run wrongly.
_FIXED: dict[str, tuple[Any, ...]] = {
    "hidden_activation": ("gelu_pytorch_tanh", None),
    "attention_bias": (False, None),
    "use_bidirectional_attention": (False, None),
    "quantization_config": (None,),
}
# What a field means that is left out: transformers' defaults, which the official Gemma 3 files of 4B and more rely on.
_DEFAULTS: dict[str, dict[str, Any]] = {
    GEMMA2: {"query_pre_attn_scalar": 256, "sliding_window": 4096},
    GEMMA3: {
        "vocab_size": 262_208, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256,
        "query_pre_attn_scalar": 256, "sliding_window": 4096, "max_position_embeddings": 131_072,
        "attn_logit_softcapping": None, "final_logit_softcapping": None,
    },
}  # fmt: skip
_FULL_EVERY = {GEMMA2: 2, GEMMA3: 6}  # without layer_types: every layer of this number is a full one


def config_from_dict(data: dict[str, Any]) -> GemmaConfig:
    """Any spelling of config.json that Gemma 2 and Gemma 3 have had.

    The text part of a multimodal checkpoint lies under `text_config`. Rotary positions are given by `rope_theta` and
    `rope_local_base_freq`, by `rope_parameters` for all layers, or by `rope_parameters` per kind of layer. The kinds
    of layers, `layer_types`, may be left out.

    Raises ConfigError for what is missing or what minifc cannot represent.
    """
    if data.get("model_type") == GEMMA3_MULTIMODAL:
        data = _text_part(data)
    kind = data.get("model_type", GEMMA2)
    if kind not in _DEFAULTS:
        raise ConfigError(f"model_type is {kind!r}; minifc runs Gemma 2 ({GEMMA2}) and the text of Gemma 3 ({GEMMA3})")
    for field, allowed in _FIXED.items():
        if (value := data.get(field, allowed[-1])) not in allowed:
            raise ConfigError(f"{field} is {value!r}; minifc runs only Gemma with {field}={allowed[0]!r}")
    if missing := [field for field in _SIZES if field not in data and field not in _DEFAULTS[kind]]:
        raise ConfigError(f"missing {', '.join(missing)}")

    nullable = (*_CAPS, "sliding_window")
    fields = [field for field in GemmaConfig.__dataclass_fields__ if field in data]
    values = {field: data[field] for field in fields if data[field] is not None or field in nullable}
    layer_types = data.get("layer_types")
    if layer_types is None:
        count, every = data["num_hidden_layers"], data.get("sliding_window_pattern", _FULL_EVERY[kind])
        if type(every) is not int or every < 1:
            raise ConfigError(f"sliding_window_pattern is {every!r}; it must be a whole number above 0")
        layer_types = [SLIDING if (i + 1) % every else FULL for i in range(count if type(count) is int else 0)]
    eos = data.get("eos_token_id")
    eos = 1 if eos is None else eos
    if not _ids(eos):
        raise ConfigError(f"eos_token_id is {eos!r}; it must be an id or a list of ids")
    values |= _rope(data, kind) | {
        "layer_types": tuple(layer_types),
        "eos_token_id": tuple(eos) if isinstance(eos, list) else (eos,),
    }
    return GemmaConfig(**_DEFAULTS[kind] | values)


def _text_part(data: dict[str, Any]) -> dict[str, Any]:
    """The text part of a multimodal config, with the ids that stand beside it."""
    text = data.get("text_config")
    if not isinstance(text, dict):
        raise ConfigError(f"text_config is {text!r}; a multimodal Gemma 3 has its language model's fields there")
    beside = ("eos_token_id", "pad_token_id", "bos_token_id", "tie_word_embeddings", "quantization_config")
    return {name: data[name] for name in beside if name in data} | {"model_type": GEMMA3} | text


def _rope(data: dict[str, Any], model_type: str) -> dict[str, Any]:
    """The rotary positions of both kinds of layers, as fields of GemmaConfig."""
    parameters, scaling = _object(data, "rope_parameters"), _object(data, "rope_scaling")
    theta, per_kind = {"rope_theta": data.get("rope_theta")}, parameters.keys() <= {FULL, SLIDING}
    if model_type == GEMMA2:
        if parameters and per_kind:
            raise ConfigError(f"rope_parameters is {parameters!r}; Gemma 2 has one kind of rotary positions")
        rope = theta | parameters | scaling
        factor = _factor(rope, scalable=False)
        return {"rope_theta": _theta(rope, 10_000.0), "rope_local_base_freq": None, "rope_factor": factor}
    if not per_kind:
        raise ConfigError(f"rope_parameters is {parameters!r}; Gemma 3 has {FULL!r} and {SLIDING!r} there")
    full = theta | _object(parameters, FULL) | scaling
    sliding = {"rope_theta": data.get("rope_local_base_freq")} | _object(parameters, SLIDING)
    _factor(sliding, scalable=False)
    return {
        "rope_theta": _theta(full, 1_000_000.0),
        "rope_local_base_freq": _theta(sliding, 10_000.0),
        "rope_factor": _factor(full, scalable=True),
    }


def _theta(rope: dict[str, Any], default: float) -> Any:
    return default if (theta := rope.get("rope_theta")) is None else _as_float(theta)


def _factor(rope: dict[str, Any], scalable: bool) -> Any:
    """What positions are divided by. Raises ConfigError for a way of scaling that minifc does not run."""
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return 1.0
    if kind != "linear" or not scalable:
        raise ConfigError(
            f"rope_type is {kind!r}; minifc runs default rotary positions, and linear ones on Gemma 3's full layers"
        )
    return _as_float(rope.get("factor"))


def _as_float(value: Any) -> Any:
    return float(value) if type(value) is int else value


def _object(data: dict[str, Any], name: str) -> dict[str, Any]:
    """A field that holds an object, which may be left out."""
    value = data.get(name)
    if not isinstance(value, dict | None):
        raise ConfigError(f"{name} is {value!r}; it must be an object")
    return value or {}


def config_to_dict(config: GemmaConfig, dtype: str) -> dict[str, Any]:
    """The newer generation of config.json, as transformers reads it. `dtype` is "bfloat16" or the like."""
    data = asdict(config)
    ropes = {
        FULL: {"rope_type": "default", "rope_theta": data.pop("rope_theta")},
        SLIDING: {"rope_type": "default", "rope_theta": data.pop("rope_local_base_freq") or config.rope_theta},
    }
    if (factor := data.pop("rope_factor")) != 1:
        ropes[FULL] |= {"rope_type": "linear", "factor": factor}
    name = {GEMMA2: "Gemma2ForCausalLM", GEMMA3: "Gemma3ForCausalLM"}[config.model_type]
    return data | {
        "architectures": [name],
        "dtype": dtype,
        "hidden_activation": "gelu_pytorch_tanh",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "layer_types": list(config.layer_types),
        "eos_token_id": list(config.eos_token_id),
        "rope_parameters": ropes if config.model_type == GEMMA3 else ropes[FULL],
        "query_pre_attn_scalar": _whole(config.query_pre_attn_scalar),  # transformers takes an int only
        "use_cache": True,
    }


def _whole(number: float) -> float:
    return int(number) if number == int(number) else number


def load_config(folder: str | Path) -> GemmaConfig:
    """Read `folder`/config.json, and the stop ids from the generation_config.json beside it, which decide
    where there are any; or the metadata of a GGUF file. Raises ConfigError, and CheckpointError for a GGUF file that
    is damaged, naming the file.
    """
    path = Path(folder)
    if is_gguf(path):
        data = config_data(read_gguf(path))
    else:
        path = path / "config.json"
        data = _read_config(path)
    try:
        return config_from_dict(data)
    except (ConfigError, TypeError, ValueError) as error:
        raise ConfigError(f"{path}: {error}") from None


def _read_config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ConfigError(f"{path}: not found; {MODEL_FOLDER}")
    data = _read_object(path)
    beside = path.with_name("generation_config.json")
    stops = _read_object(beside).get("eos_token_id") if beside.is_file() else None
    if stops is not None:
        if not _ids(stops):
            raise ConfigError(f"{beside}: eos_token_id is {stops!r}; it must be an id or a list of ids")
        data["eos_token_id"] = stops
    return data


def _read_object(path: Path) -> dict[str, Any]:
    data = read_json(path, ConfigError)
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: holds a JSON {type(data).__name__}, not an object")
    return data


def _ids(value: object) -> bool:
    """One id or a list of ids."""
    return all(type(item) is int for item in (value if isinstance(value, list) else [value]))
