"""The paper's data are taken whole or not at all, and split files need no official labels."""

import dataclasses
import json
import shutil

import pytest
from PIL import Image

from mini_lib import cil, load_clip, mtil
from mini_lib.benchmarks import fixtures
from mini_lib.benchmarks.mtil import ORDERS
from mini_lib.benchmarks.sources import SOURCES, lacking, open_all, read, require_whole


@pytest.fixture
def whole(tmp_path, monkeypatch):
    """Drawn data; the table says that this is all there should be, and the label files are taken for the published ones."""
    fixtures.write(tmp_path / "data", classes=3, train=4, test=2)
    monkeypatch.setattr("mini_lib.benchmarks.sources.check_integrity", lambda *_: True)
    monkeypatch.setattr("torchvision.datasets.flowers102.check_integrity", lambda *_: True)
    for name, source in SOURCES.items():
        sizes = {part: len(read(name, tmp_path / "data", part)[1]) for part in source.sizes}
        monkeypatch.setitem(SOURCES, name, dataclasses.replace(source, sizes=sizes, classes=3))
    return tmp_path / "data"


def test_whole_data_are_accepted(whole):
    assert len(mtil(root=whole).tasks) == 11
    require_whole({"pets": {"train": read("pets", whole)[:2], "test": read("pets", whole, "test")[:2]}}, whole)


