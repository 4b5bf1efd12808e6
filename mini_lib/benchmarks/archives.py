"""Archives of data sets: fetched, compared with their SHA-256, and unpacked so that nothing lands outside its folder."""

import gzip
import hashlib
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from itertools import count
from pathlib import Path, PurePosixPath, PureWindowsPath
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from ..training import progress

MOST = 2_000_000  # files and folders in one archive
CHUNK = 2**20
DAMAGE = (EOFError, gzip.BadGzipFile, zlib.error, zipfile.BadZipFile, tarfile.TarError, RuntimeError)


@dataclass(frozen=True)
class Archive:
    """A file of a data set that can be downloaded.

    file: its place under the root; url; sha256. holds: the folder or file in it that is unpacked beside it, "" for a
    file that is taken as it is. inner: the archive within the archive that holds it.
    """

    file: str
    url: str
    sha256: str
    holds: str = ""
    inner: str = ""


def fetch(archive: Archive, root: Path, log: Callable[[str], object]) -> None:
    """Have a whole archive in its place: one that is there, or a download, which goes on where an earlier one broke off.

    A file there that is not the published one is moved aside. Raises OSError where the download fails.
    """
    file = root / archive.file
    if file.exists():
        if sha256(file) == archive.sha256:
            return
        log(
            f"{file} is not the published archive (damaged, a part of it, or another): it is {aside(file, 'other').name} now"
        )
    part = file.with_name(f"{file.name}.part")
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        _download(archive.url, part)
    except HTTPException as error:
        raise OSError(f"{archive.url}: {type(error).__name__} {error}") from error
    if sha256(part) != archive.sha256:
        part.unlink()
        raise OSError(f"{archive.url} gave another file than the published one (its SHA-256 differs); it is not kept")
    os.replace(part, file)


def _download(url, part):
    there = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "mini_lib"} | ({"Range": f"bytes={there}-"} if there else {})
    try:
        response = urlopen(Request(url, headers=headers), timeout=60)
    except HTTPError as error:
        if error.code == 416 and there:  # nothing is left to fetch
            return
        raise
    with response:
        if response.status != 206:
            there = 0
        total = there + int(response.headers.get("Content-Length") or 0)
        with part.open("ab" if there else "wb") as out, progress((), f"downloading {part.stem}", total=total) as bar:
            bar.update(there)
            while chunk := response.read(CHUNK):
                out.write(chunk)
                bar.update(len(chunk))
    if part.stat().st_size < total:
        raise OSError(
            f"{url} broke off after {part.stat().st_size:,} of {total:,} bytes; the next try goes on from there"
        )


def sha256(file: Path) -> str:
    """The SHA-256 of a file."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def aside(path: Path, why: str) -> Path:
    """Move a file or folder to a name of its own beside it, path.why1; returns where it is."""
    to = next(p for i in count(1) if not (p := path.with_name(f"{path.name}.{why}{i}")).exists())
    path.rename(to)
    return to


def unpack(archive: Archive, root: Path, log: Callable[[str], object]) -> None:
    """Unpack what the archive holds beside it: into a folder of its own first, which then takes its place at once.

    What is there already and has the same files of the same sizes stays; anything else is moved aside.
    Raises ValueError, naming the member, for a path that leads out, a link, a device, more than fits on the disk, and
    an archive that is damaged or does not hold what it should.
    """
    file = root / archive.file
    if not archive.holds:
        return
    fresh = file.with_name(f".{file.name}.unpacking")
    if fresh.exists():  # of a try that was killed
        shutil.rmtree(fresh)
    fresh.mkdir()
    try:
        extract(file, fresh)
        if archive.inner:
            extract(fresh / archive.inner, fresh)
        found, place = fresh / archive.holds, file.with_name(archive.holds)
        if not found.exists():
            raise ValueError(f"{file} does not hold {archive.holds!r}: it is another archive.")
        if place.exists():
            if _files(place) == _files(found):
                return
            log(f"{place} was incomplete and is {aside(place, 'incomplete').name} now: delete it when all is well")
        os.replace(found, place)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _files(place):
    files = [place] if place.is_file() else [p for p in place.rglob("*") if p.is_file()]
    return {p.relative_to(place): p.stat().st_size for p in files}


def extract(file: Path, folder: Path) -> None:
    """All of a .tar, .tar.gz, .tgz, .zip or .gz file into a folder. Raises ValueError as `unpack` does."""
    if not hasattr(tarfile, "data_filter"):
        raise ValueError(
            "this Python cannot unpack archives safely: update it (to 3.11.4 or later), or unpack by hand."
        )
    room = _Room(file, folder)
    try:
        if file.suffix == ".zip":
            with zipfile.ZipFile(file) as opened:
                for member in opened.infolist():
                    kind = stat.S_IFMT(member.external_attr >> 16)
                    room.take(member.filename, member.file_size, kind in (0, stat.S_IFREG, stat.S_IFDIR))
                opened.extractall(folder)
        elif file.suffix == ".tgz" or ".tar" in file.suffixes:
            with tarfile.open(file) as opened:
                for member in opened:
                    room.take(member.name, member.size, member.isreg() or member.isdir())
                    opened.extract(member, folder, filter="data")
        else:
            with gzip.open(file) as opened, (folder / file.stem).open("wb") as out:
                while chunk := opened.read(CHUNK):
                    room.take(file.stem, len(chunk), True)
                    out.write(chunk)
    except DAMAGE as error:
        raise ValueError(f"{file} is damaged, or no archive that can be unpacked ({error}).") from error


class _Room:
    """What an archive may take: paths within its folder, plain files and folders, no more bytes than the disk has free."""

    def __init__(self, file, folder):
        self.file, self.bytes, self.members = file, shutil.disk_usage(folder).free, MOST

    def take(self, name: str, size: int, plain: bool) -> None:
        self.bytes, self.members = self.bytes - abs(size), self.members - 1
        parts = {*PurePosixPath(name).parts, *PureWindowsPath(name).parts}
        if ".." in parts or PurePosixPath(name).is_absolute() or PureWindowsPath(name).anchor:
            wrong = "lies outside of the folder that it is unpacked in"
        elif not plain:
            wrong = "is a link or a device, no plain file"
        elif self.bytes < 0:
            wrong = "is more than fits on the disk, together with those before it"
        elif self.members < 0:
            wrong = f"is one too many: no data set has more than {MOST:,} files"
        else:
            return
        raise ValueError(f"{self.file} is refused: its member {ascii(name)} {wrong}. Nothing of it is kept.")
