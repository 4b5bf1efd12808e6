"""A benchmark's fingerprint changes with all that results depend on, and with nothing else."""

import os
import random
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, Dataset, Subset, TensorDataset

from mini_lib import Benchmark, Task, cil, folders, load_clip, mini_mtil
from mini_lib.benchmarks import fixtures, verify
from mini_lib.benchmarks.base import ImageDataset, Shifted
from mini_lib.benchmarks.fingerprint import SAMPLES, digest, fingerprint
from mini_lib.clip import openai_transform


@pytest.fixture(scope="module")
def preprocess():
    return load_clip("tiny", pretrained=None)[1]


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    for task in ("birds", "cars"):
        for part, count in (("train", 5), ("test", 2)):
            for name in ("big", "small"):
                (folder := tmp_path / "photos" / task / part / name).mkdir(parents=True)
                for i in range(count):
                    Image.fromarray(rng.integers(0, 255, (20, 25, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return tmp_path / "photos"


def test_it_is_the_same_for_the_same_data_wherever_they_lie(photos, preprocess, tmp_path, monkeypatch):
    before = folders(photos, preprocess).fingerprint()
    assert set(before) == {"birds", "cars", "reference", "captions"} and all(len(v) == 16 for v in before.values())
    assert folders(photos, preprocess).fingerprint() == before
    shutil.copytree(photos, tmp_path / "a copy")
    assert folders(tmp_path / "a copy", preprocess).fingerprint() == before
    monkeypatch.chdir(photos.parent)
    assert folders("photos", preprocess).fingerprint() == before
    if sys.platform != "win32":
        (photos.parent / "link").symlink_to(photos)
        assert folders("link", preprocess).fingerprint() == before


def rename(root):
    for part in ("train", "test"):
        (root / "cars" / part / "big").rename(root / "cars" / part / "huge")


def swap(root):
    for part in ("train", "test"):
        (root / "cars" / part / "big").rename(root / "cars" / part / "x")
        (root / "cars" / part / "small").rename(root / "cars" / part / "big")
        (root / "cars" / part / "x").rename(root / "cars" / part / "small")


def redraw(part):
    def change(root):
        file = root / "cars" / part / "big" / "1.png"
        image = np.asarray(Image.open(file)).copy()
        image[3, 4, 1] ^= 1
        Image.fromarray(image).save(file)

    return change


CHANGES = {
    "a class renamed": rename, "two classes swapped": swap, "one pixel in train": redraw("train"),
    "one pixel in test": redraw("test"),
    "an image renamed": lambda root: (root / "cars/test/big/1.png").rename(root / "cars/test/big/9.png"),
    "an image gone": lambda root: (root / "cars/train/big/1.png").unlink(),
    "an image more": lambda root: shutil.copy(root / "cars/train/big/1.png", root / "cars/train/big/7.png"),
    "two images exchanged": lambda root: [
        (root / "cars/test/big/0.png").rename(root / "cars/test/x.png"),
        (root / "cars/test/big/1.png").rename(root / "cars/test/big/0.png"),
        (root / "cars/test/x.png").rename(root / "cars/test/big/1.png"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_files_is_seen_in_its_task_alone(photos, preprocess, change):
    benchmark = folders(photos, preprocess)
    before = benchmark.fingerprint()
    CHANGES[change](photos)
    after = folders(photos, preprocess).fingerprint()
    assert {name for name in before if before[name] != after[name]} == {"cars"}
    if "pixel" in change:
        assert benchmark.fingerprint() == after  # files that change under a benchmark's feet are seen, too


def test_a_file_of_the_same_size_and_times_is_not_the_same(photos, preprocess):
    before, file = folders(photos, preprocess).fingerprint(), photos / "cars/test/big/1.png"
    times, content = file.stat(), bytearray(file.read_bytes())
    other = photos / "cars/test/big/0.png"
    file.write_bytes(other.read_bytes()[: len(content)].ljust(len(content), b"\0"))
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert file.stat().st_mtime_ns == times.st_mtime_ns and file.stat().st_size == times.st_size
    assert folders(photos, preprocess).fingerprint()["cars"] != before["cars"]


def test_arguments_are_seen(photos, preprocess, tmp_path):
    before = folders(photos, preprocess).fingerprint()

    def changed(**arguments):
        after = folders(photos, **{"preprocess": preprocess} | arguments).fingerprint()
        return {name for name in before if before[name] != after[name]}

    assert changed(templates=["a {}."]) == {"birds", "cars"} == changed(val_part=0.4)
    assert changed(preprocess=openai_transform()) == {"birds", "cars", "reference"}
    assert changed(seed=1) == {"birds", "cars", "reference", "captions"}  # which images are val; what is drawn
    assert changed(reference=photos / "birds/test") == {"reference"}


def test_drawn_pixels_labels_and_names_are_seen():
    benchmark = mini_mtil(0, train_per_class=5, test_per_class=2)
    before = benchmark.fingerprint()
    assert (
        mini_mtil(0, 2, train_per_class=5, test_per_class=2).fingerprint() == before
    )  # the order of tasks is elsewhere
    other = mini_mtil(1, train_per_class=5, test_per_class=2).fingerprint()
    assert all(before[name] != other[name] for name in before)
    few = mini_mtil(0, train_per_class=5, test_per_class=2, shots=2).fingerprint()
    assert {name for name in before if before[name] != few[name]} == set(before) - {"reference", "captions"}
    task = benchmark.tasks[2]
    for part in (task.train, task.val, task.test):
        for tensor in part.tensors:
            flat = tensor.view(-1)
            old = flat[-1].clone()
            flat[-1] = 1 - old if tensor.dtype == torch.int64 else old + 1e-3
            assert benchmark.fingerprint() == before | {task.name: benchmark.fingerprint()[task.name]} != before
            flat[-1] = old
    assert benchmark.fingerprint() == before
    for change in ({"classnames": task.classnames[::-1]}, {"templates": task.templates[::-1]}, {"val": None},
                   {"val": task.test, "test": task.val}):  # fmt: skip
        tasks = [*benchmark.tasks[:2], replace(task, **change), *benchmark.tasks[3:]]
        assert replace(benchmark, tasks=tasks).fingerprint()[task.name] != before[task.name]
    assert replace(benchmark, captions=[]).fingerprint()["captions"] != before["captions"]


def test_other_machines_find_the_same(tmp_path, preprocess):
    """Values that were found once, on Linux with Python 3.11, Pillow 13, NumPy 2.4, torch 2.14."""
    images = np.arange(2 * 6 * 8 * 3, dtype=np.uint8).reshape(2, 6, 8, 3)
    tensors = TensorDataset(torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255, torch.tensor([0, 1]))
    for name, image in zip("ab", images):
        (tmp_path / name).mkdir()
        (tmp_path / name / "é.ppm").write_bytes(b"P6 8 6 255\n" + image.tobytes())
    files = ImageDataset([tmp_path / "a" / "é.ppm", str(tmp_path / "b" / "é.ppm")], [0, 1], preprocess)
    found = [fingerprint(d) for d in (tensors, ImageDataset(images, [0, 1], preprocess), files, Own(images, [0, 1]))]
    assert " ".join(found) == "3d5b4768942f3882 1778dc62ac406808 286afcfa44008df5 de9a93b281787f24"


def test_real_formats_and_steps(tmp_path):
    fixtures.write(tmp_path / "a", classes=2)

    def of(root, **arguments):
        with fixtures.unverified():
            return fixtures.mtil(root=root, tasks=["pets", "cifar100", "mnist"], **arguments).fingerprint()

    before = of(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert of(tmp_path / "b") == before
    image = next((tmp_path / "b" / "oxford-iiit-pet" / "images").iterdir())
    Image.new("RGB", (40, 32)).save(image)
    assert {name for name, value in of(tmp_path / "b").items() if value != before[name]} == {"pets"}
    raw = tmp_path / "b" / "MNIST" / "raw" / "train-images-idx3-ubyte"
    raw.write_bytes(raw.read_bytes()[:-1] + bytes([raw.read_bytes()[-1] ^ 1]))
    assert of(tmp_path / "b")["mnist"] != before["mnist"] and of(tmp_path / "b")["cifar100"] == before["cifar100"]
    assert all(
        value != before[name] for name, value in of(tmp_path / "a", shots=1).items() if name in ("pets", "mnist")
    )

    steps = cil("mini", steps=5)
    turned = cil("mini", steps=5, seed=1)
    assert set(steps.fingerprint()) == {f"step {i}" for i in range(1, 6)} | {"reference", "captions"}
    assert steps.fingerprint() == cil("mini", steps=5).fingerprint() != turned.fingerprint()


class Own(Dataset):
    """Somebody's own data set: nothing is known of it."""

    def __init__(self, images, targets, noise=None):
        self.images, self.targets, self.noise, self.read = images, targets, noise, []

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        self.read.append(index)
        image = self.images[index]
        if self.noise == "global":
            image = image + torch.rand(()) + np.random.rand() + random.random()
        if isinstance(self.noise, np.random.Generator):
            image = image + self.noise.random()
        return image, self.targets[index]


def test_a_data_set_of_ones_own():
    images, targets = torch.rand(100, 3, 4, 4), [i % 3 for i in range(100)]
    own = Own(images, targets)
    before = fingerprint(own)
    assert fingerprint(Own(images.clone(), list(targets))) == before and len(own.read) == 2 * SAMPLES
    assert {0, 99} <= set(own.read)
    changed = images.clone()
    changed[99, 0, 0, 0] += 1
    assert fingerprint(Own(changed, targets)) != before
    assert fingerprint(Own(images, targets[:50] + [1] + targets[51:])) != before  # of an item that is not looked at
    assert fingerprint(Own(images[:99], targets[:99])) != before
    assert len({fingerprint(d) for d in (own, Subset(own, range(9)), Subset(own, range(1, 10)), Shifted(own, 1),
                                         Shifted(own, 2), ConcatDataset([own, own]), None)}) == 7  # fmt: skip


def test_random_readings_neither_disturb_nor_are_disturbed():
    images, targets = torch.rand(20, 3, 4, 4), [0] * 20
    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    augmented = fingerprint(Own(images, targets, "global"))
    assert torch.equal(torch.get_rng_state(), states[0]) and random.getstate() == states[2]
    assert np.random.get_state()[1].tolist() == states[1]
    torch.rand(5), np.random.rand(5), random.random()
    assert fingerprint(Own(images, targets, "global")) == augmented != fingerprint(Own(images + 1, targets, "global"))
    ones, others = (fingerprint(Own(images, targets, np.random.default_rng(seed))) for seed in (0, 1))
    assert ones == others != fingerprint(Own(images, [1] * 20, np.random.default_rng(0)))


def test_contents_are_read_once(photos, preprocess, monkeypatch):
    folders(photos, preprocess).fingerprint()
    monkeypatch.setattr(verify, "_digest", lambda content: pytest.fail("read again"))
    folders(photos, preprocess).fingerprint()


def test_a_task_may_be_named_like_the_reference():
    made = [TensorDataset(torch.full((2, 3, 4, 4), float(i)), torch.tensor([0, 1])) for i in range(3)]

    def of(first, second):
        task = Task("reference", ["cat", "dog"], ["{}"], made[first], None)
        return Benchmark("own", [task], made[second]).fingerprint()

    assert len({of(0, 1)["reference"], of(0, 2)["reference"], of(2, 1)["reference"]}) == 3


def test_borders_between_parts_count():
    assert len({digest("ab", "c"), digest("a", "bc"), digest("abc"), digest("ab", "c", "")}) == 4
    zeros = np.zeros(4, np.uint8), np.zeros((2, 2), np.uint8), np.zeros(1, np.int32), torch.zeros(1)
    assert len({digest(part) for part in zeros}) == 4
    one = ImageDataset(np.zeros((2, 4, 4, 3), np.uint8), [0, 1], np.asarray)
    assert fingerprint(one) != fingerprint(ImageDataset(one.images, [1, 0], np.asarray))
