"""Concepts drawn as masks: shapes, letters, digits and patterns on a 32 x 32 canvas.

A mask is a float32 array (32, 32) in [0, 1]: 1 is ink, 0 is paper. What the ink looks like is somebody else's
business: `pairs` gives it the plain looks that the tiny CLIP is pretrained on, `benchmarks.mini` gives every task of
MiniMTIL a look of its own. Used from notebook 01 on.
"""

from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .tiny import SIZE

CANVAS = 2 * SIZE  # drawn at twice the size, then averaged: smooth edges

COLOURS = {  # name -> RGB in [0, 1]
    "red": (0.85, 0.10, 0.12),
    "orange": (0.97, 0.55, 0.08),
    "yellow": (0.96, 0.88, 0.15),
    "green": (0.13, 0.60, 0.20),
    "turquoise": (0.15, 0.78, 0.75),
    "blue": (0.12, 0.25, 0.85),
    "purple": (0.50, 0.15, 0.65),
    "pink": (0.97, 0.55, 0.75),
    "brown": (0.45, 0.27, 0.12),
    "grey": (0.50, 0.50, 0.50),
    "black": (0.05, 0.05, 0.05),
    "white": (0.95, 0.95, 0.95),
}
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
LETTERS = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
FONTS = (
    "DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSansMono.ttf", "DejaVuSerif.ttf", "DejaVuSerif-Bold.ttf",
    "STIXGeneral.ttf", "STIXGeneralBol.ttf", "cmr10.ttf", "cmss10.ttf", "cmtt10.ttf",
)  # fmt: skip


def _circle(x, y, rx, ry=None, n=24):
    angle = np.linspace(0, 2 * np.pi, n, endpoint=False)
    return np.stack([x + rx * np.cos(angle), y + (ry or rx) * np.sin(angle)], axis=1)


def _rose(petals, depth, n=60):
    angle = np.linspace(0, 2 * np.pi, n, endpoint=False)
    radius = (1 + depth * np.cos(petals * angle)) / (1 + depth)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def _regular(corners, inner=None):
    """A regular polygon, one corner up; with `inner`, a star whose inner corners lie at that radius."""
    n = corners * (2 if inner else 1)
    angle = np.arange(n) * 2 * np.pi / n - np.pi / 2
    radius = np.where(np.arange(n) % 2 == 1, inner, 1.0) if inner else np.ones(n)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def _heart():
    t = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([x, -y], axis=1) / 17


def _moon():
    outer = np.linspace(0.25 * np.pi, 1.75 * np.pi, 30)
    inner = np.linspace(1.62 * np.pi, 0.38 * np.pi, 30)
    return np.concatenate(
        [
            np.stack([np.cos(outer), np.sin(outer)], axis=1),
            np.stack([0.45 + 0.72 * np.cos(inner), 0.76 * np.sin(inner)], axis=1),
        ]
    )


def _points(*pairs):
    return np.array(pairs, dtype=float)


# Each shape is a list of polygons in [-1, 1] x [-1, 1], y downwards; True paints, False cuts a hole.
SHAPES = {
    "circle": [(_circle(0, 0, 0.9), True)],
    "square": [(_points((-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)), True)],
    "triangle": [(_points((0, -0.9), (0.95, 0.75), (-0.95, 0.75)), True)],
    "star": [(_regular(5, 0.42), True)],
    "heart": [(_heart(), True)],
    "cross": [
        (_points((-0.9, -0.3), (0.9, -0.3), (0.9, 0.3), (-0.9, 0.3)), True),
        (_points((-0.3, -0.9), (0.3, -0.9), (0.3, 0.9), (-0.3, 0.9)), True),
    ],
    "ring": [(_circle(0, 0, 0.95), True), (_circle(0, 0, 0.5), False)],
    "moon": [(_moon(), True)],
    "diamond": [(_points((0, -1), (0.62, 0), (0, 1), (-0.62, 0)), True)],
    "hexagon": [(_regular(6), True)],
    "arrow": [
        (_points((0.95, 0), (0.1, 0.75), (0.1, 0.28), (-0.95, 0.28), (-0.95, -0.28), (0.1, -0.28), (0.1, -0.75)), True)
    ],
    "house": [
        (_points((0, -0.95), (0.9, -0.1), (0.7, -0.1), (0.7, 0.9), (-0.7, 0.9), (-0.7, -0.1), (-0.9, -0.1)), True),
        (_points((-0.2, 0.3), (0.2, 0.3), (0.2, 0.9), (-0.2, 0.9)), False),
    ],
    "tree": [
        (_points((0, -1), (0.75, 0.45), (-0.75, 0.45)), True),
        (_points((-0.18, 0.4), (0.18, 0.4), (0.18, 1), (-0.18, 1)), True),
    ],
    "fish": [
        (_circle(0.2, 0, 0.72, 0.45), True),
        (_points((-0.35, 0), (-1, -0.5), (-1, 0.5)), True),
        (_circle(0.55, -0.12, 0.1, n=10), False),
    ],
    "flower": [(_rose(5, 0.45), True), (_circle(0, 0, 0.22, n=14), False)],
    "cup": [
        (_circle(0.55, -0.05, 0.42, n=20), True),
        (_circle(0.55, -0.05, 0.22, n=14), False),
        (_points((-0.8, -0.7), (0.6, -0.7), (0.4, 0.8), (-0.6, 0.8)), True),
    ],
    "key": [
        (_circle(-0.5, 0, 0.48), True),
        (_circle(-0.5, 0, 0.22, n=14), False),
        (_points((-0.1, -0.13), (0.98, -0.13), (0.98, 0.5), (0.75, 0.5), (0.75, 0.13), (0.55, 0.13), (0.55, 0.4),
                 (0.32, 0.4), (0.32, 0.13), (-0.1, 0.13)), True),
    ],
    "lightning": [(_points((0.25, -1), (-0.6, 0.15), (-0.05, 0.15), (-0.3, 1), (0.6, -0.25), (0.05, -0.25)), True)],
}  # fmt: skip


