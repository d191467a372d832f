"""A model's name to the folder it lies in."""

from pathlib import Path

from minifc.errors import CheckpointError

TINY, TINY_ADAPTER = "weights/tiny", "weights/tiny-caller"
_CLONE = Path(__file__).resolve().parent.parent


def find_model(name: str) -> Path:
    """The folder of a model: a path, or the embedded model of the clone that this package runs from.

    Raises CheckpointError if there is none.
    """
    for folder in (Path(name), _CLONE / name):
        if folder.is_dir():
            return folder
    if name in (TINY, TINY_ADAPTER):
        raise CheckpointError(
            f"{name}: not found; it comes with the repository: run inside a clone of it, or give --model FOLDER"
        )
    raise CheckpointError(f"{name}: no such folder; --model takes a folder with config.json and safetensors")
