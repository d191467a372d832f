"""python -m minifc.export: a run, or an adapter, as an ordinary transformers folder.

Merges LoRA and the new rows into the base model and writes what any tool reads: shards and index, config,
tokenizer with the new tokens, our chat template as Jinja, and a model card. How much the logits change
on the way to the stored precision is measured and printed. Only the vocabulary and one layer at a time are
held in fp32. With --gguf, it is one file instead, for llama.cpp and what is built on it, and a Modelfile for
Ollama. With --adapter, the adapter alone is written, in half the size of the run's: for the same base model.
"""

import json
import re
import shutil
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from minifc.cli import Parser, new_folder, run_command
from minifc.devices import name_of
from minifc.errors import CheckpointError, HubError, OptionError, first_line
from minifc.export_gguf import GGUF_KINDS, require_writer, write_gguf, write_modelfile
from minifc.files import read_tensors, whole_folder
from minifc.gemma.checkpoint import (
    first_not_finite,
    load_model,
    require_finite,
    require_range,
    save_model,
    stored_dtype,
)
from minifc.gemma.config import load_config
from minifc.gemma.model import Gemma
from minifc.gguf import is_gguf, read_gguf
from minifc.hub import TINY, Source, split_revision
from minifc.loading import DTYPES, Located, locate
from minifc.terminal import note
from minifc.text.dialects import FORMATS, Dialect, dialect_of, exported_template
from minifc.text.template import Format
from minifc.text.tokenizer import ADDED_TOKENS, SETTINGS, Tokenizer, load_tokenizer
from minifc.tuning.adapter import CONFIG, RECORD, WEIGHTS, adapter_file, load_adapter, merge
from minifc.tuning.lora import fold_lora, plain_vocabulary
from minifc.tuning.vocab import fold_vocabulary

# The chat template with `{% generation %}` around what the model writes: transformers and TRL learn from that alone.
TRAINING_TEMPLATE = "training_chat_template.jinja"
UNTIED = "this adapter makes the head a table of its own, and vLLM and llama.cpp know Gemma's as one with the embedding"


def main(argv: Sequence[str]) -> None:
    parser = Parser("export", __doc__ or "", "python -m minifc.export runs/NAME --to my-model")
    parser.add_argument("run", help="run folder, or folder or hub id of an adapter")
    parser.add_argument(
        "--to", type=new_folder, required=True, help="folder to write; one that is not empty is refused"
    )
    parser.add_argument("--model", help="base model (default: the one that the adapter names)")
    parser.add_argument("--dtype", choices=DTYPES, default="auto", help="dtype to store (default: the base model's)")
    parser.add_argument(
        "--format", choices=FORMATS, help="format of the chat template (default: the adapter's, else gemma)"
    )
    parser.add_argument(
        "--gguf", choices=GGUF_KINDS,
        help="write one file of llama.cpp's in that folder instead, its matrices of this type",
    )  # fmt: skip
    parser.add_argument(
        "--adapter", action="store_true", help="write the adapter alone, in bfloat16 unless --dtype says"
    )
    parser.add_argument("--push", metavar="REPO", help="upload to this repository of the hub, owner/name, afterwards")
    parser.add_argument("--private", action="store_true", help="make the repository of --push a private one")
    args = parser.parse(argv)
    if args.private and not args.push:
        raise OptionError("--private: nothing is uploaded; give --push owner/name too")
    if args.gguf and args.adapter:
        raise OptionError("--gguf: holds a whole model; leave out --adapter")
    if args.gguf:
        require_writer()
    located = locate(args.run, args.model, args.format)
    if located.adapter is None:
        raise CheckpointError(f"{args.run}: no adapter to merge; name a run folder or an adapter")
    if args.adapter:
        dtype = torch.bfloat16 if args.dtype == "auto" else getattr(torch, args.dtype)
        size = export_adapter(located.adapter, args.to, dtype)
        print(f"{args.to}: written, {size / 1e6:.1f} MB; minifc.load and PEFT read it, with {located.base.name}")
    else:
        export_merged(located, args)
    if args.push:
        push(args.to, args.push, args.private)


def export_merged(located: Located, args: Namespace) -> None:
    """As an ordinary folder, in the dtype that is asked for."""
    assert located.adapter is not None
    # What quantised weights were made from is in bfloat16, as a rule.
    stored = stored_dtype(located.base.path) or torch.bfloat16
    dtype = stored if args.dtype == "auto" else getattr(torch, args.dtype)
    export(located.base, located.adapter, args.to, dtype, located.format, args.gguf)
    readers = "llama.cpp and minifc.load" if args.gguf else "minifc.load and transformers"
    print(f"{args.to}: written, with turns in the format {located.format}; {readers} read it")


