"""The advice of `folders`: done as the sentence says, it works."""

import re
import shutil
import sys
import unicodedata
import warnings
from importlib import import_module

import numpy as np
import pytest
from PIL import Image

from mini_lib import folders, load_clip
from mini_lib.benchmarks import fixtures


@pytest.fixture(scope="module")
def preprocess():
    return load_clip("tiny", pretrained=None)[1]


def draw(folder, count=5):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([len(folder.name), len(folder.parent.name)])
    for i in range(count):
        Image.fromarray(rng.integers(0, 255, (12, 15, 3), dtype=np.uint8)).save(folder / f"{i}.png")


@pytest.fixture
def root(tmp_path):
    for task in ("birds", "cars"):
        for part, count in (("train", 5), ("test", 2)):
            for name in ("big", "small"):
                draw(tmp_path / "photos" / task / part / name, count)
    return tmp_path / "photos"


def refused(words, *arguments, **named):
    with pytest.raises(ValueError, match=words) as caught:
        folders(*arguments, **named)
    return str(caught.value)


@pytest.mark.parametrize("deeper, what", [
    ("cars", "one task"), ("cars/train", "one part of a task"), ("cars/test", "one part of a task"),
    ("cars/train/small", "one class of a task"),
])  # fmt: skip
@pytest.mark.parametrize("relative", [False, True])
def test_a_root_too_deep(root, preprocess, monkeypatch, deeper, what, relative):
    shutil.rmtree(root / "birds" / "test")  # a neighbour that is no task
    monkeypatch.chdir(root / deeper)
    text = refused(rf"which is {what}: give .*, and tasks=\['cars'\]", "." if relative else root / deeper, preprocess)
    given, tasks = re.search(r"give (.*), and tasks=\['(.*)'\]", text).groups()
    assert given == str(root) and [t.name for t in folders(given, preprocess, [tasks]).tasks] == ["cars"]


def test_a_root_too_shallow(root, preprocess):
    (root.parent / "__MACOSX" / "photos" / "train").mkdir(parents=True)
    text = refused("which is one folder above the tasks: give ", root.parent, preprocess)
    assert len(folders(re.search("give (.*)[.]$", text)[1], preprocess).tasks) == 2


def test_a_class_may_be_called_train(tmp_path, preprocess):
    for part in ("train", "test"):
        for name in ("train", "test"):
            draw(tmp_path / "toys" / part / name)
    assert folders(tmp_path, preprocess).tasks[0].classnames == ["test", "train"]


def test_a_neighbour_that_is_no_task(root, preprocess):
    draw(root / "trash" / "old")
    text = refused("trash has no folder 'train'", root, preprocess)
    tasks = re.findall(r"'(\w+)'", re.search(r"Or leave this folder out: tasks=\[(.*)\]", text)[1])
    assert [t.name for t in folders(root, preprocess, tasks).tasks] == ["birds", "cars"]


@pytest.mark.skipif(sys.platform != "linux", reason="the file system does not tell capitals apart")
def test_capitals_of_a_part(root, preprocess):
    (root / "cars/train").rename(root / "cars/Train")
    assert "has a folder 'Train': rename it to 'train'" in refused("cars", root, preprocess)
    (root / "cars/test/small").rename(root / "cars/test/Small")
    (root / "cars/Train").rename(root / "cars/train")
    assert "has the class 'Small'" in refused("rename it to 'small'", root, preprocess)
    (root / "cars/test/Small").rename(root / "cars/test/small")
    assert len(folders(root, preprocess).tasks) == 2


def test_images_without_class_folders(root, preprocess):
    shutil.rmtree(root / "cars/train")
    draw(root / "cars/train")
    refused("cars/train holds no folders: put the images into train/CLASS/", root, preprocess)


@pytest.mark.parametrize("part", ["train", "test"])
def test_an_empty_class_folder(root, preprocess, part):
    for other in ("train", "test"):
        draw(root / "cars" / other / "third")
    for file in (root / "cars" / part / "third").iterdir():
        file.unlink()
    (root / "cars" / part / "third" / "Thumbs.db").touch()
    text = refused(r"third holds no images of this class .*Put some there, or remove the folder", root, preprocess)
    both = re.search("remove the folder(?: and (.*))?[.]$", text)[1]
    assert both == (str(root / "cars/test/third") if part == "train" else None)
    for folder in (root / "cars" / part / "third", both):
        shutil.rmtree(folder) if folder else None
    assert folders(root, preprocess).tasks[1].classnames == (
        ["big", "small"] if part == "train" else ["big", "small", "third"]
    )


def test_a_class_of_pictures_that_nobody_opens(root, preprocess):
    for file in (root / "cars/train/small").iterdir():
        file.rename(file.with_suffix(".heif"))
    refused(
        "holds no images of this class, but 5 .heif, which Pillow cannot open.*Convert .heif to .jpg", root, preprocess
    )


@pytest.mark.skipif(sys.platform == "darwin", reason="the file system spells names in one way")
def test_one_name_spelled_in_two_ways(root, preprocess):
    one, other = (unicodedata.normalize(form, "Käfer") for form in ("NFC", "NFD"))
    draw(root / "cars/train" / one), draw(root / "cars/test" / other)
    (root / "birds").rename(root / unicodedata.normalize("NFD", "Vögel"))
    made = folders(root, preprocess, tasks=["cars", unicodedata.normalize("NFC", "Vögel")])
    assert made.tasks[0].classnames == [one, "big", "small"] and sorted(made.tasks[0].test.labels)[:5] == [0] * 5
    assert made.tasks[1].name == unicodedata.normalize("NFC", "Vögel")
    draw(root / "cars/train" / other)
    refused(
        "has the class 'Käfer' twice, its accents written in two ways: put the images of both folders into one",
        root,
        preprocess,
    )
    draw(root / "Vögel" / "train" / "x")
    refused("the task 'Vögel' is there twice", root, preprocess)


