"""MiniMTIL: seven small tasks, each with a look of its own, drawn in seconds from a seed. Shown in notebook 00.

It stands in for the eleven data sets of MTIL: the embedded CLIP knows what is drawn, but not how, so that zero-shot
works partly, training helps, and training on one task harms the others.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch.utils.data import TensorDataset

from ..embedded.drawing import COLOURS, LETTERS, NUMBERS, PATTERNS, SIZE, glyph_mask, pattern_mask, shape_mask
from ..embedded.pairs import article, reference_pairs, to_tensor
from .base import Benchmark, Task, draw_shots

ORDERS = {
    1: ("digits", "fabric", "sketch", "plates", "gems", "chalk", "neon"),
    2: ("neon", "chalk", "gems", "plates", "sketch", "fabric", "digits"),
}

# The neighbours of each row or column; at an edge it is its own.
BEFORE, AFTER = np.arange(-1, SIZE - 1).clip(min=0), np.arange(1, SIZE + 1).clip(max=SIZE - 1)


def clouds(rng: np.random.Generator, cells: int, strength: float) -> np.ndarray:
    """Smooth noise (32, 32): random values on a coarse grid, interpolated."""
    grid = Image.fromarray(rng.normal(0, strength, (cells, cells)).astype(np.float32))
    return np.asarray(grid.resize((SIZE, SIZE), Image.Resampling.BICUBIC))


def blur(mask: np.ndarray, times: int) -> np.ndarray:
    """A binomial blur, `times` passes of (1, 2, 1) / 4 along both axes."""
    for _ in range(times):
        mask = (mask[BEFORE] + 2 * mask + mask[AFTER]) / 4
        mask = (mask[:, BEFORE] + 2 * mask + mask[:, AFTER]) / 4
    return mask


def mix(mask: np.ndarray, ink: np.ndarray, paper: np.ndarray) -> np.ndarray:
    """Ink where the mask is 1, paper where it is 0; both colours (3,) or images (32, 32, 3)."""
    return mask[..., None] * ink + (1 - mask[..., None]) * paper


def _chalk(letter, rng):
    """A letter in chalk on a blackboard that was wiped badly."""
    mask = glyph_mask(letter, rng, scale=(0.55, 0.85), turn=0.4)
    mask = mask * (rng.random((SIZE, SIZE)) < 0.8)
    board = np.array([0.10, 0.22, 0.17]) + clouds(rng, 5, 0.07)[..., None]
    chalk = np.array([0.88, 0.88, 0.80]) + rng.normal(0, 0.12, (SIZE, SIZE, 1))
    return mix(blur(mask, 1), chalk, board)


def _fabric(pattern, rng):
    """A pattern woven into cloth: visible threads, folds, two dull colours."""
    mask = pattern_mask(pattern, rng, period=(6.0, 11.0), turn=0.18)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    thread = np.where((rows + columns) % 2 == 0, 0.12, -0.12)
    yarn = rng.uniform(0.25, 0.75, 3)
    other = np.clip(yarn + rng.choice([-1, 1]) * rng.uniform(0.18, 0.3), 0, 1)
    return mix(mask, yarn, other) + (thread + clouds(rng, 4, 0.1))[..., None]


def _sketch(shape, rng):
    """A shape in pencil, drawn twice with a shaky hand, on ruled paper."""
    state = rng.bit_generator.state
    first = shape_mask(shape, rng, outline=2, wobble=0.035)
    after, rng.bit_generator.state = rng.bit_generator.state, state
    second = shape_mask(shape, rng, outline=2, wobble=0.055)
    rng.bit_generator.state = after
    lines = np.zeros((SIZE, SIZE), np.float32)
    lines[rng.integers(5) :: 5] = 0.55
    paper = mix(lines, np.array([0.55, 0.70, 0.92]), np.array([0.97, 0.96, 0.90]))
    pencil = 0.35 + rng.normal(0, 0.08, (SIZE, SIZE, 1))
    return mix(np.maximum(first, second), pencil, paper) + rng.normal(0, 0.02, (SIZE, SIZE, 3))


def _gems(colour, rng):
    """A cut stone: facets of different brightness, a highlight, coloured light, dark velvet."""
    mask = shape_mask(rng.choice(["hexagon", "diamond", "circle"]), rng, scale=(0.65, 0.9), turn=3.1)
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE / 2 + rng.normal(0, 1.5, 2)[:, None, None]
    facet = np.floor((np.arctan2(y, x) / (2 * np.pi) + rng.random()) * 8).astype(int) % 8
    table = np.hypot(x, y) < rng.uniform(4, 7)
    light = np.where(table, 1.05, rng.uniform(0.35, 1.25, 8)[facet])
    glint = np.exp(-((x + 3) ** 2 + (y + 4) ** 2) / 5) * 0.8
    stone = np.array(COLOURS[colour]) * light[..., None] + glint[..., None]
    velvet = np.array([0.16, 0.05, 0.22]) + clouds(rng, 8, 0.03)[..., None]
    return mix(mask, stone, velvet) * rng.uniform(0.65, 1.15, 3)


def _plates(number, rng):
    """A house number: embossed on an enamel plate of nearly the same colour, on a rough wall."""
    mask = glyph_mask(str(NUMBERS.index(number)), rng, scale=(0.5, 0.72), turn=0.25)
    enamel = np.array([0.12, 0.22, 0.50]) + rng.normal(0, 0.06, 3)
    light = np.roll(mask, (-1, -1), (0, 1)) - np.roll(mask, (1, 1), (0, 1))
    plate = enamel + 0.14 * mask[..., None] + 0.38 * light[..., None]
    plate = plate + np.linspace(0.1, -0.1, SIZE)[:, None, None]
    wall = np.array([0.62, 0.50, 0.40]) + rng.normal(0, 0.12, (SIZE, SIZE, 1)) + clouds(rng, 8, 0.08)[..., None]
    inside = np.zeros((SIZE, SIZE), np.float32)
    top, left, bottom, right = rng.integers(1, 5, 4)
    inside[top : SIZE - bottom, left : SIZE - right] = 1
    edge = inside - np.pad(inside, 1)[2:, 2:] * np.pad(inside, 1)[:-2, :-2] * inside
    return mix(edge, np.array([0.85, 0.83, 0.75]), mix(inside, plate, wall))


def _neon(shape, rng):
    """A shape as a glowing tube at night, mirrored in the wet street below."""
    tube = shape_mask(shape, rng, scale=(0.6, 0.85), turn=0.4, outline=3)
    glow = blur(tube, 4) * 1.5
    colour = rng.uniform(0.1, 1, 3)
    colour = colour / colour.max()
    lamp = tube[..., None] * (0.6 + 0.4 * colour) + glow[..., None] * colour
    mirror = blur(lamp[::-1].mean(-1), 2)[..., None] * colour * np.linspace(0, 0.6, SIZE)[:, None, None]
    night = np.array([0.03, 0.02, 0.08]) + np.abs(clouds(rng, 16, 0.05))[..., None]
    return night + lamp + mirror


@lru_cache(maxsize=4)
def _handwritten(seed, count_train, count_test):
    """The real digits that scikit-learn ships (8 x 8, 1,797 scans), enlarged, as blue ink on manila paper.

    The split follows the seed.
    """
    scans, labels = load_digits(return_X_y=True)
    rng = np.random.default_rng(seed)
    train, test = [], []
    for label in range(10):
        chosen = rng.permutation(np.flatnonzero(labels == label))
        train.append(chosen[:count_train])
        test.append(chosen[count_train : count_train + count_test])

    def images(indices):
        for index in indices:
            scan = Image.fromarray((scans[index].reshape(8, 8) * 15.9).astype(np.uint8))
            enlarged = np.asarray(scan.resize((28, 28), Image.Resampling.BICUBIC), dtype=np.float32) / 255
            page = mix(np.pad(enlarged, 2), np.array([0.10, 0.12, 0.35]), np.array([0.80, 0.72, 0.55]))
            yield (page * 255).astype(np.uint8)

    return [
        (np.stack(list(images(np.concatenate(part)))), np.concatenate([labels[p] for p in part]))
        for part in (train, test)
    ]


SKETCHED = ("star", "heart", "moon", "arrow", "house", "tree", "fish", "flower", "cup", "key")
GLOWING = ("circle", "square", "triangle", "star", "heart", "cross", "ring", "diamond", "hexagon", "lightning")
NUMBER_TEMPLATES = ["a photo of the number {}.", "the number {}.", "a picture of the digit {}."]
SHAPE_TEMPLATES = ["a picture of {}.", "a drawing of {}.", "this is {}."]
Look = tuple[Callable | None, Sequence[str], Sequence[str], list[str]]  # style, what is drawn, class names, templates
TASKS: dict[str, Look] = {
    "digits": (None, NUMBERS, NUMBERS, NUMBER_TEMPLATES),
    "plates": (_plates, NUMBERS, NUMBERS, NUMBER_TEMPLATES),
    "chalk": (_chalk, LETTERS[:10], LETTERS[:10], ["a photo of the letter {}.", "the letter {}."]),
    "fabric": (_fabric, tuple(PATTERNS)[:10], tuple(PATTERNS)[:10], ["a photo of {}.", "a pattern of {}."]),
    "sketch": (_sketch, SKETCHED, [article(s) for s in SKETCHED], SHAPE_TEMPLATES),
    "neon": (_neon, GLOWING, [article(s) for s in GLOWING], SHAPE_TEMPLATES),
    "gems": (_gems, tuple(COLOURS)[:10], tuple(COLOURS)[:10], ["a photo of something {}.", "the colour {}."]),
}


def draw_task(
    name: str,
    seed: int,
    train_per_class: int = 100,
    test_per_class: int = 50,
    looks: dict[str, Look] = TASKS,
    first: int = 0,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Draw one task of `looks`: ((images, labels) of train, (images, labels) of test), images uint8 (N, 32, 32, 3).

    first: number of the first of these tasks; it is part of the seed, so that no two tasks are drawn alike.
    """
    style, things, _, _ = looks[name]
    if style is None:
        return _handwritten(seed, train_per_class, test_per_class)
    place = first + sorted(looks).index(name)
    counts = enumerate((train_per_class, test_per_class))
    return [_draw(style, tuple(things), (seed, part, place), count) for part, count in counts]


