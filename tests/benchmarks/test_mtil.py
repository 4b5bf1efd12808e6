"""MTIL: all eleven loaders and TinyImageNet's on drawn data in their on-disk formats, and on real subsets where there.

The colour of a drawn picture tells its class, so that labels are held against what is to be seen, not only counted.
"""

import dataclasses
import json
import pickle
import re
import shutil
import struct
import tarfile
from unittest.mock import Mock

import numpy as np
import open_clip
import pytest
import torch
from helpers import SHARED, split_folder
from PIL import Image
from torchvision import datasets

from mini_lib import mtil
from mini_lib.__main__ import main
from mini_lib.benchmarks import archives, fixtures
from mini_lib.benchmarks.base import ImageDataset
from mini_lib.benchmarks.folders import reference_folder
from mini_lib.benchmarks.mtil import ORDERS
from mini_lib.benchmarks.sources import SOURCES, read

TRAIN, TEST = 6, 2  # images a class
NAMES = {  # of the first three classes, in the order of their colours, as a prompt should have them
    "aircraft": ["Cessna 172", "707-320", "F/A-18"],
    "caltech101": ["yin and yang symbol", "off-center face", "centered face"],
    "cifar100": ["maple tree", "aquarium fish", "baby"],
    "dtd": ["polka-dotted", "banded", "zigzagged"],
    "eurosat": ["lake or sea", "river", "residential buildings or homes or apartments"],
    "flowers": ["pink primrose", "hard-leaved pocket orchid", "canterbury bells"],
    "food": ["tuna tartare", "apple pie", "baby back ribs"],
    "mnist": ["0 - zero", "1 - one", "2 - two"],
    "pets": ["Abyssinian", "American Bulldog", "Bengal"],
    "cars": ["Acura RL Sedan 2012", "AM General Hummer SUV 2000", "Ram C-V Cargo Van Minivan 2012"],
    "sun397": ["zen garden", "apartment building/outdoor", "abbey"],
    "tinyimagenet": ["Egyptian cat", "goldfish", "European fire salamander"],
}
RANDOM = ("caltech101", "eurosat", "sun397")  # split at random by the paper
WITH_VAL = ("aircraft", "dtd", "flowers")  # an official val that the paper leaves unused


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mtil")
    fixtures.write(folder, classes=3, train=TRAIN, test=TEST)
    return folder


@pytest.fixture
def fresh(tmp_path):
    """Drawn data that a test may damage."""
    fixtures.write(tmp_path / "data", classes=2)
    return tmp_path / "data"


def make(root, **arguments):
    with fixtures.unverified():
        return mtil(root=root, **arguments)


