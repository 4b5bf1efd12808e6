"""The eleven data sets of MTIL, and TinyImageNet: how each is read, where it must lie and what it should hold.

`SOURCES` is the whole of it, one row a data set; `read` gives the images, labels and class names of one part. Files
are found by torchvision's own dataset classes (0.17 or later); TinyImageNet, which has none, has one here. Used by
`mtil`, `cil` and `python -m mini_lib data`; the class names are shown in notebook 07.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import random_split
from torchvision import datasets
from torchvision.datasets.utils import check_integrity

from .archives import Archive
from .files import is_litter, shown, subfolders
from .pickles import plain_pickle
from .verify import examine

PUBLISHED = True  # data are held against published checksums and numbers; `fixtures.unverified` alone changes it


@dataclass(frozen=True)
class Source:
    """One data set.

    dataset: class that finds the files, called as dataset(root, **parts[part]); no parts where the paper splits at
    random. content: what to take from it, (images, labels, class names). sizes: images in each part of the paper.
    folder: where it lies under the root, and needs: what is in it without which nothing can be read. images: the folder
    where the paths in CoOp's split files start, or in images/ below it. archives: what can be downloaded; by_hand: what
    to do where nothing can.
    """

    dataset: Callable[..., Any]
    content: Callable[[Any], Any]
    parts: dict[str, dict[str, Any]]
    sizes: dict[str, int]
    classes: int
    templates: tuple[str, ...]
    folder: str
    needs: tuple[str, ...]
    images: str
    archives: tuple[Archive, ...] = ()
    by_hand: str = ""
    split_file: str | None = None
    renamed: Mapping[str, str] = field(default_factory=dict)

    @property
    def remedy(self) -> str:
        return self.by_hand or f"--download fetches {', '.join(Path(a.file).name for a in self.archives)}"


class CIFAR100:
    """The official Python version: three pickles, compared with their checksums and then read as plain data alone."""

    def __init__(self, root: str | Path, train: bool):
        official = datasets.CIFAR100
        folder = Path(root) / official.base_folder
        files = [*official.train_list, *official.test_list, [official.meta["filename"], official.meta["md5"]]]
        for file, md5 in files:
            if PUBLISHED and not check_integrity(str(folder / file), md5):
                raise ValueError(f"{file} is corrupted or another file: its checksum is not the published one")
        batch = plain_pickle(folder / ("train" if train else "test"))
        self.data = batch["data"].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        self.targets = batch["fine_labels"]
        self.classes = plain_pickle(folder / "meta")["fine_label_names"]


class Caltech101:
    """Categories and numbers of images as torchvision finds them, which takes .DS_Store and the like for a category."""

    def __init__(self, root: str | Path):
        self.root = Path(root) / "caltech101"
        folders = [f for f in subfolders(self.root / "101_ObjectCategories") if f.name != "BACKGROUND_Google"]
        self.categories = [folder.name for folder in folders]
        counts = [sum(not is_litter(path.name) for path in folder.iterdir()) for folder in folders]
        self.index = [number for count in counts for number in range(1, count + 1)]
        self.y = [label for label, count in enumerate(counts) for _ in range(count)]

    def __len__(self) -> int:
        return len(self.y)


class EuroSAT(datasets.EuroSAT):
    """torchvision's, which takes @eaDir and the like for a class."""

    def find_classes(self, directory: Any) -> tuple[list[str], dict[str, int]]:
        names = [folder.name for folder in subfolders(Path(directory))]
        return names, {name: i for i, name in enumerate(names)}


class Flowers(datasets.Flowers102):
    """torchvision's, whose checksums of the label files count for published data alone."""

    def _check_integrity(self):
        return super()._check_integrity() if PUBLISHED else self._images_folder.is_dir()


class MNIST(datasets.MNIST):
    """torchvision's, but never from the pickles that old versions left behind."""

    def _check_legacy_exist(self):
        return False


