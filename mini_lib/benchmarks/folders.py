"""Your own images as tasks: root/task/{train,test}/class/*.jpg. Used in notebook 07 with params/folders.yaml."""

import math
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from torchvision.transforms import Compose

from ..clip import train_transform
from ..embedded.pairs import reference_pairs
from ..selectors import ReferenceStatistics
from .base import Benchmark, Task, hold_out
from .files import advice, find_images, loose_images, same_name, shown, subfolders, told
from .upright import Upright, whites
from .verify import examine, facts

PARTS = ("train", "test")
MEND = "Repair them or take them out, then start again. Nothing was learned yet."


def folders(
    root: str | Path,
    preprocess: Compose,
    tasks: Sequence[str] | None = None,
    templates: Sequence[str] = ("a photo of a {}.",),
    val_part: float = 0.2,
    seed: int = 0,
    reference: str | Path | ReferenceStatistics | None = None,
) -> Benchmark:
    """A benchmark of the tasks in a folder, in the order of `tasks` or of their names.

    Class names are those of the class folders, underscores as spaces. Of the training images `val_part` is kept apart
    as `val`, of every class that has enough; 0 keeps none. preprocess: what `load_clip` returned. reference: a folder of
    images that belong to no task, for the selector, or statistics of such images; by default drawn images, as the tiny CLIP
    was pretrained on. The captions are always drawn ones'.
    Every image is opened once before this returns; files that are skipped are told in a warning, as are test images that
    are training images, too.
    Raises ValueError, naming the folder or file and the remedy, where the folders do not fit this form, and one that
    names all images that cannot be read.
    """
    if isinstance(tasks, str) or isinstance(templates, str):
        raise ValueError("tasks and templates are lists: put the one that you want into brackets.")
    if not templates or not all("{}" in template for template in templates):
        raise ValueError(
            f"each template has a {{}} for the class name, and one at least is needed, not {list(templates)}."
        )
    root = Path(root).expanduser()
    chosen = _task_folders(root, tasks)
    levels = [root, *(f for folder in chosen for f in (folder, *(folder / part for part in PARTS)))]
    skipped = {folder: loose_images(folder) for folder in levels}  # in no class folder
    found = {folder: _classes(folder, skipped) for folder in chosen}
    files: dict[Path, list[Path]] = {
        folder: [p for part in parts.values() for paths in part.values() for p in paths]
        for folder, parts in found.items()
    }
    stored = isinstance(reference, ReferenceStatistics)
    apart = Path(reference).expanduser() if reference and not stored else None  # type: ignore
    of_no_task = images_in(apart, "the reference images", skipped) if apart else []
    if apart:
        files[apart] = files.get(apart, []) + of_no_task
    for folder, parts in found.items():
        _split(folder, parts["train"], val_part, seed)
    _tell(skipped, [f for folder in chosen for f in subfolders(folder) if f.name not in PARTS])
    examine(files, MEND)
    _tell_of_learned(found)
    made = [_task(folder, parts, preprocess, templates, val_part, seed) for folder, parts in found.items()]
    drawn, captions = reference_pairs(seed)
    others = of_no_task or list(drawn)
    settings = {
        "root": str(root.resolve()),
        "tasks": [task.name for task in made],
        "templates": list(templates),
        "val_part": val_part,
        "seed": seed,
        "reference": apart and str(apart.resolve()),
        "images": [[len(task.train), len(task.val or ()), len(task.test)] for task in made],
        "classes": [len(task.classnames) for task in made],
    }
    reference_images = Upright(others, [0] * len(others), preprocess, white=whites(of_no_task))
    return Benchmark("folders", made, reference if stored else reference_images, settings, list(captions))


def reference_folder(folder: str | Path, preprocess: Compose) -> Upright:
    """The images of a folder that belong to no task, each opened once. Raises ValueError as `folders` does."""
    folder = Path(folder).expanduser()
    skipped: dict[Path, Counter[str]] = {}
    images = images_in(folder, "the reference images", skipped)
    _tell(skipped)
    examine({folder: images}, MEND)
    return Upright(images, [0] * len(images), preprocess, white=whites(images))


