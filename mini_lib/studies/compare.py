"""Methods against each other on MiniMTIL: `python -m mini_lib compare [STUDY]`. Read in notebooks 08, 13 and 14.

Every contestant of a study learns every order with every seed. What is in the study's CSV is not repeated, a run that was
stopped goes on, and the CSV is written anew after each run: one line for each accuracy.
"""

import dataclasses
import json
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from matplotlib.figure import Figure

from .. import plots
from ..benchmarks.base import Benchmark
from ..benchmarks.mini import ORDERS
from ..clip import load_clip
from ..ddas import DDAS
from ..embedded.run_folder import DIGESTS, ROUTING, Tables, seconds_learned
from ..embedded.storage import one_writer, replace_file, sweep
from ..methods import make_method, needs
from ..methods.routed import SELECTORS, TOLD
from ..metrics import AccuracyMatrix
from ..run import evaluate, run, well_sent
from ..training import seed_everything
from . import RESULTS, ROOT
from .contestants import STUDIES, Study, rates

RUNS = ROOT / "runs" / "compare"
KEY = ["method", "order", "seed"]
COLUMNS = [
    *KEY,
    "after",
    "task",
    "accuracy",
    "routed",
    "seconds",
    "trained_parameters",
    "peak_memory_mb",
    "settings",
]


def compete(study: Study, name: str, order: int, seed: int, out: str | Path, resume: bool = True) -> pd.DataFrame:
    """One contestant of a study through one stream, in the folder `out`; returns its lines of the table. resume: see `run`."""
    torch.set_num_threads(1)  # two runs side by side, a thread each, are faster than two threads for one
    benchmark = study.benchmark(seed, order)
    if study.split == "val":
        benchmark.tasks = [dataclasses.replace(task, test=task.val) for task in benchmark.tasks]
    clip, _, tokenizer = load_clip("tiny")
    clip = clip.to("cuda" if torch.cuda.is_available() else "cpu")
    method, settings = study.contestants[name]
    if rates(method):  # it is trained
        settings = settings | {"seed": 100 * seed}
    learner = make_method(method, clip, tokenizer, **needs(method, benchmark), **settings)
    folder = Path(out) / Path(study.file).stem / name.replace(", ", "-").replace(" ", "-") / f"order{order}-seed{seed}"
    judges = [Judge(label, learner, benchmark, folder, how) for label, how in study.judges.get(name, {}).items()]

    def after_task(learned):
        for judge in judges:
            judge.after_task(learned)

    matrix = run(learner, benchmark, folder, log=lambda line: None, after_task=after_task, resume=resume)
    routing = AccuracyMatrix.from_csv(folder / ROUTING) if (folder / ROUTING).exists() else None
    facts = {
        "order": order,
        "seed": seed,
        "seconds": round(seconds_learned(folder), 1),
        "trained_parameters": learner.trained_parameters,
        "peak_memory_mb": peak_memory(),
        "settings": json.dumps(study.contestants[name][1], sort_keys=True),
    }
    if lacking := [judge.label for judge in judges if judge.matrix.done < matrix.done]:
        raise ValueError(
            f"{folder} has lost the results of {name + lacking[0]!r}: move it away, and the run is made anew."
        )
    results = [(name, matrix, routing)] + [(name + j.label, j.matrix, j.routing) for j in judges]
    table: Any = pd.concat([_tidy(m, routed).assign(method=label, **facts) for label, m, routed in results])
    return table[COLUMNS]


def peak_memory() -> int | None:
    """The most megabytes that this process has held, on the GPU where there is one; None where nobody counts them."""
    if torch.cuda.is_available():
        return round(torch.cuda.max_memory_allocated() / 1e6)
    try:
        import resource  # not there on Windows
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6)


def tables_beside(folder: Path, benchmark: Benchmark, name: str, files: Iterable[str]) -> Tables:
    """Tables that a study keeps in the folder of a run that has begun, beside the run's own, and digests of its own for them."""
    key = json.loads((folder / DIGESTS).read_text(encoding="utf-8"))["settings"]
    again = f"Move {folder} away, and the run is made anew."
    found = Tables(folder, [task.name for task in benchmark.tasks], f"{name}-{DIGESTS}", key, again)
    found.begin([file for file in files if (folder / file).exists()])
    return found


