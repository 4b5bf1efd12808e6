"""MTIL, the paper's benchmark: eleven data sets, 1,201 classes, in one of two orders. Used in notebooks 07 and 10."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torchvision.transforms import Compose

from ..clip import openai_transform, train_transform
from .base import Benchmark, ImageDataset, Task, draw_shots, hold_out
from .files import shown
from .folders import reference_folder
from .sources import SOURCES, open_all, read_parts, require, require_whole

ORDERS = {
    1: ("aircraft", "caltech101", "cifar100", "dtd", "eurosat", "flowers", "food", "mnist", "pets", "cars", "sun397"),
    2: ("cars", "food", "mnist", "pets", "flowers", "sun397", "aircraft", "caltech101", "dtd", "eurosat", "cifar100"),
}


def mtil(
    order: int = 1,
    root: str | Path = "data/mtil",
    preprocess: Compose | None = None,
    shots: int | None = None,
    splits: str | Path = "official",
    tasks: Sequence[str] | None = None,
    val_part: float = 0.0,
    reference: str | Path | None = "tinyimagenet",
    seed: int = 0,
) -> Benchmark:
    """The eleven data sets under `root`, where torchvision looks for them, as tasks in Order I or II.

    tasks: only these, in this order. preprocess: what `load_clip` returned; by default OpenAI's at 224 pixels. splits:
    "official" for those of the paper, or a folder of CoOp's files split_zhou_*.json, whose images and class names then
    replace the official ones (Aircraft, CIFAR100 and MNIST, which have no such file, keep them).
    val is what the split leaves beside train and test: an official `val` that the paper does not use, or CoOp's.
    Elsewhere it is `val_part` of each class's training images, which train then lacks; None with val_part 0.
    shots: k training images a class, drawn once with the seed, and of val at most min(k, 4) a class. They are cropped
    anew each time that they are read, not once.
    reference: "tinyimagenet" (its training images), a folder of images, or None.
    Every image is opened once before this returns. Raises ValueError for an unknown order or task, for data that is
    absent (all of it named, with the remedy, before anything is read), incomplete (all of it, in numbers) or damaged (all
    images named), and for a class with fewer than k training images.
    """
    if order not in tuple(ORDERS):
        raise ValueError(f"order {order!r} is unknown: MTIL has the orders {sorted(ORDERS)}.")
    names = list(tasks) if tasks else list(ORDERS[order])
    unknown = [name for name in names if name not in ORDERS[1]]
    if unknown:
        raise ValueError(f"task {unknown[0]!r} is unknown: MTIL has {', '.join(ORDERS[1])}.")
    if shots is not None and (not isinstance(shots, int) or shots < 1):
        raise ValueError(f"shots={shots!r} makes no training set: take at least 1 image a class, or None for all.")
    files = {} if splits == "official" else _split_files(Path(splits).expanduser(), names)
    drawn_from = ["tinyimagenet"] if reference == "tinyimagenet" else []
    require(names + drawn_from, root, files)
    found = {name: read_parts(name, root) for name in names + drawn_from if name not in files}
    require_whole({name: parts for name, (parts, _) in found.items()}, root)
    found |= {name: read_split_file(file, name, root) for name, file in files.items()}
    preprocess = preprocess or openai_transform()
    made = [_task(name, *found[name], preprocess, shots, val_part, seed) for name in names]
    used = {task.name: [i for part in (task.train, task.val, task.test) if part for i in part.images] for task in made}
    open_all(used | {name: found[name][0]["train"][0] for name in drawn_from}, root)
    settings = {
        "order": order,
        "tasks": names,
        "root": str(Path(root).expanduser().resolve()),
        "shots": shots,
        "splits": splits if splits == "official" else str(Path(splits).expanduser().resolve()),
        "val_part": val_part,
        "seed": seed,
        "reference": None if reference is None else str(reference),
        "images": {task.name: [len(part or ()) for part in (task.train, task.val, task.test)] for task in made},
    }
    others, captions = None, []
    if drawn_from:
        parts, classnames = found["tinyimagenet"]
        images, _ = parts["train"]
        others = ImageDataset(images, [0] * len(images), preprocess)
        captions = [f"a photo of a {name}." for name in classnames]
    elif reference is not None:
        others = reference_folder(reference, preprocess)
    return Benchmark("mtil", made, others, settings, captions)


def _task(name, parts, classnames, preprocess, shots, val_part, seed):
    def dataset(part, indices, transform, remember):
        images, labels = parts[part]
        if indices is not None:
            images, labels = [images[i] for i in indices], [labels[i] for i in indices]
        return ImageDataset(images, labels, transform, remember)

    labels, kept, val = parts["train"][1], None, None
    if parts.get("val", ([], []))[1]:
        val = "val", None
    elif val_part:
        kept, held = hold_out(labels, val_part, seed)
        if not held:
            raise ValueError(f"{name} has too few images to keep {val_part:.0%} of each class for validation.")
        val = "train", held
    if shots:
        kept = draw_shots(labels, kept, shots, [seed, 0])
        short = [
            c for c, n in enumerate(np.bincount([labels[i] for i in kept], minlength=len(classnames))) if n < shots
        ]
        if short:
            raise ValueError(
                f"{name} has fewer than {shots} training images of {classnames[short[0]]!r}: take fewer shots, "
                "a smaller val_part, or another split."
            )
        val = val and (val[0], draw_shots(parts[val[0]][1], val[1], min(shots, 4), [seed, 1]))
    return Task(
        name,
        classnames,
        list(SOURCES[name].templates),
        train=dataset("train", kept, train_transform(preprocess), False),
        test=dataset("test", None, preprocess, True),
        val=val and dataset(*val, preprocess, True),
    )


def read_split_file(
    file: Path, name: str, root: str | Path
) -> tuple[dict[str, tuple[list[Path], list[int]]], list[str]]:
    """{part: (paths, labels)} and the class names of a CoOp-style split file: train, val, test of [path, label, name].

    Raises ValueError where it has another form, names images that do not exist, or has no image to test on.
    """
    base = Path(root).expanduser() / SOURCES[name].images
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        parts = {part: [(str(p), int(y), str(c)) for p, y, c in content[part]] for part in ("train", "val", "test")}
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"{file} is no split file ({type(error).__name__}: {error}): it needs train, val and test, each a list of "
            "[path, label, class name]."
        ) from error
    names = sorted({(y, c.replace("_", " ")) for rows in parts.values() for _, y, c in rows})
    if not parts["train"] or not parts["test"] or [y for y, _ in names] != list(range(len(names))):
        raise ValueError(
            f"{file} must have training images, test images, and one class name for each of the labels 0, 1, 2 and so on."
        )
    found, absent = {part: ([], []) for part in parts}, []
    for part, rows in parts.items():
        for path, label, _ in rows:
            inside = ".." not in Path(path).parts and not Path(path).is_absolute()
            image = next((p for p in (base / path, base / "images" / path) if inside and p.exists()), None)
            if image is None:
                absent.append(path)
            found[part][0].append(image)
            found[part][1].append(label)
    if absent:
        more = f" and {len(absent) - 1:,} more" if len(absent) > 1 else ""
        raise ValueError(
            f"{file} names the image {shown(absent[0])}{more}, which is not in {base}: get the whole data set, or mend the file."
        )
    return found, [c for _, c in names]


def _split_files(folder, names):
    if not folder.is_dir():
        raise ValueError(
            f"splits folder {folder} does not exist: it should hold CoOp's split_zhou_*.json, or take 'official'."
        )
    files = {name: folder / SOURCES[name].split_file for name in names if SOURCES[name].split_file}
    absent = [file.name for file in files.values() if not file.is_file()]
    if absent:
        raise ValueError(f"splits folder {folder} lacks {', '.join(absent)}: put these files of CoOp's there.")
    return files
