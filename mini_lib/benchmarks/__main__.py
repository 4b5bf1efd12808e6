"""`python -m mini_lib.benchmarks check --root DIR`: which data sets of MTIL are there, and how to get the others."""

import argparse
import os
import sys
import tarfile
import zipfile
import zlib
from itertools import count
from pathlib import Path

from .sources import SOURCES, lacking, read


def state(name, root):
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


def fetch(name, root, log=print):
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


def check(root, names, download=False, log=print):
    """Tell of each data set whether it is complete; with `download`, fetch those that are not. True if all are."""
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


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m mini_lib.benchmarks", description=__doc__)
    command = parser.add_subparsers(required=True).add_parser("check", help="say which data sets are there")
    command.add_argument("--root", default="data/mtil", help="the folder that holds them all (default: %(default)s)")
    command.add_argument("--only", nargs="+", choices=SOURCES, default=list(SOURCES), metavar="NAME")
    command.add_argument("--download", action="store_true", help="fetch those that torchvision can download")
    chosen = parser.parse_args(arguments)
    if Path(chosen.root).is_file():
        parser.error(f"--root {chosen.root} is a file: name the folder that holds the data sets, or will.")
    try:
        return 0 if check(chosen.root, chosen.only, chosen.download) else 1
    except KeyboardInterrupt:
        print("Stopped. The same command goes on; a partial download starts again.", file=sys.stderr)
        return 130
    except OSError as error:
        print(f"{chosen.root} cannot be looked at ({error}): make it readable or take another --root.", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
