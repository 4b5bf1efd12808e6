"""Tiny drawn stand-ins for the data sets of MTIL and TinyImageNet, on disk as the real ones are.

They go through every line that reads the real data, anywhere and in a second: the dry run of notebook 07 and the tests
use them. A picture's colour tells its class, so that a label can be checked against what is to be seen.
"""

import json
import pickle
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
from PIL import Image
from scipy.io import savemat

from . import sources
from .base import Benchmark
from .mtil import mtil
from .sources import FLOWERS, MNIST, SOURCES, halves

# On-disk names of classes, in the order of their colours: not the order of the labels wherever readers sort them.
NAMES = {
    "aircraft": ["Cessna 172", "707-320", "F/A-18"],
    "caltech101": [
        "yin_yang", "Faces", "Faces_easy", "water_lilly", "crocodile_head", "Leopards", "Motorbikes", "airplanes",
        "car_side", "cougar_body", "cougar_face", "flamingo_head", "snoopy", "accordion",
    ],
    "cifar100": ["maple_tree", "aquarium_fish", "baby"],
    "dtd": ["polka-dotted", "banded", "zigzagged"],
    "eurosat": list(SOURCES["eurosat"].renamed)[::-1],
    "flowers": FLOWERS,
    "food": ["tuna_tartare", "apple_pie", "baby_back_ribs"],
    "mnist": MNIST.classes,
    "pets": ["Abyssinian", "american_bulldog", "Bengal"],
    "cars": ["Acura RL Sedan 2012", "AM General Hummer SUV 2000", "Ram C-V Cargo Van Minivan 2012"],
    "sun397": ["/z/zen_garden", "/a/apartment_building/outdoor", "/a/abbey"],
    "tinyimagenet": ["n02124075", "n01443537", "n01629819"],
}  # fmt: skip
WORDS = {
    "n02124075": "Egyptian cat",
    "n01443537": "goldfish, Carassius auratus",
    "n01629819": "European fire salamander",
}


def colour(number: int, grey: bool = False) -> np.ndarray:
    """The colour (3,), uint8, of class `number` below 512; greys, for MNIST, are for ten classes."""
    if grey:
        return np.full(3, 16 + 24 * number, np.uint8)
    mixed = number * 197 % 512  # neighbours get colours far apart
    return np.array([16 + 32 * (mixed >> shift & 7) for shift in (6, 3, 0)], np.uint8)