@pytest.mark.parametrize(
    "counts, part", [((2, 2), 0.2), ((1, 2), 0.2), ((4, 3), 0.1), ((1, 1), 0.5), ((3, 3), 0.01), ((9, 8), 0.05)]
)
def test_too_few_images_to_keep_some(root, preprocess, counts, part):
    for name, count in zip(("big", "small"), counts):
        shutil.rmtree(root / "cars/train" / name)
        draw(root / "cars/train" / name, count)
    text = refused("cars/train holds too few images to keep .*Put ", root, preprocess, ["cars"], val_part=part)
    name, most, more = re.search(r"'(\w+)' has the most, (\d+)\. Put (\d+) more into it", text).groups()
    assert int(most) == max(counts) == counts[("big", "small").index(name)]
    if share := re.search(r"or take val_part=([\d.]+);", text):
        assert folders(root, preprocess, ["cars"], val_part=float(share[1])).tasks[0].val
        refused("too few", root, preprocess, val_part=float(share[1]) - 0.02, tasks=["cars"])
    assert bool(share) == (max(counts) > 1)
    with warnings.catch_warnings(action="error"):
        assert folders(root, preprocess, ["cars"], val_part=0).tasks[0].val is None  # "val_part=0 keeps none"
    draw(root / "cars/train" / name, int(most) + int(more) - 1)
    refused("too few", root, preprocess, ["cars"], val_part=part) if int(more) > 1 else None
    draw(root / "cars/train" / name, int(most) + int(more))
    assert len(folders(root, preprocess, ["cars"], val_part=part).tasks[0].val) >= 1


def test_tasks_are_refused_before_an_image_is_opened(root, preprocess, monkeypatch):
    monkeypatch.setattr(import_module("mini_lib.benchmarks.folders"), "examine", lambda *_: pytest.fail("opened"))
    refused("val_part is a share", root, preprocess, val_part=2)
    refused("the task 'cars' is there twice", root, preprocess, tasks=["cars", "cars"])
    refused(
        "reference .*does not exist|does not exist: it should hold the reference",
        root,
        preprocess,
        reference=root / "no",
    )


def test_paths_of_a_home_folder_and_numbers_as_names(root, preprocess, monkeypatch):
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(root.parent))
    assert len(folders("~/photos", preprocess, reference="~/photos/cars/test").reference) == 4
    (root / "cars").rename(root / "2019")
    assert [t.name for t in folders("~/photos", preprocess, tasks=[2019]).tasks] == ["2019"]


def test_a_reference_of_16_bits_and_one_that_is_a_task(root, preprocess):
    made = folders(root, preprocess, reference=root / "cars")
    assert len(made.reference) == 14 and len(made.tasks[1].train) == 8
    for i in range(2):
        (root.parent / "others").mkdir(exist_ok=True)
        Image.fromarray(np.full((20, 20), 4095, np.uint16)).save(root.parent / "others" / f"{i}.png")
    assert folders(root, preprocess, reference=root.parent / "others").reference[0][0].min() == 1  # white, not black
    (root.parent / "others/0.png").write_bytes(b"x")
    (root / "cars/test/big/0.png").write_bytes(b"x")
    text = refused("2 of 30 images cannot be read", root, preprocess, reference=root.parent / "others")
    assert "others/0.png" in text and "big/0.png" in text


def test_classes_that_clip_takes_for_one_are_named(root, preprocess):
    (root / "cars/train/small").rename(root / "cars/train/Big &amp; small")
    draw(root / "cars/train/big & small")
    shutil.rmtree(root / "cars/test/small")
    refused("task 'cars': to CLIP the class names 'Big &amp; small' and 'big & small' are the same", root, preprocess)


def test_a_killed_dry_run_goes_on(tmp_path, monkeypatch):
    """The same call draws anew what a kill left; other drawings and anything else are refused."""
    write = fixtures.WRITERS["food"]
    monkeypatch.setitem(fixtures.WRITERS, "food", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        fixtures.write(tmp_path / "a", classes=2)
    monkeypatch.setitem(fixtures.WRITERS, "food", write)
    with pytest.raises(ValueError, match="holds something else"):
        fixtures.write(tmp_path / "a", classes=3)
    assert fixtures.write(tmp_path / "a", classes=2) == fixtures.write(tmp_path / "b", classes=2)
    files = [sorted((p.relative_to(tmp_path / r), p.read_bytes()) for p in (tmp_path / r).rglob("*.jpg")) for r in "ab"]
    assert files[0] == files[1]
    for content in ("", "[1]", "{", '{"made": {}}'):
        (tmp_path / "a/drawn.json").write_text(content)
        with pytest.raises(ValueError, match="holds something else"):
            fixtures.write(tmp_path / "a", classes=2)


@pytest.mark.parametrize("how", ["copies", "link"])
def test_test_images_that_are_training_images(root, preprocess, how):
    if how == "link":
        shutil.rmtree(root / "cars/test")
        (root / "cars/test").symlink_to("train")
    else:
        for i in range(2):
            shutil.copy(root / f"cars/train/big/{i}.png", root / f"cars/test/small/copy{i}.png")
    words = "10 of 10" if how == "link" else r"2 of 6 test images of .*cars .*copy0.png, which is .*train/big/0.png"
    with pytest.warns(UserWarning, match=f"{words}.*What is measured on them is memory") as told:
        folders(root, preprocess)
    assert len(told) == 1 and "birds" not in str(told[0].message)
