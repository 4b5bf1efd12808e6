"""The incremental loop: learn a task, save, evaluate on all tasks, next. Shown in notebooks 02 and 07."""

import dataclasses
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch.utils.data import Dataset

from .metrics import AccuracyMatrix
from .training import loader, progress, seed_everything

CHECKPOINT, MATRIX, ROUTING, SETTINGS = "checkpoint.safetensors", "matrix.csv", "routing.csv", "settings.json"


@torch.no_grad()
def evaluate(
    method: Any, task: Any, dataset: Dataset | None = None, batch_size: int = 128
) -> tuple[float, torch.Tensor | None]:
    """Accuracy in percent on a task's test images (or `dataset`), and the routers that the method selected.

    The second is a LongTensor with one index an image, or None for a method that selects nothing. batch_size: images
    judged at once, as many as in the official code, whose selector decides once for all of them.
    """
    correct, selected = [], []
    for images, labels in loader(task.test if dataset is None else dataset, batch_size):
        if hasattr(method, "select"):
            selected.append(method.select(images, task))
            scores = method.scores(images, task, selected[-1])
        else:
            scores = method.scores(images, task)
        if scores.shape != (len(images), len(task.classnames)):
            raise ValueError(
                f"{type(method).__name__}.scores gave {tuple(scores.shape)} for task {task.name!r}; "
                f"it must be (images, classes), {(len(images), len(task.classnames))}."
            )
        if not torch.isfinite(scores).all():
            raise FloatingPointError(
                f"{type(method).__name__} gave scores that are no finite numbers on {task.name!r}."
            )
        correct.append(scores.argmax(dim=1).cpu() == labels)
    if not correct:
        raise ValueError(f"task {task.name!r} has no images to test on.")
    accuracy = 100 * torch.cat(correct).double().mean().item()
    return accuracy, torch.cat(selected).cpu() if selected else None


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file whole or not at all: `write(temporary path)`, then an atomic rename.

    Raises OSError, with the remedy, where that cannot be done; what was there before stays.
    """
    temporary = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        raise OSError(
            f"{path} cannot be written ({error}). Free some space or take another folder; finished tasks are kept."
        ) from error
    finally:
        if path.parent.is_dir():
            temporary.unlink(missing_ok=True)


def run(
    method: Any,
    benchmark: Any,
    out: str | Path,
    log: Callable[[str], object] = print,
    after_task: Callable[[int], object] | None = None,
) -> AccuracyMatrix:
    """Teach `method` the tasks of `benchmark` one after another; returns its AccuracyMatrix.

    The folder `out` holds settings.json, and after each task checkpoint.safetensors (all that was learned),
    matrix.csv, and for a method that selects routers routing.csv (percent of test images sent where they belong: to
    their own router once it is there, to the original CLIP before). The same call again goes on after the last task
    that was finished, and ends in the same numbers. after_task(number of tasks learned) is called before a row counts
    as done. What a class-incremental benchmark does not test yet is NaN.
    Raises ValueError where `out` holds a run of other settings or of another CLIP, or a damaged or missing file, where
    two tasks have one name, and where the method cannot do what is asked of it; OSError where `out` cannot be written to.
    """
    out = Path(out)
    names = [task.name for task in benchmark.tasks]
    if len(set(names)) < len(names):
        raise ValueError(f"two tasks have the same name: {names}.")
    if method.interrupted:
        raise ValueError(
            f"this {method.name!r} was stopped in the middle of a task: make the method anew, and run it again; "
            f"what is finished lies in {out}."
        )
    if method.knows_tasks and benchmark.tested(1)[0].name not in names:
        raise ValueError(
            f"{method.name!r} judges an image by the name of its task; {benchmark.name!r} does not tell it."
        )
    method.settings.check_tasks(names)
    settings = {
        "method": method.name,
        "method_settings": dataclasses.asdict(method.settings),
        "clip": {"checksum": method.start},
        "benchmark": benchmark.name,
        "benchmark_settings": benchmark.settings,
        "tasks": names,
    }
    _claim(out, json.loads(json.dumps(settings)))
    learned, seconds = _resume(method, out)
    matrix = _read(out / MATRIX, names)
    if matrix.done not in (learned, learned - 1):
        raise ValueError(
            f"{out} holds results of {matrix.done} tasks but a checkpoint of {learned}: one of the files was lost or "
            "exchanged. Delete the folder to start this run again."
        )
    routing = _read(out / ROUTING, names)
    if hasattr(method, "select") and routing.done < matrix.done:
        raise ValueError(f"{out / ROUTING} is missing or too short. Delete {out} to start this run again.")
    routing = AccuracyMatrix(names, routing.values[: matrix.done])  # a stop may have come between the two files
    if matrix.done == len(names):
        log(f"{method.name}: all {len(names)} tasks are done already, in {out}")
    for i, task in progress(list(enumerate(benchmark.tasks)), method.name):
        if i >= learned:
            began = time.perf_counter()
            method.interrupted = True
            method.learn(task)
            method.interrupted = False
            seconds += time.perf_counter() - began
            facts = {"tasks": str(i + 1), "seconds": f"{seconds:.2f}"}
            state = {k: v.detach().cpu().contiguous() for k, v in method.state_dict().items()}
            replace_file(out / CHECKPOINT, lambda path: save_file(state, path, metadata=facts))
        if i >= matrix.done:
            if after_task:
                after_task(i + 1)
            seed_everything(i)  # for what is random in evaluation; a run that goes on then draws the same
            tested = benchmark.tested(i + 1)
            if i and not method.learns and tested is benchmark.tested(i):
                results = [(accuracy, None) for accuracy in matrix.values[i - 1]]  # nothing can have changed
            else:
                results = [evaluate(method, other) for other in progress(tested, "evaluation")]
            untested = [float("nan")] * (len(names) - len(results))
            if results[0][1] is not None:
                routing.add_row([well_sent(chosen, j, i) for j, (_, chosen) in enumerate(results)] + untested)
                replace_file(out / ROUTING, routing.frame().to_csv)
            matrix.add_row([accuracy for accuracy, _ in results] + untested)
            replace_file(out / MATRIX, matrix.frame().to_csv)
            log(f"{method.name}: task {i + 1} of {len(names)}, {task.name}: {results[i][0]:.1f} %")
    return matrix


def well_sent(chosen: Any, j: int, learned: int) -> float:
    """Percent of task j's images that got their own router, or none as long as it is not learned."""
    return 100 * (chosen == (j if j <= learned else -1)).double().mean().item()


