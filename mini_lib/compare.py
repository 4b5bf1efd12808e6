"""Methods against each other on MiniMTIL: `python -m mini_lib.compare`. Read in notebook 07.

Every method learns every order with every seed; a run that was stopped goes on, one that is done is not repeated.
The result is one tidy CSV: a line for each accuracy.
"""

import argparse
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import pandas as pd
import torch

from . import plots
from .benchmarks import mini_mtil
from .benchmarks.mini import ORDERS
from .clip import load_clip
from .ddas import DDAS
from .methods import make_method
from .methods.base import seed_everything
from .metrics import AccuracyMatrix
from .run import ROUTING, evaluate, replace_file, run, seconds_learned, well_sent

ROOT = Path(__file__).resolve().parent.parent
COLUMNS = ["method", "order", "seed", "after", "task", "accuracy", "routed", "seconds", "trained_parameters"]
RESULTS = ROOT / "data" / "results" / "mini_mtil.csv"
CONTESTANTS = {  # name in tables -> method and settings; what is not set here is the method's default
    "zero-shot": ("zero-shot", {}),
    "fine-tuning": ("fine-tuning", {}),
    "adapter-per-task": ("adapter-per-task", {}),
    "moe-adapters": ("moe-adapters", {}),
}
CHOICES = {  # what the course made otherwise than the official code, or could: one thing changed at a time
    "as here": ("moe-adapters", {}),
    "text routers read the end": ("moe-adapters", {"text_router_token": "eot"}),
    "balance loss": ("moe-adapters", {"load_balance_weight": 0.01}),
    "nothing frozen": ("moe-adapters", {"freeze": 0}),
    "all used are frozen": ("moe-adapters", {"freeze": None}),
}
TASK_KNOWN = ", task known"  # added to a name: the same trained learner, told the task instead of asking DDAS
PATCHES = {"features": "patches", "iterations": 100}  # as the paper's selector, on the frozen CLIP's patches
SELECTORS = {  # added to "as here": the same trained learner with another DDAS
    ", DDAS decides for a batch": {"granularity": "batch"},
    ", one threshold": {**PATCHES, "threshold": 0.026},  # chosen on validation images in notebook 06
    ", one threshold, half of it": {**PATCHES, "threshold": 0.013},
    ", one threshold, twice as high": {**PATCHES, "threshold": 0.052},
}


def compete(name, order, seed, out):
    """One contestant through one stream; returns its lines of the table."""
    torch.set_num_threads(1)  # two runs side by side, a thread each, are faster than two threads for one
    benchmark = mini_mtil(seed, order)
    clip, _, tokenizer = load_clip("tiny")
    method, settings = {**CONTESTANTS, **CHOICES}[name]
    settings = dict(settings)
    if method != "zero-shot":
        settings["seed"] = 100 * seed
    if method == "moe-adapters":
        settings["reference"] = benchmark.reference
    folder = Path(out) / name.replace(", ", "-").replace(" ", "-") / f"order{order}-seed{seed}"
    learner = make_method(method, clip, tokenizer, **settings)
    judges = [Judge(TASK_KNOWN, learner, benchmark, folder, None)] if method == "moe-adapters" else []
    if name == "as here":
        judges += [Judge(label, learner, benchmark, folder, DDAS(clip, **s)) for label, s in SELECTORS.items()]

    def after_task(learned):
        for judge in judges:
            judge.after_task(learned)

    results = {name: (run(learner, benchmark, folder, log=lambda line: None, after_task=after_task), None)}
    if method == "moe-adapters":
        results[name] = results[name][0], AccuracyMatrix.from_csv(folder / ROUTING).values
    results |= {name + judge.label: (judge.matrix, judge.routing and judge.routing.values) for judge in judges}
    return pd.concat(
        [
            _tidy(matrix, routed).assign(
                method=label, order=order, seed=seed, seconds=round(seconds_learned(folder), 1),
                trained_parameters=learner.trained_parameters,
            )
            for label, (matrix, routed) in results.items()
        ]
    )[COLUMNS]  # fmt: skip


