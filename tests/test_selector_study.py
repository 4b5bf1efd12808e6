"""The study of DDAS: its two rules on numbers that can be checked by hand, and its table on a small scale."""

import pytest
import torch

from mini_lib.selector_study import FACTORS, KNOWN, RULES, scores, study


def test_the_rules_by_hand():
    errors = torch.tensor([[4.0, 1.0, 8.0], [1.0, 3.0, 2.0], [2.0, 6.0, 1.5]])  # reference, two tasks
    unknown, taker = scores(errors, torch.tensor([0.5, 1.0]), RULES[0])
    assert unknown.tolist() == [0.5, 2.0, 0.75] and taker.tolist() == [0, 1, 1]
    unknown, taker = scores(errors, torch.tensor(2.0), RULES[1])
    assert unknown.tolist() == [0.5, float("inf"), 0.75] and taker[[0, 2]].tolist() == [0, 1]


def test_the_table_has_every_combination():
    table = study(seeds=(0,), blocks=(1,), log=lambda line: None)
    assert len(table) == 2 * len(RULES) * len(FACTORS) and KNOWN == 4
    assert table.auroc.between(0.9, 1).all()
    for _, part in table.groupby(["features", "rule"]):
        assert part.known.is_monotonic_increasing and part.unknown.is_monotonic_decreasing
        at_limit = part[part.factor == 1].iloc[0]
        assert at_limit.known == pytest.approx(98, abs=3)