class Judge:
    """The accuracies of a trained learner with its routers chosen in another way; kept in the run's folder, with digests.

    how: {"selector": "known" or "none"} or {"granularity": ...} for the learner's own; {"selector": "gaussian"}, or the
    settings of another `DDAS`, which are not kept: after a stop they learn again what they had learned. {"candidates": "all"}
    or "seen", alone or with one of these: other names that an image is judged among, see `Benchmark.tested_among`;
    with {"names_of_chosen": False} never those of the chosen task alone.
    """

    other: Any  # another selector, or None

    def __init__(self, label: str, learner: Any, benchmark: Benchmark, folder: Path, how: dict[str, Any]):
        self.label, self.learner, self.benchmark, self.folder, self.how = label, learner, benchmark, folder, how
        self.told = how["selector"] if how.get("selector") in TOLD else None
        self.other, self.taught = None, 0  # tasks that it has learned
        if how.get("selector") in SELECTORS:
            self.other = SELECTORS[how["selector"]](learner.clip)
        elif set(how) - {"selector", "granularity", "candidates", "names_of_chosen"}:
            self.other = DDAS(learner.clip, **how)
        self.file = label.strip(", ").replace(", ", "-").replace(" ", "_")
        self.names = {what: f"{self.file}-{what}.csv" for what in ("accuracy", "routing")}

    @cached_property
    def tables(self) -> Tables:
        """Read at the first use, for only then the folder is this run's."""
        return tables_beside(self.folder, self.benchmark, self.file, self.names.values())

    @cached_property
    def matrix(self) -> AccuracyMatrix:
        return self.tables.table(self.names["accuracy"])

    @cached_property
    def routing(self) -> AccuracyMatrix | None:
        """None where no selector is asked."""
        if self.told or not hasattr(self.learner, "select"):
            return None
        return self.tables.table(self.names["routing"], self.matrix.done)  # a stop may have come between the two files

    def after_task(self, learned: int) -> None:
        if learned <= self.matrix.done:
            return
        if self.other:
            self._catch_up(learned)
        results = self._judge(learned)
        if self.routing:
            self.routing.add_row([well_sent(chosen, j, learned - 1) for j, (_, chosen) in enumerate(results)])
            self.tables.write(self.names["routing"], self.routing.frame(), learned)
        self.matrix.add_row([accuracy for accuracy, _ in results])
        self.tables.write(self.names["accuracy"], self.matrix.frame(), learned)

    def _judge(self, learned):
        tested = self.benchmark.tested_among(self.how.get("candidates", self.benchmark.candidates), learned)
        with self._otherwise():
            return [evaluate(self.learner, task) for task in tested]

    @contextmanager
    def _otherwise(self):
        """While this holds, the learner chooses as `how` says."""
        learner, own = self.learner, getattr(self.learner, "selector", None)
        if own is None:
            yield
            return
        names = learner.settings.names_of_chosen
        granularity = getattr(own, "granularity", None)
        learner.selector = self.told or self.other or own
        learner.settings.names_of_chosen = self.how.get("names_of_chosen", names)
        if granularity:
            own.granularity = self.how.get("granularity", "sample")
        try:
            yield
        finally:
            learner.selector, learner.settings.names_of_chosen = own, names
            if granularity:
                own.granularity = granularity

    def _catch_up(self, learned):
        """Let the other selector learn the tasks up to the newest, from the learner's seeds."""
        seed = self.learner.settings.seed
        if not self.taught:
            seed_everything(seed)
            self.other.learn_reference(self.benchmark.reference)
        for i in range(self.taught, learned):
            seed_everything(seed + i)
            self.other.learn_task(self.benchmark.tasks[i].train, self.benchmark.tasks[i].val)
        self.taught = learned


def _tidy(matrix, routing):
    """A line for each accuracy of a matrix: the task learned last, the task tested, percent, percent routed well."""
    table = matrix.frame().stack().rename("accuracy").rename_axis(["after", "task"]).reset_index()
    return table.assign(routed=float("nan") if routing is None else routing.values.ravel())


def compare(
    study: Study,
    out: str | Path,
    names: Sequence[str] | None = None,
    orders: Sequence[int] | None = None,
    seeds: Sequence[int] | None = None,
    table: pd.DataFrame | None = None,
    keep: Callable[[pd.DataFrame], object] | None = None,
    workers: int | None = None,
    log: Callable[[str], object] = print,
) -> pd.DataFrame:
    """All runs of a study (or of those names, orders and seeds only), a process for each core; returns the table.

    table: results of before; what they hold is not run again. keep(table) is called after every run, so that a stop
    loses nothing. Raises RuntimeError, at the end, with the runs that failed.
    """
    jobs = [
        (name, order, seed)
        for seed in seeds or study.seeds
        for order in orders or study.orders
        for name in names or study.contestants
    ]
    table = pd.DataFrame(columns=COLUMNS) if table is None else table
    done = set(table.set_index(KEY).index)
    due = [job for job in jobs if job not in done]
    log(f"{len(jobs) - len(due)} of {len(jobs)} runs are done already")
    began, failed = time.monotonic(), []
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers or os.cpu_count(), context, _end_with_parent, max_tasks_per_child=1) as pool:
        pending = {pool.submit(compete, study, *job, out): job for job in due}
        for i, future in enumerate(as_completed(pending), start=1):
            job = "{}, order {}, seed {}".format(*pending[future])
            if future.exception():
                failed.append(f"{job}: {type(future.exception()).__name__}: {future.exception()}")
                log(f"failed: {failed[-1]}")
                continue
            parts = [table, future.result()] if len(table) else [future.result()]
            table = pd.concat(parts).sort_values(KEY, kind="stable").round({"accuracy": 4, "routed": 4})
            if keep:
                keep(table)
            left = (time.monotonic() - began) / i * (len(due) - i)
            log(f"{i} of {len(due)}: {job}; about {left / 60:.0f} minutes left")
    if failed:
        raise RuntimeError(f"{len(failed)} runs failed; the others are kept:\n" + "\n".join(failed))
    return table