def export_adapter(adapter: Path, to: Path, dtype: torch.dtype) -> int:
    """The adapter in another dtype, without the files of the tokenizer, which the base model has; its size in bytes."""
    tensors = read_tensors(adapter_file(adapter, WEIGHTS), "copy the adapter here again")
    stored = {name: tensor.to(dtype).contiguous() for name, tensor in tensors.items()}
    if broken := first_not_finite(stored):
        raise CheckpointError(f"{adapter / WEIGHTS}: {broken} has a number that {name_of(dtype)} cannot hold")
    with whole_folder(to) as temporary:
        save_file(stored, temporary / WEIGHTS, metadata={"format": "pt"})
        for name in (CONFIG, RECORD, ADDED_TOKENS):
            if (adapter / name).is_file():
                shutil.copyfile(adapter / name, temporary / name)
    return sum(tensor.nbytes for tensor in stored.values())


@torch.no_grad()
def export(base: Source, adapter: Path, to: Path, dtype: torch.dtype, format: Format, gguf: str | None = None) -> None:
    """Merge in fp32, measure, convert, and write everything or nothing. gguf: the type of a GGUF file's matrices."""
    folder = base.path
    require_range(load_config(folder), dtype)
    model, tokenizer = load_model(folder, stored_dtype(folder)), load_tokenizer(folder)
    require_finite(model, folder)
    load_adapter(model, tokenizer, adapter)
    ids = torch.randint(0, tokenizer.size, (1, 64), generator=torch.Generator().manual_seed(0))
    plain_vocabulary(model.model.embed_tokens).float()
    model.model.norm.float()
    with_adapter = logits(model, ids)
    fold_vocabulary(model)
    if not model.config.tie_word_embeddings:
        if gguf:
            raise OptionError(
                f"--gguf: {UNTIED}; train with the recipe lean, which keeps one table, or export a folder"
            )
        note(f"note: {UNTIED}; transformers and minifc run it")
    print(f"merged in float32: {_change(with_adapter, logits(model, ids, merge_to=dtype))}")
    merge(model.to(dtype))  # no layer is left to merge; the config learns of the new size
    print(f"stored in {str(dtype).removeprefix('torch.')}: {_change(with_adapter, model(ids))}")
    with whole_folder(to) as temporary:
        if gguf:
            file = temporary / f"{to.resolve().name}-{gguf}.gguf"
            write_gguf(model, tokenizer, file, format, gguf)
            if not write_modelfile(file, format, tokenizer):
                note(f"note: no Modelfile for Ollama, which cannot write turns in the format {format}; llama.cpp can")
        else:
            write_model(model, tokenizer, temporary, format)
        card = model_card(to.resolve().name, base, dialect_of(format, tokenizer), bool(gguf))
        (temporary / "README.md").write_text(card, encoding="utf-8")


def logits(model: Gemma, ids: Tensor, merge_to: torch.dtype | None = None) -> Tensor:
    """Logits in fp32, each block being held in it while it runs.

    merge_to: LoRA is merged into each block in fp32, and the block left in this dtype; else it is as it was.
    """
    stored: dict[nn.Parameter, Tensor] = {}

    def before(block: nn.Module, inputs: object) -> None:
        stored.update({parameter: parameter.data for parameter in block.parameters()})
        block.float()
        if merge_to is not None:
            fold_lora(block)

    def after(block: nn.Module, inputs: object, output: object) -> None:
        if merge_to is not None:
            block.to(merge_to)
        else:
            for parameter, data in stored.items():
                parameter.data = data
        stored.clear()

    hooks = [block.register_forward_pre_hook(before) for block in model.model.layers]
    hooks += [block.register_forward_hook(after) for block in model.model.layers]
    result: Tensor = model(ids)
    for hook in hooks:
        hook.remove()
    return result


def write_model(model: Gemma, tokenizer: Tokenizer, folder: Path, format: Format) -> None:
    """Weights, configuration, the tokenizer with the template, and the format of the turns for `minifc.load`."""
    save_model(model, tokenizer, folder)
    if not (folder / "tokenizer.json").is_file():
        # transformers reads tokenizer.model only with protobuf, and puts tokens of reused ids behind the last one.
        tokenizer.save_json(folder)
    tokenizer.save_sentencepiece(folder)
    dialect = dialect_of(format, tokenizer)
    path = folder / SETTINGS
    settings = json.loads(path.read_text(encoding="utf-8"))
    settings["chat_template"] = exported_template(format, tokenizer)
    settings["response_template"] = dialect.response_template
    path.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / TRAINING_TEMPLATE).write_text(exported_template(format, tokenizer, training=True), encoding="utf-8")
    if dialect.shown:
        show_tokens(folder, dialect.shown)
    (folder / RECORD).write_text(json.dumps({"format": format}, indent=2) + "\n", encoding="utf-8")