def seen(image, name, classes=3):
    """Which class a picture shows, by the colour of its upper part; image: a path, an array or a normalised tensor."""
    if isinstance(image, torch.Tensor):
        mean, std = (torch.tensor(x) for x in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD))
        image = (image.permute(1, 2, 0) * std + mean).numpy() * 255
    elif not isinstance(image, np.ndarray):
        image = np.asarray(Image.open(image))
    upper = image[len(image) // 8 : len(image) // 4, len(image) // 4 : len(image) // 2].reshape(-1, 3).mean(0)
    distances = [np.abs(upper - fixtures.colour(n, grey=name == "mnist")).max() for n in range(classes)]
    assert min(distances) < 6
    return int(np.argmin(distances))


def looks(dataset):
    """How many versions of its first image a data set gives in ten readings."""
    torch.manual_seed(0)
    return len({dataset[0][0].numpy().tobytes() for _ in range(10)})


def test_the_table_is_the_papers():
    names = ORDERS[1]
    assert sorted(names) == sorted(ORDERS[2]) and len(names) == 11 and set(SOURCES) == {*names, "tinyimagenet"}
    assert sum(SOURCES[n].classes for n in names) == 1201
    assert [len(SOURCES[n].templates) for n in names] == [2, 34, 18, 8, 3, 1, 1, 1, 1, 9, 2]
    assert [tuple(SOURCES[n].sizes.values()) for n in names] == [
        (3334, 3333, 3333), (6941, 1736), (50000, 10000), (1880, 1880, 1880), (21600, 5400), (1020, 1020, 6149),
        (75750, 25250), (60000, 10000), (3680, 3669), (8144, 8041), (87003, 21751),
    ]  # fmt: skip
    assert [SOURCES[n].templates[0].format("x") for n in names] == [
        "a photo of a x, a type of aircraft.", "a photo of a x.", "a photo of a x.", "a photo of a x texture.",
        "a centered satellite photo of x.", "a photo of a x, a type of flower.", "a photo of a x, a type of food.",
        'a photo of the number: "x".', "a photo of a x, a type of pet.", "a photo of a x, a type of car.",
        "a photo of a x.",
    ]  # fmt: skip
    for name in names:
        templates = [template.format("x") for template in SOURCES[name].templates]
        assert len(set(templates)) == len(templates) and not any("@" in t or "{" in t for t in templates)
    for name, total in (("caltech101", 8677), ("eurosat", 27000), ("sun397", 108754)):
        assert list(SOURCES[name].sizes.values()) == [int(0.8 * total), total - int(0.8 * total)]


def test_published_names():
    assert len(set(fixtures.FLOWERS)) == 102 and fixtures.FLOWERS[72] == "water lily"
    if hasattr(datasets.Flowers102, "classes"):  # newer versions of torchvision know them, too
        assert [c.rstrip("?") for c in datasets.Flowers102.classes] == list(fixtures.FLOWERS)
    assert len(SOURCES["eurosat"].renamed) == 10
    assert SOURCES["caltech101"].renamed["snoopy"] == "snoopy (cartoon beagle)"


@pytest.mark.parametrize("name", NAMES)
def test_labels_and_names_fit_the_pictures(root, name):
    with fixtures.unverified():
        for part in SOURCES[name].sizes:
            images, labels, classnames = read(name, root, part)
            assert sorted(classnames) == sorted(NAMES[name]), part
            assert [classnames[y] for y in labels] == [NAMES[name][seen(image, name)] for image in images], part
            if name not in RANDOM:
                assert np.bincount(labels).tolist() == [TRAIN if part == "train" else TEST] * 3
                assert labels != sorted(labels) or name in ("food", "tinyimagenet")  # those list class by class


def test_all_1201_classes(tmp_path):
    on_disk = fixtures.write(tmp_path, train=1, test=1)
    total = 0
    for name, written in on_disk.items():
        with fixtures.unverified():
            images, labels, classnames = read(name, tmp_path)
        assert len(classnames) == len(written) == SOURCES[name].classes == len(set(classnames))
        total += len(classnames)
        shown = {label: seen(image, name, len(written)) for image, label in zip(images, labels)}
        assert len(set(shown.values())) == len(written), name
        if name not in ("tinyimagenet", "sun397"):
            plain = {label: written[n].replace("_", " ").lower() for label, n in shown.items()}
            differ = {written[n] for y, n in shown.items() if classnames[y].lower() != plain[y]}
            assert differ <= set(SOURCES[name].renamed), name
    assert total == 1201 + 200


@pytest.mark.parametrize("order", (1, 2))
def test_tasks(root, order):
    benchmark = make(root, order=order)
    assert benchmark.name == "mtil" and tuple(t.name for t in benchmark.tasks) == ORDERS[order]
    assert len(benchmark.reference) == 3 * TRAIN and benchmark.reference[0][0].shape == (3, 224, 224)
    assert json.loads(json.dumps(benchmark.settings)) == benchmark.settings
    for task in benchmark.tasks:
        assert task.templates == list(SOURCES[task.name].templates)
        for part in (task.train, task.test, *([task.val] if task.val else [])):
            image, label = part[len(part) - 1]
            assert image.shape == (3, 224, 224) and image.dtype == torch.float32
            assert task.classnames[label] == NAMES[task.name][seen(image, task.name)]
        assert task.test[0][0] is task.test[0][0] and looks(task.train) > 1  # remembered; cropped anew
        assert (task.val is not None) == (task.name in WITH_VAL)
        assert benchmark.settings["images"][task.name] == [len(task.train), len(task.val or ()), len(task.test)]


def test_tasks_can_be_chosen(root):
    benchmark = make(root, tasks=["pets", "dtd"], reference=None)
    assert [t.name for t in benchmark.tasks] == ["pets", "dtd"] and benchmark.reference is None
    assert len(make(root, tasks=["dtd"], reference=root / "food-101" / "images").reference) == 3 * (TRAIN + TEST)


def test_preprocessing_can_be_given(root):
    preprocess = open_clip.image_transform(64, is_train=False, mean=[0.5] * 3, std=[0.5] * 3)
    task = make(root, tasks=["mnist"], preprocess=preprocess, reference=None).tasks[0]
    assert task.train[0][0].shape == task.test[0][0].shape == (3, 64, 64)


@pytest.mark.parametrize("name", RANDOM)
def test_random_splits_are_those_of_torch(root, name):
    train, test = (read(name, root, part)[0] for part in ("train", "test"))
    everything = SOURCES[name].dataset(str(root))
    paths = sorted(map(str, train + test))
    assert len(set(paths)) == len(paths) == len(everything) and len(train) == int(0.8 * len(everything))
    chosen = torch.utils.data.random_split(
        everything, [len(train), len(test)], generator=torch.Generator().manual_seed(42)
    )
    listed = {
        "caltech101": lambda: [
            f"{everything.root}/101_ObjectCategories/{everything.categories[y]}/image_{i:04d}.jpg"
            for i, y in zip(everything.index, everything.y)
        ],
        "eurosat": lambda: [path for path, _ in everything.samples],
        "sun397": lambda: sorted(map(str, everything._image_files)),
    }[name]()
    assert [str(path) for path in train] == [listed[i] for i in chosen[0].indices]
    assert read(name, root)[0] == train


def paths(dataset):
    return [str(x) if not isinstance(x, np.ndarray) else x.tobytes() for x in dataset.images]


def test_validation_images_are_nobody_elses(root):
    for task in make(root, val_part=0.2, reference=None).tasks:
        parts = [set(paths(part)) for part in (task.train, task.val, task.test)]
        assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2], task.name
        if task.name in WITH_VAL:
            assert (len(task.train), len(task.val)) == (3 * TRAIN, 3 * TEST)
        elif task.name not in RANDOM:
            assert (len(task.train), len(task.val)) == (3 * (TRAIN - 1), 3)


