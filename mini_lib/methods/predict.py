"""What a finished run says of new pictures: the task that its selector chose, the class, and how sure it is. Used in notebook 15."""

import csv
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from ..benchmarks.base import Merged, Task
from ..benchmarks.files import advice, find_images, shown, told
from ..benchmarks.upright import Upright, whites
from ..benchmarks.verify import facts, find_damaged
from ..training import progress
from .loading import LearnedRun, load_run
from .zero_shot import ZeroShot

ORIGINAL = "original CLIP"
CLIP, NOBODY = -1, -2  # in the place of a task's index: the original CLIP answers, or nobody chose a task
BATCH = 64  # pictures judged at once
COLUMNS = ["file", "task", "name", "percent"]  # of the CSV


@dataclass
class Answer:
    """Of one picture. task: that was chosen or told, `ORIGINAL`, or "" where the method chooses none; name: the best class.

    percent: the probability of that class among its candidates, by `Method.probabilities`. It says how far the best is ahead
    of the others, and was never compared with how often it is right.
    """

    task: str
    name: str
    percent: float


def predict(
    learned: LearnedRun, images: Tensor, task: str | None = None, names: Sequence[str] | None = None
) -> list[Answer]:
    """An Answer for each of the images (B, 3, H, W), as `learned.preprocess` makes them of pictures.

    Candidates are the class names of the task that the selector chose, or those of all learned tasks where it chose the
    original CLIP or the method chooses none. task: that of all images, where it is known; the selector is not asked then.
    names: other candidates. Raises ValueError for a task that is not learned, names that CLIP cannot tell apart, and without
    a task where the method has to be told one. (Used in notebook 15.)
    """
    check(learned, task, names)
    chosen, found = choose(learned, images, task), {}
    for part in chosen.unique().tolist():
        rows = (chosen == part).nonzero()[:, 0]
        classnames, probabilities = judge(learned, images[rows], part, names)
        by = "" if part == NOBODY else ORIGINAL if part == CLIP else learned.tasks[part].name
        for row, (sure, best) in zip(rows.tolist(), zip(*(x.tolist() for x in probabilities.max(dim=1)))):
            found[row] = Answer(by, classnames[best], 100 * sure)
    return [found[row] for row in range(len(images))]


def check(learned: LearnedRun, task: str | None, names: Sequence[str] | None) -> None:
    """Raises ValueError for what `predict` would refuse."""
    known = [task.name for task in learned.tasks]
    if task is not None and task not in known:
        raise ValueError(f"the task {task!r} is not learned: take one of {', '.join(known)}.")
    if task is None and learned.method.knows_tasks:
        raise ValueError(
            f"{learned.method.name!r} must be told the task of a picture: say --task NAME (in Python task=), one of "
            f"{', '.join(known)}."
        )
    if names is not None:
        Task("names given", list(names), ["{}"], None, None)  # names are refused as those of a task are


@torch.no_grad()
def choose(learned: LearnedRun, images: Tensor, task: str | None = None) -> Tensor:
    """For each image the index of its task, CLIP or NOBODY: LongTensor (B,)."""
    method: Any = learned.method
    if task is not None:
        return torch.full((len(images),), [task.name for task in learned.tasks].index(task))
    selector = getattr(method, "selector", None)
    if not hasattr(method, "select") or isinstance(selector, str):
        return torch.full((len(images),), CLIP if isinstance(method, ZeroShot) else NOBODY)
    alone = getattr(selector, "granularity", "sample") == "batch"  # pictures of a folder need not be of one task
    parts = images.split(1) if alone else [images]
    return torch.cat([method.select(part, learned.tasks[0]).cpu() for part in parts])


