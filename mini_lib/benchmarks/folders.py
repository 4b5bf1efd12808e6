"""Your own images as tasks: root/task/{train,test}/class/*.jpg. Used in notebook 07 with params/folders.yaml."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from torchvision.transforms import Compose

from ..clip import train_transform
from ..embedded.pairs import reference_pairs
from .base import Benchmark, ImageDataset, Task, hold_out

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm"}


class Upright(ImageDataset):
    """Images as one sees them: turned as the camera noted, on white where they are transparent, 16 bits brought to 8."""

    @staticmethod
    def rgb(image: Image.Image) -> Image.Image:
        image = ImageOps.exif_transpose(image)
        if image.mode == "F":
            raise ValueError("its pixels are floats, and nobody says which of them is white")
        if image.mode.startswith("I"):
            image = Image.fromarray((np.asarray(image) // 257).clip(0, 255).astype(np.uint8))
        if "A" in image.getbands() or "transparency" in image.info:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return image.convert("RGB")


def folders(
    root: str | Path,
    preprocess: Compose,
    tasks: Sequence[str] | None = None,
    templates: Sequence[str] = ("a photo of a {}.",),
    val_part: float = 0.2,
    seed: int = 0,
    reference: str | Path | None = None,
) -> Benchmark:
    """A benchmark of the tasks in a folder, in the order of `tasks` or of their names.

    Class names are those of the class folders, underscores as spaces. Of the training images `val_part` is kept apart
    as `val`, of every class. preprocess: what `load_clip` returned. reference: a folder of images that belong to no
    task, for DDAS; by default drawn images, as the embedded CLIP was pretrained on. The captions are always drawn ones'.
    Raises ValueError, naming the folder or file and the remedy, where the folders do not fit this form.
    """
    if isinstance(tasks, str) or isinstance(templates, str):
        raise ValueError("tasks and templates are lists: put the one that you want into brackets.")
    if not templates or not all("{}" in template for template in templates):
        raise ValueError(
            f"each template has a {{}} for the class name, and one at least is needed, not {list(templates)}."
        )
    root = Path(root)
    present = _subfolders(root, "one folder a task")
    names = list(tasks) if tasks else [p.name for p in present]
    made = [_task(root / name, preprocess, tuple(templates), val_part, seed) for name in names]
    images, captions = reference_pairs(seed)
    images = images_in(Path(reference), "the reference images") if reference else list(images)
    settings = {
        "root": str(root.resolve()),
        "tasks": names,
        "templates": list(templates),
        "val_part": val_part,
        "seed": seed,
        "reference": reference and str(Path(reference).resolve()),
        "images": [[len(task.train), len(task.val), len(task.test)] for task in made],
        "classes": [len(task.classnames) for task in made],
    }
    return Benchmark("folders", made, Upright(images, [0] * len(images), preprocess), settings, list(captions))


def _task(folder, preprocess, templates, val_part, seed):
    parts = {}
    for part in ("train", "test"):
        if not (folder / part).is_dir():
            raise ValueError(f"task folder {folder} has no folder {part!r}: put {folder / part}/CLASS/*.jpg there.")
        parts[part] = {
            p.name: images_in(p, "images of this class") for p in _subfolders(folder / part, "one folder a class")
        }
    classes = sorted(parts["train"])
    names = [c.replace("_", " ") for c in classes]
    if len(set(names)) < len(names):
        raise ValueError(f"{folder / 'train'} has two classes of one name, once with _ and once with a space: {names}.")
    if len(classes) < 2:
        raise ValueError(f"{folder / 'train'} has only the class {classes[0]!r}: a task needs at least two classes.")
    strangers = sorted(set(parts["test"]) - set(classes))
    if strangers:
        raise ValueError(f"{folder / 'test'} has the class {strangers[0]!r}, but {folder / 'train'} does not: add it.")

    def dataset(part, transform, remember, indices=None):
        pairs = [(path, classes.index(c)) for c, paths in sorted(parts[part].items()) for path in paths]
        pairs = pairs if indices is None else [pairs[i] for i in indices]
        return Upright(*map(list, zip(*pairs)), transform, remember)

    kept, held = hold_out(dataset("train", None, False).labels, val_part, seed)
    if not held:
        raise ValueError(
            f"{folder / 'train'} holds too few images to keep {val_part:.0%} of each class for validation."
        )
    return Task(
        folder.name,
        names,
        list(templates),
        train=dataset("train", train_transform(preprocess), False, kept),
        test=dataset("test", preprocess, True),
        val=dataset("train", preprocess, True, held),
    )


def _subfolders(folder, of):
    if not folder.is_dir():
        raise ValueError(f"folder {folder} does not exist: it should hold {of}.")
    found = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not found:
        raise ValueError(f"folder {folder} is empty: it should hold {of}.")
    return found


def images_in(folder: Path, what: str) -> list[Path]:
    if not folder.is_dir():
        raise ValueError(f"folder {folder} does not exist: it should hold {what}.")
    found = sorted(
        p
        for p in folder.rglob("*")
        if p.suffix.lower() in SUFFIXES and not any(part.startswith(".") for part in p.relative_to(folder).parts)
    )
    if not found:
        raise ValueError(f"folder {folder} holds no {what} ({', '.join(sorted(SUFFIXES))}).")
    for path in found:
        try:
            Image.open(path).close()  # reads the header only
        except Exception as error:  # a damaged file can make Pillow raise anything
            raise ValueError(f"{path} cannot be read as an image ({error}). Repair it or take it out.") from error
    return found
