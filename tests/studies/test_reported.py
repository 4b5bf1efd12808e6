"""The reported numbers: each table agrees with itself, and with the published matrices where they are here."""

import pandas as pd
import pytest
from helpers import ROOT

from mini_lib import AccuracyMatrix
from mini_lib.benchmarks.mtil import ORDERS

TABLE = pd.read_csv(ROOT / "data" / "reported" / "reported.csv")


def test_every_number_has_a_source_and_is_a_percentage():
    assert TABLE.notna().all().all() and TABLE.value.between(0, 100).all()
    assert not TABLE.duplicated(["benchmark", "method", "metric", "task", "source"]).any()


@pytest.mark.parametrize("benchmark, order", [("MTIL, Order I", 1), ("MTIL, Order II", 2)])
def test_means_are_those_of_their_rows(benchmark, order):
    tables = TABLE[TABLE.benchmark == benchmark].groupby(["method", "metric"])
    compared = 0
    for (method, metric), part in tables:
        values = part.set_index("task").value
        mean = values.pop("mean")
        if len(values):
            assert set(values.index) == set(ORDERS[order][metric == "transfer" :]), (method, metric)
            assert values.mean() == pytest.approx(mean, abs=0.06), (method, metric)
            compared += 1
    assert compared == {1: 27, 2: 3}[order]


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