class TinyImageNet:
    """train/WNID/images/*.JPEG and val/images/*.JPEG; labels are indices into wnids.txt, which is not sorted."""

    def __init__(self, root: str | Path, split: str):
        folder = Path(root) / "tiny-imagenet-200"
        wnids = (folder / "wnids.txt").read_text(encoding="utf-8").split()
        words = dict(line.split("\t", 1) for line in (folder / "words.txt").read_text(encoding="utf-8").splitlines())
        self.classes = [words[wnid].split(",")[0] for wnid in wnids]
        if split == "train":
            files = [
                (wnid, file) for wnid in wnids for file in sorted((folder / "train" / wnid / "images").glob("*.JPEG"))
            ]
        else:
            lines = [
                line.split("\t")
                for line in (folder / "val" / "val_annotations.txt").read_text(encoding="utf-8").splitlines()
            ]
            files = [(line[1], folder / "val" / "images" / line[0]) for line in lines]
        self.samples = [(file, wnids.index(wnid)) for wnid, file in files]


def read(name: str, root: str | Path, part: str = "train") -> tuple[Sequence[Path] | np.ndarray, list[int], list[str]]:
    """(images, labels, class names) of one part of a data set of `SOURCES`.

    images: a list of paths, or uint8 (N, H, W, 3) for CIFAR100 and MNIST; labels: a list of N indices into the names.
    part: "train", "test" or, where the paper leaves an official one unused, "val"; TinyImageNet's "test" is its
    validation images, whose labels are public. Caltech101, EuroSAT and SUN397 have no official parts: the paper takes
    80 % at random with seed 42 for training, over torchvision's order. (That of SUN397 depends on the file system;
    here it is sorted, so that the split is the same everywhere.)
    Raises ValueError, naming the data set and the remedy, for an unknown part and where it is not there or damaged.
    """
    source, root = SOURCES[name], Path(root).expanduser()
    if part not in source.sizes:
        raise ValueError(f"{name} has no part {part!r}: take one of {list(source.sizes)}.")
    require([name], root)
    try:
        images, labels, names = source.content(source.dataset(str(root), **source.parts.get(part, {})))
    except Exception as error:  # a damaged file can make torchvision raise anything
        raise ValueError(
            f"{name} in {root / source.folder} cannot be read ({type(error).__name__}: {error}). Get it anew: "
            f"`python -m mini_lib data --root {root} --only {name}` says how."
        ) from error
    if not source.parts:
        indices = halves(len(labels))[part == "test"]
        images, labels = [images[i] for i in indices], [labels[i] for i in indices]
    return images, [int(label) for label in labels], [source.renamed.get(c, c.replace("_", " ")) for c in names]


def read_parts(
    name: str, root: str | Path
) -> tuple[dict[str, tuple[Sequence[Path] | np.ndarray, list[int]]], list[str]]:
    """{part: (images, labels)} of all parts of a data set, and the class names. Raises ValueError as `read` does, and
    where the parts do not have the same classes."""
    found = {part: read(name, root, part) for part in SOURCES[name].sizes}
    classnames = found["train"][2]
    if any(names != classnames for _, _, names in found.values()):
        raise ValueError(f"{name}: train and test do not have the same classes: the data set is damaged or incomplete.")
    return {part: (images, labels) for part, (images, labels, _) in found.items()}, classnames


def require_whole(found: Mapping[str, Mapping[str, tuple[Any, list[int]]]], root: str | Path) -> None:
    """Hold data sets, {name: {part: (images, labels)}}, against the numbers of the paper: classes, images that are there.

    Raises one ValueError that gives the numbers of all that are incomplete, and says how to get them.
    """
    lines = [line for name, parts in found.items() if (line := _lacking_images(name, parts))] if PUBLISHED else []
    if lines:
        names = " ".join(line.split(":")[0] for line in lines)
        raise ValueError(
            f"{len(lines)} of the data sets wanted are not whole under {shown(root)}:"
            + "".join(f"\n- {line}" for line in lines)
            + f"\n`python -m mini_lib data --root {shown(root)} --only {names}` tells how to get them. A part of a data set is "
            "another one: to learn that, lay it out as TASK/train|test/CLASS/*.jpg for `folders`."
        )


def _lacking_images(name, parts):
    """What a data set has of what it should have, in words; None where it has all."""
    source, absent, there = SOURCES[name], None, {}
    for part, (images, _) in parts.items():
        lost = [image for image in images if isinstance(image, (str, Path)) and not holds_something(image)]
        there[part] = len(images) - len(lost)
        absent = absent or (lost[0] if lost else None)
    classes = [set(labels) for _, labels in parts.values()]
    count = min(map(len, classes)) if source.parts else len(set().union(*classes))
    if there == source.sizes and count == source.classes:
        return None
    words = {"train": "training", "val": "validation", "test": "test"}
    numbers = [f"{there[part]:,} of {size:,} {words[part]} images" for part, size in source.sizes.items()]
    first = f"; {shown(absent)} is absent or empty" if absent else ""
    return f"{name}: {count} of {source.classes} classes, {', '.join(numbers)}{first}"