@pytest.mark.parametrize("shots", (1, 5))
def test_shots(root, shots):
    whole = {t.name: t for t in make(root, reference=None).tasks}
    one = {t.name: t for t in make(root, shots=shots, seed=1, reference=None).tasks}
    again = {t.name: t for t in make(root, order=2, shots=shots, seed=1, reference=None).tasks}
    other = {t.name: t for t in make(root, shots=shots, seed=2, reference=None).tasks}
    for name, task in one.items():
        assert np.bincount(task.train.labels).tolist() == [shots] * 3
        assert set(paths(task.train)) <= set(paths(whole[name].train)) and len(set(paths(task.train))) == 3 * shots
        assert paths(task.train) == paths(again[name].train) and paths(task.test) == paths(whole[name].test)
        assert (task.val is not None) == (name in WITH_VAL)
        if task.val:
            assert np.bincount(task.val.labels).tolist() == [min(shots, 4, TEST)] * 3
        label = task.train[0][1]
        assert task.classnames[label] == NAMES[name][seen(task.train[0][0], name)]
        assert looks(task.train) > 1  # cropped anew, not once
    assert any(paths(one[name].train) != paths(other[name].train) for name in one)


def test_shots_beside_validationimages_in(root):
    for task in make(root, shots=5, val_part=0.17, reference=None, tasks=["food", "mnist", "cars"]).tasks:
        assert np.bincount(task.train.labels).tolist() == [5] * 3 and np.bincount(task.val.labels).tolist() == [1] * 3
        assert not set(paths(task.train)) & set(paths(task.val))


def test_splits_of_coop(root, tmp_path):
    benchmark = make(root, splits=split_folder(root, tmp_path / "splits"), reference=None)
    official = {t.name: t for t in make(root, reference=None).tasks}
    for task in benchmark.tasks:
        if SOURCES[task.name].split_file:
            assert (len(task.val), len(task.test)) == (3, 2) and task.classnames == official[task.name].classnames[::-1]
        else:
            assert paths(task.train) == paths(official[task.name].train)
        for part in (task.train, task.test):
            for i in range(2):
                image, label = part[i]
                assert task.classnames[label] == NAMES[task.name][seen(image, task.name)]
    assert benchmark.settings["splits"] == str(tmp_path / "splits")
    few = make(root, splits=tmp_path / "splits", reference=None, shots=2, tasks=["food"]).tasks[0]
    assert np.bincount(few.train.labels).tolist() == [2] * 3 and max(np.bincount(few.val.labels)) <= 2