def draw(number: int, size: int, rng: np.random.Generator, grey: bool = False) -> np.ndarray:
    """A picture, uint8 (size, 1.25 size, 3): the colour of its class above, coarse noise below."""
    image = np.empty((size, size * 5 // 4, 3), np.uint8)
    image[:] = colour(number, grey)
    below = image[size * 2 // 3 :]
    below[:] = rng.integers(0, 256, (len(below), size * 5 // 4, 1), dtype=np.uint8)
    return image


@contextmanager
def unverified() -> Iterator[None]:
    """Within, the drawn data sets are taken for the real ones: nothing is compared with published checksums and numbers.

    What is drawn is checked all the same: every image is there and can be opened, and pickles are read as plain data.
    """
    with patch.object(sources, "PUBLISHED", False):
        yield


def mtil_fixture(
    folder: str | Path,
    classes: int = 2,
    train: int = 6,
    test: int = 2,
    size: int = 32,
    stream: Callable[..., Benchmark] = mtil,
    **arguments,
) -> Benchmark:
    """`mtil(root=folder, **arguments)`, or `xtail`, on data drawn there first, `classes` of each data set."""
    write(folder, classes, train, test, size)
    with unverified():
        return stream(root=folder, **arguments)


def write(
    root: str | Path, classes: int | None = None, train: int = 2, test: int = 2, size: int = 32, seed: int = 0
) -> dict[str, list[str]]:
    """Draw all twelve data sets under `root`, with `train` and `test` images of each of the first `classes` classes.

    classes: None for as many as the real ones have, otherwise at least 2. Where the paper splits at random, each class
    gets as many images as it takes to have `train` in the training part. Official `val` parts are as large as test.
    Returns the classes' names on disk by data set, in the order of their colours. The same call again draws nothing, or
    draws anew what a kill left unfinished.
    Raises ValueError where `root` holds anything else, lest real data be overwritten.
    """
    root = Path(root)
    made = {"classes": classes, "train": train, "test": test, "size": size, "seed": seed}
    note = root / "drawn.json"
    if root.is_dir() and any(root.iterdir()):
        held = _noted(note)
        if held.get("made") != made:
            raise ValueError(f"{root} holds something else than these drawings: take another folder, or delete it.")
        if held.get("names"):
            return held["names"]
    _text(note, [json.dumps({"made": made})])  # first, so that the same call goes on after a kill
    rng, written = np.random.default_rng(seed), {}
    for name, writer in WRITERS.items():
        count = min(classes or 512, SOURCES[name].classes)
        names = [*NAMES[name][:count], *(_made_up(name, i) for i in range(len(NAMES[name]), count))]
        sizes = {"train": train, "val": test, "test": test}
        if not SOURCES[name].parts:
            sizes = {"all": _enough(count, train, test)}
        rows = {part: [(i, number) for number in range(count) for i in range(n)] for part, n in sizes.items()}
        for part in rows.values():
            rng.shuffle(part)
        writer(root, names, rows, partial(draw, size=size, rng=rng))
        written[name] = names
    _text(note, [json.dumps({"made": made, "names": written})])
    return written


def _noted(note):
    """What `write` has noted in a folder; empty where it has not, or not to the end."""
    try:
        return dict(json.loads(note.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def _made_up(name, number):
    form = {"tinyimagenet": "n9{:07d}", "sun397": "/k/kind_{}"}.get(name, "kind_{:03d}")
    return form.format(number)


def _enough(classes, train, test):
    """Images a class, so that the random four fifths hold at least `train` of each."""
    count = train + test
    while min(np.bincount([i // count for i in halves(classes * count)[0]], minlength=classes)) < train:
        count += 1
    return count


def _save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, "JPEG", quality=95, subsampling=0)


def _text(path, lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    part.replace(path)


def _aircraft(root, names, rows, picture):
    data = root / "fgvc-aircraft-2013b" / "data"
    _text(data / "variants.txt", names)
    for p, (part, members) in enumerate(rows.items()):
        files = [(f"{p}{number:03d}{i:03d}", number) for i, number in members]
        _text(data / f"images_variant_{part}.txt", [f"{file} {names[number]}" for file, number in files])
        for file, number in files:
            _save(data / "images" / f"{file}.jpg", picture(number))


def _caltech101(root, names, rows, picture):
    folder = root / "caltech101" / "101_ObjectCategories"
    _save(folder / "BACKGROUND_Google" / "image_0001.jpg", picture(511))
    for i, number in rows["all"]:
        _save(folder / names[number] / f"image_{i + 1:04d}.jpg", picture(number))


def _cifar100(root, names, rows, picture):
    folder = root / "cifar-100-python"
    folder.mkdir(parents=True, exist_ok=True)
    for part in ("train", "test"):
        images = np.stack([picture(number, size=32)[:, :32] for _, number in rows[part]])
        batch = {
            "data": images.transpose(0, 3, 1, 2).reshape(len(images), -1),
            "fine_labels": [n for _, n in rows[part]],
        }
        (folder / part).write_bytes(pickle.dumps(batch, protocol=2))
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": names}, protocol=2))


def _dtd(root, names, rows, picture):
    folder = root / "dtd" / "dtd"
    for p, (part, members) in enumerate(rows.items()):
        files = [(f"{names[number]}/{names[number]}_{p}{i:03d}.jpg", number) for i, number in members]
        _text(folder / "labels" / f"{part}1.txt", [file for file, _ in files])
        for file, number in files:
            _save(folder / "images" / file, picture(number))


def _eurosat(root, names, rows, picture):
    for i, number in rows["all"]:
        _save(root / "eurosat" / "2750" / names[number] / f"{names[number]}_{i + 1}.jpg", picture(number))


def _flowers(root, names, rows, picture):
    folder = root / "flowers-102"
    members = [(part, number) for part, pairs in rows.items() for _, number in pairs]
    ids = {"train": "trnid", "val": "valid", "test": "tstid"}
    for i, (_, number) in enumerate(members, start=1):
        _save(folder / "jpg" / f"image_{i:05d}.jpg", picture(number))
    savemat(folder / "imagelabels.mat", {"labels": [[number + 1 for _, number in members]]})
    of_part = {key: [[i for i, (p, _) in enumerate(members, start=1) if p == part]] for part, key in ids.items()}
    savemat(folder / "setid.mat", of_part)


def _food(root, names, rows, picture):
    folder = root / "food-101"
    for p, part in enumerate(("train", "test")):
        listed = {}
        for i, number in rows[part]:
            listed.setdefault(names[number], []).append(f"{names[number]}/{p}{i:05d}")
            _save(folder / "images" / names[number] / f"{p}{i:05d}.jpg", picture(number))
        _text(folder / "meta" / f"{part}.json", [json.dumps(listed)])


def _mnist(root, names, rows, picture):
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True, exist_ok=True)
    for part, file in (("train", "train"), ("test", "t10k")):
        images = np.stack([picture(number, size=28, grey=True)[:, :28, 0] for _, number in rows[part]])
        labels = np.array([number for _, number in rows[part]], np.uint8)
        (folder / f"{file}-images-idx3-ubyte").write_bytes(struct.pack(">4I", 2051, *images.shape) + images.tobytes())
        (folder / f"{file}-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 2049, len(labels)) + labels.tobytes())


def _pets(root, names, rows, picture):
    folder = root / "oxford-iiit-pet"
    for p, part in enumerate(("train", "test")):
        files = [(f"{names[number]}_{p}{i:02d}", number) for i, number in rows[part]]
        lines = [f"{file} {number + 1} 1 1" for file, number in files]
        _text(folder / "annotations" / f"{'trainval' if part == 'train' else part}.txt", lines)
        for file, number in files:
            _save(folder / "images" / f"{file}.jpg", picture(number))


def _cars(root, names, rows, picture):
    folder = root / "stanford_cars"
    (folder / "devkit").mkdir(parents=True, exist_ok=True)
    savemat(folder / "devkit" / "cars_meta.mat", {"class_names": np.array([names], dtype=object)})
    for part, file in (("train", "devkit/cars_train_annos.mat"), ("test", "cars_test_annos_withlabels.mat")):
        fields = [(key, object) for key in ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "fname")]
        lines = [(1, 1, 9, 9, number + 1, f"{i:05d}.jpg") for i, (_, number) in enumerate(rows[part], start=1)]
        savemat(folder / file, {"annotations": np.array([lines], dtype=fields)})
        for line in lines:
            _save(folder / f"cars_{part}" / line[-1], picture(line[-2] - 1))


def _sun397(root, names, rows, picture):
    folder = root / "SUN397"
    _text(folder / "ClassName.txt", names)
    for i, number in rows["all"]:
        _save(folder / names[number][1:] / f"sun_{i:04d}.jpg", picture(number))


def _tinyimagenet(root, names, rows, picture):
    folder = root / "tiny-imagenet-200"
    _text(folder / "wnids.txt", names)
    _text(folder / "words.txt", [f"{wnid}\t{WORDS.get(wnid, 'kind ' + wnid)}" for wnid in sorted({*names, *WORDS})])
    for i, number in rows["train"]:
        _save(folder / "train" / names[number] / "images" / f"{names[number]}_{i}.JPEG", picture(number))
    lines = [f"val_{i}.JPEG\t{names[number]}\t0\t0\t9\t9" for i, (_, number) in enumerate(rows["test"])]
    _text(folder / "val" / "val_annotations.txt", lines)
    for i, (_, number) in enumerate(rows["test"]):
        _save(folder / "val" / "images" / f"val_{i}.JPEG", picture(number))


WRITERS = {
    "aircraft": _aircraft, "caltech101": _caltech101, "cifar100": _cifar100, "dtd": _dtd, "eurosat": _eurosat,
    "flowers": _flowers, "food": _food, "mnist": _mnist, "pets": _pets, "cars": _cars, "sun397": _sun397,
    "tinyimagenet": _tinyimagenet,
}  # fmt: skip
