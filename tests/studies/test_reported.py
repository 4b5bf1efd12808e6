"""The reported numbers: each table agrees with itself, and with the published matrices where they are here."""

import pandas as pd
import pytest
from helpers import ROOT

from mini_lib import AccuracyMatrix
from mini_lib.benchmarks.mtil import ORDERS
from mini_lib.benchmarks.xtail import ORDERS as X_TAIL

TABLE = pd.read_csv(ROOT / "data" / "reported" / "reported.csv")


def test_every_number_has_a_source_and_is_a_percentage():
    assert TABLE.notna().all().all() and TABLE.value.between(0, 100).all()
    assert not TABLE.duplicated(["benchmark", "method", "metric", "task", "source"]).any()


STREAMS = [
    ("MTIL, Order I", ORDERS[1], 36), ("MTIL, Order II", ORDERS[2], 6), ("X-TAIL, Order I, 16 shots", X_TAIL[1], 3),
]  # fmt: skip


@pytest.mark.parametrize("benchmark, tasks, tables_of_tasks", STREAMS)
def test_means_are_those_of_their_rows(benchmark, tasks, tables_of_tasks):
    tables = TABLE[TABLE.benchmark == benchmark].groupby(["method", "metric"])
    compared = 0
    for (method, metric), part in tables:
        values = part.set_index("task").value
        mean = values.pop("mean")
        if len(values):
            assert set(values.index) == set(tasks[metric == "transfer" :]), (method, metric)
            assert values.mean() == pytest.approx(mean, abs=0.06), (method, metric)
            compared += 1
    assert compared == tables_of_tasks


def test_zscl_s_rows_are_those_of_its_matrices(reference):
    names = {"continual_ft": "fine-tuning", "lwf": "lwf", "icarl": "icarl", "lwf_vr": "lwf-vr", "wise_ft": "wise-ft",
             "zscl_star": "zscl, without weight ensembling", "zscl": "zscl"}  # fmt: skip
    for file, method in names.items():
        path = reference / "zscl_matrices" / f"zsclrepo_order1_{file}.csv"
        matrix = AccuracyMatrix(ORDERS[1], pd.read_csv(path, index_col=0).to_numpy())
        for metric, column in matrix.per_task()[["transfer", "average", "last"]].items():
            part = TABLE[(TABLE.benchmark == "MTIL, Order I") & (TABLE.method == method) & (TABLE.metric == metric)]
            reported = part.set_index("task").value.drop("mean")
            assert (reported - column[reported.index]).abs().max() <= 0.0501, (method, metric)


def test_moe_adapters_pp_s_rows_are_those_of_its_log(reference):
    """69.03, 77.36 and 85.93, by the matrix of order I that was rebuilt from the log."""
    matrix = AccuracyMatrix(ORDERS[1], pd.read_csv(reference / "moepp_order1_matrix.csv", index_col=0).to_numpy())
    part = TABLE[(TABLE.benchmark == "MTIL, Order I") & (TABLE.method == "moe-adapters++")]
    for metric, column in matrix.per_task()[["transfer", "average", "last"]].items():
        reported = part[part.metric == metric].set_index("task").value
        assert reported["mean"] == pytest.approx(getattr(matrix, metric), abs=0.005)
        assert (reported.drop("mean") - column[reported.index.drop("mean")]).abs().max() <= 0.0051