class Judge:
    """A learner's accuracies with another selector in its place: `ddas`, or None for being told the task.

    They are kept in the run's folder. A `ddas` is not: after a stop it learns again what it had learned.
    """

    def __init__(self, label, learner, benchmark, folder, ddas):
        self.label, self.learner, self.benchmark, self.folder, self.ddas = label, learner, benchmark, folder, ddas
        self.matrix = self._kept("accuracy")
        self.routing = self._kept("routing") if ddas else None

    def _file(self, what):
        return self.folder / f"{self.label.strip(', ').replace(', ', '-').replace(' ', '_')}-{what}.csv"

    def _kept(self, what):
        names = [task.name for task in self.benchmark.tasks]
        return AccuracyMatrix.from_csv(self._file(what)) if self._file(what).exists() else AccuracyMatrix(names)

    def after_task(self, learned):
        learner, tasks = self.learner, self.benchmark.tasks
        if learned <= self.matrix.done:
            return
        own = learner.selector, learner.ddas
        if self.ddas:
            self._catch_up(learned)
            learner.ddas = self.ddas
        else:
            learner.selector = "known"
        results = [evaluate(learner, task) for task in tasks]
        learner.selector, learner.ddas = own
        if self.ddas:
            self.routing.add_row([well_sent(chosen, j, learned - 1) for j, (_, chosen) in enumerate(results)])
            replace_file(self._file("routing"), self.routing.frame().to_csv)
        self.matrix.add_row([accuracy for accuracy, _ in results])
        replace_file(self._file("accuracy"), self.matrix.frame().to_csv)

    def _catch_up(self, learned):
        """Let the selector learn the tasks up to the newest, from the learner's seeds."""
        seed = self.learner.settings["seed"]
        if not self.ddas.autoencoders:
            seed_everything(seed)
            self.ddas.learn_reference(self.benchmark.reference)
        for i in range(len(self.ddas.autoencoders) - 1, learned):
            seed_everything(seed + i)
            self.ddas.learn_task(self.benchmark.tasks[i].train, self.benchmark.tasks[i].val)


def _tidy(matrix, routed):
    """A line for each accuracy of a matrix: the task learned last, the task tested, percent, percent routed well."""
    table = matrix.frame().stack().rename("accuracy").rename_axis(["after", "task"]).reset_index()
    return table.assign(routed=float("nan") if routed is None else routed.ravel())


def compare(names, orders, seeds, out, workers=None):
    """All combinations, a process for each core; returns the table."""
    jobs = [(name, order, seed, out) for seed in seeds for order in orders for name in names]
    parts = []
    with ProcessPoolExecutor(workers or os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
        pending = {pool.submit(compete, *job): job for job in jobs}
        for future in as_completed(pending):
            parts.append(future.result())
            print(f"{len(parts)} of {len(jobs)}: {pending[future][:3]}", flush=True)
    return pd.concat(parts).sort_values(["method", "order", "seed"], kind="stable").round(4)


def matrices(table):
    """The accuracy matrices in a table: (method, order, seed) -> AccuracyMatrix"""
    found = {}
    for key, part in table.groupby(["method", "order", "seed"]):
        names = list(ORDERS[key[1]])
        values = part.pivot(index="after", columns="task", values="accuracy").loc[names, names]
        found[key] = AccuracyMatrix(names, values.to_numpy())
    return found


def figure(table, order=1, seed=0):
    """Each task's accuracy over time, of fine-tuning and MoE-Adapters: what is forgotten, and what is not."""
    found = {method: m for (method, o, s), m in matrices(table).items() if (o, s) == (order, seed)}
    shown = {name: found[name] for name in ("fine-tuning", "moe-adapters")}
    return plots.accuracy_over_time(shown, found["zero-shot"].values[0])


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m mini_lib.compare", description=__doc__.split("\n\n")[0])
    parser.add_argument("--methods", nargs="+", default=list(CONTESTANTS), choices=[*CONTESTANTS, *CHOICES])
    parser.add_argument("--orders", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--work", default=str(ROOT / "runs" / "compare"), help="folder of the runs; they are resumable")
    parser.add_argument("--out", default=str(RESULTS), help="the CSV")
    parser.add_argument("--choices", action="store_true", help="MoE-Adapters with each choice made otherwise, order 1")
    options = parser.parse_args(arguments)
    if options.choices:
        options.methods, options.orders, options.out = list(CHOICES), [1], str(RESULTS.with_name("choices.csv"))
    table = compare(options.methods, options.orders, options.seeds, options.work)
    Path(options.out).parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(options.out, index=False)
    if {"zero-shot", "fine-tuning", "moe-adapters"} <= set(table.method):
        order, seed = options.orders[0], options.seeds[0]
        figure(table, order, seed).savefig(Path(options.out).with_suffix(".png"), dpi=110, facecolor="white")


if __name__ == "__main__":
    main()
