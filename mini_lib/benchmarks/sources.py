"""The eleven data sets of MTIL, and TinyImageNet: how each is read, where it must lie and what it should hold.

`SOURCES` is the whole of it, one row a data set; `read` gives the images, labels and class names of one part. Files
are found by torchvision's own dataset classes (0.17 or later); TinyImageNet, which has none, has one here. Used by
`mtil`, `cil` and `python -m mini_lib data`; the class names are shown in notebook 07.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import random_split
from torchvision import datasets


@dataclass(frozen=True)
class Source:
    """One data set.

    dataset: class that finds the files, called as dataset(root, **parts[part]); no parts where the paper splits at
    random. content: what to take from it, (images, labels, class names). sizes: images in each part of the paper.
    folder: where it lies under the root, and needs: what is in it without which nothing can be read. images: the folder
    by which torchvision tells that it need not download; the paths in CoOp's split files start there, or in images/
    below it. archives: what torchvision downloads, under the root; by_hand: what to do where it cannot.
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
    archives: tuple[str, ...] = ()
    by_hand: str = ""
    split_file: str | None = None
    renamed: Mapping[str, str] = field(default_factory=dict)

    @property
    def remedy(self) -> str:
        return self.by_hand or f"--download fetches {', '.join(Path(a).name for a in self.archives)}"


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


def halves(count: int) -> list[Sequence[int]]:
    """The paper's random split of `count` images: indices of four fifths for training, and of the rest for test."""
    sizes = [int(0.8 * count), count - int(0.8 * count)]
    parts = random_split(range(count), sizes, torch.Generator().manual_seed(42))  # type: ignore  # a length is enough
    return [part.indices for part in parts]


def lacking(name: str, root: str | Path) -> list[str]:
    """The files and folders that this data set needs and that are not under the root, relative to its own folder."""
    folder = Path(root).expanduser() / SOURCES[name].folder
    return [need for need in SOURCES[name].needs if not (folder / need).exists()]


def require(names: Sequence[str], root: str | Path) -> None:
    """Raises one ValueError that names every data set that is not under the root, where it must lie, how to get it."""
    absent = [name for name in names if lacking(name, root)]
    if absent:
        lines = [
            f"\n- {n}: {SOURCES[n].folder} must hold {', '.join(lacking(n, root))}; {SOURCES[n].remedy}" for n in absent
        ]
        raise ValueError(
            f"{len(absent)} of the data sets wanted are not under {root}:{''.join(lines)}\n"
            f"`python -m mini_lib data --root {root}` tells more, and with --download fetches what it can."
        )


def _files(dataset):
    return dataset._image_files, dataset._labels, dataset.classes


def _samples(dataset):
    return *map(list, zip(*dataset.samples)), dataset.classes


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
    return *zip(*sorted(zip(dataset._image_files, dataset._labels))), dataset.classes


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

MNIST_FILES = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")

