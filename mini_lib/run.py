"""The incremental loop: learn a task, save, evaluate on all tasks, next. Shown in notebooks 02 and 07.

What a run leaves in its folder is safe from a kill or a power cut at any moment, and is never mixed with another run's.
"""

import json
import math
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import PIL
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import Dataset

from . import __version__
from .clip import check_images, class_embeddings, class_logits
from .embedded.storage import digest_of, digest_of_checkpoint, one_writer, replace_file, sweep
from .metrics import AccuracyMatrix, read_table
from .training import checksum, loader, progress, seed_everything

CHECKPOINT, MATRIX, ROUTING, VALIDATION = "checkpoint.safetensors", "matrix.csv", "routing.csv", "validation.csv"
SETTINGS, DIGESTS = "settings.json", "digests.json"  # what the run is, and what its files ought to be
FORMAT = 4  # of the folder; 1 had no digests, 2 no class names, 3 no candidates
TOLERANCE = 1e-3  # between two machines' outputs of one model
_begun: dict[Path, str] = {}  # folders that this process has written to -> which run it is


@torch.no_grad()
def evaluate(
    method: Any, task: Any, dataset: Dataset | None = None, batch_size: int = 128
) -> tuple[float, torch.Tensor | None]:
    """Accuracy in percent on a task's test images (or `dataset`), and the routers that the method selected.

    The second is a LongTensor with one index an image, or None for a method that selects nothing. batch_size: images
    judged at once, as many as in the official code, whose selector decides once for all of them. Raises ValueError for
    images of another size than the CLIP takes, for labels that are no indices into the task's class names and for scores of
    another shape, FloatingPointError for scores that are no finite numbers.
    """
    correct, selected = [], []
    for images, labels in loader(task.test if dataset is None else dataset, batch_size):
        images = images.to(getattr(method, "device", images.device))  # once for the selector and the encoder
        try:
            if hasattr(method, "select"):
                selected.append(method.select(images, task))
                scores = method.scores(images, task, selected[-1])
            else:
                scores = method.scores(images, task)
        except RuntimeError:
            if hasattr(method, "clip"):  # torch's own words say nothing of images
                check_images(method.clip, images, f"images of task {task.name!r}")
            raise
        if scores.shape != (len(images), len(task.classnames)):
            raise ValueError(
                f"{type(method).__name__}.scores gave {tuple(scores.shape)} for task {task.name!r}; "
                f"it must be (images, classes), {(len(images), len(task.classnames))}."
            )
        if not torch.isfinite(scores).all():
            raise FloatingPointError(
                f"{type(method).__name__} gave scores that are no finite numbers on {task.name!r}."
            )
        _check_labels(labels, len(images), task)
        correct.append(scores.argmax(dim=1).cpu() == labels)
    if not correct:
        raise ValueError(f"task {task.name!r} has no images to test on.")
    accuracy = 100 * torch.cat(correct).double().mean().item()
    return accuracy, torch.cat(selected).cpu() if selected else None


def _check_labels(labels, count, task):
    """Raises ValueError for labels that could not be compared, or only by chance: (B, 1) would be compared with all."""
    whole = isinstance(labels, Tensor) and not (labels.is_floating_point() or labels.dtype == torch.bool)
    if not whole or labels.shape != (count,):
        form = f"{tuple(labels.shape)}, {labels.dtype}" if isinstance(labels, Tensor) else type(labels).__name__
        raise ValueError(
            f"the labels of task {task.name!r} are one whole number an image, shape ({count},), not {form}."
        )
    if not 0 <= int(labels.min()) <= int(labels.max()) < len(task.classnames):
        raise ValueError(
            f"task {task.name!r} has labels from {int(labels.min())} to {int(labels.max())}; they are indices into its "
            f"{len(task.classnames)} class names, from 0 to {len(task.classnames) - 1}."
        )