@pytest.mark.parametrize("name", SOURCES)
def test_what_systems_leave_behind_changes_nothing(whole, name):
    """A look into a folder with the Finder leaves .DS_Store there, a NAS @eaDir."""
    before = [read(name, whole, part) for part in SOURCES[name].sizes]
    for folder in [
        p for p in [whole, *whole.rglob("*")] if p.is_dir() and p.is_relative_to(whole / SOURCES[name].folder)
    ]:
        (folder / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
        (folder / "Thumbs.db").write_bytes(b"\xd0\xcf")
        (folder / "@eaDir").mkdir()
    for part, found in zip(SOURCES[name].sizes, before):
        images, *others = read(name, whole, part)
        assert others == [*found[1:]] and (list(map(str, images)) == list(map(str, found[0])))


def test_caltech_is_read_as_torchvision_reads_it(whole):
    from torchvision.datasets import Caltech101

    theirs, ours = Caltech101(str(whole)), SOURCES["caltech101"].dataset(str(whole))
    assert (ours.categories, ours.index, ours.y) == (theirs.categories, theirs.index, theirs.y)


def images(root, name):
    return sorted(p for p in (root / SOURCES[name].folder).rglob("*") if p.suffix.lower() in (".jpg", ".jpeg"))


def lose_all(root, name):
    for file in images(root, name):
        file.unlink()


def empty_one(root, name):
    images(root, name)[0].write_bytes(b"")


def lose_a_class(root, name):
    for part in ("trainval", "test"):
        file = root / "oxford-iiit-pet/annotations" / f"{part}.txt"
        file.write_text("".join(line for line in file.open() if " 3 1 1" not in line))


def lose_lines(root, name):
    file = root / "dtd/dtd/labels/test1.txt"
    file.write_text("".join(list(file.open())[:-1]))


LOSSES = {
    "food": (lose_all, "food: 3 of 3 classes, 0 of 12 training images, 0 of 6 test images; .*jpg is absent or empty"),
    "flowers": (empty_one, r"flowers: 3 of 3 classes, 1\d of \d+ training images, .* of \d+ validation images.*is absent or empty"),
    "pets": (lose_a_class, "pets: 2 of 3 classes, 8 of 12 training images, 4 of 6 test images"),
    "dtd": (lose_lines, "dtd: .*12 of 12 training images, 6 of 6 validation images, 5 of 6 test images"),
    "aircraft": (lose_all, "aircraft: .*0 of 12 training images"), "cars": (empty_one, "cars: 3 of 3 classes, 12 of 12 training images, 5 of 6 test"),
    "eurosat": (lambda root, name: images(root, name)[0].unlink(), r"eurosat: 3 of 3 classes, \d+ of \d+ training images, "),
    "caltech101": (lambda root, name: images(root, name)[-1].unlink(), r"caltech101: "),
    "sun397": (lambda root, name: images(root, name)[-1].unlink(), r"sun397: 3 of 3 classes, "),
}  # fmt: skip


@pytest.mark.parametrize("name", LOSSES)
def test_what_is_lost_is_told_in_numbers(whole, name):
    lose, words = LOSSES[name]
    lose(whole, name)
    with pytest.raises(ValueError, match=f"(?s)1 of the data sets wanted are not whole under .*- {words}") as caught:
        mtil(root=whole, tasks=[name, "mnist"], reference=None)
    assert f"data --root {whole} --only {name}` tells how to get them" in str(caught.value)
    mtil(root=whole, tasks=["mnist"], reference=None)


def test_all_that_is_lost_is_told_at_once_even_for_few_shots(whole):
    for name in ("food", "pets"):
        lose_all(whole, name)
    empty_one(whole, "tinyimagenet")
    with pytest.raises(ValueError, match="3 of the data sets wanted") as caught:
        mtil(root=whole, tasks=["mnist", "pets", "food"], shots=1)
    assert [line[2:].split(":")[0] for line in str(caught.value).splitlines()[1:4]] == ["pets", "food", "tinyimagenet"]
    for name in ("tinyimagenet", "sun397"):
        lose_all(whole, name)
        with pytest.raises(
            ValueError, match=f"{name} in .* cannot be read .ValueError: it holds no images.. Get it anew"
        ):
            read(name, whole)


def test_real_numbers_are_asked_of_what_is_not_drawn(tmp_path):
    """Nothing but `unverified` makes drawings pass for a data set of the paper, not a note beside them either."""
    fixtures.write(tmp_path, classes=3)
    with pytest.raises(
        ValueError, match="(?s)2 of the data sets.*- pets: 3 of 37 classes, 6 of 3,680 training images, 6 of 3,669 test"
    ):
        mtil(root=tmp_path, tasks=["pets", "mnist"], reference=None)
    with pytest.raises(ValueError, match="cifar100 .*corrupted"):
        cil("cifar100", root=tmp_path)
    with fixtures.unverified():
        made = mtil(root=tmp_path, tasks=["pets", "mnist"], reference=None)
        lose_all(tmp_path, "pets")
        with pytest.raises(ValueError, match="(?s)12 of 12 images cannot be read:.*No such file.*mini_lib data --root"):
            mtil(root=tmp_path, tasks=["pets", "mnist"], reference=None)
    assert len(made.tasks[0].train) == 6


def test_damaged_images_of_all_data_sets_are_named_before_the_first_task(whole):
    broken = [images(whole, "pets")[0], images(whole, "food")[5], images(whole, "tinyimagenet")[0]]
    for file in broken:
        file.write_bytes(file.read_bytes()[:400])
    with pytest.raises(ValueError, match="3 of .* images cannot be read") as caught:
        mtil(root=whole)
    assert all(f"{file} cannot be read as an image (" in str(caught.value) for file in broken)
    assert f"python -m mini_lib data --root {whole} --only aircraft" in str(caught.value)
    for file in broken:
        Image.new("RGB", (40, 32)).save(file)  # a whole copy in its place
    assert len(mtil(root=whole).tasks) == 11


def test_few_shots_open_few_images(whole, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "mini_lib.benchmarks.sources.examine", lambda files, advice: seen.extend(sum(map(list, files.values()), []))
    )
    task = mtil(root=whole, tasks=["food"], shots=1, reference=None).tasks[0]
    assert sorted(seen) == sorted([*task.train.images, *task.test.images]) and len(seen) == 3 + 6


def test_class_incremental_data_are_opened_too(tmp_path, monkeypatch):
    fixtures.write(tmp_path, train=1, test=1)
    preprocess = load_clip("tiny", pretrained=None)[1]
    with fixtures.unverified():
        assert len(cil("tinyimagenet", 5, tmp_path, preprocess).tasks) == 6
        images(tmp_path, "tinyimagenet")[7].write_bytes(b"GIF89a")
        with pytest.raises(ValueError, match="1 of 400 images cannot be read"):
            cil("tinyimagenet", 5, tmp_path, preprocess)
    with pytest.raises(
        ValueError, match="tinyimagenet: 200 of 200 classes, 200 of 100,000 training images, 200 of 10,000 test"
    ):
        cil("tinyimagenet", 5, tmp_path, preprocess)


# Split files


def split_of(root, folder, name, **changes):
    """A split file for drawn data, made from the official parts."""
    rows = {}
    for part in ("train", "test"):
        images, labels, names = read(name, root, part)
        base = root / SOURCES[name].images
        rows[part] = [
            [image.relative_to(base).as_posix(), y, names[y]] for image, y in zip(map(type(base), images), labels)
        ]
    folder.mkdir(exist_ok=True)
    content = {"train": rows["train"], "val": rows["train"][:3], "test": rows["test"], **changes}
    (folder / SOURCES[name].split_file).write_text(json.dumps(content))
    return folder


OFFICIAL = {  # label files that a split file takes the place of
    "cars": ["cars_test_annos_withlabels.mat", "devkit"], "flowers": ["imagelabels.mat", "setid.mat"], "dtd": ["labels"],
    "food": ["meta"], "pets": ["annotations"], "sun397": ["ClassName.txt"], "eurosat": [],
    "caltech101": ["101_ObjectCategories/BACKGROUND_Google"],
}  # fmt: skip


@pytest.mark.parametrize("name", OFFICIAL)
def test_a_split_file_needs_no_official_labels(whole, tmp_path, name):
    assert set(OFFICIAL) == {n for n in ORDERS[1] if SOURCES[n].split_file}
    splits = split_of(whole, tmp_path / "splits", name)
    before = mtil(root=whole, splits=splits, tasks=[name], reference=None)
    for place in OFFICIAL[name]:
        file = whole / SOURCES[name].folder / place
        shutil.rmtree(file) if file.is_dir() else file.unlink()
    assert bool(lacking(name, whole)) == bool(OFFICIAL[name])
    after = mtil(root=whole, splits=splits, tasks=[name], reference=None)
    assert after.fingerprint() == before.fingerprint() and len(after.tasks[0].val) == 3
    shutil.rmtree(whole / SOURCES[name].images)
    with pytest.raises(
        ValueError, match=f"(?s)1 of the data sets wanted are not under.*- {name}: .* must hold its images"
    ):
        mtil(root=whole, splits=splits, tasks=[name], reference=None)


@pytest.mark.parametrize("rows, words", [
    ({"val": [["no.jpg", 0, "Abyssinian"], ["nor.jpg", 0, "Abyssinian"]]}, "names the image no.jpg and 1 more, which is not in"),
    ({"val": [["../../outside.jpg", 0, "Abyssinian"]]}, "names the image ../../outside.jpg, which is not in"),
    ({"test": []}, "must have training images, test images, and one class name"),
])  # fmt: skip
def test_split_files_that_cannot_be_right(whole, tmp_path, rows, words):
    (tmp_path / "outside.jpg").touch(), (tmp_path / "data/outside.jpg").touch()
    splits = split_of(whole, tmp_path / "splits", "pets", **rows)
    with pytest.raises(ValueError, match=words):
        mtil(root=whole, splits=splits, tasks=["pets"], reference=None)


def test_a_damaged_image_of_a_split_is_named(whole, tmp_path):
    splits = split_of(whole, tmp_path / "splits", "pets")
    images(whole, "pets")[0].write_bytes(b"")
    with pytest.raises(ValueError, match="cannot be read as an image .it is empty"):
        mtil(root=whole, splits=splits, tasks=["pets"], reference=None)


def test_a_reference_folder_is_opened_too(whole, tmp_path):
    (tmp_path / "others").mkdir()
    Image.new("RGB", (40, 32)).save(tmp_path / "others" / "a.jpg")
    (tmp_path / "others" / "b.heic").touch()
    with pytest.warns(UserWarning, match="1 file of .*others was skipped: 1 .heic. Convert .heic to .jpg"):
        assert len(mtil(root=whole, tasks=["mnist"], reference=tmp_path / "others").reference) == 1
    (tmp_path / "others" / "c.jpg").write_bytes(b"GIF89a")
    with pytest.raises(ValueError, match="1 of 2 images cannot be read"), pytest.warns(UserWarning):
        mtil(root=whole, tasks=["mnist"], reference=tmp_path / "others")


def test_arrays_are_no_files(whole):
    open_all({"mnist": read("mnist", whole)[0]}, whole)
