"""What a learner is given: tasks, one after another. Shown in notebook 07, used from notebook 02 on."""

import json
import os
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from string import Formatter
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from PIL import Image
from torch import Tensor
from torch.utils.data import ConcatDataset, Dataset, Subset, TensorDataset, get_worker_info

from .files import open_image, same_name, shown
from .fingerprint import digest, fingerprint, item, of_transform, sample_places
from .verify import facts

MEMORY = 2**30  # bytes that the remembered images of all data sets take together
TOKENS = 77  # that CLIP reads at once, both ends counted
CANDIDATES = ("own", "seen", "all")  # see `Benchmark.tested_among`


@dataclass
class Task:
    """One step of the stream: a data set with its own class names, as in MTIL.

    train, val and test are map-style datasets of (image, label); image is a float tensor (3, H, W) as CLIP's
    preprocessing makes it, label an index into classnames. val is taken from the training images: tune on it, never
    on test. templates turn a class name into prompts: the first is used in training, all of them in evaluation; a task
    that no prompt is made for has none.
    Raises ValueError, naming the task, for a name or class name that is no text or empty, templates without exactly one
    {}, class names that CLIP reads as the same or not to their end, an empty data set, and labels that are no indices
    into the class names (where they are at hand without reading an image).
    """

    name: str
    classnames: list[str]
    templates: list[str]
    train: Any  # a Dataset with a length, which torch's own class does not promise; None where there is nothing
    test: Any
    val: Any = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip():
            raise ValueError(f"the name of a task is a text that is not empty, not {self.name!r}: put it in quotes.")
        try:
            _check_prompts(self.classnames, self.templates)
            for part in ("train", "val", "test"):
                if (dataset := getattr(self, part)) is not None:
                    _check_labels(part, dataset, len(self.classnames))
        except ValueError as error:
            raise ValueError(f"task {self.name!r}: {error}") from error


def _check_prompts(classnames, templates):
    if isinstance(classnames, str) or isinstance(templates, str) or not len(classnames):
        raise ValueError("class names and templates are lists of texts, and one class name at least is needed.")
    for template in templates:
        if not isinstance(template, str) or not _takes_a_name(template):
            raise ValueError(f"the template {template!r} does not have one {{}}, the place of the class name.")
    longest = max((len(_tokens(template.format(""))) for template in templates), default=0)
    known = {}
    for name in classnames:
        tokens = _tokens(name.replace("_", " ")) if isinstance(name, str) else ()
        if not tokens:
            raise ValueError(f"the class name {name!r} is no text that CLIP can read: rename the class.")
        if templates and tokens in known:
            raise ValueError(
                f"to CLIP the class names {known[tokens]!r} and {name!r} are the same, for capitals, accents' spelling "
                "and blanks do not count: rename one, or put both classes together."
            )
        known[tokens] = name
        if len(tokens) + longest + 2 >= TOKENS:
            raise ValueError(f"a prompt of {name[:60]!r}... is longer than CLIP can read: shorten the class name.")


def _takes_a_name(template):
    try:
        places = [place for _, *place in Formatter().parse(template) if place[0] is not None]
    except ValueError:  # a lonely brace
        return False
    return places == [["", "", None]]


@cache
def _tokenizer() -> Any:
    import open_clip

    return open_clip.get_tokenizer("ViT-B-32")


@lru_cache(2**14)
def _tokens(text):
    """The text as CLIP reads it: equal tokens are one thing to it."""
    try:
        return tuple(_tokenizer().encode(text))
    except UnicodeEncodeError:  # half a character, as in a file name of another encoding
        return ()


def _check_labels(part, dataset, classes):
    if not hasattr(dataset, "__len__"):
        raise ValueError(f"{part} has no length: a data set is map-style, with a number of images that is known.")
    if len(dataset) == 0:
        raise ValueError(f"{part} has no images.")
    labels = labels_of(dataset)
    if labels is not None:
        _check_values(part, labels, len(dataset), classes)


def _check_values(part, labels, count, classes):
    if labels.ndim != 1 or labels.dtype not in (np.int64, np.uint8):  # what cross-entropy takes
        raise ValueError(
            f"the labels of {part} are {labels.dtype} of shape {labels.shape}: they must be one whole number an image, "
            f"int64 of shape ({count},)."
        )
    low, high = labels.min(), labels.max()
    if low < 0 or high >= classes:
        raise ValueError(
            f"{part} has labels from {low} to {high}, but there are {classes} class names: labels are indices into "
            f"them, from 0 to {classes - 1}."
        )


def _some_labels(dataset):
    """Labels of a data set of unknown kind, from its first image to its last; where they are of several kinds, of one."""
    found = [np.asarray(item(dataset, place)[1]) for place in sample_places(len(dataset))]
    alike = len({(label.dtype.kind, label.shape) for label in found}) == 1
    return np.stack(found) if alike else next(np.stack([x]) for x in found if x.ndim or x.dtype != np.int64)