ROW = ["apple_pie/000001.jpg", 0, "apple pie"]
BAD_SPLITS = {
    "absent image": (
        {"test": [["apple_pie/9.jpg", 2, "apple pie"]]},
        "names the image apple_pie/9.jpg, which is not in",
    ),
    "no test": ({"test": None}, "is no split file"),
    "short rows": ({"train": [["x.jpg", 0]]}, "is no split file"),
    "two names": ({"val": [[ROW[0], 0, "cake"]]}, "one class name for each of the labels"),
    "a gap": ({"train": [ROW], "val": [], "test": [[ROW[0], 2, "sushi"]]}, "one class name for each of the labels"),
    "no training": ({"train": [], "val": [], "test": [ROW]}, "must have training images"),
}


@pytest.mark.parametrize("case", BAD_SPLITS)
def test_bad_split_files(root, tmp_path, case):
    change, words = BAD_SPLITS[case]
    folder = split_folder(root, tmp_path / "splits", food=change)
    with pytest.raises(ValueError, match=words) as caught:
        make(root, splits=folder, tasks=["food"], reference=None)
    assert "split_zhou_Food101.json" in str(caught.value)


def test_absent_split_files(root, tmp_path):
    with pytest.raises(ValueError, match="splits folder .*nowhere does not exist"):
        make(root, splits=tmp_path / "nowhere")
    with pytest.raises(ValueError, match="lacks split_zhou_OxfordPets.json, split_zhou_SUN397.json: put"):
        make(root, splits=tmp_path, tasks=["pets", "mnist", "sun397"])
    (tmp_path / "split_zhou_OxfordPets.json").write_text("no json")
    with pytest.raises(ValueError, match="split_zhou_OxfordPets.json is no split file"):
        make(root, splits=tmp_path, tasks=["pets"], reference=None)


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"order": 3}, r"order 3 is unknown: MTIL has the orders \[1, 2\]"),
        ({"order": [1]}, r"order \[1\] is unknown"),
        ({"shots": "5"}, "shots='5' makes no training set"),
        ({"shots": 2.5}, "shots=2.5 makes no training set"),
        ({"val_part": 1.5, "tasks": ["cars"]}, "val_part is a share of the training images.*not 1.5"),
        ({"tasks": ["pets", "birds"]}, "task 'birds' is unknown: MTIL has aircraft, caltech101"),
        ({"shots": 0}, "shots=0 makes no training set"),
        ({"shots": TRAIN + 1, "tasks": ["flowers"]}, "flowers has fewer than 7 training images of 'pink primrose'"),
        (
            {"shots": TRAIN, "val_part": 0.2, "tasks": ["cars"]},
            "cars has fewer than 6 training images of 'Acura RL Sedan 2012'",
        ),
        ({"val_part": 0.01, "tasks": ["cars"]}, "cars has too few images to keep 1% of each class"),
        ({"tasks": ["cars"], "reference": "nowhere"}, "folder nowhere does not exist"),
    ],
)
def test_refusals(root, arguments, words):
    with pytest.raises(ValueError, match=words):
        make(root, **arguments)


def test_absent_data_is_named_at_once_with_the_remedy(fresh):
    (fresh / "MNIST").rename(fresh / "elsewhere")
    (fresh / "stanford_cars" / "cars_test_annos_withlabels.mat").unlink()
    (fresh / "tiny-imagenet-200" / "wnids.txt").unlink()
    (fresh / "dtd" / "dtd" / "labels" / "test1.txt").write_text("nonsense")  # would fail if anything were read
    with pytest.raises(ValueError) as caught:
        make(fresh)
    words = str(caught.value)
    assert words.startswith("3 of the data sets wanted are not under")
    for expected in (
        "- mnist: MNIST/raw must hold train-images-idx3-ubyte, ", "--download fetches train-images-idx3-ubyte.gz",
        "- cars: stanford_cars must hold cars_test_annos_withlabels.mat; its links are dead; issue 7545",
        "- tinyimagenet: tiny-imagenet-200 must hold wnids.txt; ", f"mini_lib data --root {fresh}",
    ):  # fmt: skip
        assert expected in words
    with pytest.raises(ValueError, match="12 of the data sets wanted are not under"):
        mtil(root=fresh / "nowhere")
    assert not (fresh / "nowhere").exists()
    with pytest.raises(ValueError, match="1 of the data sets wanted"):
        read("tinyimagenet", fresh)
    with pytest.raises(ValueError, match="food has no part 'val'"):
        read("food", fresh, "val")


