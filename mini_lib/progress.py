"""Progress bars that move in a notebook or a terminal, and keep silent where they would only fill a log."""

import os
import sys

from tqdm.auto import tqdm


def progress(iterable, description="", total=None):
    """tqdm over `iterable`. TQDM_DISABLE=1 in the environment silences it in notebooks, too."""
    visible = "ipykernel" in sys.modules or sys.stderr.isatty()
    silent = not visible or os.environ.get("TQDM_DISABLE") == "1"
    return tqdm(iterable, desc=description, total=total, leave=False, disable=silent)
