"""How well does DDAS tell known images from unknown ones? `python -m mini_lib selectors`. Read in notebook 14.

Features, the block they are taken after, the rule, and the limit, each against the others on MiniMTIL's test images. No
expert is trained: an image is sent well or it is not.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from ..benchmarks.mini import mini_mtil
from ..benchmarks.twelve import twelve_tasks
from ..clip import load_clip
from ..ddas import DDAS, FEATURES
from ..embedded.storage import replace_file
from ..training import loader, seed_everything
from . import RESULTS

FILE, ADDED = RESULTS / "ddas.csv", RESULTS / "ddas_twelve_tasks.csv"
KNOWN = 4  # tasks of the stream that the selector has learned; the other three are unknown to it
FACTORS = np.geomspace(1 / 4, 4, 33).round(4)  # of the limits; 1 is where calibration sets them
RULES = ("a limit for each task", "one threshold")


def scores(errors: Tensor, limits: Tensor, rule: str) -> tuple[Tensor, Tensor]:
    """How unknown each image is, and the task that would take it. errors (N, 1 + T) -> (N,), (N,)

    At most 1 means that it is taken. limits: (T,) for the first rule, one number for the second, the paper's, by which an
    image that the reference explains best is never taken.
    """
    if rule == RULES[0]:
        return (errors[:, 1:] / errors[:, :1] / limits).min(dim=1)
    smallest, best = errors.min(dim=1)
    return torch.where(best == 0, torch.inf, smallest / limits), best - 1


def sent_well(errors: Tensor, limits: Tensor, rule: str, own: int | None, factor: float = 1.0) -> float:
    """Percent of a task's test images that are sent well: to its own router, or with own=None to the original CLIP.

    errors (N, 1 + T); factor: of the limits.
    """
    unknown, taker = scores(errors, limits, rule)
    well = unknown > factor if own is None else (unknown <= factor) & (taker == own)
    return 100 * well.double().mean().item()


def judged(errors: Sequence[Tensor], limits: Tensor, rule: str) -> list[dict[str, Any]]:
    """One line a factor: percent of known images that get their own router, percent of unknown ones kept out, and the AUROC.

    errors: those of each task's test images, a list of (N, 1 + KNOWN). The AUROC is the chance that a known image looks more
    known than an unknown one, whichever task would take it.
    """
    strange = torch.cat([scores(of_task, limits, rule)[0] for of_task in errors]).nan_to_num(posinf=1e9)
    auroc = roc_auc_score(torch.arange(len(strange)) >= sum(map(len, errors[:KNOWN])), strange)
    lines = []
    for factor in FACTORS:
        known = [sent_well(of_task, limits, rule, t, factor) for t, of_task in enumerate(errors[:KNOWN])]
        unknown = [sent_well(of_task, limits, rule, None, factor) for of_task in errors[KNOWN:]]
        line = {"rule": rule, "factor": factor, "known": np.mean(known), "unknown": np.mean(unknown), "auroc": auroc}
        lines.append(line)
    return lines


def _taught(ddas, reference, tasks, seed):
    seed_everything(seed)
    ddas.learn_reference(reference)
    for task in tasks:
        ddas.learn_task(task.train, task.val)
    return ddas


def _errors(ddas, dataset):
    return torch.cat([ddas.errors(images) for images, _ in loader(dataset, 256)])


def _threshold(errors, quantile):
    """One threshold that lets in as many of the learned tasks' held-out images, a list of (N, 1 + T), as the limits do."""
    return torch.cat([of_task.min(dim=1).values for of_task in errors]).quantile(quantile)


def study(
    seeds: Sequence[int] = (0, 1, 2),
    order: int = 1,
    blocks: Sequence[int] = range(4),
    log: Callable[[str], object] = print,
) -> pd.DataFrame:
    """All combinations as one table: seed, features, block, rule, factor, known, unknown, auroc."""
    lines = []
    clip = load_clip("tiny")[0]
    for seed in seeds:
        benchmark = mini_mtil(seed, order)
        for features in FEATURES:
            for block in blocks:
                ddas = _taught(DDAS(clip, features, block), benchmark.reference, benchmark.tasks[:KNOWN], seed)
                errors = [_errors(ddas, task.test) for task in benchmark.tasks]
                threshold = _threshold([_errors(ddas, task.val) for task in benchmark.tasks[:KNOWN]], ddas.quantile)
                for rule, limits in zip(RULES, (ddas.limits, threshold)):
                    settings = {"seed": seed, "features": features, "block": block}
                    lines += [settings | line for line in judged(errors, limits, rule)]
                log(f"seed {seed}, {features} after block {block}: AUROC {lines[-len(FACTORS) - 1]['auroc']:.4f}")
    return pd.DataFrame(lines).round(4)


def added(seeds: Sequence[int] = (0, 1, 2), order: int = 1, log: Callable[[str], object] = print) -> pd.DataFrame:
    """Does it get worse as tasks are added? Twelve tasks, one table: seed, features, rule, learned, task, sent (well, %).

    One threshold is set in two ways: anew after each task, on held-out images of all that are learned, or once, on those of
    the first task.
    """
    lines = []
    clip = load_clip("tiny")[0]
    for seed in seeds:
        benchmark = twelve_tasks(seed, order)
        tasks = benchmark.tasks
        for features in FEATURES:
            ddas = _taught(DDAS(clip, features), benchmark.reference, tasks, seed)
            tested, held_out = [_errors(ddas, t.test) for t in tasks], [_errors(ddas, t.val) for t in tasks]
            counts = range(1, len(tasks) + 1)
            thresholds = [_threshold([errors[:, : n + 1] for errors in held_out[:n]], ddas.quantile) for n in counts]
            for n, threshold in zip(counts, thresholds):
                ways = {
                    RULES[0]: (RULES[0], ddas.limits[:n]),
                    "one threshold, set anew": (RULES[1], threshold),
                    "one threshold, kept": (RULES[1], thresholds[0]),
                }
                for name, (rule, limits) in ways.items():
                    for t, (task, errors) in enumerate(zip(tasks, tested)):
                        sent = sent_well(errors[:, : n + 1], limits, rule, t if t < n else None)
                        lines.append([seed, features, name, n, task.name, sent])
            log(f"seed {seed}, {features}: {len(tasks)} tasks learned")
    return pd.DataFrame(lines, columns=["seed", "features", "rule", "learned", "task", "sent"]).round(4)


def measure_all() -> None:
    """The command `selectors`: both tables, written to data/results/."""
    for file, study_of in ((FILE, study), (ADDED, added)):
        table = study_of()
        replace_file(file, partial(table.to_csv, index=False))
