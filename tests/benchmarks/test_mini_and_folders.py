"""MiniMTIL and folders: sizes, disjoint splits, determinism, and every way a folder can be wrong."""

import numpy as np
import pytest
import torch
from PIL import Image

from mini_lib import folders, load_clip, mini_mtil
from mini_lib.benchmarks import twelve_tasks
from mini_lib.benchmarks.base import hold_out
from mini_lib.benchmarks.folders import Upright
from mini_lib.benchmarks.mini import ORDERS, TASKS
from mini_lib.benchmarks.twelve import MORE


def test_mini_mtil_has_what_it_promises():
    benchmark = mini_mtil(seed=3)
    assert [t.name for t in benchmark.tasks] == list(ORDERS[1]) and set(ORDERS[1]) == set(ORDERS[2]) == set(TASKS)
    for task in benchmark.tasks:
        images, labels = task.train.tensors
        assert images.shape == (800, 3, 32, 32) and images.abs().max() <= 1
        assert labels.bincount().tolist() == [80] * 10 and len(task.classnames) == 10
        assert task.val.tensors[1].bincount().tolist() == [20] * 10
        assert task.test.tensors[1].bincount().tolist() == [50] * 10
        rows = [{x.numpy().tobytes() for x in part.tensors[0]} for part in (task.train, task.val, task.test)]
        assert not rows[0] & rows[2] and not rows[1] & rows[2] and not rows[0] & rows[1], task.name
    names = [set(t.classnames) for t in benchmark.tasks]
    assert any(names[i] == names[j] for i in range(7) for j in range(i))


def test_mini_mtil_follows_its_seed():
    one, same, other = (mini_mtil(seed, train_per_class=5, test_per_class=2) for seed in (1, 1, 2))
    for a, b, c in zip(one.tasks, same.tasks, other.tasks):
        assert torch.equal(a.train.tensors[0], b.train.tensors[0])
        assert not torch.equal(a.train.tensors[0], c.train.tensors[0])
    assert torch.equal(one.reference.tensors[0], same.reference.tensors[0])
    again = {t.name: t for t in mini_mtil(1, order=2, train_per_class=5, test_per_class=2).tasks}
    assert torch.equal(again["neon"].test.tensors[0], one.tasks[-1].test.tensors[0])


def test_mini_mtil_with_few_shots():
    def bytes_of(dataset):
        return [image.numpy().tobytes() for image in dataset.tensors[0]]

    whole, five, same, one, other = (
        mini_mtil(seed, 1, 20, 2, k) for seed, k in ((0, None), (0, 5), (0, 5), (0, 1), (1, 5))
    )
    assert whole.settings["shots"] is None and five.settings["shots"] == 5
    for all_of_them, few, again, fewer, others in zip(*(b.tasks for b in (whole, five, same, one, other))):
        for part, counts in (("train", (5, 1)), ("val", (4, 1))):
            everything, drawn, redrawn, single = (getattr(t, part) for t in (all_of_them, few, again, fewer))
            assert drawn.tensors[1].bincount().tolist() == [counts[0]] * 10
            assert single.tensors[1].bincount().tolist() == [counts[1]] * 10
            assert bytes_of(drawn) == bytes_of(redrawn)
            assert set(bytes_of(single)) < set(bytes_of(drawn)) <= set(bytes_of(everything))
            place = dict(zip(bytes_of(everything), everything.tensors[1].tolist()))
            assert [place[image] for image in bytes_of(drawn)] == drawn.tensors[1].tolist()  # each with its own label
        assert torch.equal(few.test.tensors[0], all_of_them.test.tensors[0])
        assert not torch.equal(few.train.tensors[0], others.train.tensors[0])
    full = mini_mtil(0, 1, 20, 2, shots=16)  # all of them, in the order that they have without shots
    assert all(torch.equal(a.train.tensors[0], b.train.tensors[0]) for a, b in zip(full.tasks, whole.tasks))


@pytest.mark.parametrize("shots", [0, -1, 17, 2.5])
def test_mini_mtil_refuses_shots_that_cannot_be_had(shots):
    with pytest.raises(ValueError, match="take 1 to 16 training images a class"):
        mini_mtil(train_per_class=20, test_per_class=2, shots=shots)


