"""The accuracy matrix and what is read from it. Built in notebook 02."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd


class AccuracyMatrix:
    """Row i: accuracies in percent on every task after learning task i; column j: one task over time.

    The accuracies before any training are not part of it (as in the paper, after Zheng et al. 2023, ZSCL). Each metric
    is a mean over columns, NaN until all rows are there. `per_task()` has the columns.
    """

    def __init__(self, tasks: Iterable[str], rows: Iterable[Sequence[float]] = ()):
        self.tasks = list(tasks)
        self.values = np.full((len(self.tasks), len(self.tasks)), np.nan)
        self.done = 0
        for row in rows:
            self.add_row(row)

    def add_row(self, accuracies: Sequence[float]) -> None:
        """Accuracies in percent on all tasks, after learning the next one."""
        if len(accuracies) != len(self.tasks) or self.done == len(self.tasks):
            raise ValueError(f"a row has one accuracy for each of {len(self.tasks)} tasks, and there are as many rows.")
        self.values[self.done] = accuracies
        self.done += 1

    def per_task(self) -> pd.DataFrame:
        """A table: one row a task, one column a metric.

        transfer_j  = mean of A[i, j] over i < j       (before it was learned; undefined for the first)
        average_j   = mean of A[i, j] over all i
        last_j      = A[T, j]
        forgetting_j = max of A[l, j] over j <= l < T, minus A[T, j]      (undefined for the last)
        backward_transfer_j = A[T, j] - A[j, j]                           (undefined for the last)
        """
        a, last = self.values, len(self.tasks) - 1
        columns = range(len(self.tasks))
        table = {
            "transfer": [a[:j, j].mean() if j else np.nan for j in columns],
            "average": a.mean(axis=0),
            "last": a[-1],
            "forgetting": [a[j:last, j].max() - a[last, j] if j < last else np.nan for j in columns],
            "backward_transfer": [a[last, j] - a[j, j] if j < last else np.nan for j in columns],
        }
        return pd.DataFrame(table, index=pd.Index(self.tasks, name="task"))

    def _mean(self, metric: str) -> float:
        if self.done != len(self.tasks):
            return float("nan")
        return float(self.per_task()[metric].mean())  # type: ignore  # the mean of a column is a number

    @property
    def transfer(self) -> float:
        """Zero-shot ability kept: accuracy on tasks not yet learned."""
        return self._mean("transfer")

    @property
    def average(self) -> float:
        """Accuracy over all tasks and all times."""
        return self._mean("average")

    @property
    def last(self) -> float:
        """Accuracy on all tasks at the end."""
        return self._mean("last")

    @property
    def forgetting(self) -> float:
        """Best accuracy of the past minus the accuracy at the end (Chaudhry et al. 2018)."""
        return self._mean("forgetting")

    @property
    def backward_transfer(self) -> float:
        """Accuracy at the end minus the accuracy right after learning (Lopez-Paz and Ranzato 2017)."""
        return self._mean("backward_transfer")

    def frame(self) -> pd.DataFrame:
        """The rows so far as a table: index the task learned last, columns the tasks tested."""
        index = pd.Index(self.tasks[: self.done], name="after")
        return pd.DataFrame(self.values[: self.done], index=index, columns=self.tasks)

    @classmethod
    def from_csv(cls, path: str | Path) -> "AccuracyMatrix":
        """Read what `frame().to_csv(path)` wrote, to the last bit. Raises ValueError for a file of another form."""
        table = read_table(path)
        return cls(table.columns, table.to_numpy())


def read_table(path: str | Path) -> pd.DataFrame:
    """A CSV of numbers whose first line and first column are names, which stay texts whatever they look like ("01", "NA").

    Raises ValueError for a file of another form.
    """
    with open(path, newline="", encoding="utf-8") as file:
        lines = list(csv.reader(file))
    if not lines or any(len(line) != len(lines[0]) for line in lines):
        raise ValueError(f"{path} is no table: its lines do not have as many entries as its first.")
    values = [[float(entry or "nan") for entry in line[1:]] for line in lines[1:]]
    index = pd.Index([line[0] for line in lines[1:]], name=lines[0][0], dtype=object)
    return pd.DataFrame(values, index=index, columns=pd.Index(lines[0][1:], dtype=object), dtype=float)