def show_tokens(folder: Path, names: Sequence[str]) -> None:
    """Let `decode(..., skip_special_tokens=True)` keep these control tokens: in transformers' files, flag them so."""
    for name in ("tokenizer.json", SETTINGS):
        path = folder / name
        data = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        for token in [*data.get("added_tokens", ()), *data.get("added_tokens_decoder", {}).values()]:
            if token["content"] in names:
                token["special"] = False
        if data:
            path.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _change(before: Tensor, after: Tensor) -> str:
    """How far logits moved, and how often another token became the likeliest."""
    moved = (after - before).abs().max() / before.abs().max()
    other = (after.argmax(-1) != before.argmax(-1)).float().mean()
    return f"logits change by at most {moved:.1e} of the largest; another token is likeliest at {other:.0%} of places"


def model_card(name: str, base: Source, dialect: Dialect, gguf: bool = False) -> str:
    """The README.md of an exported model. It names a base model of the hub, and no folder of this machine.

    gguf: whether the folder holds a GGUF file, instead of what transformers reads.
    """
    repo, revision = split_revision(base.name) if base.commit else ("", "")
    licence = _licence(base, repo)
    terms = {"gemma": "that of Gemma, https://ai.google.dev/gemma/terms", "": "that of the base model"}
    head = {"base_model": repo, "license": licence, "library_name": "" if gguf else "transformers"}
    fields = "".join(f"{field}: {value}\n" for field, value in head.items() if value)
    at = f" (revision {revision})" if revision else ""
    start = "minifc's embedded model" if base.name == TINY else f"{repo}{at}" if repo else "A local Gemma model"
    training = f"""
`{TRAINING_TEMPLATE}` is the same with marks around what the model writes, for TRL's `chat_template_path`
and `assistant_only_loss`.
"""
    return f"""---
{fields}tags: [function-calling, minifc]
---

# {name}

{start}, fine-tuned for function calling with minifc: LoRA and new tokens, merged into the weights.

The chat template takes `tools`, and messages with `thinking` and `tool_calls`. A call is written as
`{dialect.begin}`, {dialect.example}, `{dialect.end}`. The template refuses content that
spells a control token.
{"" if gguf else training}
Licence: {terms.get(licence, f"{licence}, that of the base model")}.
"""


def _licence(base: Source, repo: str) -> str:
    """The hub's name of the base model's licence; "" if neither the model's card nor a GGUF file states one."""
    if base.name == TINY:
        return "mit"
    if repo.startswith("google/gemma"):
        return "gemma"
    if is_gguf(base.path):
        stated = read_gguf(base.path).metadata.get("general.license")
        return stated if isinstance(stated, str) and re.fullmatch(r"[\w.-]+", stated) else ""
    card = base.path / "README.md"
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    head = re.match(r"---\n(.*?)^---$", text, re.S | re.M)
    found = re.search(r"""^license: *["']?([\w.-]+)["']? *$""", head[1], re.M) if head else None
    return found[1] if found else ""


def push(folder: Path, repo: str, private: bool) -> None:
    """Upload the folder, and say who can read it there. A public repository is not used where `private` is wanted.

    Raises HubError.
    """
    from huggingface_hub import HfApi

    try:
        api = HfApi()
        api.create_repo(repo, private=private or None, exist_ok=True)  # None: as the account has it
        is_private = api.model_info(repo).private  # of a repository that was there already, not what was wanted
        if private and not is_private:
            raise HubError("the repository is there already and is public; make it private in its settings")
        url = api.upload_folder(repo_id=repo, folder_path=folder)
    except Exception as error:  # the HTTP library's own, whichever the hub's client uses
        why = first_line(error) + (f" {first_line(error.__cause__)}" if error.__cause__ else "")
        advice = "" if isinstance(error, HubError) else "; log in (hf auth login)"
        raise HubError(f"--push {repo}: {why}; the folder {folder} is written{advice}") from None
    print(f"pushed to a {'private' if is_private else 'public'} repository: {url}")


if __name__ == "__main__":
    run_command(main)
