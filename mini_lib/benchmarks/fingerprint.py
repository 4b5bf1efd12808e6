"""What a data set holds, in sixteen letters: equal for equal data on every machine. `run` knows a run by it."""

import hashlib
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, Subset, TensorDataset

SAMPLES = 16  # items of a data set of unknown kind that are looked at


def digest(*parts: Any) -> str:
    """16 hexadecimal digits (BLAKE2b) of texts, tensors and arrays; kinds, shapes and borders between parts count."""
    whole = hashlib.blake2b(digest_size=8)
    for part in parts:
        if isinstance(part, str):
            kind, content = "text", part.encode("utf-8", "surrogatepass")
        elif isinstance(part, torch.Tensor):
            plain = part.detach().cpu().contiguous()
            kind, content = f"{plain.dtype} {tuple(plain.shape)}", plain.flatten().view(torch.uint8).numpy().data
        else:
            array = np.ascontiguousarray(part)
            kind, content = f"{array.dtype} {array.shape}", array.reshape(-1).view(np.uint8).data
        whole.update(f"{kind} {len(content)}\n".encode())
        whole.update(content)
    return whole.hexdigest()


def fingerprint(dataset: Any) -> str:
    """The digest of a data set, or "" for None.

    A data set with a method `fingerprint` says it itself; of TensorDataset, Subset and ConcatDataset all is read. Of
    any other: its length, `targets` or `labels` where it has them, and 16 items from its first to its last, each read
    twice with the same seeds. What differs between the two readings, for the data set has a generator of its own,
    counts by its shape alone. The state of the global generators stays as it was.
    """
    if dataset is None:
        return ""
    if callable(getattr(dataset, "fingerprint", None)):
        return dataset.fingerprint()
    if isinstance(dataset, TensorDataset):
        return digest("tensors", *dataset.tensors)
    if isinstance(dataset, Subset):
        return digest("subset", fingerprint(dataset.dataset), np.asarray(dataset.indices, dtype=np.int64))
    if isinstance(dataset, ConcatDataset):
        return digest("parts", *map(fingerprint, dataset.datasets))
    return _sampled(dataset)


def of_transform(transform: Callable | None) -> str:
    """The digest of what a transform makes of one fixed picture: another size, crop, mean or interpolation shows in it."""
    if transform is None:
        return ""
    rows, columns = np.mgrid[:96, :128]
    picture = np.stack([rows * 2, columns * 2 - 1, (rows * columns) % 251], axis=-1).clip(0, 255).astype(np.uint8)
    with _fixed_seeds():
        array = _array(transform(Image.fromarray(picture)))
    return (
        str(array.dtype) if array.dtype.kind not in "biuf" else digest(array.astype(np.float64).round(3) + 0.0)
    )  # no -0.0


def _sampled(dataset):
    length = len(dataset)
    parts: list[Any] = [type(dataset).__name__, str(length)]
    for name in ("targets", "labels"):
        labels = np.asarray(getattr(dataset, name, ()))
        if labels.shape == (length,) and labels.dtype.kind in "iubfU":
            parts.append("\n".join(map(str, labels.tolist())))
    for place in sample_places(length):
        (image, label), (again, _) = item(dataset, place), item(dataset, place)
        same = image.dtype.kind != "O" and np.array_equal(image, again, equal_nan=image.dtype.kind == "f")
        parts += [str(label), image if same else f"{image.dtype} {image.shape}"]
    return digest(*parts)


def sample_places(length: int) -> list[int]:
    """Where a data set of unknown kind is looked at: from its first item to its last."""
    return sorted({round(i) for i in np.linspace(0, length - 1, min(length, SAMPLES))})


def item(dataset: Any, place: int) -> tuple[np.ndarray, np.ndarray]:
    """An image and its label as arrays; what is random in reading them leaves the generators as they were."""
    with _fixed_seeds():
        image, label = dataset[place]
    return _array(image), _array(label)


def _array(value):
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        value = value.float() if value.is_floating_point() else value
    return np.asarray(value)


@contextmanager
def _fixed_seeds() -> Iterator[None]:
    """Random numbers on the CPU begin anew within; afterwards the generators go on as if nothing had been."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        random.seed(0)
        np.random.seed(0)
        torch.random.default_generator.manual_seed(0)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
