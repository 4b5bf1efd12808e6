"""The study of DDAS: its two rules on numbers that can be checked by hand, and its table on a small scale."""

import pandas as pd
import pytest
import torch
from helpers import silent

from mini_lib.benchmarks import mini_mtil
from mini_lib.studies import selectors as selector_study
from mini_lib.studies.selectors import ADDED, FACTORS, KNOWN, RULES, added, scores, sent_well, study

pytestmark = pytest.mark.slow


def test_the_rules_by_hand():
    errors = torch.tensor([[4.0, 1.0, 8.0], [1.0, 3.0, 2.0], [2.0, 6.0, 1.5]])  # reference, two tasks
    unknown, taker = scores(errors, torch.tensor([0.5, 1.0]), RULES[0])
    assert unknown.tolist() == [0.5, 2.0, 0.75] and taker.tolist() == [0, 1, 1]
    unknown, taker = scores(errors, torch.tensor(2.0), RULES[1])
    assert unknown.tolist() == [0.5, float("inf"), 0.75] and taker[[0, 2]].tolist() == [0, 1]


def test_sent_well_by_hand():
    errors = torch.tensor([[4.0, 1.0, 8.0], [1.0, 3.0, 2.0], [2.0, 6.0, 1.5], [2.0, 0.9, 4.0]])
    limits = torch.tensor([0.5, 1.0])  # relative errors over limits: (0.5, 2), (6, 2), (6, 0.75), (0.9, 2)
    assert [sent_well(errors, limits, RULES[0], own) for own in (0, 1, None)] == [50, 25, 25]
    assert sent_well(errors, limits, RULES[0], 0, factor=0.6) == 25
    assert sent_well(errors, torch.tensor(1.0), RULES[1], 0) == 50 and sent_well(errors, 0.9, RULES[1], None) == 75


def test_as_tasks_are_added(monkeypatch):
    benchmark = mini_mtil(0, 1, test_per_class=5)
    benchmark.tasks = benchmark.tasks[:3]
    monkeypatch.setattr(selector_study, "twelve_tasks", lambda seed, order: benchmark)
    table = added(seeds=(0,), log=silent)
    assert len(table) == 2 * 3 * 3 * 3 and table.sent.between(0, 100).all()
    first = table[table.learned == 1].pivot(index=["features", "task"], columns="rule", values="sent")
    assert (
        first["one threshold, kept"] == first["one threshold, set anew"]
    ).all()  # there is only one task to set it on
    recorded = pd.read_csv(ADDED)
    assert list(recorded) == list(table) and len(recorded) == 3 * 2 * 3 * 12 * 12
    assert not recorded.duplicated(["seed", "features", "rule", "learned", "task"]).any()


def test_the_table_has_every_combination():
    table = study(seeds=(0,), blocks=(1,), log=silent)
    assert len(table) == 2 * len(RULES) * len(FACTORS) and KNOWN == 4
    assert table.auroc.between(0.9, 1).all()
    for _, part in table.groupby(["features", "rule"]):
        assert part.known.is_monotonic_increasing and part.unknown.is_monotonic_decreasing
        at_limit = part[part.factor == 1].iloc[0]
        assert at_limit.known == pytest.approx(98, abs=3)