# Templates and the names that are not just the folder's: those that Radford et al. published for zero-shot CLIP, in
# the wording that the paper's code took over ("water lilly" and two blanks before "crocodile" included; the slash in
# "apartment building/outdoor" stays).
SOURCES = {
    "aircraft": Source(
        datasets.FGVCAircraft, _files,
        parts={p: {"split": p} for p in ("train", "val", "test")},
        sizes={"train": 3334, "val": 3333, "test": 3333}, classes=100,
        templates=_articles("a photo of @ {}, a type of aircraft."),
        folder="fgvc-aircraft-2013b",
        needs=("data/images", "data/variants.txt", *(f"data/images_variant_{p}.txt" for p in ("train", "val", "test"))),
        images="fgvc-aircraft-2013b", archives=("fgvc-aircraft-2013b.tar.gz",),
    ),
    "caltech101": Source(
        datasets.Caltech101, _caltech101, parts={}, sizes={"train": 6941, "test": 1736}, classes=101,
        templates=_articles(
            "a photo of @ {}.", "a painting of @ {}.", "@ plastic {}.", "a sculpture of @ {}.", "a sketch of @ {}.",
            "a tattoo of @ {}.", "@ toy {}.", "a rendition of @ {}.", "@ embroidered {}.", "@ cartoon {}.",
            "@ {} in a video game.", "@ plushie {}.", "@ origami {}.", "art of @ {}.", "graffiti of @ {}.",
            "a drawing of @ {}.", "a doodle of @ {}.",
        ),
        folder="caltech101", needs=("101_ObjectCategories/BACKGROUND_Google",),
        images="caltech101/101_ObjectCategories",
        archives=("caltech101/caltech-101.zip",), split_file="split_zhou_Caltech101.json",
        renamed={
            "Faces": "off-center face", "Faces_easy": "centered face", "Leopards": "leopard", "Motorbikes": "motorbike",
            "airplanes": "airplane", "car_side": "side of a car", "cougar_body": "body of a cougar cat",
            "cougar_face": "face of a cougar cat", "crocodile_head": "head of a  crocodile",
            "flamingo_head": "head of a flamingo", "snoopy": "snoopy (cartoon beagle)",
            "yin_yang": "yin and yang symbol",
        },
    ),
    "cifar100": Source(
        datasets.CIFAR100, lambda d: (d.data, d.targets, d.classes),
        parts={"train": {"train": True}, "test": {"train": False}}, sizes={"train": 50000, "test": 10000}, classes=100,
        templates=_articles(
            "a photo of @ {}.", "a blurry photo of @ {}.", "a black and white photo of @ {}.",
            "a low contrast photo of @ {}.", "a high contrast photo of @ {}.", "a bad photo of @ {}.",
            "a good photo of @ {}.", "a photo of @ small {}.", "a photo of @ big {}.",
        ),
        folder="cifar-100-python", needs=("train", "test", "meta"),
        images="cifar-100-python", archives=("cifar-100-python.tar.gz",),
    ),
    "dtd": Source(
        datasets.DTD, _files, parts={p: {"split": p} for p in ("train", "val", "test")},
        sizes={"train": 1880, "val": 1880, "test": 1880}, classes=47,
        templates=_articles(*(f"a photo of @ {{}} {x}." for x in ("texture", "pattern", "thing", "object"))),
        folder="dtd/dtd", needs=("images", *(f"labels/{p}1.txt" for p in ("train", "val", "test"))),
        images="dtd/dtd", archives=("dtd/dtd-r1.0.1.tar.gz",), split_file="split_zhou_DescribableTextures.json",
    ),
    "eurosat": Source(
        datasets.EuroSAT, _samples, parts={}, sizes={"train": 21600, "test": 5400}, classes=10,
        templates=tuple(f"a centered satellite photo of {a}{{}}." for a in ("", "a ", "the ")),
        folder="eurosat", needs=("2750",), images="eurosat/2750",
        archives=("eurosat/EuroSAT.zip",), split_file="split_zhou_EuroSAT.json",
        renamed={
            "AnnualCrop": "annual crop land", "Forest": "forest", "HerbaceousVegetation": "brushland or shrubland",
            "Highway": "highway or road", "Industrial": "industrial buildings or commercial buildings",
            "Pasture": "pasture land", "PermanentCrop": "permanent crop land",
            "Residential": "residential buildings or homes or apartments", "River": "river", "SeaLake": "lake or sea",
        },
    ),
    "flowers": Source(
        datasets.Flowers102, _flowers, parts={p: {"split": p} for p in ("train", "val", "test")},
        sizes={"train": 1020, "val": 1020, "test": 6149}, classes=102,
        templates=("a photo of a {}, a type of flower.",),
        folder="flowers-102", needs=("jpg", "imagelabels.mat", "setid.mat"), images="flowers-102/jpg",
        archives=("flowers-102/102flowers.tgz",), split_file="split_zhou_OxfordFlowers.json",
    ),
    "food": Source(
        datasets.Food101, _files, parts={p: {"split": p} for p in ("train", "test")},
        sizes={"train": 75750, "test": 25250}, classes=101,
        templates=("a photo of a {}, a type of food.",),
        folder="food-101", needs=("images", "meta/train.json", "meta/test.json"), images="food-101/images",
        archives=("food-101.tar.gz",), split_file="split_zhou_Food101.json",
    ),
    "mnist": Source(
        MNIST, _mnist, parts={"train": {"train": True}, "test": {"train": False}},
        sizes={"train": 60000, "test": 10000}, classes=10,
        templates=('a photo of the number: "{}".',),
        folder="MNIST/raw",
        needs=tuple(f"{p}-ubyte" for p in MNIST_FILES), images="MNIST/raw/train-images-idx3-ubyte",
        archives=tuple(f"MNIST/raw/{p}-ubyte.gz" for p in MNIST_FILES),
    ),
    "pets": Source(
        datasets.OxfordIIITPet, lambda d: (d._images, d._labels, d.classes),
        parts={"train": {"split": "trainval"}, "test": {"split": "test"}},
        sizes={"train": 3680, "test": 3669}, classes=37,
        templates=("a photo of a {}, a type of pet.",),
        folder="oxford-iiit-pet", needs=("images", "annotations/trainval.txt", "annotations/test.txt"),
        images="oxford-iiit-pet/images",
        archives=("oxford-iiit-pet/images.tar.gz", "oxford-iiit-pet/annotations.tar.gz"),
        split_file="split_zhou_OxfordPets.json",
    ),
    "cars": Source(
        datasets.StanfordCars, lambda d: (*map(list, zip(*d._samples)), d.classes),
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
