"""AccuracyMatrix: a 3 x 3 example by hand, and the tables of ZSCL's own results."""

import csv

import numpy as np
import pytest

from mini_lib import AccuracyMatrix

REPORTED = {  # Transfer, Average, Last as ZSCL's repository and the paper print them
    ("order1", "continual_ft"): (44.6, 55.9, 77.3), ("order1", "lwf"): (56.9, 64.7, 74.6),
    ("order1", "icarl"): (50.4, 65.7, 80.1), ("order1", "lwf_vr"): (57.2, 65.1, 76.6),
    ("order1", "wise_ft"): (52.3, 60.7, 77.7), ("order1", "zscl_star"): (62.2, 72.6, 84.5),
    ("order1", "zscl"): (68.1, 75.4, 83.6), ("order2", "continual_ft"): (46.6, 56.2, 67.4),
    ("order2", "lwf"): (53.2, 62.2, 71.9), ("order2", "icarl"): (50.9, 56.9, 71.6),
    ("order2", "lwf_vr"): (53.1, 60.6, 68.3), ("order2", "wise_ft"): (51.0, 61.5, 72.2),
    ("order2", "zscl_star"): (59.8, 71.8, 83.3), ("order2", "zscl"): (64.2, 74.5, 83.4),
}  # fmt: skip


@pytest.fixture
def matrix():
    return AccuracyMatrix(["a", "b", "c"], [[90, 40, 30], [70, 80, 20], [60, 85, 95]])


def test_by_hand(matrix):
    assert matrix.transfer == pytest.approx((40 + (30 + 20) / 2) / 2)  # 32.5: equal weight a column
    assert matrix.average == pytest.approx((90 + 70 + 60 + 40 + 80 + 85 + 30 + 20 + 95) / 9)
    assert matrix.last == pytest.approx((60 + 85 + 95) / 3)
    assert matrix.forgetting == pytest.approx(((90 - 60) + (80 - 85)) / 2)
    assert matrix.backward_transfer == pytest.approx(((60 - 90) + (85 - 80)) / 2)
    table = matrix.per_task()
    assert np.isnan(table.loc["a", "transfer"]) and np.isnan(table.loc["c", "forgetting"])
    assert table.loc["c", "transfer"] == 25 and table.loc["a", "forgetting"] == 30


def test_unfinished_has_no_metrics(matrix, tmp_path):
    part = AccuracyMatrix(matrix.tasks, matrix.values[:2])
    assert np.isnan(part.last) and np.isnan(part.transfer)
    part.frame().to_csv(tmp_path / "m.csv")
    again = AccuracyMatrix.from_csv(tmp_path / "m.csv")
    assert again.done == 2 and again.tasks == ["a", "b", "c"]
    again.add_row([60, 85, 95])
    assert again.last == matrix.last


def test_csv_keeps_every_bit(tmp_path):
    values = np.random.default_rng(0).random((4, 4)) * 100
    AccuracyMatrix("abcd", values).frame().to_csv(tmp_path / "m.csv")
    assert np.array_equal(AccuracyMatrix.from_csv(tmp_path / "m.csv").values, values)


@pytest.mark.parametrize("row", [[1, 2], [1, 2, 3, 4]])
def test_wrong_rows(row):
    with pytest.raises(ValueError, match="one accuracy for each of 3 tasks"):
        AccuracyMatrix("abc", [row])


@pytest.mark.parametrize("order, method", REPORTED)
def test_reported_matrices(reference, order, method):
    file = reference / "zscl_matrices" / f"zsclrepo_{order}_{method}.csv"
    with open(file, newline="") as opened:
        rows = [r for r in csv.reader(opened) if r]
    values = [[float(v) for v in row[-11:]] for row in rows[-11:]]
    matrix = AccuracyMatrix(map(str, range(11)), values)
    assert (round(matrix.transfer, 1), round(matrix.average, 1), round(matrix.last, 1)) == REPORTED[order, method]