def images_in(
    folder: Path, what: str, skipped: dict[Path, Counter[str]], remedy: str = "Put some there."
) -> list[Path]:
    """The images in a folder and below it; what else is there is counted in `skipped`.

    Raises ValueError, with the remedy, where there are none.
    """
    if not folder.is_dir():
        raise ValueError(f"folder {shown(folder)} does not exist: it should hold {what}.")
    images, others = find_images(folder)
    if others:
        skipped[folder] = others
    if not images:
        there = (
            f", but {told(others)}, which Pillow cannot open"
            if others
            else " (.jpg, .png or another kind that Pillow opens)"
        )
        raise ValueError(f"folder {shown(folder)} holds no {what}{there}. {remedy}{advice(others)}")
    return images


def _tell(skipped, unread=()):
    """One warning for all files and folders that were left out."""
    lines = [f"{_files(others, folder)} skipped: {told(others)}" for folder, others in skipped.items() if others]
    lines += [f"{shown(folder)} is not read: a task has the folders train and test" for folder in unread]
    if lines:
        more = f"; and {len(lines) - 10} more folders" if lines[10:] else ""
        hint = advice(sum(skipped.values(), Counter()))
        warnings.warn(f"{'; '.join(lines[:10])}{more}.{hint}", stacklevel=3)


def _tell_of_learned(found):
    """One warning where test images are training images, too: copies, or links."""
    lines = []
    for folder, parts in found.items():
        train, test = ({facts(p).digest: p for paths in parts[part].values() for p in paths} for part in PARTS)
        if both := sorted(train.keys() & test.keys(), key=lambda digest: str(test[digest])):
            first = f"such as {shown(test[both[0]])}, which is {shown(train[both[0]])}"
            lines.append(
                f"{len(both):,} of {len(test):,} test images of {shown(folder)} are training images, too, {first}"
            )
    if lines:
        warnings.warn(f"{'; '.join(lines)}. What is measured on them is memory, not knowledge.", stacklevel=3)


def _files(others, folder):
    count = sum(others.values())
    return f"1 file of {shown(folder)} was" if count == 1 else f"{count} files of {shown(folder)} were"


def _task_folders(root: Path, tasks: Sequence[str] | None) -> list[Path]:
    """The folders of the tasks that were asked for, or of all."""
    if not root.is_dir():
        raise ValueError(f"folder {shown(root)} does not exist: it should hold one folder a task.")
    present = {same_name(folder.name): folder for folder in subfolders(root)}
    wanted = [same_name(str(name)) for name in tasks or (folder.name for folder in subfolders(root))]
    if twice := [name for name, times in Counter(wanted).items() if times > 1]:
        raise ValueError(f"{shown(root)}: the task {twice[0]!r} is there twice (accents may be written in two ways).")
    chosen = [present.get(name, root / name) for name in wanted]
    if not any(_is_task(folder, all) for folder in chosen) and (other := _other_root(root)):
        raise ValueError(f"you gave {shown(root)}, {other}")
    if not present:
        raise ValueError(f"folder {shown(root)} is empty: it should hold one folder a task.")
    for folder in chosen:
        for part in PARTS:
            if not (folder / part).is_dir():
                raise ValueError(_without(folder, part, present.values()))
    return chosen


def _is_task(folder, enough=any):
    return enough((folder / part).is_dir() for part in PARTS)


def _other_root(root):
    """In words, where the tasks are if not in `root`; None where they are nowhere near."""
    here = root.resolve()
    for above, what in enumerate(("one task", "one part of a task", "one class of a task")):
        task = [here, *here.parents][: above + 1][-1]
        if _is_task(task):
            inside = here.relative_to(task).parts
            if not inside or inside[0] in PARTS:
                return f"which is {what}: give {shown(task.parent)}, and tasks=[{task.name!r}] for this task alone."
    below = [folder for folder in subfolders(root) if any(_is_task(task, all) for task in subfolders(folder))]
    if below:
        return f"which is one folder above the tasks: give {' or '.join(shown(folder) for folder in below[:5])}."
    return None


