"""config.json in and out: both generations are read, and what minifc would compute wrongly is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import transformers

from minifc.errors import ConfigError
from minifc.gemma.config import FULL, SLIDING, GemmaConfig, config_from_dict, config_to_dict, load_config

OFFICIAL = GemmaConfig(
    vocab_size=256000,
    hidden_size=2304,
    intermediate_size=9216,
    num_hidden_layers=26,
    num_attention_heads=8,
    num_key_value_heads=4,
    head_dim=256,
    query_pre_attn_scalar=256,
    sliding_window=4096,
    layer_types=(SLIDING, FULL) * 13,
    max_position_embeddings=8192,
    attn_logit_softcapping=50.0,
    final_logit_softcapping=30.0,
    rope_theta=10000.0,
    rms_norm_eps=1e-6,
    initializer_range=0.02,
    tie_word_embeddings=True,
    pad_token_id=0,
    bos_token_id=2,
    eos_token_id=(1, 107),
)


def without(data: dict[str, Any], *fields: str) -> dict[str, Any]:
    return {field: value for field, value in data.items() if field not in fields}


def write(folder: Path, text: str) -> Path:
    """A folder whose config.json holds `text`."""
    (folder / "config.json").write_text(text, encoding="utf-8")
    return folder


# Reading


def test_the_official_file_is_read_to_the_published_values(shared: Path) -> None:
    assert load_config(shared / "gemma-2-2b-it") == OFFICIAL


def test_the_official_file_is_read_as_transformers_reads_it(shared: Path) -> None:
    theirs = transformers.AutoConfig.from_pretrained(shared / "gemma-2-2b-it").to_dict()
    assert config_from_dict(theirs) == load_config(shared / "gemma-2-2b-it")


def test_the_older_generation_means_the_same_as_the_newer(config_data: dict[str, Any]) -> None:
    newer = config_data | {"rope_parameters": {"rope_type": "default", "rope_theta": 5000.0}}
    older = without(newer, "rope_parameters", "layer_types") | {"rope_theta": 5000.0}
    assert config_from_dict(older) == config_from_dict(newer)
    assert config_from_dict(older).rope_theta == 5000.0


def test_without_layer_types_layers_alternate_and_the_first_slides(config_data: dict[str, Any]) -> None:
    for layers, expected in ((1, (SLIDING,)), (2, (SLIDING, FULL)), (5, (SLIDING, FULL, SLIDING, FULL, SLIDING))):
        data = without(config_data, "layer_types") | {"num_hidden_layers": layers}
        assert config_from_dict(data).layer_types == expected
        assert tuple(transformers.Gemma2Config(**data).layer_types) == expected


def test_layer_types_are_taken_as_they_stand(config_data: dict[str, Any]) -> None:
    kinds = [FULL, FULL, SLIDING, FULL]
    assert config_from_dict(config_data | {"layer_types": kinds}).layer_types == tuple(kinds)


@pytest.mark.parametrize("field", ["attn_logit_softcapping", "final_logit_softcapping"])
def test_a_null_cap_is_no_cap(config_data: dict[str, Any], field: str) -> None:
    assert getattr(config_from_dict(config_data | {field: None}), field) is None


@pytest.mark.parametrize(
    "field",
    [
        "attn_logit_softcapping",
        "final_logit_softcapping",
        "rms_norm_eps",
        "sliding_window",
        "max_position_embeddings",
        "tie_word_embeddings",
        "pad_token_id",
        "bos_token_id",
        pytest.param("query_pre_attn_scalar"),
    ],
)
def test_a_field_left_out_has_the_value_that_transformers_gives_it(config_data: dict[str, Any], field: str) -> None:
    data = without(config_data, field)
    assert getattr(config_from_dict(data), field) == getattr(transformers.Gemma2Config(**data), field)


@pytest.mark.parametrize(("given", "expected"), [(1, (1,)), ([1, 107], (1, 107))])
def test_eos_is_one_id_or_several(config_data: dict[str, Any], given: int | list[int], expected: tuple[int]) -> None:
    assert config_from_dict(config_data | {"eos_token_id": given}).eos_token_id == expected


@pytest.mark.parametrize(
    "field",
    [
        "sliding_window",
        "rms_norm_eps",
        "pad_token_id",
        "bos_token_id",
        pytest.param("query_pre_attn_scalar"),
    ],
)
def test_a_null_is_never_a_value(config_data: dict[str, Any], field: str) -> None:
    """Where no cap is meant, null stands for a field left out, or is refused."""
    try:
        config = config_from_dict(config_data | {field: None})
    except ConfigError:
        return
    assert isinstance(getattr(config, field), int | float)


def test_a_null_eos_is_no_stop_id(config_data: dict[str, Any]) -> None:
    assert None not in config_from_dict(config_data | {"eos_token_id": None}).eos_token_id


def test_the_stops_of_generation_config_decide(config_data: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config_data | {"eos_token_id": 1}))
    assert load_config(tmp_path).eos_token_id == (1,)
    beside = tmp_path / "generation_config.json"
    beside.write_text('{"bos_token_id": 2}')
    assert load_config(tmp_path).eos_token_id == (1,)
    beside.write_text('{"eos_token_id": [1, 107]}')
    assert load_config(tmp_path).eos_token_id == (1, 107)
    for content, complaint in (
        ("[]", "holds a JSON list"),
        ('{"eos_token_id": "1"}', "eos_token_id is '1'"),
        ('{"eos_token_id": [1, null]}', "eos_token_id is "),
    ):
        beside.write_text(content)
        with pytest.raises(ConfigError, match=rf"generation_config\.json: {complaint}"):
            load_config(tmp_path)


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        OFFICIAL.sliding_window = 1  # type: ignore[misc]


# Refusing


def _crash(change: dict[str, Any], match: str, error: type[Exception]) -> Any:
    """A case that today ends in another error than ConfigError."""
    return pytest.param(change, match)


def _accepted(change: dict[str, Any], match: str) -> Any:
    """A case that today is read, though the model would compute something else than the file says."""
    return pytest.param(change, match)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"model_type": "gemma"}, "model_type is 'gemma'"),
        ({"model_type": "gemma3n"}, "model_type is 'gemma3n'"),
        ({"use_bidirectional_attention": True}, "use_bidirectional_attention is True"),
        ({"attention_bias": True}, "attention_bias is True"),
        ({"hidden_activation": "gelu"}, "hidden_activation is 'gelu'"),
        ({"hidden_activation": "silu"}, "hidden_activation is 'silu'"),
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, "quantization_config"),
        ({"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}}, "rope_type is 'linear'"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 2.0, "rope_theta": 1e4}}, "rope_type is 'yarn'"),
        ({"rope_parameters": None, "rope_scaling": {"type": "dynamic", "factor": 2.0}}, "rope_type is 'dynamic'"),
        ({"rope_parameters": None, "rope_scaling": {"rope_type": "llama3"}}, "rope_type is 'llama3'"),
        ({"num_key_value_heads": 3}, "num_attention_heads=4 is not a multiple of num_key_value_heads=3"),
        ({"num_key_value_heads": 8}, "num_attention_heads=4 is not a multiple"),
        ({"layer_types": [SLIDING, FULL]}, "names 2 layers but num_hidden_layers is 4"),
        ({"layer_types": [SLIDING, FULL, SLIDING, "chunked_attention"]}, "chunked_attention"),
        ({"head_dim": 15}, "head_dim=15 is odd"),
        ({"pad_token_id": 1}, "pad_token_id=1 is a stop token too"),
        ({"pad_token_id": 107, "eos_token_id": [1, 107]}, "pad_token_id=107 is a stop token too"),
        _crash({"num_key_value_heads": 0}, "num_key_value_heads", ZeroDivisionError),
        _crash({"rope_parameters": ["default"]}, "rope_parameters", AttributeError),
        _accepted({"sliding_window": None}, "sliding_window"),
        _accepted({"sliding_window": 0}, "sliding_window"),
        _accepted({"sliding_window": -3}, "sliding_window"),
        _accepted({"vocab_size": "199"}, "vocab_size"),
        _accepted({"eos_token_id": "1"}, "eos_token_id is '1'"),
        _accepted({"vocab_size": True}, "vocab_size is True"),
        _accepted({"query_pre_attn_scalar": True}, "query_pre_attn_scalar is True"),
        _accepted({"rms_norm_eps": "1e-6"}, "rms_norm_eps is '1e-6'"),
        _accepted({"attn_logit_softcapping": "50"}, "attn_logit_softcapping is '50'"),
        _accepted({"final_logit_softcapping": 0}, "final_logit_softcapping is 0"),
        _accepted({"tie_word_embeddings": "false"}, "tie_word_embeddings is 'false'"),
        _accepted({"pad_token_id": "0"}, "pad_token_id is '0'"),
        _accepted({"rope_parameters": {"rope_type": "default", "rope_theta": "1e4"}}, "rope_theta is '1e4'"),
        _accepted({"num_hidden_layers": "4", "layer_types": None}, "num_hidden_layers is '4'"),
        # transformers lets the older field win where both are there.
        _accepted({"rope_scaling": {"rope_type": "linear", "factor": 2.0}}, "rope_type is 'linear'"),
        # Gemma-3's form: one kind of rope for each kind of layer.
        _accepted({"rope_parameters": {FULL: {"rope_type": "linear", "factor": 8.0}}}, "rope"),
    ],
)
def test_what_minifc_cannot_represent_is_refused(
    config_data: dict[str, Any], tmp_path: Path, change: dict[str, Any], match: str
) -> None:
    """The error names the file and the field."""
    folder = write(tmp_path, json.dumps(config_data | change))
    with pytest.raises(ConfigError, match=match) as caught:
        load_config(folder)
    assert str(caught.value).startswith(f"{folder / 'config.json'}: ")


@pytest.mark.parametrize(
    "field",
    [
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
    ],
)
def test_a_field_that_shapes_the_model_must_be_there(config_data: dict[str, Any], tmp_path: Path, field: str) -> None:
    folder = write(tmp_path, json.dumps(without(config_data, field)))
    with pytest.raises(ConfigError, match=f"config.json: missing {field}$"):
        load_config(folder)


def test_all_missing_fields_are_named_at_once(config_data: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="missing vocab_size, head_dim"):
        config_from_dict(without(config_data, "vocab_size", "head_dim"))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not found") as caught:
        load_config(tmp_path / "nowhere")
    assert str(tmp_path / "nowhere" / "config.json") in str(caught.value)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[]", "holds a JSON list, not an object"),
        ('"gemma2"', "holds a JSON str, not an object"),
        ("{}", "missing vocab_size"),
        pytest.param("[" * 100_000, "not JSON"),
    ],
    ids=["empty", "cut", "list", "string", "no fields", "deep"],
)
def test_a_file_without_a_config_is_refused_by_name(tmp_path: Path, text: str, match: str) -> None:
    folder = write(tmp_path, text)
    with pytest.raises(ConfigError, match=match) as caught:
        load_config(folder)
    assert str(folder / "config.json") in str(caught.value)


def test_bytes_that_are_not_text_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(ConfigError, match=r"config\.json: not JSON"):
        load_config(tmp_path)


# Writing


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 123.0}},
        {"layer_types": [FULL, FULL, SLIDING, FULL]},
        {"attn_logit_softcapping": None, "final_logit_softcapping": None},
        {"tie_word_embeddings": False, "eos_token_id": [1, 107], "sliding_window": 3},
    ],
)
def test_what_is_written_reads_back_as_it_was(config_data: dict[str, Any], change: dict[str, Any]) -> None:
    config = config_from_dict(config_data | change)
    written = json.loads(json.dumps(config_to_dict(config, "bfloat16")))
    assert config_from_dict(written) == config


def test_transformers_reads_what_is_written(config_data: dict[str, Any], tmp_path: Path) -> None:
    """Every field of a config that differs from the defaults arrives."""
    change = {"rope_parameters": {"rope_type": "default", "rope_theta": 123.0}, "layer_types": [FULL] * 4}
    config = config_from_dict(config_data | change | {"eos_token_id": [1, 107], "tie_word_embeddings": False})
    written = config_to_dict(config, "bfloat16")
    theirs = transformers.AutoConfig.from_pretrained(write(tmp_path, json.dumps(written)))
    assert isinstance(theirs, transformers.Gemma2Config)
    kept = theirs.to_dict()
    assert {field: kept[field] for field in written} == written


def test_transformers_reads_a_query_scale_that_was_given_as_a_float(config_data: dict[str, Any]) -> None:
    config = config_from_dict(config_data | {"query_pre_attn_scalar": 24.0})
    assert transformers.Gemma2Config(**config_to_dict(config, "float32")).query_pre_attn_scalar == 24
