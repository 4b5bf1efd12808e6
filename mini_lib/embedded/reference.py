"""What images look like to the photo CLIP: statistics that take the place of reference images. Used in notebook 15.

`python -m mini_lib pretrain photo` makes them, of the photographs that it trains on and of drawings; no image can be had back
from them.
"""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from ..selectors import ClipStatistics, ReferenceStatistics, statistics_of
from .pairs import reference_pairs, to_tensor
from .photo import CARD, SIZE, WEIGHTS, load
from .storage import replace_file

STATISTICS = WEIGHTS.with_name("photo_reference.safetensors")


def photographs() -> ReferenceStatistics:
    """Statistics of 76,000 photographs and 1,500 drawings, the reference of a `GaussianSelector` on `load_clip("photo")`."""
    held = load_file(STATISTICS)
    return ReferenceStatistics(**{**held, "checksum": int(held["checksum"].item())})


@torch.no_grad()
def write_statistics(images: np.ndarray, weights: Path = WEIGHTS, card: Path = CARD, file: Path = STATISTICS) -> None:
    """Write the statistics, to the CLIP in `weights`, of photographs, uint8 (N, 48, 48, 3), and of drawings; in half precision."""
    module = ClipStatistics(load(weights, card).requires_grad_(False))

    def features(images):
        parts = (to_tensor(images[i : i + 500]) for i in range(0, len(images), 500))
        return torch.cat([module(F.interpolate(part, SIZE, mode="bicubic", antialias=True)) for part in parts])

    found = statistics_of(module, features(images), features(reference_pairs(0)[0]))
    state = {"mean": found.mean.float(), "std": found.std.float()}
    state |= {"background": found.background.half(), "within": found.within.half()}
    state["checksum"] = torch.tensor(found.checksum)
    replace_file(file, lambda path: save_file(state, path))
