"""A run's folder: whose it is, and whether each file in it is what was written. Used by `run`, `load_run` and the studies.

What lies there is safe from a kill or a power cut at any moment, and is never mixed with another run's.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from ..metrics import AccuracyMatrix, read_table
from ..training import checksum
from .storage import digest_of, digest_of_checkpoint, one_writer, read_json, replace_file, sweep

CHECKPOINT, MATRIX, ROUTING, VALIDATION = "checkpoint.safetensors", "matrix.csv", "routing.csv", "validation.csv"
SETTINGS, DIGESTS = "settings.json", "digests.json"  # what the run is, and what its files ought to be
FORMAT = 4  # of the folder; 1 had no digests, 2 no class names, 3 no candidates
TOLERANCE = 1e-3  # between two machines' outputs of one model


def stored(value: Any) -> str:
    """What settings.json holds of a setting that is no number, text, list or mapping."""
    if isinstance(value, nn.Module):
        return f"{type(value).__name__} {checksum(value)}"
    raise ValueError(
        f"a setting is a {type(value).__name__}: take numbers, texts, lists and mappings, or a torch module."
    )


def differences(held: dict[str, Any], now: dict[str, Any]) -> tuple[list[str], list[str]]:
    """What two identities do not share, a phrase each; and what was only made with something else."""

    def flat(settings):
        found = {}
        for key, value in settings.items():
            nested = isinstance(value, dict) and key not in ("format", "outputs")
            found |= {f"{key}.{k}": v for k, v in value.items()} if nested else {key: value}
        return found

    if held.get("method") != now["method"]:
        return [f"method: {held.get('method')!r} there, {now['method']!r} now"], []
    before, after = flat(held), flat(now)
    other, noted = [], []
    for key in sorted({*before, *after}):
        a, b = before.get(key), after.get(key)
        if a == b or key.startswith("clip_source"):  # the same weights may lie elsewhere
            continue
        if key == "method_code" and None in (a, b):  # the notebook's own class, and the library's
            continue
        if key.startswith("made_with."):
            noted.append(f"{key.removeprefix('made_with.')} {a} then, {b} now")
        elif key == "outputs":
            if not _close(a, b):
                other.append("the model computes other features than then: another architecture or activation")
        elif key.startswith("given."):
            other.append(f"the method was given other {key.removeprefix('given.')}")
        elif key.startswith(("data.", "prompts.")):
            what = key.split(".", 1)[1]
            phrase = f"images, their preprocessing, labels, class names or prompts of {what!r} have changed"
            other += [phrase] if phrase not in other else []
        elif not (key.startswith("benchmark_settings.") and _is_place(a) and _is_place(b)):  # same data elsewhere
            other.append(f"{key}: {a!r} there, {b!r} now")
    return other, noted


def _close(a, b):
    try:
        a, b = (np.asarray(x or (), dtype=float) for x in (a, b))
    except (TypeError, ValueError):  # edited by hand
        return False
    return a.shape == b.shape and bool(np.allclose(a, b, rtol=0, atol=TOLERANCE))


def _is_place(value):
    return isinstance(value, str) and Path(value).is_absolute()


def key_of(settings: dict[str, Any]) -> str:
    """A digest of an identity, but for what is only noted in it."""
    known = {k: v for k, v in settings.items() if k not in ("made_with", "clip_source")}
    return digest_of(json.dumps(known, sort_keys=True).encode())


# Where a run is kept.


def _is_run(folder):
    """Whether `run` made what lies in a folder."""
    if (folder / DIGESTS).is_file():
        return True
    try:
        return {"method", "benchmark", "tasks"} <= read_json(folder / SETTINGS).keys()
    except (OSError, ValueError):
        return False


def set_aside(out: Path, log: Callable[[str], object]) -> None:
    """Give the run that an earlier process left in a folder another name."""
    if not _is_run(out):
        return
    place, others = out.resolve(), [p.parent.name for p in out.glob(f"*/{DIGESTS}")]
    home, here = Path(os.path.expanduser("~")), Path.cwd()
    if others or place in (here, *here.parents, home, *home.parents):
        what = f"the run {others[0]}, too" if others else "more than a run, for you work in it"
        raise ValueError(f"{out} holds {what}: it is not set aside. Take another folder.")
    with one_writer(out, log):
        pass  # nobody is writing to it
    number = 1
    while (aside := out.with_name(f"{out.name}.{number}")).exists():
        number += 1
    try:
        out.rename(aside)
    except OSError as error:
        raise OSError(f"{out} cannot be set aside as {aside} ({error}): take another folder.") from error
    log(f"{out} held an earlier run, which is {aside} now")


class Tables:
    """CSVs in a run's folder, and in the JSON `notes` the digest of each: what is not what was written there is refused.

    key: the digest of the settings that they belong to. again: what an error advises.
    """

    def __init__(self, out: Path, tasks: list[str], notes: str, key: str, again: str):
        self.out, self.tasks, self.notes, self.key, self.again = out, tasks, notes, key, again

    def begin(self, there: list[str]) -> None:
        """Read the notes, or begin them. there: files that are there already. Raises ValueError where they do not fit."""
        if (self.out / self.notes).exists():
            self.digests = self._json(self.notes)
            kept = [held for name, held in self.digests.items() if name != "settings"]
            if not all(isinstance(held, dict) and {*map(type, held.values())} <= {int} for held in kept):
                raise ValueError(f"{self.out / self.notes} is damaged, or was changed. {self.again}")
            if self.digests.get("settings") != self.key:
                raise ValueError(
                    f"{self.out / self.notes} belongs to other settings than {SETTINGS} says. {self.again}"
                )
        elif there:
            raise ValueError(f"{self.out} has lost its {self.notes}. {self.again}")
        else:
            self.digests: dict[str, Any] = {"settings": self.key}  # and by file, digest -> tasks whose results it holds
            self._write_json(self.notes, self.digests)

    def _write_json(self, name, content):
        text = json.dumps(content, indent=2) + "\n"
        replace_file(self.out / name, lambda path: path.write_text(text, encoding="utf-8", newline="\n"))

    def _json(self, name):
        try:
            return read_json(self.out / name)
        except (OSError, ValueError) as error:
            raise ValueError(f"{self.out / name} is damaged ({error}). {self.again}") from error

    def write(self, name: str, table: pd.DataFrame, done: int) -> None:
        """Write a table that holds the results of `done` tasks; its digest first, so that no stop leaves one without."""
        self.check_there()
        content = table.to_csv(lineterminator="\n").encode()
        self.digests.setdefault(name, {})[digest_of(content)] = done
        self._write_json(self.notes, self.digests)
        replace_file(self.out / name, lambda path: path.write_bytes(content))

    def check_there(self) -> None:
        """Raises OSError where the folder is gone: in a new one nobody could tell whose the next files are."""
        if not (self.out / self.notes).exists():
            raise OSError(
                f"{self.out} was moved or removed while it was written to: put it back, and the same call goes on after its "
                "last finished task, or begins anew."
            )

    def read(self, name: str, needed: bool = True) -> tuple[Any, int]:
        """(table, number of tasks whose results it holds) of a CSV; (None, 0) where there is none and none is needed."""
        file = self.out / name
        if not file.exists():
            if needed:
                raise ValueError(f"{file} is missing. {self.again}")
            return None, 0
        content = file.read_bytes() if file.is_file() else b""
        done = self.digests.get(name, {}).get(digest_of(content))
        if done is None:
            raise ValueError(f"{file} is damaged, or was changed: it is not what was written there. {self.again}")
        return read_table(file), done

    def table(self, name: str, rows: int | None = None) -> AccuracyMatrix:
        """The results in a CSV, the first `rows` of them where that is known: a stop may have come between two files."""
        table, done = self.read(name, needed=bool(rows))
        if rows is not None and done < rows:
            raise ValueError(f"{self.out / name} is too short. {self.again}")
        return AccuracyMatrix(self.tasks, () if table is None else table.to_numpy()[:rows])


class RunFolder(Tables):
    """A run's folder: whether it is this run's, and whether each file in it is what was written."""

    def __init__(self, out, settings, tasks, log):
        again = f"Take another folder, or start anew with resume=False (RESUME = False in a notebook), which sets {out} aside."
        super().__init__(out, tasks, DIGESTS, key_of(settings), again)
        sweep(out)
        results = [name for name in (CHECKPOINT, MATRIX, ROUTING, VALIDATION) if (out / name).exists()]
        if (out / SETTINGS).exists():
            self._compare(settings, log)
        elif results or (out / DIGESTS).exists():
            raise ValueError(
                f"{out} holds {', '.join(results or [DIGESTS])} but no {SETTINGS}: whose they are cannot be told. Take "
                "another folder, or move them away."
            )
        else:
            self._write_json(SETTINGS, settings)
        self.begin(results)

    def held(self) -> dict[str, Any]:
        """The settings that lie there, by which all else there is known."""
        if not _is_run(self.out):
            raise ValueError(
                f"{self.out / SETTINGS} is somebody else's, and a run needs this name: take another folder."
            )
        held = self._json(SETTINGS)
        if held.get("format") != FORMAT:
            raise ValueError(
                f"{self.out} is no run of this version of mini_lib: go on with the version that made it. {self.again}"
            )
        self.key = key_of(held)
        return held

    def _compare(self, settings, log):
        other, noted = differences(self.held(), settings)
        if other:
            versions = f", begun with {'; '.join(noted)}" if noted else ""  # may be why the images are others
            raise ValueError(f"{self.out} holds a run of other settings ({'; '.join(other)}){versions}. {self.again}")
        if noted:
            log(f"{self.out} was begun with {'; '.join(noted)}: the last digits of what follows may differ")

    def save(self, method: Any, learned: int, seconds: float) -> None:
        """Write the checkpoint."""
        self.check_there()
        state = {k: v.detach().cpu().contiguous() for k, v in method.state_dict().items()}
        facts = {"tasks": str(learned), "seconds": f"{seconds:.2f}", "settings": self.key}
        metadata = facts | {"digest": digest_of_checkpoint(state, facts)}
        replace_file(self.out / CHECKPOINT, lambda path: save_file(state, path, metadata=metadata))

    def resume(self, method: Any) -> tuple[int, float]:
        """Load the newest checkpoint, if there is one; returns the number of tasks learned and the seconds they took."""
        file = self.out / CHECKPOINT
        if not file.exists():
            self._check_taught(method, 0)
            return 0, 0.0
        try:
            if not file.is_file():  # opening a pipe would wait for ever
                raise OSError("it is no file")
            with safe_open(file, framework="pt") as saved:
                facts = dict(saved.metadata() or {})
                # copied: a matrix product of what is not aligned in memory ends in other last bits
                state = {name: saved.get_tensor(name).clone() for name in saved.keys()}
        except (OSError, SafetensorError) as error:
            raise ValueError(f"the checkpoint {file} is damaged ({error}). {self.again}") from error
        digest = facts.pop("digest", None)
        if facts.get("settings") != self.key:
            raise ValueError(f"{file} is no checkpoint of this run: it was exchanged. {self.again}")
        if digest != digest_of_checkpoint(state, facts):
            raise ValueError(f"the checkpoint {file} is damaged: it is not what was written there. {self.again}")
        self._check_taught(method, int(facts["tasks"]))
        try:
            if state:
                method.load_state_dict(state)
                method.taught = int(facts["tasks"])
        except (KeyError, TypeError, RuntimeError) as error:
            raise ValueError(f"{file} is no checkpoint of {method.name!r} ({error}). {self.again}") from error
        return int(facts["tasks"]), float(facts["seconds"])

    def _check_taught(self, method, learned):
        """Raises ValueError for a method that knows more than lies here: what it learns next would begin elsewhere."""
        if method.taught > learned:
            raise ValueError(
                f"this {method.name!r} was stopped in the middle of a task, or has learned for another folder: make the "
                f"method anew, and run it again; what is finished lies in {self.out}."
            )


def seconds_learned(out: str | Path) -> float:
    """Seconds of training that the run in `out` has taken, over all its sessions."""
    with safe_open(Path(out) / CHECKPOINT, framework="pt") as saved:
        return float(saved.metadata()["seconds"])