def test_whatever_pillow_raises_names_the_image(tmp_path):
    file = tmp_path / "a.ppm"
    file.write_bytes(b"P6 5x 40 255 ")  # Pillow: ValueError
    (tmp_path / "b.bmp").write_bytes(struct.pack("<2s8x4I2H24x", b"BM", 54, 40, 65535, 65535, 1, 24))
    with pytest.raises(ValueError, match="a.ppm cannot be read as an image .invalid literal"):
        ImageDataset([file], [0], None)[0]
    for number in (2, 1):  # both, then the second alone: Pillow refuses its 4 billion pixels
        with pytest.raises(ValueError, match=f"(?s){'ab'[2 - number]}.* cannot be read as an image") as caught:
            reference_folder(tmp_path, None)
        assert str(caught.value).count("cannot be read as an image") == number
        file.unlink(missing_ok=True)


def test_a_truncated_image_is_named_when_read(fresh):
    task = make(fresh, tasks=["pets"], reference=None).tasks[0]
    file = task.test.images[1]
    file.write_bytes(file.read_bytes()[:300])
    with pytest.raises(ValueError, match=f"{file.name} cannot be read as an image"):
        list(task.test)


DAMAGE = {
    "flowers": "flowers-102/imagelabels.mat", "cars": "stanford_cars/devkit/cars_meta.mat",
    "food": "food-101/meta/test.json", "mnist": "MNIST/raw/t10k-labels-idx1-ubyte",
    "dtd": "dtd/dtd/labels/val1.txt", "sun397": "SUN397/ClassName.txt",
    "pets": "oxford-iiit-pet/annotations/test.txt", "aircraft": "fgvc-aircraft-2013b/data/images_variant_val.txt",
    "tinyimagenet": "tiny-imagenet-200/words.txt",
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_data_is_named(fresh, name, capsys):
    (fresh / DAMAGE[name]).write_bytes(b"nonsense\n")
    with fixtures.unverified():
        with pytest.raises(ValueError, match=f"{name} in .* cannot be read .*Get it anew"):
            for part in SOURCES[name].sizes:
                read(name, fresh, part)
        assert main(["data", "--root", str(fresh), "--only", name]) == 1
    assert " cannot be read (" in capsys.readouterr().out


def test_classes_must_be_the_same_in_all_parts(fresh):
    file = fresh / "oxford-iiit-pet" / "annotations" / "test.txt"
    file.write_text("".join(line for line in file.open() if line.startswith("Abyssinian")))
    with pytest.raises(ValueError, match="pets: train and test do not have the same classes"):
        make(fresh, tasks=["pets"], reference=None)


class Harmful:
    def __reduce__(self):
        return (Exception, ("a pickle was run",))


def test_no_foreign_pickle_is_run(fresh):
    (fresh / "cifar-100-python" / "train").write_bytes(pickle.dumps(Harmful()))
    with pytest.raises(ValueError, match="cifar100 in .* cannot be read .*corrupted"):
        read("cifar100", fresh)
    processed = fresh / "MNIST" / "processed"
    processed.mkdir()
    for name in ("training.pt", "test.pt"):  # what old versions of torchvision left, and still load
        (processed / name).write_bytes(pickle.dumps(Harmful()))
    assert len(read("mnist", fresh)[1]) == 4


def test_drawings_do_not_mix_with_anything_else(fresh, tmp_path):
    before = sorted(p.stat().st_mtime_ns for p in fresh.rglob("*"))
    assert fixtures.write(fresh, classes=2)["pets"] == ["Abyssinian", "american_bulldog"]
    assert sorted(p.stat().st_mtime_ns for p in fresh.rglob("*")) == before
    for folder, count in ((fresh, 3), (tmp_path, 2)):
        with pytest.raises(ValueError, match="holds something else than these drawings"):
            fixtures.write(folder, classes=count)
    benchmark = fixtures.mtil_fixture(tmp_path / "dry", order=2, shots=5)
    assert benchmark.tasks[0].name == "cars" and len(benchmark.tasks[0].train) == 10


@pytest.fixture
def complete(fresh, monkeypatch):
    """The drawn data, with the table saying that it is all there should be."""
    with fixtures.unverified():
        for name, source in SOURCES.items():
            sizes = {part: len(read(name, fresh, part)[1]) for part in source.sizes}
            monkeypatch.setitem(SOURCES, name, dataclasses.replace(source, sizes=sizes, classes=2))
        yield fresh


def test_check_tells_what_is_there(complete, capsys):
    assert main(["data", "--root", str(complete)]) == 0
    text = capsys.readouterr().out
    assert "12 of 12 data sets are complete" in text and "to get it" not in text
    assert f"aircraft     complete    {complete}/fgvc-aircraft-2013b\n    train: 4 of 4 images, 2 of 2 classes" in text

    next((complete / "food-101" / "images").rglob("*.jpg")).unlink()
    next((complete / "SUN397").rglob("*.jpg")).write_bytes(b"")
    (complete / "flowers-102" / "setid.mat").unlink()
    (complete / "stanford_cars").rename(complete / "cars")
    assert main(["data", "--root", str(complete)]) == 1
    text = capsys.readouterr().out
    assert "8 of 12 data sets are complete" in text
    for words in (
        "food         incomplete", "3 of 4 images", "sun397       incomplete", "flowers      incomplete",
        "it lacks setid.mat", "cars         missing", "it lacks cars_train, cars_test, devkit/cars_meta.mat",
        "to get it: --download fetches food-101.tar.gz", "to get it: its links are dead; issue 7545",
        "to get it: its link is dead; issue 9348",
    ):  # fmt: skip
        assert words in text
    assert main(["data", "--root", str(complete), "--only", "pets", "mnist"]) == 0
    assert "2 of 2 data sets are complete" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="^data set 'birds' is unknown: take some of aircraft"):
        main(["data", "--only", "birds"])