@torch.no_grad()
def judge(
    learned: LearnedRun, images: Tensor, part: int, names: Sequence[str] | None = None
) -> tuple[list[str], Tensor]:
    """Candidates (C,) and their probabilities (B, C) for images (B, 3, H, W) of one part: a task's index, CLIP or NOBODY.

    Names that are given are put into the templates of that task, or of all; other names keep their own task's. A name that
    several tasks have counts once.
    """
    tasks = [learned.tasks[part]] if part >= 0 else learned.tasks
    if names is not None:
        templates = list(dict.fromkeys(template for task in tasks for template in task.templates))
        tasks = [Task(f"{', '.join(names)} in {' | '.join(templates)}", list(names), templates, None, None)]
    method: Any = learned.original if part == CLIP else learned.method
    own = {"selected": torch.full((len(images),), part)} if part >= 0 and hasattr(method, "select") else {}
    every = [name for task in tasks for name in task.classnames]
    asked = tasks[0] if len(tasks) == 1 else Merged("all learned names", every, [], None, None, None, tasks)
    probabilities = method.probabilities(method.scores(images, asked, **own)).cpu()
    once = list(dict.fromkeys(every))
    places = torch.tensor([once.index(name) for name in every])
    return once, probabilities.new_zeros(len(images), len(once)).index_add(1, places, probabilities)


def predict_files(
    learned: LearnedRun, paths: Sequence[str | Path], task: str | None = None, names: Sequence[str] | None = None
) -> Iterator[tuple[Path, Answer | str]]:
    """(file, its Answer) of every picture, and (file, what is wrong with it) of what cannot be read.

    paths: files, and folders with pictures in them and below. Pictures are turned, put on white and brought to 8 bits as
    those of `folders`, and judged in batches, with a progress bar. Raises ValueError as `predict` does, and for a run
    whose CLIP was given without its preprocessing.
    """
    if learned.preprocess is None:
        raise ValueError(
            "how pictures become tensors is not known: pass load_run the preprocess= that load_clip returned."
        )
    check(learned, task, names)
    groups, damaged = _find(paths)
    for folder, files in groups.items():
        damaged |= find_damaged(folder, files)
    good = [file for file in dict.fromkeys(chain(*groups.values())) if file not in damaged]
    white = whites(file for file in good if facts(file).depth != "A")
    dataset = Upright(good, [0] * len(good), learned.preprocess, white=white)
    read = []
    for place, file in enumerate(progress(good, "pictures")):
        try:
            read.append((file, dataset[place][0]))
        except ValueError as error:  # it has changed since it was examined, or its pixels have no white
            damaged[file] = str(error.__cause__)
        if len(read) == BATCH or file is good[-1] and read:
            answers = predict(learned, torch.stack([image for _, image in read]), task, names)
            yield from zip([file for file, _ in read], answers)
            read = []
    yield from damaged.items()


def _find(paths):
    """{folder: the files asked for in it}, and what is wrong with paths that lead to none."""
    groups, damaged = defaultdict(list), {}
    for path in dict.fromkeys(map(Path, paths)):
        if not path.is_dir():
            groups[path.parent].append(path)
            continue
        try:
            images, others = find_images(path)
        except ValueError as error:
            damaged[path] = str(error)
            continue
        groups[path] += images
        if not images:
            damaged[path] = f"it holds no pictures{f', but {told(others)}.{advice(others)}' if others else ''}"
    return groups, damaged


def answer(
    out: Path,
    paths: Sequence[str],
    task: str | None = None,
    names: Sequence[str] | None = None,
    table: Path | None = None,
) -> int:
    """Print what the run in `out` says of each picture, and write it into a CSV; returns 1 where one cannot be read, else 0.

    Raises ValueError where another file is in the place of the CSV than earlier answers.
    """
    if table and table.is_file() and table.read_bytes().splitlines()[:1] not in ([], [",".join(COLUMNS).encode()]):
        raise ValueError(f"{table} holds something else than answers, and would be replaced: take another --csv.")
    learned, damaged = load_run(out), {}
    with ExitStack() as stack:
        rows = None
        if table:
            rows = csv.writer(stack.enter_context(table.open("w", encoding="utf-8", newline="")))
            rows.writerow(COLUMNS)
        for file, found in predict_files(learned, paths, task, names):
            if isinstance(found, str):
                damaged[file] = found
                continue
            by = f" ({found.task})" if found.task else ""
            tqdm.write(f"{shown(file)}: {found.name}, {found.percent:.1f} %{by}")
            if rows:
                rows.writerow([shown(file), found.task, found.name, f"{found.percent:.2f}"])
    if damaged:
        print(f"{len(damaged)} of what was asked about cannot be read:", file=sys.stderr)
    for file, why in damaged.items():
        print(f"- {shown(file)} ({why})", file=sys.stderr)
    return 1 if damaged else 0