@pytest.mark.parametrize(
    "arguments, words", [({"order": 3}, "order 3 is unknown"), ({"train_per_class": 160}, "at most 174")]
)
def test_mini_mtil_refuses(arguments, words):
    with pytest.raises(ValueError, match=words):
        mini_mtil(**arguments)


@pytest.mark.slow
def test_twelve_tasks_are_minimtil_and_five_more():
    benchmark, mini = twelve_tasks(seed=3, order=2), mini_mtil(seed=3, order=2)  # the seed of above: drawn already
    assert [task.name for task in benchmark.tasks] == [*ORDERS[2], *MORE] and len(MORE) == 5
    for task, of_mini in zip(benchmark.tasks, mini.tasks):
        assert torch.equal(task.train.tensors[0], of_mini.train.tensors[0])
    for task in benchmark.tasks[7:]:
        assert len(task.classnames) == 10 and [len(p) for p in (task.train, task.val, task.test)] == [800, 200, 500]
        assert torch.bincount(task.val[:][1]).tolist() == [20] * 10
    again, other = twelve_tasks(seed=3).tasks[-1].test[:][0], twelve_tasks(seed=0).tasks[-1].test[:][0]
    assert torch.equal(again, benchmark.tasks[-1].test[:][0]) and not torch.equal(again, other)


def test_hold_out_takes_of_every_class():
    kept, held = hold_out([0] * 10 + [1] * 5 + [2], 0.2, seed=0)
    assert len(kept) + len(held) == 16 and not set(kept) & set(held)
    assert sum(i < 10 for i in held) == 2 and sum(10 <= i < 15 for i in held) == 1 and 15 in kept