def test_check_says_that_nothing_is_there(tmp_path, capsys):
    assert main(["data", "--root", str(tmp_path / "nowhere")]) == 1
    text = capsys.readouterr().out
    assert text.count(" missing ") == text.count("to get it: ") == 12 and "0 of 12" in text
    assert not (tmp_path / "nowhere").exists()
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match="is a file: name the folder"):
        main(["data", "--root", str(tmp_path / "file")])


def offered(monkeypatch, name, archive, **changes):
    """Let the one archive of a data set be downloaded from a file."""
    row = dataclasses.replace(
        SOURCES[name].archives[0], url=archive.as_uri(), sha256=archives.sha256(archive), **changes
    )
    monkeypatch.setitem(SOURCES, name, dataclasses.replace(SOURCES[name], archives=(row,)))


def test_download_starts_over_cleanly(complete, tmp_path, monkeypatch, capsys):
    """Without a network: the address is that of a file."""
    folder, archive = complete / "fgvc-aircraft-2013b", complete / "fgvc-aircraft-2013b.tar.gz"
    origin = tmp_path / "published.tar.gz"
    with tarfile.open(origin, "w:gz") as opened:
        opened.add(folder, folder.name)
    offered(monkeypatch, "aircraft", origin)
    arguments = ["data", "--root", str(complete), "--only", "aircraft", "--download"]
    assert main(arguments) == 0 and not archive.exists()  # nothing to do
    capsys.readouterr()

    next((folder / "data" / "images").iterdir()).unlink()
    kept, damaged = sorted(folder.rglob("*")), origin.read_bytes()[:-20]
    archive.write_bytes(damaged)
    whole = origin.read_bytes()
    origin.unlink()
    assert main(arguments) == 1
    text = capsys.readouterr().out
    assert "fgvc-aircraft-2013b.tar.gz is not the published archive" in text and "aircraft     incomplete" in text
    assert "No such file" in text and f"put it at {archive}; --download then unpacks it" in text
    assert sorted(folder.rglob("*")) == kept  # what was there is there
    assert archive.with_name(archive.name + ".other1").read_bytes() == damaged

    archive.write_bytes(whole)  # a copy from elsewhere
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert "fgvc-aircraft-2013b was incomplete and is fgvc-aircraft-2013b.incomplete1 now" in text
    assert "aircraft     complete" in text

    archive.unlink()
    origin.write_bytes(whole)
    shutil.rmtree(folder)
    (part := archive.with_name(archive.name + ".part")).write_bytes(b"of a download that was killed")
    assert main(arguments) == 0 and archive.read_bytes() == whole and not part.exists()
    assert not [path for path in complete.iterdir() if path.name.startswith(".")]


