"""Which data sets of MTIL are there, and how to get the others: `python -m mini_lib data --root DIR`."""

import os
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path

from .sources import SOURCES, lacking, read


def state(name: str, root: str | Path) -> tuple[str, list[str]]:
    """("complete", "incomplete" or "missing"; lines that say what was found) of one data set. Damage raises nothing.

    An image counts where its file is there and not empty; whether it can be decoded shows when it is read.
    """
    source = SOURCES[name]
    absent = lacking(name, root)
    if absent:
        there = (Path(root).expanduser() / source.folder).exists()
        return "incomplete" if there else "missing", [f"it lacks {', '.join(absent)}"]
    complete, found = True, []
    for part, size in source.sizes.items():
        try:
            images, _, names = read(name, root, part)
        except ValueError as error:
            cause = error.__cause__
            return "incomplete", [f"its {part} part cannot be read ({type(cause).__name__}: {cause})"]
        there = sum(not isinstance(image, (str, Path)) or _holds_something(image) for image in images)
        complete = complete and (there, len(images), len(names)) == (size, size, source.classes)
        found.append(f"{part}: {there} of {size} images, {len(names)} of {source.classes} classes")
    return "complete" if complete else "incomplete", found


def _holds_something(file):
    return os.path.isfile(file) and os.path.getsize(file) > 0


def fetch(name: str, root: str | Path, log: Callable[[str], object] = print) -> None:
    """Have torchvision download and unpack a data set that is not complete; says what it does, raises nothing.

    Archives that are whole are unpacked again, not downloaded again; a partial one is removed, and a folder that was
    unpacked in part is moved aside, because torchvision would take either for the real thing. If nothing takes its
    place, it comes back.
    """
    source, root = SOURCES[name], Path(root).expanduser()
    if not source.archives:
        return
    folder = root / source.images
    aside = next(p for i in count(1) if not (p := folder.with_name(f"{folder.name}.incomplete{i}")).exists())
    try:
        _drop_partial_archives(name, root, log)
        if folder.exists():
            folder.rename(aside)
        _download(source, root)
    except OSError as error:
        log(f"{name}: {error}")
        _drop_partial_archives(name, root, log)
        copies = ", ".join(str(root / archive) for archive in source.archives)
        log(f"{name}: if you get a copy of it elsewhere, put it at {copies}; --download then unpacks it from there")
    finally:
        if aside.exists() and not folder.exists():
            aside.rename(folder)
    if aside.exists():
        log(f"{name}: {folder} was incomplete and is {aside.name} now: delete it when the new one is complete")


def _download(source, root):
    try:
        source.dataset(str(root), download=True, **source.parts.get("train", {}))
    except Exception as error:  # of the network, the disk or the archive: torchvision passes on many kinds
        raise OSError(f"the download failed ({type(error).__name__}: {' '.join(str(error).split())})") from error


def _drop_partial_archives(name, root, log):
    for archive in (root / a for a in SOURCES[name].archives):
        if archive.is_file() and not _whole(archive):
            try:
                archive.unlink()
                log(f"{name}: {archive} was a partial download and is removed: --download starts it again")
            except OSError as error:
                log(f"{name}: {archive} is a partial download and cannot be removed ({error}): remove it yourself")


def _whole(archive):
    """Whether an archive can be read to its end."""
    try:
        if archive.suffix == ".zip":
            with zipfile.ZipFile(archive) as opened:
                return opened.testzip() is None
        if ".tar" in archive.suffixes or archive.suffix == ".tgz":
            with tarfile.open(archive) as opened:
                return opened.getmembers() is not None
        return True  # MNIST's: torchvision compares them with checksums
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, tarfile.TarError):
        return False


def check(
    root: str | Path, names: Sequence[str] | None = None, download: bool = False, log: Callable[[str], object] = print
) -> bool:
    """Tell of each data set, or of those with these names, whether it is complete; with `download`, fetch what is not.

    True if all are complete. Raises ValueError for an unknown name and where `root` is a file, OSError where it cannot
    be looked at.
    """
    if unknown := sorted(set(names or ()) - set(SOURCES)):
        raise ValueError(f"data set {unknown[0]!r} is unknown: take some of {', '.join(SOURCES)}.")
    if Path(root).is_file():
        raise ValueError(f"--root {root} is a file: name the folder that holds the data sets, or will.")
    names = names or list(SOURCES)
    try:
        return _check(root, names, download, log)
    except OSError as error:
        raise OSError(f"{root} cannot be looked at ({error}): make it readable or take another --root.") from error


def _check(root, names, download, log):
    complete = []
    for name in names:
        status, found = state(name, root)
        if download and status != "complete":
            log(f"{name} is {status}")
            fetch(name, root, log)
            status, found = state(name, root)
        complete.append(status == "complete")
        log(f"{name:13}{status:12}{Path(root) / SOURCES[name].folder}")
        for line in found + ([] if complete[-1] else [f"to get it: {SOURCES[name].remedy}"]):
            log(f"    {line}")
    log(f"{sum(complete)} of {len(names)} data sets are complete")
    return all(complete)
