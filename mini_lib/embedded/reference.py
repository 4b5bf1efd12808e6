"""What photographs look like to the photo CLIP: statistics that take the place of reference images. Used in notebook 15.

`python -m mini_lib pretrain photo` makes them, of the photographs that it trains on; no image can be had back from them.
"""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from ..selectors import ClipStatistics, ReferenceStatistics, statistics_of
from .pairs import to_tensor
from .photo import CARD, WEIGHTS, load
from .storage import replace_file

STATISTICS = WEIGHTS.with_name("photo_reference.safetensors")


def photographs() -> ReferenceStatistics:
    """Statistics of 76,000 photographs, as the reference of a `GaussianSelector` on `load_clip("photo")`."""
    held = load_file(STATISTICS)
    return ReferenceStatistics(**{**held, "checksum": int(held["checksum"].item())})


@torch.no_grad()
def write_statistics(images: np.ndarray, weights: Path = WEIGHTS, card: Path = CARD, file: Path = STATISTICS) -> None:
    """Write the statistics of images, uint8 (N, 48, 48, 3), to the CLIP in `weights`; in half precision."""
    module = ClipStatistics(load(weights, card).requires_grad_(False))
    parts = (images[i : i + 500] for i in range(0, len(images), 500))
    found = statistics_of(module, torch.cat([module(to_tensor(part)) for part in parts]))
    state = {"mean": found.mean.float(), "std": found.std.float()}
    state |= {"background": found.background.half(), "within": found.within.half()}
    state["checksum"] = torch.tensor(found.checksum)
    replace_file(file, lambda path: save_file(state, path))
