"""Five more looks after MiniMTIL's seven, for a longer stream: does it get worse as tasks are added? Used in notebook 14."""

import numpy as np

from ..embedded.drawing import LETTERS, NUMBERS, PATTERNS, SIZE, glyph_mask, pattern_mask, shape_mask
from ..embedded.pairs import article
from .base import Benchmark
from .mini import (
    GLOWING,
    NUMBER_TEMPLATES,
    SHAPE_TEMPLATES,
    TASKS,
    Look,
    as_task,
    blur,
    clouds,
    draw_task,
    mini_mtil,
    mix,
)

DRAFTED = ("moon", "arrow", "house", "tree", "fish", "cup", "key", "flower", "ring", "lightning")


def _blueprint(shape, rng):
    """A shape in white lines on blue squared paper."""
    rows, columns = np.mgrid[:SIZE, :SIZE] + rng.integers(0, 4, 2)[:, None, None]
    squares = 0.22 * ((rows % 4 == 0) | (columns % 4 == 0))
    blue = np.array([0.08, 0.27, 0.58]) + clouds(rng, 6, 0.03)[..., None]
    return mix(np.maximum(shape_mask(shape, rng, outline=2), squares), np.array([0.90, 0.95, 1.0]), blue)


def _stamps(number, rng):
    """A number in a ring, stamped in red with too little ink."""
    mask = np.maximum(
        glyph_mask(str(NUMBERS.index(number)), rng, scale=(0.45, 0.6), turn=0.6),
        shape_mask("circle", rng, scale=(0.85, 0.95), outline=2),
    )
    ink = mask * np.clip(0.75 + clouds(rng, 9, 0.45), 0, 1)
    paper = np.array([0.94, 0.92, 0.86]) + rng.normal(0, 0.015, (SIZE, SIZE, 1))
    return mix(ink, np.array([0.72, 0.10, 0.16]), paper)


def _lamps(letter, rng):
    """A letter on a board of small amber lamps, those beside it glimmering."""
    mask = blur(glyph_mask(letter, rng, scale=(0.75, 0.95), turn=0.08), 1)
    rows, columns = np.mgrid[:SIZE, :SIZE] + rng.integers(0, 3, 2)[:, None, None]
    lamp = np.where((rows % 3 < 2) & (columns % 3 < 2), 1.0, 0.15)
    light = lamp * (0.08 + 0.92 * mask) * (1 + rng.normal(0, 0.08, (SIZE, SIZE)))
    return light[..., None] * np.array([1.0, 0.66, 0.12])


def _mosaic(pattern, rng):
    """A pattern of glazed tiles of four pixels, each of its own shade, with pale joints."""
    tiles = pattern_mask(pattern, rng, period=(12.0, 17.0), turn=0.1)
    shade = np.kron(rng.normal(0, 0.1, (SIZE // 4, SIZE // 4)), np.ones((4, 4)))
    glaze = np.array([0.85, 0.55, 0.20]) * rng.uniform(0.8, 1.1, 3)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    joint = 0.7 * ((rows % 4 == 3) | (columns % 4 == 3))
    return mix(joint, np.array([0.80, 0.78, 0.74]), mix(tiles, glaze, glaze[::-1]) + shade[..., None])


def _sand(shape, rng):
    """A shape pressed into sand: only its shaded edges are seen."""
    dent = blur(shape_mask(shape, rng, scale=(0.7, 0.92), turn=0.4, outline=4), 1)
    light = np.roll(dent, (-1, -1), (0, 1)) - np.roll(dent, (1, 1), (0, 1))
    grains = rng.normal(0, 0.06, (SIZE, SIZE, 1)) + clouds(rng, 5, 0.04)[..., None]
    return np.array([0.80, 0.68, 0.46]) + 0.55 * light[..., None] + grains


MORE: dict[str, Look] = {  # as TASKS
    "blueprint": (_blueprint, DRAFTED, [article(s) for s in DRAFTED], SHAPE_TEMPLATES),
    "stamps": (_stamps, NUMBERS, NUMBERS, NUMBER_TEMPLATES),
    "lamps": (_lamps, LETTERS[10:20], LETTERS[10:20], ["a photo of the letter {}.", "the letter {}."]),
    "mosaic": (_mosaic, tuple(PATTERNS)[2:], tuple(PATTERNS)[2:], ["a photo of {}.", "a pattern of {}."]),
    "sand": (_sand, GLOWING, [article(s) for s in GLOWING], SHAPE_TEMPLATES),
}


def twelve_tasks(seed: int = 0, order: int = 1) -> Benchmark:
    """MiniMTIL's seven tasks in one of its orders, then five more of ten classes, as large as the others."""
    mini = mini_mtil(seed, order)
    more = [as_task(name, *MORE[name][2:], draw_task(name, seed, looks=MORE, first=len(TASKS))) for name in MORE]
    return Benchmark("twelve", mini.tasks + more, mini.reference, {"seed": seed, "order": order}, mini.captions)
