"""What `mini_lib.studies.compare` compares: studies, each a table of names, methods and settings. Read in notebooks 08, 13 and 14.

A name stands in tables and figures; what its settings do not say is the method's default.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ..benchmarks.base import Benchmark
from ..benchmarks.mini import mini_mtil
from ..benchmarks.twelve import twelve_tasks
from ..methods import METHODS
from . import RESULTS

# Came after the paper, and are not measured yet: neither search nor runs of them are complete.
LATER = ("codyra", "diki", "lada", "moe-adapters++", "nearest-mean")
PAPER = {"selector": "ddas"}  # for moe-adapters; `photographs` compares the selectors
TASK_KNOWN = ", task known"  # added to a name: the same trained learner, told the task instead of asking DDAS


@dataclass
class Study:
    """Contestants (name -> method and settings) on MiniMTIL; the results are RESULTS/file.

    judges: name of a contestant -> what is added to its name -> how else the same trained learner chooses its routers;
    see `compare.Judge`. split: "test", or "val" for choosing hyper-parameters. benchmark(seed, order):
    the tasks.
    """

    contestants: dict[str, tuple[str, dict[str, Any]]]
    orders: tuple[int, ...]
    seeds: tuple[int, ...]
    file: str
    judges: dict[str, dict[str, dict[str, Any]]]
    split: str = "test"
    benchmark: Callable[..., Benchmark] = mini_mtil


def rates(method: str) -> tuple[float, ...]:
    """The learning rates that the search tries: four for every method that is trained, none for the others."""
    return getattr(METHODS[method], "rates", ())


def tuning() -> Study:
    """The same budget for every method: four learning rates, one order, one seed. All else is the method's default."""
    tried = {
        f"{method} {rate:g}": (method, {"learning_rate": rate} | (PAPER if method == "moe-adapters" else {}))
        for method in METHODS
        if method not in LATER
        for rate in rates(method)
    }
    return Study(tried, orders=(1,), seeds=(0,), file="tuning.csv", judges={}, split="val")


def tuned(method: str) -> dict[str, Any]:
    """The settings of a method that the recorded search found best: highest mean of its matrix on validation images.

    Raises ValueError where the search has not tried it, or not all rates.
    """
    if not rates(method):
        return {}
    study = tuning()
    file = RESULTS / study.file
    search = pd.read_csv(file) if file.exists() else pd.DataFrame({"method": [], "accuracy": []})
    names = [name for name, (tried, _) in study.contestants.items() if tried == method]
    missing = sorted(set(names) - set(search.method))
    if missing:
        raise ValueError(f"{file} has no results of {missing}: run `python -m mini_lib compare tuning` first.")
    best = search[search.method.isin(names)].groupby("method").accuracy.mean().idxmax()
    return study.contestants[best][1]


# What the course made otherwise than the official code, or could: one thing changed at a time.
PATCHES = {"features": "patches", "iterations": 100}  # as the paper's selector, on the frozen CLIP's patches
CHOICES = Study(
    {
        "as here": ("moe-adapters", PAPER),
        "text routers read the end": ("moe-adapters", {**PAPER, "text_router_token": "eot"}),
        "balance loss": ("moe-adapters", {**PAPER, "load_balance_weight": 0.01}),
        "nothing frozen": ("moe-adapters", {**PAPER, "freeze": 0}),
        "all used are frozen": ("moe-adapters", {**PAPER, "freeze": None}),
    },
    orders=(1,),
    seeds=(0, 1, 2),
    file="choices.csv",
    judges={
        "as here": {
            TASK_KNOWN: {"selector": "known"},
            ", DDAS decides for a batch": {"granularity": "batch"},
            ", one threshold": {**PATCHES, "threshold": 0.026},  # chosen on validation images in notebook 06
            ", one threshold, half of it": {**PATCHES, "threshold": 0.013},
            ", one threshold, twice as high": {**PATCHES, "threshold": 0.052},
        }
    },
)


def rivals() -> Study:
    """Every method, with what the search chose for it; fine-tuning also at the rate that is best for the task at hand."""
    searched = {method: (method, tuned(method)) for method in METHODS if method not in LATER}
    searched["fine-tuning, tuned"] = searched["fine-tuning"]
    searched["fine-tuning"] = ("fine-tuning", {"learning_rate": 3e-4})
    others = {
        ", DDAS decides for a batch": {"granularity": "batch"},
        ", without DDAS": {"selector": "none"},
        ", Gaussian selector": {"selector": "gaussian"},
    }
    return Study(
        searched,
        orders=(1, 2),
        seeds=(0, 1, 2),
        file="mini_mtil.csv",
        judges={"moe-adapters": {TASK_KNOWN: {"selector": "known"}} | others},
    )


# One part of MoE-Adapters changed at a time; CHOICES has the baseline, the freezing, the balance loss and the text routers.
ABLATIONS = Study(
    {
        "1 expert": ("moe-adapters", {**PAPER, "num_experts": 1, "top_k": 1}),
        **{f"{n} experts": ("moe-adapters", {**PAPER, "num_experts": n}) for n in (2, 4, 8, 22)},
        **{f"top {k}": ("moe-adapters", {**PAPER, "top_k": k}) for k in (1, 4)},
        **{f"bottleneck {width}": ("moe-adapters", {**PAPER, "bottleneck": width}) for width in (4, 16, 256)},
        "one router for all": ("moe-adapters", {**PAPER, "shared_router": True}),
        "image tower only": ("moe-adapters", {**PAPER, "text_at": []}),
        "text tower only": ("moe-adapters", {**PAPER, "image_at": []}),
        "last half of the blocks": ("moe-adapters", {**PAPER, "image_at": [2, 3], "text_at": [2]}),
        "no noise in the gates": ("moe-adapters", {**PAPER, "gate_noise": False}),
    },
    orders=(1,),
    seeds=(0, 1, 2),
    file="ablations.csv",
    judges={},
)

# Does it get worse as tasks are added? Two experts a task, as in the paper.
LENGTH = Study(
    {"zero-shot": ("zero-shot", {}), "moe-adapters": ("moe-adapters", {**PAPER, "num_experts": 24})},
    orders=(1,),
    seeds=(0, 1, 2),
    file="twelve_tasks.csv",
    judges={"moe-adapters": {TASK_KNOWN: {"selector": "known"}}},
    benchmark=twelve_tasks,
)

STUDIES = {
    "tuning": tuning,
    "methods": rivals,
    "choices": lambda: CHOICES,
    "parts": lambda: ABLATIONS,
    "length": lambda: LENGTH,
}