@lru_cache(maxsize=32)  # a benchmark of other shots or in another order has the same images
def _draw(style, things, seed, count):
    rng = np.random.default_rng(seed)
    images = np.stack([style(thing, rng) for thing in things for _ in range(count)])
    return (np.clip(images, 0, 1) * 255).astype(np.uint8), np.repeat(np.arange(len(things)), count)


def as_task(
    name: str,
    classnames: Sequence[str],
    templates: list[str],
    drawn: Sequence[tuple[np.ndarray, np.ndarray]],
    shots: int | None = None,
    seed: int = 0,
) -> Task:
    """A Task of what `draw_task` drew: a fifth of the training images of each class kept apart, or a few `shots` taken."""
    train, test = (TensorDataset(to_tensor(x), torch.from_numpy(y).long()) for x, y in drawn)
    per_class = len(train) // len(classnames)
    held_out = torch.arange(len(train)) % per_class < per_class // 5
    train, val = TensorDataset(*train[~held_out]), TensorDataset(*train[held_out])
    if shots:
        train, val = _few(train, shots, [seed, 0]), _few(val, min(shots, 4), [seed, 1])
    return Task(name, list(classnames), templates, train, test, val)


def _few(dataset, count, seed):
    """At most `count` images of each class, drawn once with the seed."""
    return TensorDataset(*dataset[draw_shots(dataset.tensors[1], None, count, seed)])