@pytest.fixture
def root(tmp_path):
    rng = np.random.default_rng(0)
    for task in ("birds", "cars"):
        for part, count in (("train", 5), ("test", 2)):
            for name in ("big_ones", "small"):
                folder = tmp_path / task / part / name
                folder.mkdir(parents=True)
                for i in range(count):
                    Image.fromarray(rng.integers(0, 255, (40, 50, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return tmp_path


@pytest.fixture(scope="module")
def preprocess():
    return load_clip("tiny", pretrained=None)[1]


def test_folders(root, preprocess):
    benchmark = folders(root, preprocess)
    assert [t.name for t in benchmark.tasks] == ["birds", "cars"]
    task = benchmark.tasks[0]
    assert task.classnames == ["big ones", "small"] and (len(task.train), len(task.val), len(task.test)) == (8, 2, 4)
    image, label = task.test[3]
    assert image.shape == (3, 32, 32) and label == 1 and task.test[3][0] is image  # remembered
    assert not torch.equal(task.train[0][0], task.train[0][0])  # cropped anew
    assert [t.name for t in folders(root, preprocess, tasks=["cars"]).tasks] == ["cars"]


def test_a_class_may_be_absent_from_test(root, preprocess):
    for path in (root / "birds/test/big_ones").iterdir():
        path.unlink()
    (root / "birds/test/big_ones").rmdir()
    assert {label for _, label in folders(root, preprocess).tasks[0].test} == {1}


def remove(folder):
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()


BREAKAGES = {
    "missing root": (lambda root: remove(root), "does not exist: it should hold one folder a task"),
    "empty root": (lambda root: [remove(p) for p in root.iterdir()], "is empty: it should hold one folder a task"),
    "no train": (lambda root: remove(root / "cars/train"), "has no folder 'train'"),
    "no test": (lambda root: remove(root / "cars/test"), "has no folder 'test'"),
    "class only in test": (lambda root: remove(root / "cars/train/small") or (root / "cars/train/x").mkdir()
                           or Image.new("RGB", (9, 9)).save(root / "cars/train/x/0.png"), "has the class 'small'"),
    "one class": (lambda root: remove(root / "cars/train/small"), "needs at least two classes"),
    "empty class": (lambda root: [p.unlink() for p in (root / "cars/train/small").iterdir()], "holds no images"),
    "no image": (lambda root: (root / "cars/train/small/0.png").write_text("hello"), "0.png cannot be read as an image"),
}  # fmt: skip


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_broken_folders(root, preprocess, breakage):
    break_it, words = BREAKAGES[breakage]
    break_it(root)
    with pytest.raises(ValueError, match=words):
        folders(root, preprocess)


def test_truncated_image_is_named_when_read(root, preprocess):
    file = root / "cars/test/small/1.png"
    task = folders(root, preprocess).tasks[1]
    whole = file.read_bytes()
    file.write_bytes(whole[:200])
    with pytest.raises(ValueError, match="1.png cannot be read .*Put it back as it was, and a run goes on"):
        list(task.test)
    file.write_bytes(whole)
    assert len(list(task.test)) == 4


@pytest.mark.parametrize("mode, pixel, tones", [
    ("I;16", 32896, {128}), ("LA", (0, 0), {255}), ("RGBA", (9, 9, 9, 255), {9}), ("L", 7, {7}),
])  # fmt: skip
def test_modes_of_images(tmp_path, mode, pixel, tones):
    Image.new(mode, (40, 40), pixel).save(tmp_path / "1.png")
    image, _ = Upright([tmp_path / "1.png"], [0], np.asarray)[0]
    assert image.shape == (40, 40, 3) and set(image.flatten().tolist()) == tones


def test_an_image_is_turned_as_its_camera_noted(tmp_path):
    camera = Image.Exif()
    camera[0x0112] = 6  # to be turned by a quarter
    Image.new("RGB", (40, 20)).save(tmp_path / "1.png", exif=camera)
    assert Upright([tmp_path / "1.png"], [0], np.asarray)[0][0].shape == (40, 20, 3)


@pytest.mark.parametrize("mode", ["L", "P", "RGB", "RGBA", "CMYK", "I;16", "F"])
@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_a_turned_tiff_is_the_picture_turned(tmp_path, mode, compression):
    """All eight ways. Pillow 13 takes an uncompressed file's rows for columns where it maps the file into memory."""
    whole = Image.fromarray((np.arange(7 * 12, dtype=np.uint8) * 3).reshape(7, 12))
    whole = Image.fromarray(np.asarray(whole).astype(np.uint16) * 257) if mode == "I;16" else whole.convert(mode)

    def as_read(picture, **tags):
        picture.save(tmp_path / "1.tif", compression=compression, **tags)
        return Upright([tmp_path / "1.tif"], [0], np.asarray, white={"F": 255})[0][0]

    plain = as_read(whole)
    turns = [lambda x: x, np.fliplr, lambda x: np.rot90(x, 2), np.flipud, lambda x: np.rot90(np.fliplr(x)),
             lambda x: np.rot90(x, 3), lambda x: np.rot90(np.fliplr(x), 3), np.rot90]  # fmt: skip
    for noted, turn in enumerate(turns, start=1):
        assert np.array_equal(as_read(whole, tiffinfo={0x0112: noted}), turn(plain)), noted


@pytest.mark.parametrize("arguments, words", [
    ({"tasks": "cars"}, "tasks and templates are lists"), ({"templates": "a {}"}, "tasks and templates are lists"),
    ({"templates": ["a photo"]}, "each template has a {} for the class name"), ({"templates": []}, "one at least is needed"),
])  # fmt: skip
def test_bad_arguments(root, preprocess, arguments, words):
    with pytest.raises(ValueError, match=words):
        folders(root, preprocess, **arguments)


def test_hidden_files_and_names_that_are_one(root, preprocess):
    before = folders(root, preprocess).settings
    hidden = root / "cars/train/small/.ipynb_checkpoints"
    hidden.mkdir()
    Image.new("RGB", (9, 9)).save(hidden / "0.png")
    assert folders(root, preprocess).settings == before
    Image.new("RGB", (9, 9)).save(root / "cars/train/small/more.png")
    assert folders(root, preprocess).settings != before
    (root / "cars/train/big ones").mkdir()
    Image.new("RGB", (9, 9)).save(root / "cars/train/big ones/0.png")
    with pytest.raises(ValueError, match="two classes of one name"):
        folders(root, preprocess)


def test_unknown_task_folder(root, preprocess):
    with pytest.raises(ValueError, match="boats has no folder 'train'"):
        folders(root, preprocess, tasks=["boats"])


def test_real_images(real_images, preprocess):
    benchmark = folders(real_images, preprocess, tasks=["eurosat", "pets3"])
    assert [len(t.classnames) for t in benchmark.tasks] == [10, 3]
    assert [len(t.test) for t in benchmark.tasks] == [300, 150]
    assert len(benchmark.tasks[0].train) + len(benchmark.tasks[0].val) == 600
