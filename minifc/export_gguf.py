"""A merged model as one GGUF file, for llama.cpp and what is built on it, and the Modelfile with which Ollama takes it.

Names and metadata are those of llama.cpp's own converter; the container and the quantised blocks are written by its
gguf package. Ollama does not run chat templates in Jinja: a Modelfile says it in Go's template language, or names the
code of Ollama's that writes and reads the format.
"""

import importlib.util
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from minifc.errors import OptionError
from minifc.gemma.from_gguf import holds_gain
from minifc.gemma.model import Gemma
from minifc.gemma.to_gguf import model_metadata, tensor_name
from minifc.text.dialects import dialect_of, exported_template
from minifc.text.template import Format, stop_ids
from minifc.text.tokenizer import Tokenizer

GGUF_KINDS = ("f32", "bf16", "f16", "q8_0", "q4_0")


def require_writer() -> None:
    """Raise OptionError if the gguf package is not there."""
    if importlib.util.find_spec("gguf") is None:
        raise OptionError("--gguf: needs llama.cpp's gguf package; pip install -e '.[gguf]'")


def write_gguf(model: Gemma, tokenizer: Tokenizer, path: Path, format: Format, kind: str) -> None:
    """The merged model with its tokenizer and chat template as one file of llama.cpp's.

    kind: of the matrices, one of GGUF_KINDS; gains are in fp32. The table, which is the head too, is never coarser than
    8 bits. Tensor after tensor is written, so that no second model is held.
    """
    import gguf

    dialect = dialect_of(format, tokenizer)
    metadata = model_metadata(model.config) | tokenizer.gguf_metadata(dialect.marks)
    metadata |= {"tokenizer.chat_template": exported_template(format, tokenizer), "minifc.format": format}
    writer = gguf.GGUFWriter(path, metadata.pop("general.architecture"))
    write: dict[type, Callable[[str, Any], None]] = {
        bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string,
    }  # fmt: skip
    for key, value in metadata.items():
        write.get(type(value), writer.add_array)(key, value)
    tensors = [(tensor_name(name), parameter.detach()) for name, parameter in model.named_parameters()]
    stored = [(name, numbers, _gguf_type(name, numbers, kind)) for name, numbers in tensors]
    in_bytes = torch.empty(0, dtype=torch.uint8).numpy().dtype  # so shapes are given
    for name, numbers, type_ in stored:
        block, size = gguf.GGML_QUANT_SIZES[type_]
        shape = (*numbers.shape[:-1], numbers.shape[-1] // block * size)
        writer.add_tensor_info(name, shape, in_bytes, numbers.numel() // block * size, raw_dtype=type_)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for name, numbers, type_ in stored:
        whole = numbers.float() + 1 if holds_gain(name) else numbers.float()
        writer.write_tensor_data(gguf.quants.quantize(whole.numpy(), type_))
    writer.close()


def write_modelfile(path: Path, format: Format, tokenizer: Tokenizer) -> bool:
    """A Modelfile beside a GGUF file; False where Ollama has no way to write the format's turns."""
    if format == "gemma":
        template = (files("minifc.text.dialects") / "gemma.modelfile").read_text(encoding="utf-8")
        turns = f'TEMPLATE """{template}"""\n'
    elif format == "functiongemma":
        turns = "RENDERER functiongemma\nPARSER functiongemma\n"
    else:
        return False
    names = {id_: name for name, id_ in tokenizer.control.items()}
    stops = "".join(f"PARAMETER stop {names[id_]}\n" for id_ in stop_ids(tokenizer, format))
    name = path.stem.lower()
    text = f"# ollama create {name} -f Modelfile\nFROM ./{path.name}\n{turns}{stops}PARAMETER temperature 0\n"
    (path.parent / "Modelfile").write_text(text, encoding="utf-8")
    return True


def _gguf_type(name: str, numbers: Tensor, kind: str) -> Any:
    """The type that a tensor is stored in."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    if numbers.ndim == 1:
        return GGMLQuantizationType.F32
    coarse = kind == "q4_0" and name in ("token_embd.weight", "output.weight")
    found = GGMLQuantizationType["Q8_0" if coarse else kind.upper()]
    return found if numbers.shape[-1] % GGML_QUANT_SIZES[found][0] == 0 else GGMLQuantizationType.F16
