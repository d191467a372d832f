"""What every lesson needs: the folder of its model, and a way to show a picture.

The lessons run on the embedded model; with MINIFC_MODEL=folder they run on another Gemma-2, as far as its size lets
them. A picture comes with a sentence for those who cannot see it.
"""

import io
import os
import sys
from pathlib import Path
from typing import Any

from minifc.gemma.config import MODEL_FOLDER

ROOT = Path(__file__).resolve().parent.parent
MODEL = Path(os.environ.get("MINIFC_MODEL", ROOT / "weights/tiny"))
CALLER = ROOT / "weights/tiny-caller"  # a trained adapter for the embedded model
EMBEDDED = "MINIFC_MODEL" not in os.environ  # what is said of weights/tiny in particular holds only there
if not (MODEL / "config.json").is_file():
    print(f"error: MINIFC_MODEL={MODEL}: no config.json there; {MODEL_FOLDER}", file=sys.stderr)
    sys.exit(2)


def show(figure: Any, name: str, alt: str) -> None:
    """Show a matplotlib figure: in a notebook below the cell, as a script in runs/lessons/NAME.png."""
    import matplotlib.pyplot as plt

    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=110, bbox_inches="tight")
    plt.close(figure)
    try:
        shell = get_ipython()  # type: ignore[name-defined]
    except NameError:
        shell = None
    if shell is not None:
        from IPython.display import Image, display

        display(Image(data.getvalue(), alt=alt))
        return
    path = ROOT / "runs/lessons" / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.getvalue())
    print(f"[picture: runs/lessons/{name}.png: {alt}]")
