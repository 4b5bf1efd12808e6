"""Visible checks of assignment A1: fresh random inputs against plain counting, one image and one cell at a time."""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional as F

from ...metrics import AccuracyMatrix
from .base import not_one_of, same
from .graded import graded


@graded
def check_grouped_loss(function: Callable) -> None:
    a, b = torch.randn(2, 6, 5)
    cosines, s = F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).T, 4.0
    own = torch.as_tensor(function(a, b, torch.arange(6), s)).float()
    assert own.shape == (), f"the loss is one number, a mean over the images; yours has the shape {tuple(own.shape)}."
    plain = F.cross_entropy(s * cosines, torch.arange(6))
    for wrong, fault in (
        (F.cross_entropy(s * a @ b.T, torch.arange(6)), "the features are not made unit vectors first"),
        (F.cross_entropy(cosines, torch.arange(6)), "the scale is missing"),
        (
            F.cross_entropy(s * cosines.T, torch.arange(6)),
            "that is caption to image: the sum below runs over the captions",
        ),
        (6 * plain, "the mean over the images is asked for, not the sum"),
        (-plain, "the sign is turned around: a loss is never negative"),
    ):
        hit = torch.allclose(own, wrong, rtol=1e-4) and not torch.allclose(own, plain, rtol=1e-4)  # by chance both
        assert not hit, f"{fault}."
    same(own, plain, "with a group for every pair the loss (CLIP's own, image to text)", 1e-4)
    group = torch.tensor([0, 1, 0, 2, 1, 0])
    p, right = (s * cosines).softmax(dim=1).tolist(), 0.0
    logs = 0.0
    for i in range(6):
        fits = [j for j in range(6) if group[j] == group[i]]
        right -= math.log(sum(p[i][j] for j in fits)) / 6
        logs -= sum(math.log(p[i][j]) for j in fits) / len(fits) / 6
    found = torch.as_tensor(function(a, b, group, s))
    assert abs(found - logs) > 1e-4, "add the probabilities of all fitting captions first, then take ONE logarithm."
    assert abs(found - plain) > 1e-4, "only the diagonal counts as right: the groups have no effect."
    same(found, right, "with three groups the loss", 1e-4)
    alike = torch.as_tensor(function(a, b, torch.zeros(6, dtype=torch.long), s))
    assert abs(alike) < 1e-4, f"where every caption fits every image there is nothing to lose: 0, not {alike:.3f}."


@graded
def check_honest_scale(function: Callable) -> None:
    labels = torch.randint(0, 5, (400,))
    cosines = 0.1 * torch.randn(400, 5) + 0.1 * F.one_hot(labels, 5)
    accuracy = (cosines.argmax(dim=1) == labels).float().mean().item()

    def confidence(s):
        return (s * cosines).softmax(dim=1).amax(dim=1).mean().item()

    found = float(function(cosines, labels))
    assert found > 0, f"the scale is a positive number, not {found:.3g}."
    reached = confidence(found)
    assert abs(confidence(1 / found) - accuracy) > 2e-3, "this is the temperature, 1 / s: the scale s is asked for."
    assert abs(reached - accuracy) < 2e-3, (
        f"with your scale, {found:.4g}, the mean confidence is {reached:.3f} and the accuracy {accuracy:.3f}; "
        "they should differ by less than 0.002. (Confidence is an image's highest probability, not that of its label.)"
    )


@graded
def check_joint_predictions(function: Callable) -> None:
    for sizes in ((3, 2, 4), (1, 5)):
        images, classes = torch.randn(30, 6), [F.normalize(torch.randn(n, 6), dim=-1) for n in sizes]
        found = function(images, classes)
        assert isinstance(found, (tuple, list)) and len(found) == 2, (
            "return two tensors: the tasks (B,) and the classes (B,)."
        )
        task, label = found
        for what, values in (("tasks", task), ("classes", label)):
            assert values.shape == (30,), f"the {what} have the shape {tuple(values.shape)}, not (30,)."
        assert int(task.max()) < len(sizes), (
            f"there are {len(sizes)} tasks, counted from 0, but you name task {int(task.max())}."
        )
        starts = torch.tensor([0, *np.cumsum(sizes)[:-1].tolist()])
        best = [max((float(x @ w), t, c) for t, ws in enumerate(classes) for c, w in enumerate(ws)) for x in images]
        right_task, right_label = (torch.tensor([b[i] for b in best]) for i in (1, 2))
        assert not (
            torch.equal(label, right_label + starts[right_task]) and len(sizes) > 1 and label.max() > max(sizes) - 1
        ), "the classes are counted through all tasks: subtract the number of classes of the tasks before."
        sharp = [max((float(F.softmax(w @ x, 0).max()), t) for t, w in enumerate(classes))[1] for x in images]
        assert torch.equal(task, right_task) or task.tolist() != sharp, (
            "a softmax in each task makes its scores incomparable: compare the cosines of all tasks."
        )
        same(task, right_task, "the tasks (that of the nearest class vector)")
        same(label, right_label, "the classes, counted within their task,")


