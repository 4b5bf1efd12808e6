"""Which data sets of MTIL are there, and how to get the others: `python -m mini_lib data --root DIR`."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from . import archives
from .fingerprint import digest
from .sources import SOURCES, holds_something, lacking, read
from .verify import user_folder


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
        there = sum(not isinstance(image, (str, Path)) or holds_something(image) for image in images)
        complete = complete and (there, len(images), len(names)) == (size, size, source.classes)
        found.append(f"{part}: {there} of {size} images, {len(names)} of {source.classes} classes")
    return "complete" if complete else "incomplete", found


def fetch(name: str, root: str | Path, log: Callable[[str], object] = print) -> None:
    """Download and unpack a data set that is not complete; says what it does, raises nothing.

    Archives that are whole are unpacked again, not downloaded again. Nothing is deleted: what is in the way is moved aside.
    Where another process of this user fetches it just now, nothing is done.
    """
    source, root = SOURCES[name], Path(root).expanduser()
    with _alone(name, root) as alone:
        if alone:
            _fetch(name, source, root, log)
        else:
            log(f"{name}: another process fetches it into {root} just now: wait until that ends, then try again")


@contextmanager
def _alone(name: str, root: Path) -> Iterator[bool]:
    """Whether no other process fetches a data set into this root. The system frees what a dead one held."""
    held = None
    with suppress(OSError, RuntimeError, NotImplementedError):  # no home, or no locks there: then nobody is kept out
        file = user_folder() / "downloads" / f"{name}-{digest(os.path.realpath(root))}.lock"
        file.parent.mkdir(parents=True, exist_ok=True)
        held = FileLock(file)
        try:
            held.acquire(timeout=0)
        except Timeout:
            held = None
            yield False
            return
    try:
        yield True
    finally:
        if held:
            held.release()


def _fetch(name, source, root, log):
    try:
        for archive in source.archives:
            archives.fetch(archive, root, log)
        for archive in source.archives:
            archives.unpack(archive, root, log)
    except (OSError, ValueError) as error:
        log(f"{name}: {' '.join(str(error).split())}")
        copies = ", ".join(str(root / archive.file) for archive in source.archives)
        log(
            f"{name}: if you get a copy of the published archive elsewhere, put it at {copies}; --download then unpacks it"
        )


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
