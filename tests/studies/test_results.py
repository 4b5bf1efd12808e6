"""The saved results are complete. MiniMTIL teaches what MTIL teaches: in all seeds and orders, and in one seed run again."""

import re
from dataclasses import replace

import pandas as pd
import pytest
from helpers import ROOT

from mini_lib.benchmarks.mini import ORDERS, mini_mtil
from mini_lib.studies import RESULTS
from mini_lib.studies.compare import COLUMNS, compare, load_results, matrices, scores
from mini_lib.studies.contestants import STUDIES, TASK_KNOWN, rivals

KNOWN = "moe-adapters" + TASK_KNOWN
AGAIN = ["zero-shot", "moe-adapters"]


def routing(table):
    """Mean percent of images sent to their own router once it is learned, and of unknown ones taken by a learned task."""
    part = table[table.method == "moe-adapters"]
    place = {(order, name): i for order, names in ORDERS.items() for i, name in enumerate(names)}
    learned = [place[o, task] <= place[o, after] for o, task, after in zip(part.order, part.task, part.after)]
    learned = pd.Series(learned, index=part.index)
    return part.routed[learned].mean(), 100 - part.routed[~learned].mean()


def check(table):
    """The promises of the benchmark, on the means over all seeds and orders of a table."""
    found = matrices(table)

    def mean(method, metric):
        return pd.Series([getattr(m, metric) for key, m in found.items() if key[0] == method]).mean()

    zero_shot = table[table.method == "zero-shot"]
    assert 35 <= zero_shot.accuracy.mean() <= 70
    assert zero_shot.groupby("task").accuracy.mean().min() > 1.5 * 10
    assert mean("adapter-per-task", "last") >= 88
    assert mean("fine-tuning", "transfer") <= mean("zero-shot", "transfer") - 8
    assert mean("fine-tuning", "last") <= mean("adapter-per-task", "last") - 20
    for (method, order, seed), matrix in found.items():
        if method == KNOWN:
            assert matrix.transfer == pytest.approx(found["zero-shot", order, seed].transfer, abs=1e-3)
    assert abs(mean(KNOWN, "last") - mean("adapter-per-task", "last")) <= 2
    assert mean("moe-adapters", "last") >= mean(KNOWN, "last") - 2
    assert abs(mean("moe-adapters", "transfer") - mean("zero-shot", "transfer")) <= 1.5
    own, unknown = routing(table)
    assert own >= 96 and unknown <= 3


@pytest.fixture(scope="module")
def study():
    return rivals()


@pytest.fixture(scope="module")
def saved(study):
    """The saved table; refused where a contestant's settings are no longer those that the search found."""
    return load_results(study, RESULTS / study.file)


@pytest.mark.parametrize("name", STUDIES)
def test_saved_results_are_complete(name):
    study = STUDIES[name]()
    saved = load_results(study, RESULTS / study.file)
    names = [*study.contestants, *(name + label for name, labels in study.judges.items() for label in labels)]
    runs = saved.groupby(["method", "order", "seed"]).size()
    assert list(saved.columns) == COLUMNS and saved.drop(columns="routed").notna().all(axis=None)
    assert (runs == saved.task.nunique() ** 2).all()
    assert set(runs.index) == {(name, order, seed) for name in names for order in study.orders for seed in study.seeds}


def test_saved_results_keep_the_promises(saved):
    check(saved)


def test_the_readme_has_the_saved_results(saved):
    """Its table, one row a contestant, by the name in the CSV and if need be a word in brackets; and what DDAS did."""
    text = (ROOT / "README.md").read_text()
    table = text.split("| | Transfer | Average | Last | Forgetting |\n|---|---|---|---|---|\n")[1].split("\n\n")[0]
    shown = [[cell.strip() for cell in row.strip("|").split("|")] for row in table.splitlines()]
    shown = {re.sub(r" \(.*\)$", "", label.replace("*", "")): numbers for label, *numbers in shown}
    runs = scores(saved)[["transfer", "average", "last", "forgetting"]].groupby("method")
    mean, spread = runs.mean(), runs.std()
    assert set(shown) == set(mean.index)
    for name, numbers in shown.items():
        assert numbers == [f"{m:.1f} ± {s:.1f}" for m, s in zip(mean.loc[name], spread.loc[name])], name
    own, unknown = re.search(r"DDAS sent ([\d.]+) % .* let\s+a learned task take ([\d.]+) %", text, re.DOTALL).groups()
    assert [own, unknown] == [f"{share:.1f}" for share in routing(saved)]


def first_task(seed, order):
    """The beginning of the study's stream: what was learned there does not depend on what comes later."""
    benchmark = mini_mtil(seed, order)
    benchmark.tasks = benchmark.tasks[:1]
    return benchmark


@pytest.mark.slow
def test_one_seed_again(study, saved, tmp_path):
    """The first task, learned again, ends where the saved one did; notebook 07 runs the whole stream."""
    told = {"moe-adapters": {TASK_KNOWN: study.judges["moe-adapters"][TASK_KNOWN]}}
    shorter = replace(study, judges=told, benchmark=first_task)
    again = matrices(compare(shorter, tmp_path, names=AGAIN, orders=[1], seeds=[0], workers=1))
    before = matrices(saved[(saved.order == 1) & (saved.seed == 0)])
    assert set(again) == {(name, 1, 0) for name in (*AGAIN, KNOWN)}
    for key, matrix in again.items():
        assert matrix.values[0, 0] == pytest.approx(before[key].values[0, 0], abs=3), key
