"""Every image is opened once before the first task, so that none proves damaged in the middle of a run.

What was found out is kept in the user's cache folder, so that the next time a look at size and times of each file is enough.
"""

import hashlib
import io
import json
import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import ImageFile, UnidentifiedImageError
from PIL import __version__ as pillow

from ..training import progress
from .files import open_image, shown

UNKNOWN = "it is no kind of image that Pillow decodes"
NAMED = 20  # damaged files that an error names


class Facts(NamedTuple):
    """What is in a file.

    stamp: its size and times, by which a changed file is known. digest: of its contents. opened: whether it was decoded.
    depth: "" for 8 bits a value, "I" for integers of more, "C" for colour of 16 bits, "A" for the same that only Pillow's
    upper eight bits can be had of, "F" for floats; top: the largest value in it, where that is asked for.
    """

    stamp: str
    digest: str
    opened: bool = False
    depth: str = ""
    top: float = 0.0


KINDS = (str, str, bool, str, float)  # of the parts of Facts
_known: dict[str, Facts] = {}  # absolute path -> facts, as long as this process lives


def examine(folders: Mapping[Path, Sequence[Path | str]], advice: str) -> None:
    """Open each image, header and data; folders: {folder: images in it}. Several threads, a progress bar, a cache.

    Raises one ValueError that names what is absent, empty, unreadable or damaged: the first twenty, how many more, and
    `advice`.
    """
    damaged = {}
    for folder, paths in folders.items():
        damaged |= find_damaged(folder, paths)
    if damaged:
        lines = [f"\n- {shown(p)} cannot be read as an image ({why})" for p, why in list(damaged.items())[:NAMED]]
        more = f"\n- and {len(damaged) - NAMED:,} more" if len(damaged) > NAMED else ""
        total = sum(map(len, folders.values()))
        raise ValueError(f"{len(damaged):,} of {total:,} images cannot be read:{''.join(lines)}{more}\n{advice}")


def facts(path: Path | str) -> Facts:
    """What is in a file: what is known of it, or its digest alone. Raises OSError where it cannot be read."""
    key, stamp = os.path.abspath(path), _stamp(path)
    if key not in _known or _known[key].stamp != stamp:
        _known[key] = Facts(stamp, _digest(Path(path).read_bytes()))
    return _known[key]


def find_damaged(folder: Path, paths: Sequence[Path | str]) -> dict[Path | str, str]:
    """Open each image as `examine` does; {path: what is wrong with it} of those that cannot be read."""
    stamps, damaged = {}, {}
    for path in paths:
        try:
            stamps[path] = _stamp(path)
        except OSError as error:
            damaged[path] = error.strerror
    todo = [path for path, stamp in stamps.items() if not _is_known(path, stamp)]
    kept = _load(folder) if todo else {}
    for path in todo:
        if (found := kept.get(_place(path, folder))) and found.stamp == stamps[path]:
            _known[os.path.abspath(path)] = found
    todo = [path for path in todo if not _is_known(path, stamps[path])]
    bar = progress((), f"opening the images of {Path(folder).name}", total=len(todo))
    try:
        with bar, ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            for first in range(0, len(todo), 1000):  # so that a stop need not wait for all
                some = todo[first : first + 1000]
                for path, found in zip(some, pool.map(_look, some, (stamps[path] for path in some))):
                    bar.update()
                    if isinstance(found, Facts):
                        _known[os.path.abspath(path)] = found
                    else:
                        damaged[path] = found
    finally:
        if todo:
            new = {path: _known[os.path.abspath(path)] for path in todo if _is_known(path, stamps[path])}
            _save(folder, kept | {_place(path, folder): found for path, found in new.items()})
    return {path: damaged[path] for path in paths if path in damaged}


def _is_known(path, stamp):
    found = _known.get(os.path.abspath(path))
    return found is not None and found.opened and found.stamp == stamp


def _stamp(path):
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):  # reading from a pipe would wait for ever
        raise OSError(0, "it is no file")
    return f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"


