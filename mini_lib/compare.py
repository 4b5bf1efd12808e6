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
from .methods import make_method
from .metrics import AccuracyMatrix
from .run import ROUTING, evaluate, replace_file, run, seconds_learned

ROOT = Path(__file__).resolve().parent.parent
KNOWN = "task_known.csv"
COLUMNS = ["method", "order", "seed", "after", "task", "accuracy", "routed", "seconds", "trained_parameters"]
RESULTS = ROOT / "data" / "results" / "mini_mtil.csv"
CONTESTANTS = {  # name in tables -> method and settings; what is not set here is the method's default
    "zero-shot": ("zero-shot", {}),
    "fine-tuning": ("fine-tuning", {}),
    "adapter-per-task": ("adapter-per-task", {}),
    "moe-adapters": ("moe-adapters", {}),
}
TASK_KNOWN = ", task known"  # added to a name: the same trained learner, told the task instead of asking DDAS


def compete(name, order, seed, out):
    """One contestant through one stream; returns its lines of the table."""
    torch.set_num_threads(1)  # two runs side by side, a thread each, are faster than two threads for one
    benchmark = mini_mtil(seed, order)
    clip, _, tokenizer = load_clip("tiny")
    method, settings = CONTESTANTS[name]
    settings = dict(settings)
    if method != "zero-shot":
        settings["seed"] = 100 * seed
    if method == "moe-adapters":
        settings["reference"] = benchmark.reference
    folder = Path(out) / name.replace(", ", "-").replace(" ", "-") / f"order{order}-seed{seed}"
    learner = make_method(method, clip, tokenizer, **settings)
    known = AccuracyMatrix([task.name for task in benchmark.tasks])
    if (folder / KNOWN).exists():
        known = AccuracyMatrix.from_csv(folder / KNOWN)

    def judge_with_task_known(learned):
        if learned > known.done:
            learner.selector = "known"
            known.add_row([evaluate(learner, task)[0] for task in benchmark.tasks])
            learner.selector = "ddas"
            replace_file(folder / KNOWN, known.frame().to_csv)

    after_task = judge_with_task_known if method == "moe-adapters" else None
    matrices = {name: run(learner, benchmark, folder, log=lambda line: None, after_task=after_task)}
    if after_task:
        matrices[name + TASK_KNOWN] = known
    routed = AccuracyMatrix.from_csv(folder / ROUTING).values if after_task else None
    return pd.concat(
        [
            _tidy(matrix, routed if label == name else None).assign(
                method=label, order=order, seed=seed, seconds=round(seconds_learned(folder), 1),
                trained_parameters=learner.trained_parameters,
            )
            for label, matrix in matrices.items()
        ]
    )[COLUMNS]  # fmt: skip


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
    parser.add_argument("--methods", nargs="+", default=list(CONTESTANTS), choices=list(CONTESTANTS))
    parser.add_argument("--orders", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--work", default=str(ROOT / "runs" / "compare"), help="folder of the runs; they are resumable")
    parser.add_argument("--out", default=str(RESULTS), help="the CSV")
    options = parser.parse_args(arguments)
    table = compare(options.methods, options.orders, options.seeds, options.work)
    Path(options.out).parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(options.out, index=False)
    if {"zero-shot", "fine-tuning", "moe-adapters"} <= set(table.method):
        order, seed = options.orders[0], options.seeds[0]
        figure(table, order, seed).savefig(Path(options.out).with_suffix(".png"), dpi=110, facecolor="white")


if __name__ == "__main__":
    main()
