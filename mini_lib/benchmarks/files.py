"""Files of images: which of a folder's files are images, and opening one. Used by `folders`, and by all that reads files."""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image, features

# What Pillow only recognises, or hands on to another program (EPS runs Ghostscript): never opened, whatever the suffix.
NEVER = {"BUFR", "EPS", "GRIB", "HDF5", "IPTC", "MPEG", "WMF"}
NEEDS = {"AVIF": "avif", "JPEG": "jpg", "JPEG2000": "jpg_2000", "PNG": "zlib", "WEBP": "webp"}  # parts of Pillow
LITTER = {  # what systems leave behind; names that begin with a dot count, too
    "__macosx", "@eadir", "@recycle", "@tmp", "#recycle", "#snapshot", "$recycle.bin", "system volume information",
    "lost+found", "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "icon\r", "__pycache__",
}  # fmt: skip
PICTURES = {  # suffixes of images that not every Pillow decodes: worth a hint
    ".arw", ".avif", ".cr2", ".cr3", ".dcm", ".dng", ".eps", ".exr", ".hdr", ".heic", ".heif", ".jp2", ".jxl",
    ".nef", ".orf", ".psd", ".raf", ".rw2", ".svg", ".svgz", ".webp",
}  # fmt: skip


def formats() -> list[str]:
    """The formats that the installed Pillow decodes, those that a plugin has registered included."""
    Image.init()
    return _usable(tuple(Image.ID))


@lru_cache
def _usable(registered):
    lacking = {
        f for f, part in NEEDS.items() if part in {**features.modules, **features.codecs} and not features.check(part)
    }
    return [f for f in registered if f not in NEVER | lacking]


def suffixes() -> set[str]:
    """The suffixes of these formats, in small letters, as .jpg."""
    known = set(formats())
    return {suffix for suffix, form in Image.registered_extensions().items() if form in known}


def open_image(file: Any) -> Image.Image:
    """Image.open of a path or an open file, for formats that Pillow decodes by itself."""
    image: Any = Image.open(file, formats=formats())
    if image.format == "TIFF":  # Pillow then maps no file: the rows of a turned one would get the width of its columns
        image.load_seek = image.fp.seek
    return image


def shown(path: str | Path) -> str:
    """A path as it can be printed in one line on any screen, whatever bytes its name is made of."""
    return str(path) if str(path).isprintable() else ascii(str(path))


def same_name(name: str) -> str:
    """A name spelled in one way: macOS takes letters with accents apart, other systems keep them whole (Unicode NFC)."""
    return unicodedata.normalize("NFC", name)


def is_litter(name: str) -> bool:
    """Whether a system, not the user, left a file or folder of this name."""
    return name.startswith((".", "~$")) or name.casefold() in LITTER


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, without litter, sorted by name in one order on all systems.

    Raises ValueError where it cannot be read.
    """
    found = (p for p in _listed(folder) if os.path.isdir(p) and not is_litter(p.name))
    return sorted(found, key=lambda p: same_name(p.name))


def find_images(folder: Path) -> tuple[list[Path], Counter[str]]:
    """The images in a folder and below it, links followed, in one order on all systems; other files, counted by suffix.

    An image is what has a suffix of `suffixes`. Litter is left out of both. Raises ValueError for a folder that cannot
    be read.
    """
    wanted, found, others = suffixes(), [], Counter()
    seen, due = set(), [folder]
    while due:
        here = due.pop(0)
        if os.path.realpath(here) in seen:  # a link to a folder above it, or a second one to the same
            continue
        seen.add(os.path.realpath(here))
        for path in _listed(here):
            suffix = path.suffix.lower()
            if is_litter(path.name):
                continue
            if os.path.isdir(path):
                due.append(path)
            elif suffix in wanted:
                found.append(path)
            else:
                others[suffix] += 1
    return sorted(found, key=lambda p: [same_name(part) for part in p.relative_to(folder).parts]), others


def loose_images(folder: Path) -> Counter[str]:
    """The images that lie in a folder itself, and pictures that Pillow may not open, counted by suffix."""
    kinds = suffixes() | PICTURES
    files = [p for p in _listed(folder) if not is_litter(p.name) and not os.path.isdir(p)]
    return Counter(p.suffix.lower() for p in files if p.suffix.lower() in kinds)


def _listed(folder):
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise ValueError(f"folder {shown(folder)} cannot be read ({error.strerror}): make it readable.") from error


def told(others: Mapping[str, int]) -> str:
    """Counted suffixes in words: "10 .heic, 2 .txt, 1 without a suffix"."""
    most = sorted(others.items(), key=lambda pair: (-pair[1], pair[0]))
    return ", ".join(f"{count} {shown(suffix) or 'without a suffix'}" for suffix, count in most)


def advice(suffixes: Iterable[str]) -> str:
    """How to go on with pictures that were skipped; empty where none was a picture."""
    pictures = sorted(PICTURES & set(suffixes))
    return f" Convert {' and '.join(pictures)} to .jpg or .png, so that they take part." if pictures else ""