def _without(folder, part, present):
    spelled = next((p.name for p in subfolders(folder) if p.name.casefold() == part), None) if folder.is_dir() else None
    if spelled:
        return f"task folder {shown(folder)} has a folder {spelled!r}: rename it to {part!r}."
    complete = [p.name for p in present if _is_task(p, all)]
    others = f" Or leave this folder out: tasks={complete}." if complete else ""
    return f"task folder {shown(folder)} has no folder {part!r}: put {shown(folder / part)}/CLASS/*.jpg there.{others}"


def _classes(folder: Path, skipped: dict[Path, Counter[str]]) -> dict[str, dict[str, list[Path]]]:
    """{part: {class: its images}} of one task, classes by name in one spelling."""
    found = {}
    for part in PARTS:
        present = subfolders(folder / part)
        if not present:
            raise ValueError(
                f"folder {shown(folder / part)} holds no folders: put the images into {part}/CLASS/*.jpg there."
            )
        found[part] = {}
        for place in present:
            if (name := same_name(place.name)) in found[part]:
                raise ValueError(
                    f"{shown(folder / part)} has the class {name!r} twice, its accents written in two ways: put the images "
                    "of both folders into one."
                )
            found[part][name] = place
    for part, other in (PARTS, PARTS[::-1]):
        for name, place in found[part].items():
            both = f" and {shown(found[other][name])}" if part == "train" and name in found[other] else ""
            remedy = f"Put some there, or remove the folder{both}."
            found[part][name] = images_in(place, "images of this class", skipped, remedy)
    classes = sorted(found["train"])
    if len(classes) < 2:
        raise ValueError(
            f"{shown(folder / 'train')} has only the class {classes[0]!r}: a task needs at least two classes."
        )
    strangers = sorted(set(found["test"]) - set(classes))
    if strangers:
        alike = [c for c in classes if c.casefold() == strangers[0].casefold()]
        how = f"rename it to {alike[0]!r}" if alike else "add it there, or take it out of test"
        raise ValueError(
            f"{shown(folder / 'test')} has the class {strangers[0]!r}, but {shown(folder / 'train')} does not: {how}."
        )
    names = [c.replace("_", " ") for c in classes]
    if len(set(names)) < len(names):
        raise ValueError(
            f"{shown(folder / 'train')} has two classes of one name, once with _ and once with a space: {names}."
        )
    return found


def _split(folder, train, val_part, seed):
    """(kept, held out) indices of a task's training images, class by class. Raises ValueError where none can be held out."""
    labels = [label for label, name in enumerate(sorted(train)) for _ in train[name]]
    kept, held = hold_out(labels, val_part, seed)
    if val_part and not held:
        name, most = max(((name, len(train[name])) for name in sorted(train)), key=lambda pair: pair[1])
        enough = max(2, math.floor(0.5 / val_part) + 1)  # images of which one is held out, once the share is rounded
        share = (math.floor(50 / most) + 1) / 100
        smaller = f", or take val_part={share}" if most > 1 else ""
        raise ValueError(
            f"{shown(folder / 'train')} holds too few images to keep {val_part:.0%} of any class for validation: {name!r} has "
            f"the most, {most}. Put {enough - most} more into it, better into every class{smaller}; val_part=0 keeps none."
        )
    return kept, held


def _task(folder, parts, preprocess, templates, val_part, seed):
    classes = sorted(parts["train"])
    white = whites(path for part in parts.values() for paths in part.values() for path in paths)

    def dataset(part, transform, remember, indices=None):
        pairs = [(path, label) for label, name in enumerate(classes) for path in parts[part].get(name, ())]
        pairs = pairs if indices is None else [pairs[i] for i in indices]
        return Upright([path for path, _ in pairs], [label for _, label in pairs], transform, remember, white)

    kept, held = _split(folder, parts["train"], val_part, seed)
    return Task(
        same_name(folder.name),
        [c.replace("_", " ") for c in classes],
        list(templates),
        train=dataset("train", train_transform(preprocess), False, kept),
        test=dataset("test", preprocess, True),
        val=dataset("train", preprocess, True, held) if held else None,
    )