def _digest(content):
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _look(path, stamp):
    """The facts of one image, or what is wrong with it."""
    try:
        content = Path(path).read_bytes()
        if not content:
            return "it is empty"
        with open_image(io.BytesIO(content)) as image:
            image.draft(None, (1, 1))  # a JPEG is read to its end all the same, in half the time
            depth = depth_of(image)
            image.load()
            top = 0.0
            if depth:
                values = np.asarray(image)
                if not np.isfinite(values).all():
                    return "some of its pixels are no numbers"
                if values.min() < 0:
                    return "some of its pixels are negative, and nobody says which value is black"
                if depth in ("A", "C"):  # the upper bytes, without transparency: the value is at most this
                    values = values[..., :3].astype(np.int64) * 256 + 255
                top = float(values.max())
            elif not image.mode.startswith(("I", "F")):
                image.crop((0, 0, 1, 1)).convert("RGB")  # some modes have no way to RGB
            return Facts(stamp, _digest(content), True, depth, top)
    except UnidentifiedImageError:
        text = content[:512].lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml", b"<svg", b"<head"))
        return "it is a web page or a drawing in XML" if text else UNKNOWN
    except Exception as error:  # a damaged file can make Pillow raise anything
        return getattr(error, "strerror", None) or str(error) or type(error).__name__


def depth_of(image) -> str:
    """`Facts.depth` of an image that is opened and not yet loaded; "" where the file itself says which value is white."""
    if image.mode.startswith("I"):
        return "" if own_white(image) else "I"
    if image.mode == "F":
        return "F"
    packed = image.tile[0][3] if getattr(image, "tile", None) else ""
    packed = str(packed if isinstance(packed, str) or not packed else packed[0])  # as RGB;16B
    if ";16" not in packed:
        return ""
    return "C" if packed.startswith(("RGB;16", "RGBA;16")) else "A"


def own_white(image) -> int | None:
    """The value of white, where the file says it: PGM does, and a TIFF of fewer than 16 bits."""
    if image.format == "PPM" and image.tile[0][0] != "raw":
        return 65535  # Pillow has scaled it already
    if image.format == "TIFF" and (bits := max(image.tag_v2.get(258, (16,)))) not in (8, 16, 32):
        return 2**bits - 1
    return None


# The cache: a file for each folder, {place in the folder: facts}


def user_folder() -> Path:
    """Where this user's caches and locks lie. Raises RuntimeError where there is no home folder."""
    if os.name == "nt":
        base = os.environ.get("LOCALAPPDATA")
    else:
        base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "mini_lib"


def _cache(folder):
    return user_folder() / "images" / f"{_digest(os.path.abspath(folder).encode('utf-8', 'surrogatepass'))}.json"


def _place(path, folder):
    return os.path.relpath(path, folder)


def _reader():
    """By whom the images were opened: another one may decode others."""
    return f"1, Pillow {pillow}, truncated {ImageFile.LOAD_TRUNCATED_IMAGES}"


def _load(folder):
    try:
        content = json.loads(_cache(folder).read_text(encoding="utf-8"))
        if content["reader"] != _reader():
            return {}
        kept = {place: Facts(*found) for place, found in content["files"].items()}
        right = all(isinstance(part, kind) for found in kept.values() for part, kind in zip(found, KINDS))
        return kept if right else {}
    except (OSError, RuntimeError, ValueError, TypeError, KeyError, AttributeError):
        return {}  # none there, damaged, or no home folder: the images are opened again


def _save(folder, files: Mapping[str, Iterable]) -> None:
    try:
        file = _cache(folder)
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_name(f"{file.name}.{os.getpid()}.part")
        try:
            part.write_text(json.dumps({"reader": _reader(), "files": files}), encoding="utf-8")
            os.replace(part, file)
        finally:
            part.unlink(missing_ok=True)
    except (OSError, RuntimeError):
        pass  # a cache saves time, nothing more