def _end_with_parent():
    """Of a worker: it does not go on when the study is killed, and holds the folders that the next call needs."""

    def watch(parent):
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, args=(multiprocessing.parent_process(),), daemon=True).start()


def load_results(study: Study, file: Path) -> pd.DataFrame | None:
    """The table of a study's earlier results, or None.

    Raises ValueError where it has other columns, a run without all its lines, is of another study, or a contestant had other
    settings then.
    """
    if not file.exists():
        return None
    table = pd.read_csv(file)
    if missing := [column for column in COLUMNS if column not in table]:
        raise ValueError(
            f"{file} has no column {', '.join(missing)}: an older version made it. Move it away and run the study again."
        )
    for _, part in table.groupby(KEY):
        first, tasks = part.iloc[0], set(part.after)
        whole = sorted(zip(part.after, part.task)) == sorted(product(tasks, tasks))
        if not (whole and part.accuracy.between(0, 100).all() and part.routed.dropna().between(0, 100).all()):
            raise ValueError(
                f"{file}: of {first.method!r}, order {first.order}, seed {first.seed}, lines are missing, are there twice, or "
                "have numbers that are no percentages. "
                "Delete all lines of that run: it is then taken from its folder, or made anew."
            )
    labels = {name + label for name in study.contestants for label in ("", *study.judges.get(name, {}))}
    if strangers := sorted(set(table.method) - labels):
        raise ValueError(
            f"{file} holds results of {strangers[0]!r}, which does not take part in this study: delete these lines, or write "
            "to another file with --out."
        )
    for name, (_, settings) in study.contestants.items():
        then, now = set(table[table.method == name].settings), json.dumps(settings, sort_keys=True)
        if then - {now}:
            raise ValueError(
                f"{file} holds results of {name!r} with the settings {', '.join(sorted(map(str, then)))}, now they are "
                f"{now}: delete these lines, or write to another file with --out."
            )
    return table


def matrices(table: pd.DataFrame) -> dict[tuple[str, int, int], AccuracyMatrix]:
    """The accuracy matrices in a table, whose lines are in the order of the tasks: (method, order, seed) -> AccuracyMatrix"""
    found = {}
    for key, part in table.groupby(KEY):
        names = part.after.unique()
        values = part.pivot(index="after", columns="task", values="accuracy").loc[names, names]
        found[key] = AccuracyMatrix(names, values.to_numpy())
    return found


def scores(table: pd.DataFrame) -> pd.DataFrame:
    """What each run came to: index (method, order, seed), columns in percent and points, parameters and seconds."""
    metrics = ["transfer", "average", "last", "forgetting"]
    found = {key: [getattr(matrix, metric) for metric in metrics] for key, matrix in matrices(table).items()}
    found = pd.DataFrame(found, metrics).T.rename_axis(KEY)
    return found.join(table.groupby(KEY)[["trained_parameters", "seconds"]].first())


def figure(table: pd.DataFrame, order: int = 1, seed: int = 0) -> Figure:
    """Each task's accuracy over time, of fine-tuning and MoE-Adapters: what is forgotten, and what is not."""
    found = {method: m for (method, o, s), m in matrices(table).items() if (o, s) == (order, seed)}
    shown = {name: found[name] for name in ("fine-tuning", "moe-adapters")}
    return plots.accuracy_over_time(shown, found["zero-shot"].values[0])


def run_study(
    name: str,
    names: Sequence[str] | None = None,
    orders: Sequence[int] | None = None,
    seeds: Sequence[int] | None = None,
    work: Path | None = None,
    out: Path | None = None,
) -> None:
    """The commands `compare` and `ablations`: a study of STUDIES, or a part of it, written to its CSV."""
    chosen = STUDIES[name]()
    if unknown := set(names or ()) - set(chosen.contestants):
        raise ValueError(f"{min(unknown)!r} does not take part: this study has {', '.join(chosen.contestants)}.")
    if not set(orders or ()) <= set(ORDERS):
        raise ValueError(f"orders {orders}: a stream has the orders 1 and 2.")
    if min(seeds or [0]) < 0:
        raise ValueError(f"seeds {seeds}: a seed is a whole number, at least 0.")
    file, work = out or RESULTS / chosen.file, work or RUNS
    with one_writer(work / Path(chosen.file).stem):
        sweep(file.parent, f"{file.name}-")
        table = compare(
            chosen,
            work,
            names,
            orders,
            seeds,
            load_results(chosen, file),
            keep=lambda table: replace_file(file, lambda path: table.to_csv(path, index=False)),
        )
    if not out and name == "methods" and {"zero-shot", "fine-tuning", "moe-adapters"} <= set(table.method):
        figure(table).savefig(file.with_suffix(".png"), dpi=110, facecolor="white")