def labels_of(dataset: Any) -> np.ndarray | None:
    """All labels of a data set, or None where an image would have to be read for them."""
    if isinstance(dataset, TensorDataset):
        if len(dataset.tensors) != 2:
            raise ValueError(f"a data set gives (image, label), not {len(dataset.tensors)} tensors.")
        labels = dataset.tensors[1].detach().cpu()
        return (labels.double() if labels.is_floating_point() else labels).numpy()
    if isinstance(dataset, Subset):
        labels = labels_of(dataset.dataset)
        return None if labels is None else labels[np.asarray(dataset.indices, dtype=np.int64)]
    if isinstance(dataset, ConcatDataset):
        parts = [labels_of(part) for part in dataset.datasets]
        return np.concatenate(parts) if all(part is not None for part in parts) else None  # type: ignore
    if isinstance(dataset, Shifted):
        labels = labels_of(dataset.dataset)
        return None if labels is None else labels + dataset.by
    return np.asarray(dataset.labels) if isinstance(dataset, ImageDataset) else None


@dataclass
class Merged(Task):
    """A task whose images are judged among the names of several, `parts`, each with its own templates.

    Equal names of two parts stay two classes.
    """

    parts: Sequence[Task] = ()


def parts_of(task: Task) -> Sequence[Task]:
    """The tasks whose names an image is judged among: several for a merged task, else the task itself."""
    return task.parts if isinstance(task, Merged) else [task]


def merged(parts: Sequence[Task], place: int) -> Merged:
    """The test and validation images of the part at `place`, to be judged among the names of all parts."""
    own, by = parts[place], sum(len(part.classnames) for part in parts[:place])
    names = [name for part in parts for name in part.classnames]
    val = Shifted(own.val, by) if own.val else None
    return Merged(f"the names of {len(parts)} tasks", names, [], None, Shifted(own.test, by), val, parts)


@dataclass
class Benchmark:
    """A stream of tasks in a fixed order, and the reference images (or `ReferenceStatistics`) that stand for "none of them".

    settings says how the benchmark was made; `run` keeps it beside the results. captions: sentences about anything, for
    methods that distil what CLIP says of them.
    """

    candidates: ClassVar[str] = "own"  # the names that an image is judged among, unless `run` is told others

    name: str
    tasks: list[Task]
    reference: Any
    settings: dict[str, Any] = field(default_factory=dict)
    captions: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for task in self.tasks:
            if not task.templates:
                raise ValueError(f"task {task.name!r} has no template: give one, such as 'a photo of a {{}}.'")

    def tested(self, learned: int) -> list[Task]:
        """The tasks as they are tested after `learned` of them were learned: here always all, as in MTIL."""
        return self.tasks

    def tested_among(self, candidates: str, learned: int) -> list[Task]:
        """The tasks as they are tested where an image is judged among other names than the benchmark says.

        "own": its task's (MTIL). "seen": those of all tasks learned so far, but images of a task to come among its own
        (ODCL). "all": those of the whole stream (X-TAIL; Xu et al. 2024). Raises ValueError for another word.
        """
        if candidates not in CANDIDATES:
            raise ValueError(f"candidates are 'own', 'seen' or 'all', not {candidates!r}.")
        if candidates == self.candidates:
            return self.tested(learned)
        parts = {"own": [], "seen": self.tasks[:learned], "all": self.tasks}[candidates]
        return [merged(parts, place) if place < len(parts) else task for place, task in enumerate(self.tasks)]

    def check_labels(self) -> None:
        """Look at some labels of data sets of one's own, which `Task` knows nothing of. Raises ValueError as `Task` does."""
        for task in self.tasks:
            for part in ("train", "val", "test"):
                if (dataset := getattr(task, part)) is None or not len(dataset) or labels_of(dataset) is not None:
                    continue
                try:
                    _check_values(part, _some_labels(dataset), len(dataset), len(task.classnames))
                except ValueError as error:
                    raise ValueError(f"task {task.name!r}: {error}") from error

    def first_images(self) -> Iterator[tuple[str, Tensor]]:
        """The first image of every data set, and whose it is in words. Random transforms draw no numbers for it."""
        for task in self.tasks:
            for part in ("train", "val", "test"):
                dataset = getattr(task, part)
                if dataset is not None and len(dataset):
                    yield f"the {part} images of task {task.name!r}", torch.as_tensor(item(dataset, 0)[0])
        if hasattr(self.reference, "__getitem__") and len(self.reference):  # statistics are no images
            yield "the reference images", torch.as_tensor(item(self.reference, 0)[0])

    def fingerprint(self) -> dict[str, str]:
        """What results depend on, in a digest for each task, for "reference" and for "captions".

        A task's covers class names, their order, templates, and of its three data sets labels, order, number and
        contents of the images, their paths below the folder that holds them all, and what the transform makes of a
        fixed picture. It is the same on every machine and wherever the folder lies. Contents of files are read once:
        later calls look at sizes and times. See `fingerprint.fingerprint` for data sets of other kinds.
        """
        found = {
            task.name: digest(
                json.dumps([task.classnames, task.templates]),
                *(fingerprint(dataset) for dataset in (task.train, task.val, task.test)),
            )
            for task in self.tasks
        }
        others = {"reference": fingerprint(self.reference), "captions": digest(*self.captions)}
        for name, value in others.items():
            found[name] = digest(found[name], value) if name in found else value  # a task may be named like that
        return found


