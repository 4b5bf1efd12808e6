"""A task is checked where it enters: its name, prompts and labels. And data sets share one memory."""

import gc
import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, Subset, TensorDataset

from mini_lib import Benchmark, Task
from mini_lib.benchmarks import base, fixtures
from mini_lib.benchmarks.base import ImageDataset, Shifted
from mini_lib.benchmarks.mini import TASKS
from mini_lib.benchmarks.sources import FLOWERS, SOURCES
from mini_lib.benchmarks.twelve import MORE


def data(labels=(0, 1)):
    return TensorDataset(torch.zeros(len(labels), 3, 8, 8), torch.as_tensor(labels))


def task(classnames=("cat", "dog"), templates=("a {}.",), name="pets", **parts):
    return Task(name, list(classnames), list(templates), **{"train": data(), "test": data(), **parts})


@pytest.mark.parametrize("names", [
    ("A", "a"), ("fish & chips", "fish &amp; chips"), ("fish &amp;amp; chips", "fish & chips"), ("cat", "cat "),
    ("cat", " cat"), ("big cat", "big  cat"), ("big_cat", "big cat"), ("big\tcat", "big cat"), ("cat", "cat"),
    ("cafe\u0301", "caf\u00e9"), ("it\u2019s", "it's"), ("CAFÉ", "café"), ("rock-n-roll", "rock - n - roll"),
    ("10", "1 0"), ("\ufb01sh", "fish"), ("cat", "dog", "bird", "Dog"), ("<b>", "&lt;b&gt;"), ("ｃａｔ", "cat"),
])  # fmt: skip
def test_classes_that_clip_cannot_tell_apart(names):
    with pytest.raises(ValueError, match=r"task 'pets': to CLIP the class names .* are the same.*rename one"):
        task(names)


def test_names_that_are_different():
    task(["crane", "cranes"]), task(["DC-3", "DC-6"]), task(["A", "B"]), task(["church/indoor", "church/outdoor"])


@pytest.mark.parametrize("template", [
    "a photo", "a photo of a {x}.", "a {0}{}", "{}{}", "a { }", "a {", "a }", "{0}", "{!r}", "{:>9}", "", "{{}}", 3,
])  # fmt: skip
def test_templates_without_one_place(template):
    with pytest.raises(ValueError, match=r"task 'pets': the template .* does not have one \{\}"):
        task(templates=["a {}.", template])
    task(templates=["a {{nice}} {}"])


@pytest.mark.parametrize("name", ["", " ", "_", None, 3, "\n"])
def test_names_that_are_no_text(name):
    with pytest.raises(ValueError, match="task 'pets': the class name .* is no text that CLIP can read"):
        task(["cat", name])


@pytest.mark.parametrize("name", [0, None, "", "  ", False])
def test_a_task_has_a_name(name):
    with pytest.raises(ValueError, match="the name of a task is a text that is not empty"):
        task(name=name)


def test_a_name_that_would_be_cut_off():
    with pytest.raises(ValueError, match="a prompt of 'x x x.*is longer than CLIP can read: shorten the class name"):
        task([" ".join("x" * 73), "cat"])
    task([" ".join("x" * 72), "cat"])  # with "a", "." and both ends: 76 of 77


@pytest.mark.parametrize("arguments, words", [
    ({"classnames": []}, "one class name at least"), ({"test": data([])}, "test has no images"),
    ({"train": data([1, 2])}, "train has labels from 1 to 2, but there are 2 class names.*from 0 to 1"),
    ({"val": data([-1, 0])}, "val has labels from -1 to 0"), ({"test": data([[0], [1]])}, r"int64 of shape \(2, 1\)"),
    ({"test": data([0.0, 1.0])}, "float64"), ({"train": data(torch.tensor([0, 1], dtype=torch.int32))}, "are int32"),
    ({"train": Subset(data([0, 1, 5]), [0, 2])}, "labels from 0 to 5"), ({"train": iter([])}, "train has no length"),
    ({"test": ConcatDataset([data(), Shifted(data(), 2)])}, "labels from 0 to 3"),
    ({"test": ImageDataset(np.zeros((2, 9, 9, 3), np.uint8), [0, 2], None)}, "labels from 0 to 2"),
    ({"test": ImageDataset(np.zeros((2, 9, 9, 3), np.uint8), ["cat", "dog"], None)}, "they must be one whole number"),
    ({"test": TensorDataset(torch.zeros(2, 3, 8, 8))}, r"gives \(image, label\), not 1 tensors"),
])  # fmt: skip
def test_labels_that_cannot_be_right(arguments, words):
    with pytest.raises(ValueError, match=f"task 'pets': .*{words}"):
        task(**arguments)


