"""Files that outlast a kill or a power cut: written whole, by one writer, with digests. Used by `run` and `pretrain`."""

import glob
import hashlib
import json
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError
from torch import Tensor

LOCK, HOLDER = "lock", "running.json"  # while a process writes in a folder: the system's lock, and whose it is
PART = ".mini_lib-part-"  # folders of files that are being written; nobody else's begin so, for leftovers are removed


def digest_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


def digest_of_checkpoint(state: dict[str, Tensor], facts: dict[str, str]) -> str:
    """Of everything in a checkpoint: tensors with their names, and what is noted beside them."""
    value = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name, tensor in sorted(state.items()):
        value.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        value.update(tensor.cpu().reshape(-1).view(torch.uint8).numpy().data)
    return value.hexdigest()[:32]


def read_json(file: Path) -> dict[str, Any]:
    """The mapping in a JSON file. Raises OSError where it cannot be read, ValueError where it is none."""
    if not file.is_file():  # reading from a pipe would wait for ever
        raise OSError(f"{file.name} is not there, or no file")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError("its brackets are nested too deeply") from error
    if not isinstance(content, dict):
        raise ValueError(f"it holds a {type(content).__name__}, no mapping")
    return content


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file whole or not at all: `write(temporary path)`, flushed to the disk, then renamed.

    Raises OSError, with the remedy, where that cannot be done; what was there before stays.
    """
    path = Path(os.path.realpath(path))  # behind a link, the file that it leads to
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            prefix=f"{PART}{path.name}-", dir=path.parent, ignore_cleanup_errors=True
        ) as folder:
            temporary = Path(folder, path.name)
            temporary.touch()
            mode = temporary.stat().st_mode & 0o777  # what the umask gives; safetensors gives its own files less
            write(temporary)
            temporary.chmod(mode)
            _flush(temporary)
            os.replace(temporary, path)
        _flush(path.parent)
    except (OSError, SafetensorError) as error:
        raise OSError(
            f"{path} cannot be written ({error}). Free some space or take another folder; finished tasks are kept."
        ) from error


def _flush(path):
    """Have a file, or the names in a folder, on the disk and not only in the system's memory."""
    if path.is_dir() and os.name == "nt":
        return  # Windows opens no folders
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sweep(folder: Path, name: str = "") -> None:
    """Remove what a killed process left of files that it was writing in a folder, or of the file of this name alone.

    For the only writer of the folder, or of the file.
    """
    for left in folder.glob(f"{PART}{glob.escape(name)}*"):
        shutil.rmtree(left, ignore_errors=True)


@contextmanager
def one_writer(out: Path, log: Callable[[str], object] = print) -> Iterator[None]:
    """Raises ValueError while another process, or another call, writes to the folder. The system frees what died.

    Also where files of somebody else have the names that are needed for this.
    """
    lock = FileLock(out / LOCK)
    holder = out / HOLDER
    try:
        out.mkdir(parents=True, exist_ok=True)
        for file, ours in ((out / LOCK, lambda: not (out / LOCK).stat().st_size), (holder, lambda: _notes(holder))):
            if os.path.lexists(file) and not (file.is_file() and not file.is_symlink() and ours()):
                raise ValueError(f"{file} is somebody else's, and a run needs this name: take another folder.")
        lock.acquire(timeout=0)
    except Timeout:
        raise ValueError(
            f"{out} is being written to by {_holder(holder)}: wait until that ends, or take another folder."
        ) from None
    except NotImplementedError:  # some network disks
        log(f"{out} lies on a disk without locks: take care that nothing else writes there")
    except OSError as error:
        raise OSError(f"{out} cannot be written to ({error}): take another folder.") from error
    try:
        facts = {"process": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        replace_file(holder, lambda path: path.write_text(json.dumps(facts), encoding="utf-8"))
        yield
    finally:
        with suppress(OSError):  # of a disk that is full or read-only by now; it would hide what is raised
            holder.unlink(missing_ok=True)
        lock.release()


def _holder(file):
    return _notes(file) or "another process"  # it is just beginning, or ending


def _notes(file):
    """Who writes, or wrote until it was killed, by what it noted; None where it did not."""
    try:
        facts = read_json(file)
        return f"process {facts['process']} on {facts['host']}, since {facts['since']}"
    except (OSError, ValueError, KeyError):
        return None