def mini_mtil(
    seed: int = 0, order: int = 1, train_per_class: int = 100, test_per_class: int = 50, shots: int | None = None
) -> Benchmark:
    """The benchmark, ready for the embedded CLIP: seven tasks of ten classes, in one of two orders.

    A fifth of the training images of each class is kept apart as `val`. The reference images are drawn in the look
    of the pretraining: they stand for everything that CLIP knows already. Their captions are there, too.
    shots: k training images a class, drawn once with the seed, and min(k, 4) of `val`, as for MTIL; those of fewer shots
    are among those of more. None takes all. See notebook 10.
    Raises ValueError for an unknown order, for more images a class than the real digits have, and for shots that are no
    number from 1 to the training images a class.
    """
    if order not in ORDERS:
        raise ValueError(f"order {order!r} is unknown: MiniMTIL has the orders {sorted(ORDERS)}.")
    if train_per_class < 5 or test_per_class < 1 or train_per_class + test_per_class > 174:
        raise ValueError(
            f"{train_per_class} training and {test_per_class} test images a class cannot be had: at least 5 and 1, "
            "and together at most 174, the number of scans of the rarest handwritten digit."
        )
    kept = train_per_class - train_per_class // 5
    if shots is not None and shots not in range(1, kept + 1):
        raise ValueError(f"shots={shots!r} cannot be had: take 1 to {kept} training images a class, or None for all.")
    tasks = [
        as_task(name, *TASKS[name][2:], draw_task(name, seed, train_per_class, test_per_class), shots, seed)
        for name in ORDERS[order]
    ]
    images, captions = reference_pairs(seed)
    settings = {
        "seed": seed,
        "order": order,
        "train_per_class": train_per_class,
        "test_per_class": test_per_class,
        "shots": shots,
    }
    reference = TensorDataset(to_tensor(images), torch.zeros(len(images)).long())
    return Benchmark("mini", tasks, reference, settings, list(captions))
