"""What a learner is given: tasks, one after another. Shown in notebook 07, used from notebook 02 on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info


@dataclass
class Task:
    """One step of the stream: a data set with its own class names, as in MTIL.

    train, val and test are map-style datasets of (image, label); image is a float tensor (3, H, W) as CLIP's
    preprocessing makes it, label an index into classnames. val is taken from the training images: tune on it, never
    on test. templates turn a class name into prompts: the first is used in training, all of them in evaluation.
    """

    name: str
    classnames: list[str]
    templates: list[str]
    train: Any  # a Dataset with a length, which torch's own class does not promise; None where there is nothing
    test: Any
    val: Any = None


@dataclass
class Benchmark:
    """A stream of tasks in a fixed order, and the reference images that stand for "none of them".

    settings says how the benchmark was made; `run` keeps it beside the results. captions: sentences about anything, for
    methods that distil what CLIP says of them.
    """

    name: str
    tasks: list[Task]
    reference: Dataset | None
    settings: dict[str, Any] = field(default_factory=dict)
    captions: list[str] = field(default_factory=list)

    def tested(self, learned: int) -> list[Task]:
        """The tasks as they are tested after `learned` of them were learned: here always all, as in MTIL."""
        return self.tasks

    def fingerprint(self) -> dict[str, str]:
        return {task.name: str(len(task.train)) for task in self.tasks}  # PLACEHOLDER


class ImageDataset(Dataset):
    """Pairs (image, label): images are files or uint8 arrays (H, W, 3); `transform` makes a float tensor of each.

    With `remember`, transformed images are kept as long as they take at most half a gigabyte together: right for
    evaluation, wrong for random augmentation.
    Raises ValueError, with the name of the file, for an image that cannot be read.
    """

    decodes = True  # see `training.loader`

    def __init__(
        self,
        images: Sequence[Path | str | np.ndarray] | np.ndarray,
        labels: Sequence[int],
        transform: Callable[[Image.Image], Tensor],
        remember: bool = False,
    ):
        self.images, self.labels, self.transform = images, labels, transform
        self.kept = {} if remember else None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if self.kept is not None and index in self.kept:
            return self.kept[index], self.labels[index]
        image = self.transform(self._open(self.images[index]))
        if self.kept is not None and len(self) * image.nbytes <= 2**29 and not get_worker_info():
            self.kept[index] = image
        return image, self.labels[index]

    @staticmethod
    def rgb(image: Image.Image) -> Image.Image:
        """An opened image in RGB: by plain conversion, as torchvision and with it the official code."""
        return image.convert("RGB")

    def _open(self, image):
        if isinstance(image, np.ndarray):
            return Image.fromarray(image)
        try:
            with Image.open(image) as opened:
                return self.rgb(opened)
        except Exception as error:  # a damaged file can make Pillow raise anything
            raise ValueError(f"{image} cannot be read as an image ({error}). Repair it or take it out.") from error


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
