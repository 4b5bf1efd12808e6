"""Photographs of one's own as one sees them: turned, on white, of any depth, and large ones read at a part of their size."""

import struct
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor
from torchvision.transforms import RandomResizedCrop, Resize

from .base import ImageDataset
from .files import open_image, shown
from .verify import depth_of, facts, own_white

WHITES = (255, 1023, 4095, 16383, 65535)  # the largest values of 8, 10, 12, 14 and 16 bits
OTHER_BYTE = {"RGB;16B": "RGB;16L", "RGB;16L": "RGB;16B", "RGB;16N": "RGB;16B"}  # Pillow unpacks one of two bytes
OTHER_BYTE |= {mode.replace("RGB", "RGBA"): other.replace("RGB", "RGBA") for mode, other in OTHER_BYTE.items()}

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip


class Upright(ImageDataset):
    """Images turned as the camera noted, on white where they are transparent, deep ones brought to 8 bits.

    white: which value is white in images of 16 or 32 bits, as `whites` finds it: {"I": whole numbers, "F": floats}; of
    whole numbers 65535 unless it is given, of floats nothing. A JPEG much larger than `transform` needs is decoded at a
    half, a quarter or an eighth of its size, never below twice what is needed: at 12 megapixels that takes a seventh of the
    time, and the result differs by 0.2 of 255 grey levels in the mean, by about one at most.
    """

    def __init__(
        self,
        images: Sequence[Path | str | np.ndarray] | np.ndarray,
        labels: Sequence[int],
        transform: Callable[[Image.Image], Tensor],
        remember: bool = False,
        white: Mapping[str, float] | None = None,
    ):
        super().__init__(images, labels, transform, remember)
        self.white = {"I": 65535} | dict(white or {})
        self.enough = _side_needed(transform)

    def rgb(self, image: Image.Image) -> Image.Image:
        if self.enough:
            image.draft(None, (self.enough, self.enough))
        depth, own = depth_of(image), own_white(image) if image.mode.startswith("I") else None
        image.load()
        turn = _turn(image)
        if own or depth in ("I", "F") or depth == "C" and self.white["I"] < 65535:
            image = self._eight_bits(image, depth, own)
        if {"A", "a"} & set(image.getbands()) or "transparency" in image.info:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return (image if turn is None else image.transpose(turn)).convert("RGB")

    def _eight_bits(self, image, depth, own):
        white = own or self.white.get("F" if depth == "F" else "I")
        if white is None:
            raise ValueError("its pixels are floats, and nobody says which of them is white")
        values = np.asarray(image) if depth != "C" else np.asarray(image).astype(np.int64) * 256 + _lower_bytes(image)
        values = values * (255 / white) if depth == "F" else values.astype(np.int64) * 255 // int(white)
        values = values.clip(0, 255).astype(np.uint8)
        return Image.fromarray(255 - values if _white_is_zero(image) else values)


def _side_needed(transform):
    """Twice the shorter side that the transform reduces a picture to; 0 where its first step does not tell."""
    first = next(iter(getattr(transform, "transforms", ())), None)
    if isinstance(first, Resize):
        return 2 * int(np.max(first.size))
    if isinstance(first, RandomResizedCrop):
        return int(2 * np.max(first.size) / np.sqrt(min(first.scale)))
    return 0


def _turn(image):
    """How to turn the picture, as its camera noted."""
    try:
        return TURNS.get(image.getexif().get(0x0112))
    except (SyntaxError, ValueError, TypeError, KeyError, OSError, struct.error):
        return None  # the notes are damaged, the picture is whole


def _lower_bytes(image):
    with open_image(image.filename) as opened:
        again: Any = opened
        tile, mode = again.tile[0], again.tile[0][3]
        mode = OTHER_BYTE[mode] if isinstance(mode, str) else (OTHER_BYTE[mode[0]], *mode[1:])
        named = hasattr(tile, "_replace")  # since Pillow 11; before, it is a plain tuple
        again.tile = [tile._replace(args=mode) if named else (*tile[:3], mode)]
        return np.asarray(again).astype(np.int64)


def _white_is_zero(image):
    """Whether a deep TIFF counts from white to black; Pillow turns that round in 8 bits alone."""
    return image.format == "TIFF" and image.tag_v2.get(262) == 0


def whites(paths: Iterable[Path]) -> dict[str, float]:
    """Which value is white in the deep images of one data set, all of them examined: {"I": whole numbers, "F": floats}.

    16 bits often hold 10, 12 or 14. A file does not say so, and one dark image does not show it, so all images of the data
    set decide together: white is the largest value of 8, 10, 12, 14 or 16 bits that none exceeds; beyond those, the largest
    value there is. White of floats is 1 if none exceeds it, else the largest value. A file that says it itself (PGM, a
    TIFF of 12 bits) is taken at its word.
    Raises ValueError, with a file's name, for colours of such 10 to 14 bits that Pillow gives the upper 8 of 16 bits of.
    """
    top, example = defaultdict(float), {}
    for path in paths:
        found = facts(path)
        if found.depth:
            kind = "F" if found.depth == "F" else "I"
            top[kind] = max(top[kind], found.top)
            example.setdefault(found.depth, path)
    white = {
        kind: next((w for w in ((1,) if kind == "F" else WHITES) if value <= w), value) for kind, value in top.items()
    }
    if "A" in example and white["I"] < 65535:
        raise ValueError(
            f"{shown(example['A'])} has grey and transparency of 16 bits, of which no more than {int(white['I']).bit_length()} "
            "are used, and Pillow reads the upper 8 alone: save it with 8 bits, or without transparency."
        )
    return white
