"""Image–caption pairs in plain looks: what the tiny CLIP was pretrained on, and MiniMTIL's reference images.

Shapes, colours, patterns, digits and letters in two flat colours, with captions such as "a drawing of a red star.". Used
from notebook 00 on, looked at in notebook 01.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch

from ..training import progress
from .drawing import COLOURS, LETTERS, NUMBERS, PATTERNS, SHAPES, SIZE, glyph_mask, pattern_mask, shape_mask
from .tiny import MEAN, STD

TEMPLATES = (
    "{}", "a photo of {}", "a picture of {}", "a drawing of {}", "an image of {}", "a painting of {}",
    "a small photo of {}", "a bright picture of {}", "a dark picture of {}", "this is {}", "here you see {}",
)  # fmt: skip
KINDS = {"shape": 0.28, "letter": 0.27, "number": 0.2, "pattern": 0.15, "colour": 0.1}


def _colour(rng, name):
    return np.clip(np.array(COLOURS[name]) + rng.normal(0, 0.06, 3), 0, 1)


def _two_colours(rng):
    """Two colour names whose RGB values differ enough to tell ink from paper."""
    names = list(COLOURS)
    while True:
        ink, paper = rng.choice(names, 2, replace=False)
        if np.abs(np.subtract(COLOURS[ink], COLOURS[paper])).sum() > 0.8:
            return ink, paper


def paint(mask: np.ndarray, ink: np.ndarray, paper: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A mask in two colours, with a slight gradient and noise: the plain look of pretraining. uint8 (32, 32, 3)."""
    image = mask[..., None] * ink + (1 - mask[..., None]) * paper
    ramp = np.linspace(-1, 1, SIZE)[:, None, None] * rng.uniform(-0.12, 0.12)
    image = image + (ramp if rng.random() < 0.5 else ramp.transpose(1, 0, 2))
    image = image + rng.normal(0, rng.uniform(0, 0.08), image.shape)
    return (np.clip(image, 0, 1) * 255).astype(np.uint8)


def draw_concept(kind: str, name: str, rng: np.random.Generator) -> tuple[np.ndarray, str, str]:
    """One image of a concept in the plain look; returns it with the names of its two colours."""
    if kind == "colour":
        ink, paper = name, rng.choice(["white", "black", "grey"])
        if ink == paper:
            paper = "white" if ink == "black" else "black"
        mask = np.ones((SIZE, SIZE), np.float32)
        if rng.random() < 0.6:
            mask = shape_mask(rng.choice(["circle", "square", "hexagon", "diamond"]), rng, scale=(0.7, 1.0))
        return paint(mask, _colour(rng, ink), _colour(rng, paper), rng), ink, paper
    ink, paper = _two_colours(rng)
    if kind == "shape":
        mask = shape_mask(name, rng, outline=3 if rng.random() < 0.25 else None)
    elif kind == "pattern":
        mask = pattern_mask(name, rng)
    else:
        mask = glyph_mask(str(NUMBERS.index(name)) if kind == "number" else name, rng)
    return paint(mask, _colour(rng, ink), _colour(rng, paper), rng), ink, paper


def article(noun: str) -> str:
    """The noun with its article: a star, an arrow."""
    return f"an {noun}" if noun[0].lower() in "aeiou" else f"a {noun}"


def phrase(kind: str, name: str, ink: str, paper: str, rng: np.random.Generator) -> str:
    """A short description of the concept, often with its colours."""
    choice = {
        "shape": [article(name), article(f"{ink} {name}"), f"{article(name)} in {ink}",
                  f"{article(f'{ink} {name}')} on {paper}", f"{article(name)} on {article(paper)} background"],
        "number": [f"the number {name}", f"the digit {name}", f"the number {name} in {ink}",
                   f"{article(f'{ink} {name}')} on {paper}", name],
        "letter": [f"the letter {name}", f"the letter {name} in {ink}", f"the {ink} letter {name}",
                   f"{article(ink)} letter {name} on {paper}", f"the letter {name} on {paper}"],
        "pattern": [name, f"a pattern of {name}", f"{name} in {ink} and {paper}", f"{ink} and {paper} {name}"],
        "colour": [name, f"the colour {name}", f"something {name}", f"{article(name)} thing",
                   f"{article(name)} surface"],
    }[kind]  # fmt: skip
    return choice[rng.integers(len(choice))]


CONCEPTS = {
    "shape": tuple(SHAPES),
    "letter": LETTERS,
    "number": NUMBERS,
    "pattern": tuple(PATTERNS),
    "colour": tuple(COLOURS),
}


def draw_pairs(count: int, seed: int | Sequence[int]) -> tuple[np.ndarray, list[str]]:
    """Draw image–caption pairs: uint8 images (count, 32, 32, 3) and a list of captions."""
    rng = np.random.default_rng(seed)
    images = np.empty((count, SIZE, SIZE, 3), np.uint8)
    captions = []
    kinds = rng.choice(list(KINDS), size=count, p=list(KINDS.values()))
    for i, kind in enumerate(progress(kinds, "drawing pairs")):
        name = rng.choice(CONCEPTS[kind])
        images[i], ink, paper = draw_concept(kind, name, rng)
        caption = TEMPLATES[rng.integers(len(TEMPLATES))].format(phrase(kind, name, ink, paper, rng))
        captions.append(caption + "." if rng.random() < 0.5 else caption)
    return images, captions


@lru_cache(maxsize=4)
def reference_pairs(seed: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """The reference of a benchmark: 1,500 images that stand for what CLIP knows already, and their captions."""
    images, captions = draw_pairs(1500, seed=[seed, 99])
    return images, tuple(captions)


def to_tensor(images: np.ndarray) -> torch.Tensor:
    """uint8 images (N, H, W, 3) as float32 (N, 3, H, W) in [-1, 1], what the CLIPs that ship read."""
    pixels = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 255
    return ((pixels - MEAN) / STD).contiguous()