def test_another_file_from_the_net_is_not_kept(complete, tmp_path, monkeypatch, capsys):
    (origin := tmp_path / "x.tar.gz").write_bytes(b"a page of a proxy")
    offered(monkeypatch, "food", origin)
    origin.write_bytes(b"a page of another proxy")
    next((complete / "food-101" / "images").rglob("*.jpg")).unlink()
    assert main(["data", "--root", str(complete), "--only", "food", "--download"]) == 1
    assert "gave another file than the published one (its SHA-256 differs); it is not kept" in capsys.readouterr().out
    assert not list(complete.glob("food-101.tar*"))


def test_what_stops_the_command_is_one_sentence(fresh, tmp_path, monkeypatch, capsys):
    def refuse(self, other):
        raise PermissionError(f"[Errno 13] Permission denied: '{self}'")

    origin = tmp_path / "x.tar.gz"
    with tarfile.open(origin, "w:gz") as opened:
        opened.add(fresh / "food-101" / "meta", "food-101")
    offered(monkeypatch, "food", origin)
    monkeypatch.setattr(type(fresh), "rename", refuse)
    assert main(["data", "--root", str(fresh), "--only", "food", "--download"]) == 1
    text = capsys.readouterr().out
    assert "food: [Errno 13] Permission denied" in text and "food         incomplete" in text

    monkeypatch.setattr("mini_lib.benchmarks.data.state", Mock(side_effect=KeyboardInterrupt()))
    assert main(["data", "--root", str(fresh)]) == 130
    assert "Stopped. What is finished is kept" in capsys.readouterr().err
    monkeypatch.setattr("mini_lib.benchmarks.data.state", Mock(side_effect=PermissionError("denied")))
    with pytest.raises(SystemExit, match=re.escape(f"{fresh} cannot be looked at (denied): make it readable or take")):
        main(["data", "--root", str(fresh)])


def test_download_of_dead_links_is_explained(fresh, capsys):
    assert main(["data", "--root", str(fresh), "--only", "cars", "sun397", "tinyimagenet", "--download"]) == 1
    text = capsys.readouterr().out
    assert text.count("to get it: ") == 3 and "cars_test_annos_withlabels.mat beside them" in text


def test_realimages_in():
    root = SHARED / "data" / "torchvision"
    if not root.is_dir():
        pytest.skip("the real images are not here (set MOE_SHARED to the folder that has data/torchvision)")
    with pytest.raises(ValueError, match="(?s)4 of the data sets.*mnist: 10 of 10 classes, 5,000 of 60,000 training"):
        mtil(root=root, tasks=["mnist", "caltech101", "eurosat", "pets"], reference=None)
    benchmark = make(root, tasks=["mnist", "caltech101", "eurosat", "pets"], reference=None)
    sizes = {"mnist": [5000, 0, 2000], "caltech101": [2020, 0, 505], "eurosat": [640, 0, 160], "pets": [300, 0, 298]}
    assert benchmark.settings["images"] == sizes
    mnist, caltech, eurosat, pets = benchmark.tasks
    assert (len(mnist.classnames), len(caltech.classnames), len(eurosat.classnames)) == (10, 101, 10)
    assert pets.classnames == ["Abyssinian", "American Bulldog", "Bengal"]
    for task in (caltech, eurosat, pets):
        for path, label in zip(task.test.images, task.test.labels):
            on_disk = str(path).split("/")[-2] if task is not pets else path.name.rsplit("_", 1)[0]
            name = SOURCES[task.name].renamed.get(on_disk, on_disk.replace("_", " "))
            assert task.classnames[label].lower() == name.lower()
    for task in benchmark.tasks:
        assert task.train[0][0].shape == task.test[0][0].shape == (3, 224, 224)
    few = make(root, tasks=["eurosat", "pets", "mnist"], reference=None, shots=16, val_part=0.1)
    assert [np.bincount(t.train.labels).tolist() for t in few.tasks] == [[16] * 10, [16] * 3, [16] * 10]
    assert [np.bincount(t.val.labels).tolist() for t in few.tasks] == [[4] * 10, [4] * 3, [4] * 10]
