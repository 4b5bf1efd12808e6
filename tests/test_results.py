"""MiniMTIL teaches what MTIL teaches: the saved results of seeds 0 to 2 and both orders, and one seed run again."""

import pandas as pd
import pytest

from mini_lib.benchmarks.mini import ORDERS
from mini_lib.compare import compare, matrices
from mini_lib.studies import RESULTS, TASK_KNOWN, Study

KNOWN = "moe-adapters" + TASK_KNOWN
NAMES = ("zero-shot", "fine-tuning", "adapter-per-task", "moe-adapters")
DEFAULTS = Study({name: (name, {}) for name in NAMES}, orders=(1,), seeds=(0,), file="",
                 judges={"moe-adapters": {TASK_KNOWN: {"selector": "known"}}})  # fmt: skip


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
def saved():
    return pd.read_csv(RESULTS / "mini_mtil.csv")


def test_saved_results_keep_the_promises(saved):
    runs = saved.groupby(["method", "order", "seed"]).size()
    assert set(runs.index) == {(m, o, s) for m in [*NAMES, KNOWN] for o in (1, 2) for s in (0, 1, 2)}
    assert (runs == 49).all()
    check(saved)


def test_one_seed_again(saved, tmp_path):
    again = compare(DEFAULTS, tmp_path)
    check(again)
    before = matrices(saved[(saved.order == 1) & (saved.seed == 0)])
    for key, matrix in matrices(again).items():
        for metric in ("transfer", "average", "last"):
            assert getattr(matrix, metric) == pytest.approx(getattr(before[key], metric), abs=3), (key, metric)
