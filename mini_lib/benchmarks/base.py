"""What a learner is given: tasks, one after another. Shown in notebook 07, used from notebook 02 on."""

import os
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, get_worker_info


@dataclass
class Task:
    """One step of the stream: a data set with its own class names, as in MTIL.

    train, val and test are map-style datasets of (image, label); image is a float tensor (3, H, W) as CLIP's
    preprocessing makes it, label an index into classnames. val is taken from the training images: tune on it, never
    on test. templates turn a class name into prompts: the first is used in training, all of them in evaluation.
    """

    name: str
    classnames: list
    templates: list
    train: Dataset
    test: Dataset
    val: Dataset = None


@dataclass
class Benchmark:
    """A stream of tasks in a fixed order, and the reference images that stand for "none of them".

    settings says how the benchmark was made; `run` keeps it beside the results. captions: sentences about anything, for
    methods that distil what CLIP says of them.
    """

    name: str
    tasks: list
    reference: Dataset
    settings: dict = field(default_factory=dict)
    captions: list = field(default_factory=list)

    def tested(self, learned):
        """The tasks as they are tested after `learned` of them were learned: here always all, as in MTIL."""
        return self.tasks


class ImageDataset(Dataset):
    """Pairs (image, label): images are files or uint8 arrays (H, W, 3); `transform` makes a float tensor of each.

    With `remember`, transformed images are kept as long as they take at most half a gigabyte together: right for
    evaluation, wrong for random augmentation.
    Raises ValueError, with the name of the file, for an image that cannot be read.
    """

    def __init__(self, images, labels, transform, remember=False):
        self.images, self.labels, self.transform = images, labels, transform
        self.kept = {} if remember else None

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        if self.kept is not None and index in self.kept:
            return self.kept[index], self.labels[index]
        image = self.transform(self._open(self.images[index]))
        if self.kept is not None and len(self) * image.nbytes <= 2**29 and not get_worker_info():
            self.kept[index] = image
        return image, self.labels[index]

    @staticmethod
    def rgb(image):
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


def loader(dataset, batch_size, **options):
    """A DataLoader; beside a GPU, image files are read by processes of their own, so that it need not wait."""
    beside = torch.cuda.is_available() and isinstance(getattr(dataset, "dataset", dataset), ImageDataset)
    workers = min(os.cpu_count(), 8) if beside else 0
    return DataLoader(dataset, batch_size, num_workers=workers, persistent_workers=beside, **options)


def endless(dataset, batch_size):
    """Batches without end, reshuffled in every round; the last, smaller batch of a round is left out."""
    rounds = loader(dataset, batch_size, shuffle=True, drop_last=len(dataset) > batch_size)
    while True:
        yield from rounds


def hold_out(labels, part, seed):
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