def _claim(out, settings):
    """Note the settings of a new run in its folder, or check that the run in it has the same."""
    file = out / SETTINGS
    if not file.exists():
        replace_file(file, lambda path: path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8"))
        return
    try:
        held = dict(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{file} is damaged ({error}). Delete {out} to start this run again.") from error
    before, now = (pd.json_normalize(part, max_level=1).to_dict("records")[0] for part in (held, settings))
    # one level flatter, so that the setting is named
    other = sorted(
        f"{k}: {before.get(k)!r} there, {now.get(k)!r} now" for k in {*before, *now} if before.get(k) != now.get(k)
    )
    if other:
        raise ValueError(f"{out} holds a run of other settings ({'; '.join(other)}). Take another folder or delete it.")


def _read(file, names):
    """The matrix in a file, empty where there is none."""
    if not file.exists():
        return AccuracyMatrix(names)
    try:
        matrix = AccuracyMatrix.from_csv(file)
    except ValueError as error:  # of pandas or NumPy, or of a row that is too short
        raise ValueError(f"{file} is damaged ({error}). Delete {file.parent} to start this run again.") from error
    if matrix.tasks != names:
        raise ValueError(f"{file} has the tasks {matrix.tasks}, not {names}. Delete {file.parent} to start again.")
    return matrix


def _resume(method, out):
    """Load the newest checkpoint, if there is one; returns the number of tasks learned and the seconds they took."""
    file = out / CHECKPOINT
    if not file.exists():
        return 0, 0.0
    try:
        with safe_open(file, framework="pt") as saved:
            facts = saved.metadata()
            state = {name: saved.get_tensor(name) for name in saved.keys()}
    except SafetensorError as error:
        raise ValueError(
            f"the checkpoint {file} is damaged ({error}); delete {out} to start this run again."
        ) from error
    try:
        if state:
            method.load_state_dict(state)
        return int(facts["tasks"]), float(facts["seconds"])
    except (KeyError, TypeError, RuntimeError) as error:
        raise ValueError(
            f"{file} is no checkpoint of {method.name!r} ({error}): delete {out} to start again."
        ) from error


def seconds_learned(out: str | Path) -> float:
    """Seconds of training that the run in `out` has taken, over all its sessions."""
    with safe_open(Path(out) / CHECKPOINT, framework="pt") as saved:
        return float(saved.metadata()["seconds"])