class ImageDataset(Dataset):
    """Pairs (image, label): images are files or uint8 arrays (H, W, 3); `transform` makes a float tensor of each.

    With `remember`, transformed images are kept as long as those of all data sets take at most a gigabyte together:
    right for evaluation, wrong for random augmentation.
    Raises ValueError for labels of another number than images, and, with the name of the file, for an image that cannot
    be read.
    """

    decodes = True  # see `training.loader`

    def __init__(
        self,
        images: Sequence[Path | str | np.ndarray] | np.ndarray,
        labels: Sequence[int],
        transform: Callable[[Image.Image], Tensor],
        remember: bool = False,
    ):
        if len(images) != len(labels):
            raise ValueError(f"{len(images)} images have {len(labels)} labels: each needs one.")
        self.images, self.labels, self.transform = images, labels, transform
        self.remember = remember

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        kept = _remembered.get(self)
        if kept is not None and index in kept:
            return kept[index], self.labels[index]
        image = self.transform(self._open(self.images[index]))
        if self.remember and not get_worker_info() and bytes_remembered() + bytes_held(image) <= MEMORY:
            _remembered.setdefault(self, Remembered()).add(index, image)
        return image, self.labels[index]

    def fingerprint(self) -> str:
        """The digest of labels, of the images' contents and places, and of what the transform makes of a picture."""
        labels, transform = np.asarray(self.labels, dtype=np.int64), of_transform(self.transform)
        if isinstance(self.images, np.ndarray):
            return digest("images", transform, labels, self.images)
        files = [os.path.abspath(image) for image in self.images if not isinstance(image, np.ndarray)]
        above = _common_folder(files)
        images = []
        for image in self.images:
            if isinstance(image, np.ndarray):
                images.append(image)
            else:
                place = os.path.relpath(image, above) if above else os.path.abspath(image)
                images += [same_name(place.replace(os.sep, "/")), facts(image).digest]
        return digest("images", transform, labels, *images)

    def rgb(self, image: Image.Image) -> Image.Image:
        """An opened image in RGB: by plain conversion, as torchvision and with it the official code."""
        return image.convert("RGB")

    def _open(self, image):
        if isinstance(image, np.ndarray):
            return Image.fromarray(image)
        try:
            with open_image(image) as opened:
                return self.rgb(opened)
        except Exception as error:  # a damaged file can make Pillow raise anything
            raise ValueError(
                f"{shown(image)} cannot be read as an image ({error}). Put it back as it was, and a run goes on after its "
                "last finished task; without it, the data are others, and so is the run."
            ) from error


def _common_folder(files):
    """The lowest folder that holds all of these files; None where there is none, as on two drives of Windows."""
    try:
        return os.path.commonpath({os.path.dirname(file) for file in files})
    except ValueError:
        return None


class Remembered(dict):
    """Images of one data set by their index, and how many bytes they take."""

    bytes = 0

    def add(self, index: int, image: Tensor) -> None:
        self[index] = image
        self.bytes += bytes_held(image)


def bytes_held(image: Any) -> int:
    """What an image keeps in memory: of a crop that is a view that is the whole picture."""
    return image.untyped_storage().nbytes() if isinstance(image, Tensor) else image.nbytes


# A data set that nobody uses any more gives its part of the memory back.
_remembered: weakref.WeakKeyDictionary[ImageDataset, Remembered] = weakref.WeakKeyDictionary()


def bytes_remembered() -> int:
    """Bytes that the remembered images of all data sets take together."""
    return sum(kept.bytes for kept in list(_remembered.values()))


class Shifted(Dataset):
    """The same images; labels among a step's own classes become labels among all classes seen, `by` higher."""

    def __init__(self, dataset: Any, by: int):
        self.dataset, self.by = dataset, by

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image, label = self.dataset[index]
        return image, label + self.by

    def fingerprint(self) -> str:
        """The digest of the data set, and of the shift."""
        return digest("shifted", fingerprint(self.dataset), str(self.by))


def hold_out(labels: ArrayLike, part: float, seed: int) -> tuple[list[int], list[int]]:
    """Split indices into (kept, held out): of every class a random `part` is held out, rounded, never all of it.

    Raises ValueError for a part that is no share.
    """
    if not 0 <= part < 1:
        raise ValueError(f"val_part is a share of the training images, at least 0 and below 1, not {part!r}.")
    rng, labels = np.random.default_rng(seed), np.asarray(labels)
    held = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        held[members[: min(round(len(members) * part), len(members) - 1)]] = True
    return np.flatnonzero(~held).tolist(), np.flatnonzero(held).tolist()


def draw_shots(labels: ArrayLike, among: Sequence[int] | None, count: int, seed: int | list[int]) -> list[int]:
    """At most `count` of the indices `among` (None: all) of each label, at random."""
    labels = np.asarray(labels)
    order = np.random.default_rng(seed).permutation(len(labels) if among is None else among)
    return sorted(int(i) for label in np.unique(labels) for i in order[labels[order] == label][:count])