def run(
    method: Any,
    benchmark: Any,
    out: str | Path,
    log: Callable[[str], object] = print,
    after_task: Callable[[int], object] | None = None,
    resume: bool = True,
    candidates: str | None = None,
) -> AccuracyMatrix:
    """Teach `method` the tasks of `benchmark` one after another; returns its AccuracyMatrix.

    The folder `out` holds settings.json, and after each task checkpoint.safetensors (all that was learned), matrix.csv,
    validation.csv (percent of the task's validation images that are right after it was learned, and that the original
    CLIP gets right), and for a method that selects routers routing.csv (percent of test images sent where they belong: to
    their own router once it is there, to the original CLIP before); digests.json says what these ought to be.
    The same call again goes on after the last task that was finished, and ends in the same numbers. resume: False starts
    anew; what an earlier process left in `out` is set aside under another name, and nothing is ever deleted.
    candidates: the names that a test image is judged among: "own", its task's, as in MTIL; "seen", those of all tasks learned
    so far (ODCL); "all", those of the whole stream (X-TAIL). By default what the benchmark says, "own" but for
    class-incremental ones. See `Benchmark.tested_among`. Validation images are always judged among their task's own names.
    after_task(number of tasks learned) is called before a row counts as done. What a class-incremental benchmark does not
    test yet is NaN. A task that is worse on its validation images than zero-shot is told as a warning.
    Raises ValueError where `out` holds anything but this run: one of other settings, data or CLIP, a damaged, exchanged
    or missing file, something that another process is writing; where two tasks have one name, and where the method cannot
    do what is asked of it; OSError where `out` cannot be written to.
    """
    out = Path(out)
    names = [task.name for task in benchmark.tasks]
    if len(set(names)) < len(names):
        raise ValueError(f"two tasks have the same name: {names}.")
    candidates = candidates or benchmark.candidates
    benchmark.tested_among(candidates, 1)
    if method.knows_tasks and candidates != "own":
        raise ValueError(
            f"{method.name!r} judges an image by the name of its task, which nobody tells where the candidates are "
            f"{candidates!r}: give it a selector, such as selector='gaussian'."
        )
    for task in benchmark.tasks:
        for part in ("train", "test") if method.learns else ("test",):
            if getattr(task, part) is None:
                raise ValueError(f"task {task.name!r} has no {part} images.")
    method.check_tasks(benchmark.tasks)
    benchmark.check_labels()
    for whose, image in benchmark.first_images():
        check_images(method.clip, image[None], whose)
    settings = _identity(method, benchmark) | {"candidates": candidates}
    settings = json.loads(json.dumps(settings, default=stored))
    if not resume and _begun.get(out.resolve()) != _key(settings):
        _set_aside(out, log)
    with one_writer(out, log):
        _begun[out.resolve()] = _key(settings)
        folder = RunFolder(out, settings, names, log)
        return _go_on(method, benchmark, candidates, folder, log, after_task)


def _go_on(method, benchmark, candidates, folder, log, after_task):
    names, out = folder.tasks, folder.out
    learned, seconds = folder.resume(method)
    matrix = folder.table(MATRIX)
    if matrix.done not in (learned, learned - 1):
        raise ValueError(
            f"{out} holds results of {matrix.done} tasks but a checkpoint of {learned}: one of the files was lost or "
            f"exchanged. {folder.again}"
        )
    routing = folder.table(ROUTING, matrix.done if hasattr(method, "select") else 0)
    validation, judged = folder.read(VALIDATION, needed=method.learns and learned > 0)
    if method.learns and judged < matrix.done:
        raise ValueError(f"{out / VALIDATION} is too short. {folder.again}")
    if method.learns and validation is None:
        validation = _zero_shot(method, benchmark)
        folder.write(VALIDATION, validation, 0)
    if matrix.done == len(names):
        log(f"{method.name}: all {len(names)} tasks are done already, in {out}")
        for line in worse_than_zero_shot(out):
            log(f"{method.name}: WARNING: {line}")
    for i, task in progress(list(enumerate(benchmark.tasks)), method.name):
        if i >= learned:
            began = time.perf_counter()
            if method.learns:
                method.taught = i + 1
            method.learn(task)
            seconds += time.perf_counter() - began
            folder.save(method, i + 1, seconds)
        if i >= matrix.done:
            if after_task:
                after_task(i + 1)
            seed_everything(i)  # for what is random in evaluation; a run that goes on then draws the same
            tested = benchmark.tested_among(candidates, i + 1)
            if i and not method.learns and _names(tested) == _names(benchmark.tested_among(candidates, i)):
                results = [(accuracy, None) for accuracy in matrix.values[i - 1]]  # nothing can have changed
            else:
                results = [evaluate(method, other) for other in progress(tested, "evaluation")]
            untested = [float("nan")] * (len(names) - len(results))
            if results[0][1] is not None:
                routing.add_row([well_sent(chosen, j, i) for j, (_, chosen) in enumerate(results)] + untested)
                folder.write(ROUTING, routing.frame(), i + 1)
            if method.learns:
                seed_everything(i)
                if _has_images(task.val):
                    validation.loc[task.name, "learned"] = evaluate(method, task, task.val)[0]
                folder.write(VALIDATION, validation, i + 1)
            matrix.add_row([accuracy for accuracy, _ in results] + untested)
            folder.write(MATRIX, matrix.frame(), i + 1)
            log(f"{method.name}: task {i + 1} of {len(names)}, {task.name}: {results[i][0]:.1f} %")
            for line in worse_than_zero_shot(out, task.name):
                log(f"{method.name}: WARNING: {line}")
    return matrix