def holds_something(file: str | Path) -> bool:
    """Whether there is a file that is not empty."""
    return os.path.isfile(file) and os.path.getsize(file) > 0


def open_all(images: Mapping[str, Iterable[Any]], root: str | Path) -> None:
    """Open the images of data sets, {name: paths or arrays}, each once. Raises ValueError that names those damaged."""
    root = Path(root).expanduser()
    files = {
        root / SOURCES[name].folder: [image for image in some if isinstance(image, (str, Path))]
        for name, some in images.items()
    }
    names = " ".join(images)
    examine(
        files,
        f"Put whole copies in their places, then start again: `python -m mini_lib data --root {shown(root)} --only {names}` "
        "says where the data sets come from. Nothing was learned yet.",
    )


def halves(count: int) -> list[Sequence[int]]:
    """The paper's random split of `count` images: indices of four fifths for training, and of the rest for test."""
    sizes = [int(0.8 * count), count - int(0.8 * count)]
    parts = random_split(range(count), sizes, torch.Generator().manual_seed(42))  # type: ignore  # a length is enough
    return [part.indices for part in parts]


def lacking(name: str, root: str | Path, labels: bool = True) -> list[str]:
    """The files and folders that this data set needs and that are not under the root, relative to its own folder.

    labels: False where the official files of labels and parts are not needed, for a split file takes their place.
    """
    root, source = Path(root).expanduser(), SOURCES[name]
    if not labels:
        return [] if (root / source.images).is_dir() else ["its images"]
    return [need for need in source.needs if not (root / source.folder / need).exists()]


def require(names: Sequence[str], root: str | Path, split: Iterable[str] = ()) -> None:
    """Raises one ValueError that names every data set that is not under the root, where it must lie, how to get it.

    split: those of the names whose labels come from a split file.
    """
    absent = {name: found for name in names if (found := lacking(name, root, name not in split))}
    if absent:
        lines = [
            f"\n- {n}: {SOURCES[n].folder} must hold {', '.join(found)}; {SOURCES[n].remedy}"
            for n, found in absent.items()
        ]
        raise ValueError(
            f"{len(absent)} of the data sets wanted are not under {root}:{''.join(lines)}\n"
            f"`python -m mini_lib data --root {root}` tells more, and with --download fetches what it can."
        )


def _files(dataset):
    return dataset._image_files, dataset._labels, dataset.classes


def _samples(dataset):
    return *_apart(dataset.samples), dataset.classes


def _apart(pairs):
    """(files, labels) of pairs."""
    if not pairs:
        raise ValueError("it holds no images")
    return tuple(map(list, zip(*pairs)))


def _caltech101(dataset):
    folder = Path(dataset.root) / "101_ObjectCategories"
    images = [folder / dataset.categories[y] / f"image_{i:04d}.jpg" for i, y in zip(dataset.index, dataset.y)]
    return images, dataset.y, dataset.categories


def _flowers(dataset):
    return dataset._image_files, dataset._labels, FLOWERS[: max(dataset._labels) + 1]


def _mnist(dataset):
    grey, labels = dataset.data.numpy(), dataset.targets.tolist()
    return np.broadcast_to(grey[..., None], (*grey.shape, 3)), labels, dataset.classes[: max(labels) + 1]


def _sun397(dataset):
    return *_apart(sorted(zip(dataset._image_files, dataset._labels))), dataset.classes


def _articles(*templates):
    return tuple(t.replace("@", article) for article in ("a", "the") for t in templates)


