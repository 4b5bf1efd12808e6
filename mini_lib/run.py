"""The incremental loop: learn a task, save, evaluate on all tasks, next. Shown in notebooks 02 and 07.

What a run leaves in its folder is safe from a kill or a power cut at any moment, and is never mixed with another run's.
"""

import json
import math
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import PIL
import torch
from torch import Tensor
from torch.utils.data import Dataset

from . import __version__
from .clip import check_images, class_embeddings, class_logits
from .embedded.run_folder import (
    FORMAT,
    MATRIX,
    ROUTING,
    SETTINGS,
    VALIDATION,
    RunFolder,
    key_of,
    set_aside,
    stored,
)
from .embedded.storage import one_writer
from .metrics import AccuracyMatrix, read_table
from .training import loader, progress, seed_everything

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
    out = Path(out).expanduser()
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
    if not resume and _begun.get(out.resolve()) != key_of(settings):
        set_aside(out, log)
    out = out.resolve()  # whatever becomes of the working folder and of links while the run goes on
    with one_writer(out, log):
        _begun[out] = key_of(settings)
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

    Or no better than guessing; that is after the task was learned. It names both accuracies in percent, and the setting to change.
    """
    file = Path(out) / VALIDATION
    if not file.exists():
        return []
    settings = json.loads((Path(out) / SETTINGS).read_text(encoding="utf-8"))
    rate, lines = settings["method_settings"].get("learning_rate"), []
    table: Any = read_table(file)
    for task, row in table.iterrows():
        names = len(settings["prompts"][task][0])
        if row["learned"] < row["zero-shot"]:
            than = f"{row['zero-shot']:.1f} % by zero-shot"
        elif row["learned"] <= 100 / names + 1e-9:  # one name for all images, and zero-shot knows no better
            than = f"{100 / names:.1f} % by guessing among {names} names"
        else:
            continue
        if only in (None, task):
            change = "change the settings" if rate is None else f"lower learning_rate, here {_of(rate, task):g}"
            lines.append(
                f"{task}: after it was learned, {row['learned']:.1f} % of its validation images are right, {than}: {change}."
            )
    return lines


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
