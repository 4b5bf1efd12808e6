"""Checks of notebook 00: reading an accuracy matrix."""

from collections.abc import Callable

import torch

from .base import not_one_of, report, same


@report
def check_most_forgotten(function: Callable) -> None:
    hand = torch.tensor([[90.0, 40, 30], [70, 80, 20], [60, 75, 95]])  # drops 30, 5, 0
    found = function(hand)
    assert int(found) == 0, f"for {hand.tolist()} the drops are 30, 5, 0: task 0, not {int(found)}."
    for _ in range(20):
        matrix = 100 * torch.rand(5, 5)
        drops = matrix.diagonal() - matrix[-1]
        found = int(function(matrix))
        assert found != int(drops.argmin()), "the answer is the smallest drop: is a sign turned around?"
        assert found == int(drops.argmax()), f"for the drops {drops.tolist()} it is {int(drops.argmax())}, not {found}."


@report
def check_zero_shot_change(function: Callable) -> None:
    hand = torch.tensor([[90.0, 40, 30], [70, 80, 20], [60, 85, 95]])
    found = function(hand, torch.tensor([50.0, 50, 50]))
    same(found, -20.0, "with 40, 30, 20 above the diagonal and zero-shot 50 the mean")
    for size in (2, 4, 7):
        matrix, zero_shot = 100 * torch.rand(size, size), 100 * torch.rand(size)
        cells = [matrix[i, j] - zero_shot[j] for j in range(size) for i in range(j)]
        found = function(matrix, zero_shot)
        rows = sum(matrix[i, j] - zero_shot[i] for j in range(size) for i in range(j)) / len(cells)
        right = sum(cells) / len(cells)
        not_one_of(found, right, {"zero-shot is subtracted by rows: it has one number a column.": rows})
        same(found, right, "the mean over all cells above the diagonal (the diagonal left out)", 1e-4)
