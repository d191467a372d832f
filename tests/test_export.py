"""An exported run is an ordinary transformers folder that computes what the adapter model computes."""

import json
import shutil
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import run
from gguf_files import write_gguf
from measured import measured
from sentencepiece import SentencePieceProcessor
from transformers import AutoModelForCausalLM, AutoTokenizer

import minifc
from minifc import chat, export
from minifc.data import toy
from minifc.errors import HubError
from minifc.gemma.config import config_from_dict
from minifc.gemma.model import Gemma
from minifc.hub import TINY, Source
from minifc.loading import locate
from minifc.text.calls import TAGS
from minifc.text.dialects.functiongemma import FUNCTIONGEMMA
from minifc.text.dialects.json_calls import JSON_CALLS
from minifc.tuning.adapter import merge, save_adapter
from minifc.tuning.lora import ATTENTION, FEED_FORWARD, VOCABULARY, plain_vocabulary


@pytest.fixture
def exported(caller: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    to = tmp_path / "exported"
    assert run(export.main, str(caller), "--to", str(to), "--dtype", "float32", "--model", str(tiny)) == 0
    printed = capsys.readouterr().out
    assert "merged in float32: logits change by at most" in printed
    assert "stored in float32" in printed
    return to


def test_transformers_computes_the_adapter_models_logits(exported: Path, caller: Path, tiny: Path) -> None:
    model, tokenizer = minifc.load_model(tiny, torch.float32), minifc.load_tokenizer(tiny)
    minifc.load_adapter(model, tokenizer, caller)
    theirs = AutoModelForCausalLM.from_pretrained(exported, attn_implementation="eager").eval()
    assert theirs.config.vocab_size == tokenizer.size
    # Conversations and no ids at random: those are so strange to a trained model that it magnifies any rounding.
    for case in toy.held_out_cases(3, seed=0):
        ids = torch.tensor([minifc.render(case.messages(), tokenizer, case.tools, "gemma").ids])
        with torch.no_grad():
            expected, found = model(ids), theirs(ids).logits
        assert measured(float((found - expected).abs().max() / expected.abs().max())) < 1e-5


def test_the_tokenizer_brings_its_template(exported: Path, caller: Path, tiny: Path) -> None:
    ours, theirs = minifc.load_tokenizer(exported), AutoTokenizer.from_pretrained(exported)
    tool = {"name": "find_song", "description": "Finds a song.", "parameters": {"type": "object", "properties": {}}}
    messages = [{"role": "user", "content": "Please find a song."}]
    rendered = minifc.render(messages, ours, [tool], "gemma", add_generation_prompt=True)
    ids = theirs.apply_chat_template(messages, tools=[tool], add_generation_prompt=True, return_dict=True)["input_ids"]
    assert ids == rendered.ids


def test_stops_and_card(exported: Path) -> None:
    generation = json.loads((exported / "generation_config.json").read_text())
    tokenizer = minifc.load_tokenizer(exported)
    assert set(generation["eos_token_id"]) == {tokenizer.eos_id, tokenizer.end_of_turn_id}
    card = (exported / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: transformers\n")
    assert str(Path.cwd()) not in card


def test_the_adapter_alone_is_half_as_large(
    caller: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the tokenizer, which its base model brings; and it answers nearly as before."""
    to = tmp_path / "small"
    assert run(export.main, str(caller), "--to", str(to), "--adapter") == 0
    assert "minifc.load and PEFT read it, with weights/tiny" in " ".join(capsys.readouterr().out.split())
    assert {path.name for path in to.iterdir()} == {
        "adapter_config.json", "adapter_model.safetensors", "added_tokens.json", "minifc.json",
    }  # fmt: skip
    sizes = [(folder / "adapter_model.safetensors").stat().st_size for folder in (to, caller)]
    assert sizes[0] < 0.6 * sizes[1]
    ids = torch.tensor([minifc.render([{"role": "user", "content": "Hi."}], minifc.load(to).tokenizer).ids])
    found, expected = minifc.load(to, dtype="float32").model(ids), minifc.load(caller, dtype="float32").model(ids)
    assert (found - expected).abs().max() < 0.05 * expected.abs().max()
    assert not torch.equal(found, expected)


def test_bfloat16_says_what_it_costs(
    caller: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(export.main, str(caller), "--to", str(tmp_path / "half"), "--model", str(tiny)) == 0
    assert "stored in bfloat16: logits change by at most" in capsys.readouterr().out
    assert minifc.load_model(tmp_path / "half").model.norm.weight.dtype == torch.bfloat16


def test_a_run_names_its_format_and_base(
    caller: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(caller, folder / "adapter")
    (folder / "adapter" / "minifc.json").unlink()  # which would decide
    for settings in ("[]", '{"run": 5}', '{"run": {"format": "chatml"}}'):
        (folder / "config.json").write_text(settings)
        assert run(export.main, str(folder), "--to", str(tmp_path / "to"), "--model", str(tiny)) == 2
        assert "config.json: not the settings of a run" in capsys.readouterr().err
    (folder / "config.json").write_text('{"run": {"format": "course"}}')
    located = locate(folder)
    assert (located.adapter, located.base.name, located.format) == (folder / "adapter", "weights/tiny", "course")
    assert locate(folder / "adapter").format == "gemma"  # a folder says nothing of those below it


@pytest.mark.parametrize("format", ["gemma", "functiongemma"])
def test_transformers_takes_a_turn_apart(exported: Path, tiny: Path, tmp_path: Path, format: Any) -> None:
    """By the response_template, what minifc.parse_calls finds; and decoding keeps what FunctionGemma's own does."""
    to = exported
    if format == "functiongemma":
        model, tokenizer = minifc.load_model(tiny, torch.float32), minifc.load_tokenizer(tiny)
        minifc.add_tokens(model, tokenizer, FUNCTIONGEMMA.tokens)
        to = tmp_path / "functiongemma"
        merge(model)
        export.write_model(model, tokenizer, to, format)
    assert locate(to).format == format
    assert "endgeneration" in (to / export.TRAINING_TEMPLATE).read_text(encoding="utf-8")
    assert "endgeneration" not in (to / "tokenizer_config.json").read_text(encoding="utf-8")
    ours, theirs = minifc.load_tokenizer(to), AutoTokenizer.from_pretrained(to)
    calls = [{"name": "f", "arguments": {"a": "x, {y", "n": [1, {"k": True}]}}, {"name": "g", "arguments": {}}]
    messages = [
        {"role": "user", "content": "Hi."},
        {"role": "assistant", "thinking": "Hm.", "content": "So:", "tool_calls": calls},
        *({"role": "tool", "content": "3"} for _ in calls),
        {"role": "assistant", "content": "It is 3."},
    ]
    for end in (2, 5):
        prompt = minifc.render(messages[: end - 1], ours, [], format, add_generation_prompt=True)
        turn = minifc.render(messages[:end], ours, [], format).ids[len(prompt.ids) :]
        if end == 2 and format == "functiongemma":
            kept = theirs.decode(turn, skip_special_tokens=True)
            assert kept.endswith("{k:true}]}<end_function_call><start_function_call>call:g{}<end_function_call>")
        found = theirs.parse_response(turn, prefix=prompt.ids)
        expected = messages[end - 1]
        assert found["content"] == expected["content"]
        assert found.get("thinking") == expected.get("thinking")
        assert [call["function"] for call in found.get("tool_calls", [])] == expected.get("tool_calls", [])
        assert [vars(call) for call in minifc.parse_calls(turn, ours, format)] == expected.get("tool_calls", [])


def change_config(folder: Path, **fields: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_the_adapters_own_format_is_the_templates(
    caller: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And stands beside the exported model, for `minifc.load` and the commands."""
    folder = shutil.copytree(caller, tmp_path / "adapter")
    chatted: list[bool] = []
    for record, format, written in (("{}", "gemma", "user"), ('{"format": "course"}', "course", "human")):
        (folder / "minifc.json").write_text(record)
        to = tmp_path / written
        assert run(export.main, str(folder), "--to", str(to), "--model", str(tiny)) == 0
        assert f"turns in the format {format};" in capsys.readouterr().out
        assert minifc.load(to).format == format
        monkeypatch.setattr(chat, "converse", lambda agent, show, format=format: chatted.append(agent.format == format))
        assert run(chat.main, "--model", str(to)) == 0
        theirs = AutoTokenizer.from_pretrained(to)
        prompt = theirs.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False)
        assert f"<start_of_turn>{written}\n" in prompt
    assert chatted == [True, True]


@pytest.mark.parametrize(
    ("base", "head", "start", "licence"),
    [
        (
            Source("google/gemma-2-2b-it@0123abc", Path("nowhere"), "0123abc"),
            "base_model: google/gemma-2-2b-it\nlicense: gemma\n",
            "google/gemma-2-2b-it (revision 0123abc), fine",
            "that of Gemma, https://ai.google.dev/gemma/terms.",
        ),
        (
            Source("who/mine@0123abc", Path("nowhere"), "0123abc"),
            "base_model: who/mine\n",
            "who/mine (revision 0123abc), fine",
            "that of the base model.",
        ),
        (Source(TINY, Path("nowhere")), "license: mit\n", "minifc's embedded model, fine", "mit, that of the base"),
    ],
)
def test_the_card_names_base_and_licence(base: Source, head: str, start: str, licence: str) -> None:
    card = export.model_card("caller", base, JSON_CALLS)
    assert card.startswith(f"---\n{head}library_name: transformers\n")
    assert f"\n# caller\n\n{start}-tuned for function calling" in card
    assert f"Licence: {licence}" in card


@pytest.mark.parametrize(
    ("readme", "licence"),
    [
        (None, ""),
        ("---\nlicense: apache-2.0\ntags: [a]\n---\n# Mine", "apache-2.0"),
        ("---\ntags: [a]\nlicense: 'gemma'\n---\n", "gemma"),
        ("---\ntags: [a]\n---\nlicense: mit\n", ""),
        ("# Mine\nlicense: mit\n", ""),
        ("---\nlicense: [mit, gemma]\n---\n", ""),
    ],
)
def test_the_card_of_a_local_base_says_what_its_folder_says(readme: str | None, licence: str, tmp_path: Path) -> None:
    if readme is not None:
        (tmp_path / "README.md").write_text(readme)
    card = export.model_card("caller", Source(str(tmp_path), tmp_path), JSON_CALLS)
    assert card.startswith(f"---\nlicense: {licence}\nlibrary_name" if licence else "---\nlibrary_name")
    assert "base_model" not in card
    assert str(tmp_path) not in card
    assert "\nA local Gemma model, fine-tuned" in card
    text = {"": "that of the base model.", "gemma": "that of Gemma, https"}.get(licence, f"{licence}, that of the base")
    assert f"\nLicence: {text}" in card


@pytest.mark.parametrize(
    ("stated", "licence"), [("gemma", "gemma"), ("", ""), ("mit\nbase_model: x", ""), (["mit"], "")]
)
def test_the_card_of_a_gguf_file_says_what_the_file_says(stated: Any, licence: str, tmp_path: Path) -> None:
    metadata = {"general.architecture": "gemma2"} | ({"general.license": stated} if stated else {})
    file = write_gguf(tmp_path / "x.gguf", metadata, {})
    card = export.model_card("x", Source(str(file), file), JSON_CALLS)
    assert card.startswith(f"---\nlicense: {licence}\nlibrary_name" if licence else "---\nlibrary_name")
    assert "A local Gemma model, fine-tuned" in card
    assert "base_model" not in card


def test_an_adapter_that_names_no_base_can_be_told(
    caller: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(caller, tmp_path / "adapter")
    for base, why in ((None, "or --model"), ("", "or --model"), (5, "not a string")):
        change_config(folder, base_model_name_or_path=base)
        assert run(export.main, str(folder), "--to", str(tmp_path / "to")) == 2
        assert why in capsys.readouterr().err
    change_config(folder, base_model_name_or_path=None)
    assert run(export.main, str(folder), "--to", str(tmp_path / "to"), "--model", str(tiny)) == 0


TOOL = {"name": "f", "description": "F.", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}}
MESSAGES = [
    {"role": "system", "content": "Be <b>brief</b>."},
    {"role": "user", "content": "Call f."},
    {"role": "assistant", "content": "", "thinking": "f.", "tool_calls": [{"name": "f", "arguments": {"a": 1}}]},
    {"role": "tool", "content": "2"},
    {"role": "assistant", "content": "It is 2."},
]


def teach(base: Path, run_folder: Path, format: str, reuse: bool = False) -> Path:
    """A run folder with what a recipe trains on a base model, every number away from its start."""
    model, tokenizer = minifc.load_model(base, torch.float32), minifc.load_tokenizer(base)
    minifc.add_tokens(model, tokenizer, list(TAGS), reuse_unused=reuse)
    vocabulary = VOCABULARY if format == "course" else ()
    minifc.add_lora(model, r=2, targets=(*ATTENTION, *FEED_FORWARD, *vocabulary))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.05)
    save_adapter(model, tokenizer, run_folder / "adapter", str(base), format)
    return run_folder


def assert_exported(base: Path, run_folder: Path, to: Path, format: str, within: float = 1e-5) -> None:
    """What transformers makes of it is what minifc makes of the adapter: logits, ids and stops."""
    assert run(export.main, str(run_folder), "--to", str(to), "--dtype", "float32") == 0
    model, tokenizer = minifc.load_model(base, torch.float32), minifc.load_tokenizer(base)
    minifc.load_adapter(model, tokenizer, run_folder / "adapter")
    rendered = minifc.render(MESSAGES, tokenizer, [TOOL], format)
    assert {tokenizer.control[tag] for tag in TAGS} <= set(rendered.ids)
    theirs = AutoTokenizer.from_pretrained(to)
    assert theirs.apply_chat_template(MESSAGES, tools=[TOOL], return_dict=True)["input_ids"] == rendered.ids
    training = (to / export.TRAINING_TEMPLATE).read_text(encoding="utf-8")
    given = theirs.apply_chat_template(
        MESSAGES, tools=[TOOL], chat_template=training, return_dict=True, return_assistant_tokens_mask=True
    )
    assert given["input_ids"] == rendered.ids
    assert [bool(mask) for mask in given["assistant_masks"]] == rendered.mask
    ids = torch.tensor([rendered.ids])
    reference = AutoModelForCausalLM.from_pretrained(to, attn_implementation="eager").eval()
    with torch.no_grad():
        expected, found = model(ids), reference(ids).logits
    assert measured(float((found - expected).abs().max() / expected.abs().max())) < within
    assert set(reference.generation_config.eos_token_id) == {tokenizer.eos_id, tokenizer.end_of_turn_id}
    again = minifc.load_tokenizer(to)
    assert minifc.render(MESSAGES, again, [TOOL], format).ids == rendered.ids


@pytest.mark.parametrize("format", ["gemma", "course"])
@pytest.mark.parametrize("reuse", [False, True], ids=["appended", "reused"])
def test_what_either_recipe_trains_is_exported(
    tiny: Path, tmp_path: Path, format: str, reuse: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    run_folder = teach(tiny, tmp_path / "run", format, reuse)
    assert_exported(tiny, run_folder, tmp_path / "to", format)
    assert ("makes the head a table of its own" in capsys.readouterr().out) == (format == "course")
    config = json.loads((tmp_path / "to" / "config.json").read_text())
    assert config["tie_word_embeddings"] == (format == "gemma")
    assert config["vocab_size"] == minifc.load_tokenizer(tiny).size + (0 if reuse else len(TAGS))


def test_shards_are_read_and_written(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = tmp_path / "base"
    minifc.save_model(minifc.load_model(tiny), minifc.load_tokenizer(tiny), base, max_shard_bytes=10**6)
    assert len(list(base.glob("*.safetensors"))) > 2
    monkeypatch.setattr(export, "save_model", partial(minifc.save_model, max_shard_bytes=10**6))
    assert_exported(base, teach(base, tmp_path / "run", "gemma"), tmp_path / "to", "gemma")
    assert len(list((tmp_path / "to").glob("*.safetensors"))) > 2


@pytest.fixture
def narrow(shared: Path, tmp_path: Path) -> Path:
    """A base model, of narrow layers and the official vocabulary, that stops at <eos> alone. Without a tokenizer."""
    config = {"vocab_size": 256_000, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4, "query_pre_attn_scalar": 4}
    model = Gemma(config_from_dict({"model_type": "gemma2"} | config | heads))
    for parameter in model.parameters():
        parameter.data.normal_(std=0.3)
    minifc.save_model(model, None, tmp_path / "base")
    return tmp_path / "base"


@pytest.mark.parametrize("reuse", [False, True], ids=["appended", "reused"])
def test_the_official_tokenizer_goes_along(narrow: Path, shared: Path, tmp_path: Path, reuse: bool) -> None:
    for name in ("tokenizer.json", "tokenizer.model", "tokenizer_config.json"):
        (narrow / name).symlink_to(shared / "gemma-2-2b-it" / name)  # official files are never copied
    assert_exported(narrow, teach(narrow, tmp_path / "run", "gemma", reuse), tmp_path / "to", "gemma", within=1e-4)
    assert_same_pieces(tmp_path / "to")


def assert_same_pieces(folder: Path) -> None:
    """tokenizer.model, as llama.cpp's converter reads it, has all ids of the exported tokenizer."""
    ours = minifc.load_tokenizer(folder)
    theirs = SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    assert theirs.get_piece_size() == ours.size
    assert [theirs.id_to_piece(id_) for id_ in ours.control.values()] == list(ours.control)
    text = "Ein Satz, 3.5 °C; <not a tag>\n\n  def f():"
    assert theirs.encode(text) == ours.encode(text)
    for tag in TAGS:
        assert theirs.encode(f"{tag}\n{{}}") == ours.encode(f"{tag}\n{{}}", control_tokens=True)


@pytest.mark.slow
@pytest.mark.parametrize("reuse", [False, True], ids=["appended", "reused"])
def test_of_tokenizer_model_alone_a_tokenizer_json_is_made(
    narrow: Path, shared: Path, tmp_path: Path, reuse: bool
) -> None:
    """transformers needs protobuf for tokenizer.model, and gives tokens on reused ids other ones."""
    (narrow / "tokenizer.model").symlink_to(shared / "gemma-2-2b-it" / "tokenizer.model")
    assert_exported(narrow, teach(narrow, tmp_path / "run", "gemma", reuse), tmp_path / "to", "gemma", within=1e-4)
    assert_same_pieces(tmp_path / "to")


@pytest.mark.parametrize("reuse", [False, True], ids=["appended", "reused"])
def test_what_was_trained_on_a_gguf_file_is_exported(tiny_gguf: Path, tmp_path: Path, reuse: bool) -> None:
    assert_exported(tiny_gguf, teach(tiny_gguf, tmp_path / "run", "gemma", reuse), tmp_path / "to", "gemma")
    assert_same_pieces(tmp_path / "to")


@pytest.mark.parametrize("merge_to", [None, torch.bfloat16])
def test_one_layer_at_a_time_is_held_in_fp32(caller: Path, tiny: Path, merge_to: torch.dtype | None) -> None:
    model, tokenizer = minifc.load_model(tiny), minifc.load_tokenizer(tiny)
    minifc.load_adapter(model, tokenizer, caller)
    whole, ids = minifc.load_model(tiny, torch.float32), torch.randint(0, tokenizer.size, (1, 30))
    minifc.load_adapter(whole, minifc.load_tokenizer(tiny), caller)
    plain_vocabulary(model.model.embed_tokens).float()

    def in_fp32() -> list[bool]:
        layers = [layer.mlp.up_proj for layer in model.model.layers]
        return [getattr(layer, "base_layer", layer).weight.dtype == torch.float32 for layer in layers]

    def note(module: Any, inputs: Any, output: Any) -> None:
        counts.append(sum(in_fp32()))

    counts: list[int] = []
    for layer in model.model.layers:
        layer.mlp.register_forward_hook(note)
    with torch.no_grad():
        ours, theirs = export.logits(model, ids, merge_to), whole(ids)
    assert (ours - theirs).abs().max() < 1e-5 * theirs.abs().max()
    assert counts == [1] * len(model.model.layers)
    assert not any(in_fp32())


def test_what_cannot_be_exported_leaves_nothing(
    caller: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    to = tmp_path / "to"
    for argv, why in (
        ([str(tiny)], "no adapter to merge; name a run folder or an adapter"),
        (["nowhere"], "no such folder"),
        ([str(caller), "--model", "nowhere"], "no such folder"),
    ):
        assert run(export.main, *argv, "--to", str(to)) == 2
        assert why in capsys.readouterr().err
        assert not to.exists()


def is_read_only(folder: Path) -> bool:
    try:
        Path(tempfile.mkdtemp(dir=folder)).rmdir()
    except OSError:
        return True
    return False


@pytest.mark.parametrize(
    ("place", "why"),
    [
        ("a file", "a file is in the way"),
        ("a file/below", "a file is in the way"),
        ("a file/far/below", "a file is in the way"),
        ("mine", "not empty"),
        ("a link", "not empty"),
        ("the adapter", "not empty"),
        ("the base", "not empty"),
        ("read-only/new", "cannot be written"),
        ("read-only/far/below", "cannot be written"),
    ],
)
def test_an_impossible_place_is_refused_before_anything_is_looked_for(
    place: str, why: str, caller: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    for work in ("locate", "export"):
        monkeypatch.setattr(export, work, lambda *_: pytest.fail("work was begun"))
    (tmp_path / "a file").write_text("mine")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "mine.txt").write_text("mine")
    (tmp_path / "a link").symlink_to(tmp_path / "mine")
    shutil.copytree(caller, tmp_path / "the adapter")
    shutil.copytree(tiny, tmp_path / "the base")
    (tmp_path / "read-only").mkdir(mode=0o500)
    to = tmp_path / place
    if place.startswith("read-only") and not is_read_only(tmp_path / "read-only"):  # nothing is, for root
        to = Path("/proc", *Path(place).parts[1:])
        if not is_read_only(Path("/proc")):
            pytest.skip("this user may write everywhere")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    argv = [str(tmp_path / "the adapter"), "--model", str(tmp_path / "the base"), "--to", str(to)]
    assert run(export.main, *argv) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: argument --to: {to}: ")
    assert why in line
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_an_empty_folder_and_one_far_below_can_be_written(caller: Path, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for to in (tmp_path / "empty", tmp_path / "not" / "yet" / "there"):
        assert run(export.main, str(caller), "--to", str(to), "--model", str(tiny)) == 0
        assert minifc.load(to).adapter is None


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # the hub's client, about its HTTP library
def test_pushing_brings_every_file_to_the_hub(
    caller: Path, tiny: Path, tmp_path: Path, fake_hub: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    to = tmp_path / "pushed"
    argv = [str(caller), "--to", str(to), "--model", str(tiny), "--push", "who/caller"]
    assert run(export.main, *argv) == 0
    assert "pushed to a public repository: " in capsys.readouterr().out
    assert fake_hub.pushed == {path.name: path.read_bytes() for path in to.iterdir()}


def test_what_was_exported_stays_where_the_hub_refuses_it(
    caller: Path, tiny: Path, tmp_path: Path, fake_hub: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    to = tmp_path / "refused"
    fake_hub.may_write = False
    argv = [str(caller), "--to", str(to), "--model", str(tiny), "--push", "who/caller"]
    assert run(export.main, *argv) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: --push who/caller: ")
    assert "hf auth login" in line
    assert minifc.load_model(to).config.vocab_size == minifc.load_tokenizer(to).size
    assert not fake_hub.pushed


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
def test_a_private_repository_is_made_and_a_public_one_is_not_used(
    tmp_path: Path, fake_hub: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    export.push(tmp_path / "model", "who/caller", private=True)
    assert "pushed to a private repository: " in capsys.readouterr().out
    assert set(fake_hub.pushed) == {"config.json"}
    fake_hub.private["who/caller"] = False
    fake_hub.pushed.clear()
    with pytest.raises(HubError, match=r"--push who/caller: the repository is there already and is public; make it"):
        export.push(tmp_path / "model", "who/caller", private=True)
    assert not fake_hub.pushed


def test_private_alone_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(export.main, "nowhere", "--to", str(tmp_path / "to"), "--private") == 2
    assert "--private: nothing is uploaded; give --push" in capsys.readouterr().err
