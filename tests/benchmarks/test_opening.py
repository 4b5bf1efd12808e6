"""Every image is opened once before the first task; what is damaged is named at once, what is skipped is told."""

import io
import json
import os
import stat
import struct
import sys
import time
import unicodedata
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from mini_lib import folders, load_clip
from mini_lib.benchmarks import files, verify
from mini_lib.benchmarks.files import find_images, suffixes

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has other names, links and rights")


@pytest.fixture(scope="module")
def preprocess():
    return load_clip("tiny", pretrained=None)[1]


@pytest.fixture
def root(tmp_path):
    rng = np.random.default_rng(0)
    for task in ("birds", "cars"):
        for part, count in (("train", 5), ("test", 2)):
            for name in ("big", "small"):
                (folder := tmp_path / "photos" / task / part / name).mkdir(parents=True)
                for i in range(count):
                    Image.fromarray(rng.integers(0, 255, (20, 25, 3), dtype=np.uint8)).save(folder / f"{i}.jpg")
    return tmp_path / "photos"


def noise(side=64, **how):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (side, side, 3), dtype=np.uint8))
    image.save(out := io.BytesIO(), **{"format": "JPEG", "quality": 90} | how)
    return out.getvalue()


def bomb(sides=(65535, 65535)):
    """A PNG of a kilobyte that says it has four billion pixels."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">2I5B", *sides, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


DAMAGED = {
    "truncated.jpg": noise()[:2000], "half a header.jpg": noise()[:30], "empty.png": b"", "text.png": b"hello",
    "page.jpg": b"<!DOCTYPE html><html><body>Not found</body></html>", "drawing.png": b'<?xml version="1.0"?><svg/>',
    "bomb.png": bomb(), "truncated.png": noise(format="PNG")[:3000], "truncated.gif": noise(format="GIF")[:2000],
    "truncated.tif": noise(format="TIFF")[:5000], "truncated.bmp": noise(format="BMP")[:900],
    "progressive.jpg": noise(progressive=True)[:3000], "script.jpg": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    "truncated.webp": noise(format="WEBP")[:500] if features.check("webp") else b"RIFF\x10\0\0\0WEBP",
    "ä ö [1] %20 #x.jpg": b"GIF89a", "truncated.jfif": noise()[:1000], "numbers.ppm": b"P6 5x 40 255 ",
    "header alone.ppm": b"P6 50 40 255 ", "zeros.jpg": bytes(3000), "ones.png": b"\xff" * 3000, "b.jpe": noise()[:99],
}  # fmt: skip
WORDS = {"empty.png": "it is empty", "page.jpg": "it is a web page", "drawing.png": "drawing in XML",
         "text.png": "no kind of image that Pillow decodes", "bomb.png": "pixels", "script.jpg": "no kind of image"}  # fmt: skip


def test_all_that_is_damaged_is_named_at_once(root, preprocess):
    for i, (name, content) in enumerate(DAMAGED.items()):
        place = root / ("birds", "cars")[i % 2] / ("train", "test")[i // 2 % 2] / "small" / name
        place.write_bytes(content)
    with pytest.raises(ValueError) as caught:
        folders(root, preprocess)
    lines = str(caught.value).splitlines()
    assert lines[0] == "21 of 49 images cannot be read:" and lines[21] == "- and 1 more"
    assert lines[-1] == "Repair them or take them out, then start again. Nothing was learned yet."
    assert sum(f"{name} cannot be read as an image (" in str(caught.value) for name in DAMAGED) == 20
    for name, words in WORDS.items():
        line = [line for line in lines if name in line]
        assert not line or words in line[0], (name, line)
    assert "BytesIO" not in str(caught.value)

    for name in DAMAGED:  # the advice: take them out
        for place in root.rglob("*"):
            if place.name == name:
                place.unlink()
    assert len(folders(root, preprocess).tasks) == 2


@pytest.mark.parametrize("name", DAMAGED)
def test_each_kind_of_damage(tmp_path, name):
    (tmp_path / name).write_bytes(DAMAGED[name])
    with pytest.raises(ValueError, match="1 of 1 images cannot be read") as caught:
        verify.examine({tmp_path: [tmp_path / name]}, "Repair it.")
    assert f"{name} cannot be read as an image (" in str(caught.value)
    assert WORDS.get(name, "") in str(caught.value) and str(caught.value).endswith("\nRepair it.")


def test_what_pillow_only_warns_of_is_accepted(tmp_path):
    for name, content in {
        "no end.jpg": noise()[:-2],
        "more.jpg": noise() + b"appended",
        "as png.jpg": noise(format="PNG"),
    }.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "large.png").write_bytes(noise(format="PNG"))
    Image.new("1", (9500, 9500)).save(tmp_path / "larger than a warning.png")
    with warnings.catch_warnings(record=True):
        verify.examine({tmp_path: sorted(tmp_path.iterdir())}, "")


def test_a_reduced_jpeg_tells_of_damage_as_the_whole_one_does():
    whole = {
        kind: noise(160, **how)
        for kind, how in {"plain": {}, "fine": {"subsampling": 0}, "steps": {"progressive": True}}.items()
    }
    differ = []
    for kind, content in whole.items():
        for cut in [*range(50, len(content), 601), *range(len(content) - 12, len(content))]:
            verdicts = []
            for reduced in (False, True):
                try:
                    with Image.open(io.BytesIO(content[:cut])) as image:
                        image.draft(None, (1, 1)) if reduced else None
                        image.load()
                    verdicts.append(True)
                except Exception:
                    verdicts.append(False)
            differ += [(kind, cut)] * (verdicts[0] != verdicts[1])
    assert not differ


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not have such names")
def test_names_links_and_rights(root, preprocess):
    small = root / "cars/train/small"
    (small / "new\nline.jpg").write_bytes(b"x")
    Path(os.fsdecode(os.fsencode(small) + b"/\xff\xfe.jpg")).write_bytes(b"x")
    os.mkfifo(small / "pipe.jpg")
    (small / "lost.jpg").symlink_to(small / "nowhere.jpg")
    (small / "loop.jpg").symlink_to(small / "loop.jpg")
    (closed := small / "closed.jpg").write_bytes(noise())
    closed.chmod(0)
    with pytest.raises(ValueError) as caught:
        folders(root, preprocess)
    text = str(caught.value)
    text.encode()  # can be printed
    assert (
        r"new\nline.jpg" in text
        and r"\udcff\udcfe.jpg" in text
        and "pipe.jpg cannot be read as an image (it is no file)" in text
    )
    assert "lost.jpg cannot be read as an image (No such file" in text and "loop.jpg" in text
    if os.geteuid():  # root may read all
        assert "closed.jpg cannot be read as an image (Permission denied)" in text
    closed.chmod(stat.S_IRUSR)
    if os.geteuid():
        (root / "birds/test/big").chmod(0)
        with pytest.raises(ValueError, match="birds/test/big cannot be read .Permission denied.: make it readable"):
            folders(root, preprocess)
        (root / "birds/test/big").chmod(0o700)


# The cache


def count_looks(monkeypatch):
    seen, look = [], verify._look
    monkeypatch.setattr(verify, "_look", lambda path, stamp: seen.append(Path(path).name) or look(path, stamp))
    monkeypatch.setattr(verify, "_known", {})
    return seen


def test_the_second_time_a_look_at_size_and_times_is_enough(root, preprocess, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "cache"))
    seen = count_looks(monkeypatch)
    first = folders(root, preprocess).fingerprint()
    assert len(seen) == 28 and len(list((tmp_path / "cache/mini_lib/images").iterdir())) == 2  # a file for each task
    monkeypatch.setattr(verify, "_known", {})  # as in another process
    assert folders(root, preprocess).fingerprint() == first and len(seen) == 28
    (root / "cars/test/big/1.jpg").write_bytes(noise())
    os.utime(root / "cars/test/big/0.jpg")
    monkeypatch.setattr(verify, "_known", {})
    assert folders(root, preprocess).fingerprint() != first
    assert sorted(seen[28:]) == ["0.jpg", "1.jpg"]
    (root / "cars/test/big/1.jpg").write_bytes(noise()[:900])
    with pytest.raises(ValueError, match="1.jpg cannot be read as an image"):
        folders(root, preprocess)
    with pytest.raises(ValueError, match="1.jpg cannot be read as an image"):  # a bad verdict is not kept
        folders(root, preprocess)


def test_a_bar_counts_the_images_that_are_opened(root, preprocess, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "cache"))
    monkeypatch.setattr(verify, "_known", {})
    bars, real = [], verify.progress

    def noted(*arguments, **named):
        bars.append([arguments[1], named["total"], real(*arguments, **named)])
        monkeypatch.setattr(bars[-1][2], "update", lambda: bars[-1].append(1))
        return bars[-1][2]

    monkeypatch.setattr(verify, "progress", noted)
    for expected in (14, 0):  # 5 + 2 of two classes; the second time nothing is opened
        bars.clear()
        folders(root, preprocess)
        assert [(words, total, sum(moves)) for words, total, _, *moves in bars] == [
            (f"opening the images of {task}", expected, expected) for task in ("birds", "cars")
        ]


def spoil(kind, file):
    content = json.loads(file.read_text())
    if kind == "cut":
        return file.read_text()[:-30]
    if kind == "another Pillow":
        return json.dumps(content | {"reader": "1, Pillow 1.0"})
    if kind == "another form":
        return json.dumps(
            content | {"files": {name: facts[:2] for name, facts in content["files"].items()} | {"x": [1]}}
        )
    if kind == "a list":
        return json.dumps([1, 2])
    if kind == "wrong types":
        return json.dumps(content | {"files": {name: [*facts[:4], "much"] for name, facts in content["files"].items()}})
    return kind


@pytest.mark.parametrize(
    "kind", ["", "no json", "cut", "another Pillow", "another form", "a list", "wrong types", "[[[[" * 9999]
)
def test_a_damaged_cache_is_ignored(root, preprocess, monkeypatch, tmp_path, kind):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "cache"))
    seen = count_looks(monkeypatch)
    first = folders(root, preprocess).fingerprint()
    for file in (tmp_path / "cache/mini_lib/images").iterdir():
        file.write_text(spoil(kind, file))
    monkeypatch.setattr(verify, "_known", {})
    assert folders(root, preprocess).fingerprint() == first and len(seen) == 56


def test_a_cache_that_cannot_be_written_is_no_error(root, preprocess, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "file"))
    seen = count_looks(monkeypatch)
    folders(root, preprocess).fingerprint()
    folders(root, preprocess).fingerprint()
    assert len(seen) == 28 and (tmp_path / "file").read_text() == "in the way"  # this process remembers
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("LOCALAPPDATA")
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    monkeypatch.setattr(verify, "_known", {})
    folders(root, preprocess)


def test_what_was_seen_before_a_stop_is_kept(root, preprocess, monkeypatch):
    seen = count_looks(monkeypatch)
    look = verify._look

    def stop(path, stamp):
        if "cars" in str(path):
            raise KeyboardInterrupt
        return look(path, stamp)

    monkeypatch.setattr(verify, "_look", stop)
    with pytest.raises(KeyboardInterrupt):
        folders(root, preprocess)
    monkeypatch.setattr(verify, "_look", look)
    monkeypatch.setattr(verify, "_known", {})
    assert len(seen) == 14 and len(folders(root, preprocess).tasks) == 2 and len(seen) == 28


def test_many_small_images_are_quick(tmp_path):
    paths = []
    for i in range(2000):
        paths.append(tmp_path / f"{i}.jpg")
        paths[-1].write_bytes(noise(8) if i == 0 else paths[0].read_bytes())
    verify.examine({tmp_path: paths}, "")
    began = time.perf_counter()
    verify.examine({tmp_path: paths}, "")
    assert time.perf_counter() - began < 2


# Which files are images


def test_suffixes_are_those_that_pillow_decodes():
    assert {
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".bmp",
        ".gif",
        ".tif",
        ".tiff",
        ".ppm",
        ".pgm",
        ".pbm",
    } <= suffixes()
    assert (".webp" in suffixes()) == features.check("webp") and (".jp2" in suffixes()) == features.check("jpg_2000")
    assert not {".eps", ".ps", ".mpg", ".h5", ".txt", ".heic", ""} & (
        suffixes() - set(Image.registered_extensions()) | {".eps"} & suffixes()
    )
    assert not {".eps", ".ps", ".mpg", ".h5", ".txt", ""} & suffixes()


@pytest.mark.parametrize(
    "suffix", [".jfif", ".jpe", ".JPG", ".Jpeg", ".webp", ".avif", ".jp2", ".pgm", ".tga", ".bmp", ".GIF"]
)
def test_images_of_all_kinds_take_part(root, preprocess, suffix):
    if suffix.lower() not in suffixes():
        pytest.skip("this Pillow does not decode it")
    image, name = Image.open(root / "cars/test/big/0.jpg"), root / "cars/test/big" / f"x{suffix}"
    (image.convert("L") if suffix == ".pgm" else image).save(name)
    with warnings.catch_warnings(action="error"):
        task = folders(root, preprocess).tasks[1]
    assert len(task.test) == 5 and task.test[[p.name for p in task.test.images].index(name.name)][0].shape == (
        3,
        32,
        32,
    )


def test_what_is_skipped_is_told(root, preprocess):
    train = root / "cars/train/small"
    for i in range(10):
        (train / f"{i}.HEIC").write_bytes(b"x")
    (train / "notes.txt").touch(), (train / "README").touch(), (root / "birds/test/big/more").mkdir()
    (root / "birds/test/big/more/x.csv").touch()
    (root / "birds/cat.jpg").touch(), (root / "birds/val").mkdir(), (root / "birds/train/loose.png").touch()
    with pytest.warns(UserWarning) as caught:
        folders(root, preprocess)
    assert len(caught) == 1 and caught[0].filename == __file__
    text = str(caught[0].message)
    for words in (
        f"12 files of {train} were skipped: 10 .heic, 1 without a suffix, 1 .txt",
        f"1 file of {root / 'birds/test/big'} was skipped: 1 .csv", "Convert .heic to .jpg or .png",
        f"1 file of {root / 'birds'} was skipped: 1 .jpg", f"1 file of {root / 'birds/train'} was skipped: 1 .png",
        f"{root / 'birds/val'} is not read: a task has the folders train and test",
    ):  # fmt: skip
        assert words in text


def test_many_folders_with_skipped_files_are_one_warning(root, preprocess):
    for i in range(15):
        (folder := root / f"birds/train/class {i:02d}").mkdir()
        Image.new("RGB", (9, 9), (i, i, i)).save(folder / "0.png")
        (folder / "0.dng").touch()
    with pytest.warns(UserWarning, match=r"class 09 was skipped: 1 .dng; and 5 more folders. Convert .dng to"):
        folders(root, preprocess)


LITTER = (".DS_Store", "Thumbs.db", "desktop.ini", "._0.jpg", "~$0.jpg", "__MACOSX/._0.jpg", "@eaDir/0.jpg/SYNOPHOTO.jpg",
          ".ipynb_checkpoints/0-checkpoint.jpg", "$RECYCLE.BIN/0.jpg", "Icon\r", ".hidden.jpg", "THUMBS.DB", "#recycle/0.jpg")  # fmt: skip


def test_litter_of_systems_is_ignored_quietly(root, preprocess):
    before = folders(root, preprocess)
    for place in (root, root / "cars", root / "cars/train", root / "cars/test/big", root / "cars/test/big/deeper"):
        for name in LITTER if sys.platform != "win32" else (n for n in LITTER if "\r" not in n):
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(b"litter")
    with warnings.catch_warnings(action="error"):
        after = folders(root, preprocess)
    assert after.settings == before.settings and after.fingerprint() == before.fingerprint()


@posix
def test_links_are_followed_once(root, preprocess, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "deep").mkdir(parents=True)
    for name in ("a.jpg", "deep/b.jpg"):
        (elsewhere / name).write_bytes(noise())
    small = root / "cars/train/small"
    (small / "more").symlink_to(elsewhere), (small / "again").symlink_to(elsewhere)
    (small / "c.jpg").symlink_to(elsewhere / "a.jpg")
    (elsewhere / "deep/round").symlink_to(elsewhere)
    (elsewhere / "deep/up").symlink_to(small)
    found, others = find_images(small)
    assert [str(p.relative_to(small)) for p in found] == [
        *(f"{i}.jpg" for i in range(5)), "again/a.jpg", "again/deep/b.jpg", "c.jpg",
    ]  # fmt: skip
    assert not others
    task = folders(root, preprocess).tasks[1]
    assert len(task.train) + len(task.val) == 13
    (root / "linked").symlink_to(root / "cars")
    assert [t.name for t in folders(root, preprocess).tasks] == ["birds", "cars", "linked"]


def test_the_order_is_one_on_all_systems(tmp_path):
    names = ["b.png", "B.png", "a b.png", "a-b.png", "a/z.png", "a.png", "é.png", "z/1.png"]
    if sys.platform != "linux":
        names.remove("B.png")
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / unicodedata.normalize("NFD", name)).touch()
    found = [unicodedata.normalize("NFC", p.relative_to(tmp_path).as_posix()) for p in find_images(tmp_path)[0]]
    assert found == sorted(names, key=lambda name: name.split("/"))


def test_a_plugin_s_formats_take_part(root, preprocess, monkeypatch):
    """As pillow-heif registers its own."""
    monkeypatch.setattr(Image, "ID", [*Image.ID])
    monkeypatch.setattr(Image, "OPEN", dict(Image.OPEN))
    monkeypatch.setattr(Image, "EXTENSION", dict(Image.registered_extensions()))
    (root / "cars/test/big/x.heic").write_bytes(noise())
    with pytest.warns(UserWarning, match="1 .heic"):
        folders(root, preprocess)
    Image.register_open("HEIF", Image.OPEN["JPEG"][0], Image.OPEN["JPEG"][1])
    Image.register_extension("HEIF", ".heic")
    assert ".heic" in suffixes() and "HEIF" in files.formats()
    assert len(folders(root, preprocess).tasks[1].test) == 5
