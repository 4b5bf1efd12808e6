"""Whether a submission changed anything that is not its own: the course folder, other submissions, the library."""

import os
from collections.abc import Iterator
from pathlib import Path


def _files(folder: Path) -> Iterator[Path]:
    """All files and links below a folder, which may be a file itself."""
    if not folder.is_dir():
        yield from [folder] if os.path.lexists(folder) else []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in ("__pycache__", ".ipynb_checkpoints")]
        yield from (Path(place, name) for name in names)


def _state(path: Path) -> tuple[int, ...]:
    """Changes whenever a file is written to, replaced or linked: ctime cannot be set."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:  # it was there a moment ago
        return ()
    return found.st_mode, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


class Untouched:
    """kept: folders whose files are held here, and put back; watched: folders whose files are only looked at."""

    def __init__(self, kept: list[Path], watched: list[Path]):
        self.kept, self.watched = kept, watched
        self.states: dict[Path, tuple[int, ...]] = {}
        self.contents: dict[Path, bytes] = {}

    def _now(self) -> tuple[dict[Path, tuple[int, ...]], set[Path]]:
        kept = {path: _state(path) for folder in self.kept for path in _files(folder)}
        return kept | {path: _state(path) for folder in self.watched for path in _files(folder)}, set(kept)

    def note(self) -> None:
        """Everything is as it should be now."""
        states, kept = self._now()
        new = [
            path for path in kept if states[path] != self.states.get(path) and path.is_file() and not path.is_symlink()
        ]
        self.contents = {path: data for path, data in self.contents.items() if path in kept}
        self.contents |= {path: path.read_bytes() for path in new}
        self.states = states

    def changed(self) -> tuple[list[str], list[str]]:
        """The names of files that are others now or gone, and of new ones in `watched`, where others may put them.

        Those of `kept` are put back as they were; what stood there instead gets the ending .changed.
        """
        states, kept = self._now()
        found = sorted(path for path in self.states | states if self.states.get(path) != states.get(path))
        for path in found:
            if path in kept:
                os.replace(path, path.with_name(path.name + ".changed"))
            if path in self.contents:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(self.contents[path])
        new = [path for path in found if path not in self.states and path not in kept]
        return [path.name for path in found if path not in new], [path.name for path in new]