FLOWERS = (  # the published names, in the order of the labels
    "pink primrose", "hard-leaved pocket orchid", "canterbury bells", "sweet pea", "english marigold", "tiger lily",
    "moon orchid", "bird of paradise", "monkshood", "globe thistle", "snapdragon", "colt's foot", "king protea",
    "spear thistle", "yellow iris", "globe-flower", "purple coneflower", "peruvian lily", "balloon flower",
    "giant white arum lily", "fire lily", "pincushion flower", "fritillary", "red ginger", "grape hyacinth",
    "corn poppy", "prince of wales feathers", "stemless gentian", "artichoke", "sweet william", "carnation",
    "garden phlox", "love in the mist", "mexican aster", "alpine sea holly", "ruby-lipped cattleya", "cape flower",
    "great masterwort", "siam tulip", "lenten rose", "barbeton daisy", "daffodil", "sword lily", "poinsettia",
    "bolero deep blue", "wallflower", "marigold", "buttercup", "oxeye daisy", "common dandelion", "petunia",
    "wild pansy", "primula", "sunflower", "pelargonium", "bishop of llandaff", "gaura", "geranium", "orange dahlia",
    "pink-yellow dahlia", "cautleya spicata", "japanese anemone", "black-eyed susan", "silverbush", "californian poppy",
    "osteospermum", "spring crocus", "bearded iris", "windflower", "tree poppy", "gazania", "azalea", "water lily",
    "rose", "thorn apple", "morning glory", "passion flower", "lotus", "toad lily", "anthurium", "frangipani",
    "clematis", "hibiscus", "columbine", "desert-rose", "tree mallow", "magnolia", "cyclamen", "watercress",
    "canna lily", "hippeastrum", "bee balm", "ball moss", "foxglove", "bougainvillea", "camellia", "mallow",
    "mexican petunia", "bromelia", "blanket flower", "trumpet creeper", "blackberry lily",
)  # fmt: skip

MNIST_FILES = {  # and the SHA-256 of each, packed
    "train-images-idx3": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}
OXFORD = "https://www.robots.ox.ac.uk/~vgg/data"

