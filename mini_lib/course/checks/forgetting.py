"""Checks of notebook 02: learning rates, metrics, weights between two models."""

import math
from collections.abc import Callable

import torch

from .base import not_one_of, report, same


def _random_accuracies(tasks):
    """Accuracies in percent (T, T), new in every call even where the seed is fixed."""
    generator = torch.Generator()
    generator.seed()
    return 100 * torch.rand(tasks, tasks, generator=generator, dtype=torch.float64)


@report
def check_rate_with_floor(function: Callable) -> None:
    for iterations, lr, warmup, floor in ((12, 1.0, 4, 0.1), (50, 0.3, 5, 0.02), (9, 2.0, 0, 0.5)):
        for step in range(iterations + 1):
            fall = (1 + math.cos(math.pi * (step - warmup) / (iterations - warmup))) / 2
            right = lr * (step + 1) / warmup if step < warmup else floor + (lr - floor) * fall
            found = function(step, iterations, lr, warmup, floor)
            faults = {}
            if step < warmup:
                faults["the first step is number 0, and its rate is lr / warmup, not 0."] = lr * step / warmup
                risen = floor + (lr - floor) * (step + 1) / warmup
                faults["the warm-up is the same as before: the floor has no part in it."] = risen
            else:
                faults["the cosine should fall from lr to the floor; yours starts at lr + floor."] = floor + lr * fall
                faults["the cosine runs over the steps after the warm-up only."] = (
                    floor + (lr - floor) * (1 + math.cos(math.pi * step / iterations)) / 2
                )
                faults["the curve is cut off at the floor; let the whole cosine end there."] = max(floor, lr * fall)
            not_one_of(found, right, faults)
            where = f"at step {step} of {iterations}, with {warmup} of warm-up, lr {lr} and floor {floor}, the rate"
            same(found, right, where, 1e-9)


@report
def check_transfer(function: Callable) -> None:
    for tasks in (3, 4, 7):
        a = _random_accuracies(tasks)
        right = torch.stack([a[:j, j].mean() for j in range(1, tasks)]).mean()
        found = function(a.clone())
        faults = {
            "the diagonal is counted. Column j has the rows BEFORE task j only: a[:j, j].": (
                torch.stack([a[: j + 1, j].mean() for j in range(1, tasks)]).mean()
            ),
            "this is the mean over all cells above the diagonal. First take the mean of each column, then of those.": (
                a[torch.ones(tasks, tasks).triu(1).bool()].mean()
            ),
            "this reads below the diagonal: rows are the task learned last, columns the task tested.": (
                torch.stack([a[j, :j].mean() for j in range(1, tasks)]).mean()
            ),
            "there are T - 1 columns to average over, not T: the first task has nothing above the diagonal.": (
                right * (tasks - 1) / tasks
            ),
            "this is a mean over rows. One number a column comes first.": (
                torch.stack([a[i, i + 1 :].mean() for i in range(tasks - 1)]).mean()
            ),
        }
        not_one_of(found, right, faults)
        same(found, right, f"for {tasks} tasks Transfer")


@report
def check_forgetting(function: Callable) -> None:
    for tasks in (4, 5, 7):
        a = _random_accuracies(tasks)
        a[-1, 0] = 99.5 if tasks == 5 else 0.5  # once a task that ends above all it was before
        last = tasks - 1
        best = torch.stack([a[j:last, j].max() for j in range(last)])
        right = best - a[last, :last]
        found = function(a.clone())
        form = getattr(found, "shape", None)
        assert form != (tasks,), "nothing came after the last task, so it has no forgetting: return T - 1 numbers."
        faults = {
            "the sign is turned around: points LOST are positive.": -right,
            "this counts from the diagonal. A task can be at its best later: take the maximum since it was learned.": (
                a.diagonal()[:last] - a[last, :last]
            ),
            "the last row is among those of the maximum, so that a task that gained shows 0, not its gain.": (
                torch.stack([a[j:, j].max() for j in range(last)]) - a[last, :last]
            ),
            "the maximum goes over the whole column; what lies above the diagonal was before the task was learned.": (
                a[:last, :last].max(dim=0).values - a[last, :last]
            ),
            "return one number a task, not their mean.": right.mean(),
        }
        not_one_of(found, right, faults)
        same(found, right, f"for {tasks} tasks the forgetting of each")


@report
def check_interpolation(function: Callable) -> None:
    generator = torch.Generator()
    generator.seed()
    shapes = {"w": (3, 2), "b": (4,)}
    one, two = ({name: torch.randn(shape, generator=generator) for name, shape in shapes.items()} for _ in range(2))
    kept = {name: value.clone() for name, value in one.items()}
    for share in (0.0, 0.25, 1.0):
        found = function(one, two, share)
        assert isinstance(found, dict) and set(found) == set(one), "return a dict with the same names as the two given."
        for name in one:
            right = (1 - share) * kept[name] + share * two[name]
            turned = share * kept[name] + (1 - share) * two[name]
            fault = "share is the part of `after`: 0 gives `before`, 1 gives `after`."
            not_one_of(found[name], right, {fault: turned})
            same(found[name], right, f"with share {share} the weight {name!r}")
            assert torch.equal(one[name], kept[name]), "your function changes the weights of `before`; make new ones."