def shape_mask(
    name: str,
    rng: np.random.Generator,
    scale: tuple[float, float] = (0.6, 0.9),
    turn: float = 0.35,
    outline: int | None = None,
    wobble: float = 0.0,
) -> np.ndarray:
    """Draw one shape of `SHAPES`.

    scale: range of the radius, as a part of half the canvas. turn: largest rotation, radians. outline: line width in
    canvas pixels instead of a filled shape. wobble: standard deviation of each corner's displacement, in radii.
    """
    angle = rng.uniform(-turn, turn)
    radius = rng.uniform(*scale) * CANVAS / 2
    stretch = rng.uniform(0.85, 1.15)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    slack = max(CANVAS / 2 - radius, 0) * 0.8
    centre = CANVAS / 2 + rng.uniform(-slack, slack, size=2)
    image = Image.new("L", (CANVAS, CANVAS))
    draw = ImageDraw.Draw(image)
    for points, paint in SHAPES[name]:
        points = points * [stretch, 1 / stretch] @ rotation.T
        if wobble:
            points = points + rng.normal(0, wobble, points.shape)
        corners = [tuple(p) for p in points * radius + centre]
        if outline is None:
            draw.polygon(corners, fill=255 if paint else 0)
        else:
            draw.line(corners + corners[:2], fill=255, width=outline, joint="curve")
    return _finish(image)


@cache
def _font(name, size):
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size)


def glyph_mask(
    text: str,
    rng: np.random.Generator,
    fonts: tuple[str, ...] = FONTS,
    scale: tuple[float, float] = (0.65, 0.95),
    turn: float = 0.2,
) -> np.ndarray:
    """Draw a letter or digit in one of the fonts that matplotlib ships; the glyph's height is `scale` of the canvas."""
    size = int(rng.uniform(*scale) * CANVAS * 1.2)
    font = _font(fonts[rng.integers(len(fonts))], size)
    image = Image.new("L", (CANVAS, CANVAS))
    x, y = CANVAS / 2 + rng.uniform(-0.08, 0.08, size=2) * CANVAS
    left, top, right, bottom = font.getbbox(text)
    ImageDraw.Draw(image).text((x - (left + right) / 2, y - (top + bottom) / 2), text, fill=255, font=font)
    image = image.rotate(np.degrees(rng.uniform(-turn, turn)), resample=Image.Resampling.BILINEAR)
    return _finish(image)


def _finish(image):
    return np.asarray(image.reduce(CANVAS // SIZE), dtype=np.float32) / 255


def _stripes(u, v):
    return np.sin(2 * np.pi * v)


def _dots(u, v):
    return np.cos(2 * np.pi * u) + np.cos(2 * np.pi * v) - 0.6


def _bricks(u, v):
    row = np.floor(v)
    return np.minimum(1.8 * (0.5 - np.abs((u / 1.8 + row / 2) % 1 - 0.5)), 0.5 - np.abs(v % 1 - 0.5)) - 0.12


# Each pattern is a function of the coordinates u, v, one period a unit; ink where it is positive. The last number
# is the rotation in radians at which the pattern bears its name, the one before it whether it has a centre.
PATTERNS = {
    "horizontal stripes": (_stripes, False, 0),
    "vertical stripes": (_stripes, False, np.pi / 2),
    "diagonal stripes": (_stripes, False, np.pi / 4),
    "dots": (_dots, False, 0),
    "checks": (lambda u, v: np.sin(np.pi * u) * np.sin(np.pi * v), False, 0),
    "a grid": (lambda u, v: np.maximum(np.cos(2 * np.pi * u), np.cos(2 * np.pi * v)) - 0.75, False, 0),
    "zigzags": (lambda u, v: np.sin(2 * np.pi * (v + np.abs((u % 2) - 1))), False, 0),
    "waves": (lambda u, v: np.sin(2 * np.pi * (v + 0.35 * np.sin(np.pi * u))), False, 0),
    "circles": (lambda u, v: np.sin(2 * np.pi * np.hypot(u, v)), True, 0),
    "rays": (lambda u, v: np.sin(6 * np.arctan2(v, u)), True, 0),
    "bricks": (_bricks, False, 0),
    "triangles": (lambda u, v: u % 1 + v % 1 - 1, False, 0),
}


def pattern_mask(
    name: str, rng: np.random.Generator, period: tuple[float, float] = (6.0, 12.0), turn: float = 0.1
) -> np.ndarray:
    """Draw one pattern of `PATTERNS`; `period` in pixels."""
    function, centred, angle = PATTERNS[name]
    angle = angle + rng.uniform(-turn, turn)
    length = rng.uniform(*period)
    axis = (np.arange(CANVAS) + 0.5) * SIZE / CANVAS
    x, y = np.meshgrid(axis, axis)
    origin = SIZE / 2 + rng.uniform(-4, 4, size=2) if centred else rng.uniform(0, SIZE, size=2)
    x, y = (x - origin[0]) / length, (y - origin[1]) / length
    ink = function(np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x) > 0
    return ink.reshape(SIZE, 2, SIZE, 2).mean((1, 3), dtype=np.float32)