# Templates and the names that are not just the folder's: those that Radford et al. published for zero-shot CLIP, in
# the wording that the paper's code took over ("water lilly" and two blanks before "crocodile" included; the slash in
# "apartment building/outdoor" stays). The SHA-256 of an archive is the one that TensorFlow Datasets, Keras or torchvision's
# prototypes publish; Aircraft's and Caltech's, which those lack, are in the notes of several who downloaded it.
SOURCES = {
    "aircraft": Source(
        datasets.FGVCAircraft, _files,
        parts={p: {"split": p} for p in ("train", "val", "test")},
        sizes={"train": 3334, "val": 3333, "test": 3333}, classes=100,
        templates=_articles("a photo of @ {}, a type of aircraft."),
        folder="fgvc-aircraft-2013b",
        needs=("data/images", "data/variants.txt", *(f"data/images_variant_{p}.txt" for p in ("train", "val", "test"))),
        images="fgvc-aircraft-2013b",
        archives=(
            Archive(
                "fgvc-aircraft-2013b.tar.gz", f"{OXFORD}/fgvc-aircraft/archives/fgvc-aircraft-2013b.tar.gz",
                "e4e323d410e29f0370c81eabdcbb0e2b813acea1de22891b70b58ff41bfc9834", "fgvc-aircraft-2013b",
            ),
        ),
    ),
    "caltech101": Source(
        Caltech101, _caltech101, parts={}, sizes={"train": 6941, "test": 1736}, classes=101,
        templates=_articles(
            "a photo of @ {}.", "a painting of @ {}.", "@ plastic {}.", "a sculpture of @ {}.", "a sketch of @ {}.",
            "a tattoo of @ {}.", "@ toy {}.", "a rendition of @ {}.", "@ embroidered {}.", "@ cartoon {}.",
            "@ {} in a video game.", "@ plushie {}.", "@ origami {}.", "art of @ {}.", "graffiti of @ {}.",
            "a drawing of @ {}.", "a doodle of @ {}.",
        ),
        folder="caltech101", needs=("101_ObjectCategories/BACKGROUND_Google",),
        images="caltech101/101_ObjectCategories",
        archives=(
            Archive(
                "caltech101/caltech-101.zip", "https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip",
                "331234750fc7f77520e50d9565e8b6907b03565e30320da1401130db08c61f91", "101_ObjectCategories",
                inner="caltech-101/101_ObjectCategories.tar.gz",
            ),
        ),
        split_file="split_zhou_Caltech101.json",
        renamed={
            "Faces": "off-center face", "Faces_easy": "centered face", "Leopards": "leopard", "Motorbikes": "motorbike",
            "airplanes": "airplane", "car_side": "side of a car", "cougar_body": "body of a cougar cat",
            "cougar_face": "face of a cougar cat", "crocodile_head": "head of a  crocodile",
            "flamingo_head": "head of a flamingo", "snoopy": "snoopy (cartoon beagle)",
            "yin_yang": "yin and yang symbol",
        },
    ),
    "cifar100": Source(
        CIFAR100, lambda d: (d.data, d.targets, d.classes),
        parts={"train": {"train": True}, "test": {"train": False}}, sizes={"train": 50000, "test": 10000}, classes=100,
        templates=_articles(
            "a photo of @ {}.", "a blurry photo of @ {}.", "a black and white photo of @ {}.",
            "a low contrast photo of @ {}.", "a high contrast photo of @ {}.", "a bad photo of @ {}.",
            "a good photo of @ {}.", "a photo of @ small {}.", "a photo of @ big {}.",
        ),
        folder="cifar-100-python", needs=("train", "test", "meta"),
        images="cifar-100-python",
        archives=(
            Archive(
                "cifar-100-python.tar.gz", "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
                "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7", "cifar-100-python",
            ),
        ),
    ),
    "dtd": Source(
        datasets.DTD, _files, parts={p: {"split": p} for p in ("train", "val", "test")},
        sizes={"train": 1880, "val": 1880, "test": 1880}, classes=47,
        templates=_articles(*(f"a photo of @ {{}} {x}." for x in ("texture", "pattern", "thing", "object"))),
        folder="dtd/dtd", needs=("images", *(f"labels/{p}1.txt" for p in ("train", "val", "test"))),
        images="dtd/dtd",
        archives=(
            Archive(
                "dtd/dtd-r1.0.1.tar.gz", f"{OXFORD}/dtd/download/dtd-r1.0.1.tar.gz",
                "e42855a52a4950a3b59612834602aa253914755c95b0cff9ead6d07395f8e205", "dtd",
            ),
        ),
        split_file="split_zhou_DescribableTextures.json",
    ),
    "eurosat": Source(
        EuroSAT, _samples, parts={}, sizes={"train": 21600, "test": 5400}, classes=10,
        templates=tuple(f"a centered satellite photo of {a}{{}}." for a in ("", "a ", "the ")),
        folder="eurosat", needs=("2750",), images="eurosat/2750",
        archives=(
            Archive(
                "eurosat/EuroSAT.zip",
                "https://huggingface.co/datasets/torchgeo/eurosat/resolve/c877bcd43f099cd0196738f714544e355477f3fd/EuroSAT.zip",
                "8ebea626349354c5328b142b96d0430e647051f26efc2dc974c843f25ecf70bd", "2750",
            ),
        ),
        split_file="split_zhou_EuroSAT.json",
        renamed={
            "AnnualCrop": "annual crop land", "Forest": "forest", "HerbaceousVegetation": "brushland or shrubland",
            "Highway": "highway or road", "Industrial": "industrial buildings or commercial buildings",
            "Pasture": "pasture land", "PermanentCrop": "permanent crop land",
            "Residential": "residential buildings or homes or apartments", "River": "river", "SeaLake": "lake or sea",
        },
    ),
    "flowers": Source(
        Flowers, _flowers, parts={p: {"split": p} for p in ("train", "val", "test")},
        sizes={"train": 1020, "val": 1020, "test": 6149}, classes=102,
        templates=("a photo of a {}, a type of flower.",),
        folder="flowers-102", needs=("jpg", "imagelabels.mat", "setid.mat"), images="flowers-102/jpg",
        archives=(
            Archive(
                "flowers-102/102flowers.tgz", f"{OXFORD}/flowers/102/102flowers.tgz",
                "2d01ecc807db462958cfe3d92f57a8c252b4abd240eb955770201e45f783b246", "jpg",
            ),
            Archive(
                "flowers-102/imagelabels.mat", f"{OXFORD}/flowers/102/imagelabels.mat",
                "4903e94206bac23bf772aadf06451916df56b58fc483a62db32a97b82656651d",
            ),
            Archive(
                "flowers-102/setid.mat", f"{OXFORD}/flowers/102/setid.mat",
                "46b8678f91fd95d3c8f4feab80d271a6c834a1dd896fe29fd3e6ad9ce5c8dccd",
            ),
        ),
        split_file="split_zhou_OxfordFlowers.json",
    ),
    "food": Source(
        datasets.Food101, _files, parts={p: {"split": p} for p in ("train", "test")},
        sizes={"train": 75750, "test": 25250}, classes=101,
        templates=("a photo of a {}, a type of food.",),
        folder="food-101", needs=("images", "meta/train.json", "meta/test.json"), images="food-101/images",
        archives=(
            Archive(
                "food-101.tar.gz", "http://data.vision.ee.ethz.ch/cvl/food-101.tar.gz",
                "d97d15e438b7f4498f96086a4f7e2fa42a32f2712e87d3295441b2b6314053a4", "food-101",
            ),
        ),
        split_file="split_zhou_Food101.json",
    ),
    "mnist": Source(
        MNIST, _mnist, parts={"train": {"train": True}, "test": {"train": False}},
        sizes={"train": 60000, "test": 10000}, classes=10,
        templates=('a photo of the number: "{}".',),
        folder="MNIST/raw",
        needs=tuple(f"{p}-ubyte" for p in MNIST_FILES), images="MNIST/raw/train-images-idx3-ubyte",
        archives=tuple(
            Archive(
                f"MNIST/raw/{part}-ubyte.gz", f"https://ossci-datasets.s3.amazonaws.com/mnist/{part}-ubyte.gz", sha256,
                f"{part}-ubyte",
            )
            for part, sha256 in MNIST_FILES.items()
        ),
    ),
    "pets": Source(
        datasets.OxfordIIITPet, lambda d: (d._images, d._labels, d.classes),
        parts={"train": {"split": "trainval"}, "test": {"split": "test"}},
        sizes={"train": 3680, "test": 3669}, classes=37,
        templates=("a photo of a {}, a type of pet.",),
        folder="oxford-iiit-pet", needs=("images", "annotations/trainval.txt", "annotations/test.txt"),
        images="oxford-iiit-pet/images",
        archives=(
            Archive(
                "oxford-iiit-pet/images.tar.gz", f"{OXFORD}/pets/data/images.tar.gz",
                "67195c5e1c01f1ab5f9b6a5d22b8c27a580d896ece458917e61d459337fa318d", "images",
            ),
            Archive(
                "oxford-iiit-pet/annotations.tar.gz", f"{OXFORD}/pets/data/annotations.tar.gz",
                "52425fb6de5c424942b7626b428656fcbd798db970a937df61750c0f1d358e91", "annotations",
            ),
        ),
        split_file="split_zhou_OxfordPets.json",
    ),
    "cars": Source(
        datasets.StanfordCars, lambda d: (*_apart(d._samples), d.classes),
        parts={p: {"split": p} for p in ("train", "test")}, sizes={"train": 8144, "test": 8041}, classes=196,
        templates=(
            "a photo of a {}, a type of car.", "a photo of a {}.", "a photo of the {}.", "a photo of my {}.",
            "i love my {}!", *(f"a photo of my {x} {{}}." for x in ("dirty", "clean", "new", "old")),
        ),
        folder="stanford_cars",
        needs=(
            "cars_train", "cars_test", "devkit/cars_meta.mat", "devkit/cars_train_annos.mat",
            "cars_test_annos_withlabels.mat",
        ),
        images="stanford_cars", split_file="split_zhou_StanfordCars.json",
        by_hand="its links are dead; issue 7545 of pytorch/vision says who has copies. Unpack cars_train.tgz, "
        "cars_test.tgz and car_devkit.tgz there, so that cars_train/00001.jpg exists, not cars_train/cars_train/, "
        "and put cars_test_annos_withlabels.mat beside them",
    ),
    "sun397": Source(
        datasets.SUN397, _sun397, parts={}, sizes={"train": 87003, "test": 21751}, classes=397,
        templates=_articles("a photo of @ {}."),
        folder="SUN397", needs=("ClassName.txt",), images="SUN397", split_file="split_zhou_SUN397.json",
        by_hand="its link is dead; issue 9348 of pytorch/vision says who has copies. Unpack SUN397.tar.gz in the root, "
        "so that SUN397/ClassName.txt and SUN397/a/abbey/sun_*.jpg exist",
    ),
    "tinyimagenet": Source(
        TinyImageNet, _samples, parts={p: {"split": p} for p in ("train", "test")},
        sizes={"train": 100000, "test": 10000}, classes=200, templates=(),
        folder="tiny-imagenet-200", needs=("train", "val/images", "val/val_annotations.txt", "wnids.txt", "words.txt"),
        images="tiny-imagenet-200",
        by_hand="torchvision does not fetch it. Unpack cs231n.stanford.edu/tiny-imagenet-200.zip in the "
        "root, so that tiny-imagenet-200/wnids.txt exists",
    ),
}  # fmt: skip