def well_sent(chosen: Any, j: int, learned: int) -> float:
    """Percent of task j's images that got their own router, or none as long as it is not learned."""
    return 100 * (chosen == (j if j <= learned else -1)).double().mean().item()


def worse_than_zero_shot(out: str | Path, only: str | None = None) -> list[str]:
    """A sentence for each task (or for `only` this one) whose validation images the run in `out` judges worse than zero-shot.

    That is after the task was learned. It names both accuracies in percent, and the setting to change.
    """
    file = Path(out) / VALIDATION
    if not file.exists():
        return []
    validation = read_table(file)
    validation = validation[validation["learned"] < validation["zero-shot"]]
    rate = json.loads((Path(out) / SETTINGS).read_text(encoding="utf-8"))["method_settings"].get("learning_rate")
    return [
        f"{task}: after it was learned, {row['learned']:.1f} % of its validation images are right, {row['zero-shot']:.1f} % "
        f"by zero-shot: {'change the settings' if rate is None else f'lower learning_rate, here {_of(rate, task):g}'}."
        for task, row in validation.iterrows()
        if only in (None, task)
    ]


def _of(rate, task):
    return rate[task] if isinstance(rate, dict) else rate


def _names(tasks):
    return [task.classnames for task in tasks]


def _has_images(dataset):
    return dataset is not None and len(dataset) > 0


class _Original:
    """The CLIP that a method was given, as the judge of a task."""

    def __init__(self, method):
        self.method = method

    def scores(self, images, task):
        clip = self.method.clip
        embeddings = class_embeddings(clip.encode_text, self.method.tokens(task))
        return class_logits(clip, clip.encode_image(images.to(self.method.device)), embeddings)


def _zero_shot(method, benchmark):
    """Zero-shot accuracy on every task's validation images, before anything is learned."""
    judge, found = _Original(method), {}
    for task in progress(benchmark.tasks, "zero-shot"):
        found[task.name] = evaluate(judge, task, task.val)[0] if _has_images(task.val) else math.nan
    return pd.DataFrame({"zero-shot": found, "learned": math.nan}).rename_axis("task")


# What a run is: everything that its numbers depend on.


def _identity(method, benchmark):
    """The settings that a folder's run must share with a call that goes on with it."""
    own = method.identity()
    return own | {
        "format": FORMAT,
        "benchmark": benchmark.name,
        "benchmark_settings": benchmark.settings,
        "tasks": [task.name for task in benchmark.tasks],
        "data": benchmark.fingerprint(),
        "prompts": {task.name: [task.classnames, task.templates] for task in benchmark.tasks},
        "clip_source": getattr(method.clip, "source", None),  # for `load_run`
        "made_with": {
            "mini_lib": __version__,
            "python": platform.python_version(),
            **{module.__name__: module.__version__ for module in (torch, np, PIL)},
            "threads": torch.get_num_threads(),
            "device": str(method.device),
        },
    }


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


def _key(settings):
    """A digest of an identity, but for what is only noted in it."""
    known = {k: v for k, v in settings.items() if k not in ("made_with", "clip_source")}
    return digest_of(json.dumps(known, sort_keys=True).encode())


# Where a run is kept.


def _is_run(folder):
    """Whether `run` made what lies in a folder."""
    if (folder / DIGESTS).is_file():
        return True
    try:
        return {"method", "benchmark", "tasks"} <= set(json.loads((folder / SETTINGS).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return False


def _set_aside(out, log):
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
            return dict(json.loads((self.out / name).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise ValueError(f"{self.out / name} is damaged ({error}). {self.again}") from error

    def write(self, name: str, table: pd.DataFrame, done: int) -> None:
        """Write a table that holds the results of `done` tasks; its digest first, so that no stop leaves one without."""
        content = table.to_csv(lineterminator="\n").encode()
        self.digests.setdefault(name, {})[digest_of(content)] = done
        self._write_json(self.notes, self.digests)
        replace_file(self.out / name, lambda path: path.write_bytes(content))

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
        super().__init__(out, tasks, DIGESTS, _key(settings), again)
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
        self.key = _key(held)
        return held

    def _compare(self, settings, log):
        other, noted = differences(self.held(), settings)
        if other:
            raise ValueError(f"{self.out} holds a run of other settings ({'; '.join(other)}). {self.again}")
        if noted:
            log(f"{self.out} was begun with {'; '.join(noted)}: the last digits of what follows may differ")

    def save(self, method: Any, learned: int, seconds: float) -> None:
        """Write the checkpoint."""
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