def test_what_is_right_passes():
    task(train=Subset(data([0, 1, 5]), [0, 1]), test=ConcatDataset([data(), Shifted(data([0]), 1)]), val=data([1]))
    task(train=None, test=None)
    Task("all tasks", ["five", "five"], [], train=data(), test=None)  # no prompts are made of it

    class Own(torch.utils.data.Dataset):
        labels = "cat", "dog"  # nobody knows what these are

        def __len__(self):
            return 2

    task(train=Own())
    with pytest.raises(ValueError, match="task 'pets' has no template: give one"):
        Benchmark("own", [task(templates=[])], None)
    with pytest.raises(ValueError, match="2 images have 1 labels"):
        ImageDataset(np.zeros((2, 9, 9, 3), np.uint8), [0], None)


def test_published_names_pass():
    words = [fixtures.WORDS[n].split(",")[0] for n in fixtures.NAMES["tinyimagenet"]]
    for name, source in SOURCES.items():
        on_disk = FLOWERS if name == "flowers" else words if name == "tinyimagenet" else fixtures.NAMES[name]
        names = [source.renamed.get(n, n.replace("_", " ")) for n in on_disk]
        task(names, source.templates or ["a {}."])
    for look in (TASKS | MORE).values():
        Task("drawn", list(look[2]), look[3], None, None)


def remembering(count=4, side=8):
    images = np.zeros((count, side, side, 3), np.uint8)
    return ImageDataset(
        images, [0] * count, lambda image: torch.tensor(np.asarray(image), dtype=torch.float32), remember=True
    )


def test_all_data_sets_share_one_memory(monkeypatch):
    gc.collect()
    before, size = base.bytes_remembered(), 8 * 8 * 3 * 4
    monkeypatch.setattr(base, "MEMORY", before + 6 * size)
    one, other = remembering(), remembering()
    for dataset in (one, other):
        assert [torch.equal(image, dataset[i][0]) for i, (image, _) in enumerate(dataset)] == [True] * 4
    assert base.bytes_remembered() == before + 6 * size  # four of the first, two of the second
    assert [one[i][0] is one[i][0] for i in range(4)] == [True] * 4
    assert [other[i][0] is other[i][0] for i in range(4)] == [True, True, False, False]
    del one, dataset
    gc.collect()
    assert base.bytes_remembered() == before + 2 * size  # given back
    assert other[3][0] is other[3][0] and base.bytes_remembered() == before + 3 * size


def test_four_data_sets_share_one_memory_and_views_count_as_what_they_hold(monkeypatch):
    """A crop that is a view keeps its whole picture in memory."""
    gc.collect()
    before, sides = base.bytes_remembered(), (4, 8, 16)
    monkeypatch.setattr(base, "MEMORY", before + 20_000)
    plain = [remembering(5, side) for side in sides]  # 192, 768 and 3,072 bytes an image
    cropped = ImageDataset(
        [np.zeros((20, 20, 3), np.uint8)] * 5, [0] * 5, lambda _: torch.zeros(3, 20, 20)[:, :4, :4], True
    )
    for dataset in (*plain, cropped):
        for i in range(5):
            dataset[i]
    kept = [sum(dataset[i][0] is dataset[i][0] for i in range(5)) for dataset in (*plain, cropped)]
    assert kept == [5, 5, 4, 0]  # 960, 3,840 and 12,288 bytes; a crop would hold 4,800
    assert base.bytes_remembered() == before + 960 + 3_840 + 12_288
    del plain, dataset
    gc.collect()
    assert sum(cropped[i][0] is cropped[i][0] for i in range(5)) == 4
    assert base.bytes_remembered() == before + 4 * 4_800


def test_a_worker_process_does_not_get_what_is_remembered():
    images = np.zeros((4, 8, 8, 3), np.uint8)
    dataset = ImageDataset(images, [0] * 4, np.asarray, remember=True)
    before = len(pickle.dumps(dataset))
    list(dataset)
    assert len(pickle.dumps(dataset)) == before and base._remembered[dataset].bytes == images.nbytes
