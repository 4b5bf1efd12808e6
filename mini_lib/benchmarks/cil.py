"""Class-incremental streams: one data set, its classes in steps, all seen so far at test. Built in notebook 09."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torchvision.transforms import Compose

from ..clip import load_clip, openai_transform, train_transform
from ..metrics import AccuracyMatrix
from .base import Benchmark, ImageDataset, Task, hold_out, merged
from .mini import TASKS, draw_task
from .sources import open_all, read_parts, require_whole

STREAMS = {  # name -> classes, how many of them come first as a base, numbers of equal steps for the others
    "mini": (30, 0, (5, 10)),
    "cifar100": (100, 0, (10, 20, 50)),
    "tinyimagenet": (200, 100, (5, 10, 20)),
}
TEMPLATE = "a bad photo of a {}."  # the official one, in training and in evaluation
DRAWN = {"chalk": "letter {}", "sketch": "{}", "gems": "{} thing"}  # tasks of MiniMTIL -> names of their classes here


@dataclass
class ClassIncremental(Benchmark):
    """Steps through the classes of one data set. A step is learned among its own classes, and tested among all seen."""

    candidates = "seen"

    def tested(self, learned: int) -> list[Task]:
        """The first `learned` steps, each with the class names of all of them; steps to come are not tested."""
        return [merged(self.tasks[:learned], place) for place in range(learned)]


def seen_accuracy(matrix: AccuracyMatrix, sizes: Sequence[int]) -> np.ndarray:
    """Accuracy in percent (T,) over the test images of all classes seen, after each step; every image counts alike.

    matrix: the AccuracyMatrix of a class-incremental run, NaN above the diagonal. sizes (T,): test images of each step.
    The mean over steps is known as Avg (average incremental accuracy), the last one as Last.
    """
    return (np.tril(matrix.values) * sizes).sum(axis=1) / np.cumsum(sizes)


def cil(
    name: str = "mini",
    steps: int = 10,
    root: str | Path = "data/mtil",
    preprocess: Compose | None = None,
    class_order: str | Path | None = None,
    val_part: float = 0.0,
    evaluation_crops: bool = False,
    seed: int = 0,
) -> ClassIncremental:
    """The classes of one data set in steps.

    name: "mini", 30 drawn classes in 5 or 10 steps; "cifar100", 10, 20 or 50 steps; "tinyimagenet", a base of 100
    classes, then 5, 10 or 20 steps. root: where torchvision looks for the data. preprocess: what `load_clip` returned;
    by default that of the embedded CLIP for "mini", else OpenAI's at 224 pixels. class_order: a file with one class
    index a line, in the order in which they are learned (numbers in brackets are read, too, as in the official
    class_orders/*.yaml); by default drawn with the seed. val_part: part of each class's training images that is kept
    apart as val; with 0 there is none.
    evaluation_crops: val and test images are cropped at random as in training, which the official code does by mistake.
    Raises ValueError for an unknown name or number of steps, an order that is no permutation, and data that is absent,
    incomplete or damaged: each image is opened once before this returns.
    """
    if name not in STREAMS:
        raise ValueError(f"data set {name!r} is unknown: class-incremental streams are made of {', '.join(STREAMS)}.")
    count, base, known = STREAMS[name]
    if steps not in known:
        raise ValueError(f"{steps!r} steps are not possible: {name} comes in {', '.join(map(str, known))} steps.")
    order = _order(class_order, count, seed)
    root = Path(root).expanduser()
    preprocess = preprocess or (load_clip("tiny", pretrained=None)[1] if name == "mini" else openai_transform())
    parts, classnames = _drawn(seed) if name == "mini" else _read(name, root, count)
    kept, held = hold_out(parts["train"][1], val_part, seed)
    crop = train_transform(preprocess)
    judged = (crop, False) if evaluation_crops else (preprocess, name == "mini")  # transform, remember

    def dataset(part, indices, group, transform, remember):
        """The images, among those at `indices`, whose class is in `group`; labels are places in it."""
        images, labels = parts[part]
        place = {c: k for k, c in enumerate(group)}
        chosen = [i for i in indices if labels[i] in place]
        return ImageDataset([images[i] for i in chosen], [place[labels[i]] for i in chosen], transform, remember)

    size = (count - base) // steps
    groups = {"base": order[:base]} if base else {}
    groups |= {f"step {i + 1}": order[base + i * size : base + (i + 1) * size] for i in range(steps)}
    tasks = [
        Task(
            step,
            [classnames[c] for c in group],
            [TEMPLATE],
            train=dataset("train", kept, group, crop, False),
            test=dataset("test", range(len(parts["test"][1])), group, *judged),
            val=dataset("train", held, group, *judged) if held else None,
        )
        for step, group in groups.items()
    ]
    settings = {
        "steps": steps,
        "root": None if name == "mini" else str(root.resolve()),
        "order": order,
        "val_part": val_part,
        "evaluation_crops": evaluation_crops,
        "seed": seed,
        "images": {task.name: [len(part or ()) for part in (task.train, task.val, task.test)] for task in tasks},
    }
    return ClassIncremental(f"cil {name}", tasks, None, settings)


def _order(file, count, seed):
    if file is None:
        return np.random.default_rng([seed, count]).permutation(count).tolist()
    file = Path(file).expanduser()
    if not file.is_file():
        raise ValueError(f"class order {file} does not exist: it should be a file with one class index a line.")
    order = [int(number) for number in re.findall(r"\d+", file.read_text(encoding="utf-8", errors="replace"))]
    if sorted(order) != list(range(count)):
        raise ValueError(
            f"class order {file} has {len(order)} numbers, {len(set(order) & set(range(count)))} of them different and "
            f"right: it must hold each class index from 0 to {count - 1} once."
        )
    return order


def _drawn(seed):
    """Chalk letters, pencil shapes and coloured stones as one data set: parts as in `_read`, and class names."""
    drawn = [draw_task(task, seed, train_per_class=125, test_per_class=40) for task in DRAWN]
    parts = {
        part: (
            np.concatenate([pair[p][0] for pair in drawn]),
            [int(label) + 10 * k for k, pair in enumerate(drawn) for label in pair[p][1]],
        )
        for p, part in enumerate(("train", "test"))
    }
    return parts, [form.format(thing) for task, form in DRAWN.items() for thing in TASKS[task][1]]


def _read(name, root, count):
    """{part: (images, labels)} and class names of real data, with images of every class, each opened once."""
    parts, classnames = read_parts(name, root)
    for part, (_, labels) in parts.items():
        if len(classnames) != count or set(labels) != set(range(count)):
            raise ValueError(
                f"{name} under {root} has {part} images of {len(set(labels))} classes, not of {count}: it is "
                f"incomplete. `python -m mini_lib data --root {root} --only {name}` tells more."
            )
    require_whole({name: parts}, root)
    open_all({name: [image for images, _ in parts.values() for image in images]}, root)
    return parts, classnames
