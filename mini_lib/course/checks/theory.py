"""Checks of notebook 17: fading, a gate dealt at random, forgetting along one expert's path."""

from collections.abc import Callable
from itertools import product

import numpy as np

from .base import not_one_of, report, same


@report
def check_rounds_until_gone(function: Callable) -> None:
    cases = {(10, 6, 0.1): 3, (10, 1, 0.5): 7, (512, 64, 0.01): 35, (4, 2, 0.25): 2}  # (width, samples, part)
    for (width, samples, part), rounds in cases.items():
        found = function(width, samples, part)
        r, up_to = 1 - samples / width, np.log(part) / np.log(1 - samples / width)
        faults = {
            "rounded down: after that many rounds more than the part asked for is still left.": np.floor(up_to),
            "a round keeps the share 1 - s/d of what was learned, not s/d.": np.ceil(np.log(part) / np.log(1 - r)),
        }
        not_one_of(float(found), float(rounds), faults)
        same(float(found), float(rounds), f"the number of rounds for d = {width}, s = {samples}, part = {part}")


@report
def check_random_gate_error(function: Callable) -> None:
    for tasks, experts, distance in ((2, 2, 8.0), (3, 2, 4.0), (4, 3, 2.5), (5, 3, 1.0), (3, 6, 6.0)):
        maps = np.array(list(product(range(experts), repeat=tasks)))  # every way to deal the tasks
        company = (maps[:, :, None] == maps[:, None]).sum(axis=2)  # tasks that share a task's expert, itself included
        right = distance * (1 - 1 / company).mean()
        found, others, p = function(tasks, experts, distance), tasks - 1, 1 / experts
        of_the_mean, at_all = distance * others * p / (others * p + 1), distance * (1 - (1 - p) ** others)
        faults = {
            "K/(K+1) of the mean K is not the mean of K/(K+1): average over K.": of_the_mean,
            "that is the chance to share an expert at all; what it costs depends on with how many.": at_all,
            "the error is in units of the distance: a factor is missing.": right / distance,
        }
        not_one_of(float(found), float(right), faults)
        same(float(found), float(right), f"the error for N = {tasks}, M = {experts}, distance {distance}")


@report
def check_forgetting_of_path(function: Callable) -> None:
    # d = 1: the truths 4 and 0 in turn; each round goes half the way
    path, truths = np.array([[0.0], [2.0], [1.0], [2.5], [1.25]]), np.array([[4.0], [0.0]])
    tasks = np.array([0, 1, 0, 1])
    u = truths[tasks]
    end = ((path[-1] - u) ** 2).sum(axis=1)
    change = end - ((path[1:] - u) ** 2).sum(axis=1)
    before = end - ((path[:-1] - u) ** 2).sum(axis=1)
    faults = {
        "still compared with the error before each round: path[t] is the expert before round t.": before[:-1].mean(),
        "the last round counts too: F_T is the mean over the T - 1 rounds before it.": change.mean(),
        "the other way round: forgetting is the error at the end minus the error then.": -change[:-1].mean(),
    }
    found = function(path, truths, tasks)
    not_one_of(float(found), float(change[:-1].mean()), faults)
    same(float(found), float(change[:-1].mean()), "the forgetting of the path 0, 2, 1, 2.5, 1.25")
    one_task = float(function(path, truths[:1], np.zeros(4, int)))
    same(one_task, (3 * 2.75**2 - 2**2 - 3**2 - 1.5**2) / 3, "the forgetting of the same path with the truth 4 alone")