@graded
def check_damage_by_step(function: Callable) -> None:
    T, nan = 5, float("nan")
    A, z = 100 * np.random.rand(T, T), 100 * np.random.rand(T)

    def both(before, first):
        """Mean loss of old and unseen tasks; before(i, j): what a cell is compared with; first: 1 with the diagonal."""
        lost = [[before(i, j) - A[i, j] for j in range(T)] for i in range(T)]
        old = [np.mean(lost[i][: i + first]) if i else nan for i in range(T)]
        return np.array([old, [np.mean(lost[i][i + 1 :]) if i < T - 1 else nan for i in range(T)]])

    found = function(A.copy(), z.copy())
    assert isinstance(found, (tuple, list)) and len(found) == 2, (
        "return two arrays: the losses of old and of unseen tasks."
    )
    shapes = [np.shape(part) for part in found]
    assert shapes == [(T,), (T,)], (
        f"for {T} tasks both should have the shape ({T},), but have {shapes[0]} and {shapes[1]}."
    )
    found, right = np.array(found, dtype=float), both(lambda i, j: A[i - 1, j] if i else z[j], 0)
    assert not np.isnan(found[1, 0]), "the first step has unseen tasks, too: compare it with the zero-shot row."
    assert np.isnan(found[0, 0]) and np.isnan(found[1, -1]), (
        "NaN where there are no such tasks: old at first, unseen at last."
    )
    faults = {
        "the sign is turned around: a positive number is a loss of points.": -right,
        "while a task is learned it is not old yet: leave the diagonal out.": (
            both(lambda i, j: A[i - 1, j] if i else z[j], 1)
        ),
        "a step is compared with the step before it, not with the diagonal and zero-shot.": (
            both(lambda i, j: A[j, j] if j < i else z[j], 0)
        ),
        "Python's row -1 is the last one: before the first step there is the zero-shot row.": (
            both(lambda i, j: A[i - 1, j], 0)
        ),
        "old tasks stand left of the diagonal, unseen ones right of it: rows and columns are exchanged.": (
            np.array([[nan, *[np.mean([A[j, i - 1] - A[j, i] for j in range(i)]) for i in range(1, T)]], right[1]])
        ),
    }
    not_one_of(found, right, faults)
    for name, mine, expected in zip(("old", "unseen"), found, right):
        same(np.nan_to_num(mine), np.nan_to_num(expected), f"the losses of {name} tasks (0 stands for NaN here)", 1e-6)


@graded
def check_share_forgotten(function: Callable) -> None:
    for T in (3, 4, 5, 6, 5, 4):
        A, classes = 40 + 60 * np.random.rand(T, T), np.random.randint(4, 30, T)
        last, tasks, guess = A[-1], range(T - 1), 100 / classes[:-1]
        best = np.array([max(A[i][j] for i in range(j, T - 1)) for j in tasks])
        right = (best - last[:-1]) / (best - guess)
        found = np.asarray(function(A.copy(), classes.copy()), dtype=float)
        assert found.shape == (T - 1,), (
            f"for {T} tasks there are {T - 1} shares (not of the last), but the shape is {found.shape}."
        )
        of_all = [np.max(A[:-1, j]) for j in tasks]
        to_end = [np.max(A[j:, j]) for j in tasks]
        own = A.diagonal()[:-1]
        faults = {
            "this is the share of what is left; the share that was lost is asked for.": (
                (last[:-1] - guess) / (best - guess)
            ),
            "guessing comes for free: divide by what was there above 100 / C points.": (best - last[:-1]) / best,
            "accuracies are in percent, so guessing gives 100 / C points, not 1 / C.": (
                (best - last[:-1]) / (best - 1 / classes[:-1])
            ),
            "this is in percent: a share of 0.5 is half.": 100 * right,
            "the best is taken since the task was learned: rows above the diagonal do not count.": (
                (of_all - last[:-1]) / (of_all - guess)
            ),
            "the last row is not part of the best: a task that gained would show 0.": (
                (to_end - last[:-1]) / (to_end - guess)
            ),
            "the best since it was learned is meant, not the value right after it.": (own - last[:-1]) / (own - guess),
            "the sign is turned around: a positive share is lost.": -right,
        }
        not_one_of(found, right, faults)
        same(found, right, f"for {T} tasks the shares", 1e-6)


@graded
def check_matrix_with(function: Callable) -> None:
    for transfer, average, last in ((40.0, 55.0, 70.0), (31.0, 52.0, 63.0)):
        A = np.asarray(function(transfer, average, last), dtype=float)
        assert A.shape == (3, 3), f"the matrix has the shape {A.shape}, not (3, 3)."
        assert (A >= 0).all() and (A <= 100).all(), (
            f"accuracies lie between 0 and 100, but yours go from {A.min():g} to {A.max():g}."
        )
        matrix, turned = AccuracyMatrix("abc", A), AccuracyMatrix("abc", A.T)
        wanted = f"for Transfer {transfer:g}, Average {average:g}, Last {last:g}"
        swapped = np.allclose([turned.transfer, turned.last], [transfer, last]) and not np.isclose(matrix.last, last)
        assert not swapped, "rows and columns are exchanged: a row is the model after learning one task."
        cells = (A[0, 1] + A[0, 2] + A[1, 2]) / 3
        by_cells = np.isclose(cells, transfer) and not np.isclose(matrix.transfer, transfer)
        assert not by_cells, (
            f"{wanted}: Transfer is a mean over columns, each one's mean over its rows, not over the three cells."
        )
        for name, here, right in (
            ("Last", matrix.last, last),
            ("Transfer", matrix.transfer, transfer),
            ("Average", matrix.average, average),
        ):
            assert np.isclose(here, right), f"{wanted} your matrix has {name} {here:.4g}."
