"""The checks of the exercises refuse plausible wrong answers in a sentence; test_notebooks has the right answers."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mini_lib.course import checks


def verdict(check, answer, capsys):
    torch.manual_seed(0)
    check(answer)
    return capsys.readouterr().out


def no_return(*arguments):
    pass


def frozen(counts, before, k, keep=True, unused=True):
    """The freeze rule with its mistakes as options."""
    chosen = counts.argsort(descending=True, stable=True)[:k]
    mask = before.clone() if keep else torch.zeros_like(before)
    mask[[e for e in chosen.tolist() if unused or counts[e] > 0]] = True
    return mask


def calibration_error(probabilities, labels, bins):
    confidence, answer = probabilities.max(1)
    which, right = (confidence * bins).long().clamp(max=bins - 1), (answer == labels).float()
    return sum((right - confidence)[which == i].sum().abs() for i in range(bins)) / len(labels)


def still_free_of_unused(counts, k):
    """Without the look whether an expert was used at all."""
    mask, free = torch.zeros(counts.shape[1], dtype=torch.bool), []
    for row in counts:
        mask[row.argsort(descending=True, stable=True)[:k]] = True
        free.append(int((~mask).sum()))
    return free


WRONG = {
    "most_forgotten": [
        lambda m: int((m[-1] - m.diagonal()).argmax()),
        lambda m: int((m.diagonal() - m[0]).argmax()),
    ],
    "zero_shot_change": [
        lambda m, z: (m - z[:, None])[torch.ones_like(m).triu(1).bool()].mean(),
        lambda m, z: (m - z)[torch.ones_like(m).triu(0).bool()].mean(),
        lambda m, z: (z - m)[torch.ones_like(m).triu(1).bool()].mean(),
    ],
    "text_to_image_loss": [
        lambda i, t, s: F.cross_entropy(s * F.normalize(i, dim=-1) @ F.normalize(t, dim=-1).T, torch.arange(len(i))),
        lambda i, t, s: F.cross_entropy(s * t @ i.T, torch.arange(len(i))),
        lambda i, t, s: F.cross_entropy(F.normalize(t, dim=-1) @ F.normalize(i, dim=-1).T / s, torch.arange(len(i))),
    ],
    "weighted_class_vector": [
        lambda f, w: F.normalize(w @ f, dim=0),
        lambda f, w: (w @ F.normalize(f, dim=-1)) / w.sum(),
        lambda f, w: F.normalize(F.normalize(f, dim=-1).mean(0), dim=0),
    ],
    "calibration_error": [
        lambda p, y, bins: (p.max(1).values.mean() - (p.argmax(1) == y).float().mean()).abs(),
        lambda p, y, bins: 35.0,
        lambda p, y, bins: calibration_error(p, y, 10),  # the number of bins is not read
    ],
    "rate_with_floor": [
        lambda s, n, lr, w, floor: max(floor, lr * (s + 1) / w if s < w else lr / 2 * (1 + math.cos(math.pi * (s - w) / (n - w)))),
        lambda s, n, lr, w, floor: lr * s / w if s < w else floor + (lr - floor) / 2 * (1 + math.cos(math.pi * (s - w) / (n - w))),
    ],
    "transfer": [
        lambda a: a[torch.ones_like(a).triu(1).bool()].mean(),
        lambda a: torch.stack([a[: j + 1, j].mean() for j in range(1, len(a))]).mean(),
        lambda a: torch.stack([a[j, :j].mean() for j in range(1, len(a))]).mean(),
    ],
    "forgetting": [
        lambda a: a[-1, :-1] - torch.stack([a[j:-1, j].max() for j in range(len(a) - 1)]),
        lambda a: a.diagonal()[:-1] - a[-1, :-1],
        lambda a: torch.stack([a[j:, j].max() for j in range(len(a) - 1)]) - a[-1, :-1],
    ],
    "interpolation": [
        lambda one, two, share: {n: share * one[n] + (1 - share) * two[n] for n in one},
        lambda one, two, share: {n: one[n].mul_(1 - share).add_(share * two[n]) for n in one},
    ],
    "adapter_parameters": [
        lambda widths, r: sum(2 * D * r for D in widths),
        lambda widths, r: sum(2 * (D * r + r) for D in widths),
    ],
    "adapter_forward": [
        lambda x, dw, db, uw, ub, s: F.linear(F.linear(x, dw, db).relu(), uw, ub),
        lambda x, dw, db, uw, ub, s: s * F.linear(F.linear(x, dw, db), uw, ub).relu(),
        lambda x, dw, db, uw, ub, s: x + s * F.linear(F.linear(x, dw, db).relu(), uw, ub),
    ],
    "merged": [
        lambda dw, db, uw, ub, s: (uw @ dw, s * (uw @ db + ub)),
        lambda dw, db, uw, ub, s: (s * (uw @ dw), s * ub),
        lambda dw, db, uw, ub, s: (s * (uw @ dw).T, s * (uw @ db + ub)),
    ],
    "gates_from_probabilities": [
        lambda p, k: p * (p >= p.topk(k, dim=1).values[:, -1:]),
        lambda p, k: torch.zeros_like(p).scatter(1, p.topk(k, dim=1).indices, p.topk(k, dim=1).values.softmax(1)),
        lambda p, k: p / p.sum(1, keepdim=True),
    ],
    "switch_loss": [
        lambda p, g: g.shape[1] * (g.mean(0) * p.mean(0)).sum(),
        lambda p, g: ((g > 0).double().mean(0) * p.mean(0)).sum(),
    ],
    "block_parameters": [
        lambda D, E, T, k, r: (E * (2 * D * r + r + D) + T * D * E, k * (2 * D * r + r + D) + D * E),
        lambda D, E, T, k, r: (E * (2 * D * r + r + D) + 2 * T * D * E, E * (2 * D * r + r + D) + D * E),
        lambda D, E, T, k, r: (E * 2 * D * r + 2 * T * D * E, k * 2 * D * r + D * E),
    ],
    "frozen_after": [
        lambda c, b, k: frozen(c, b, k, keep=False, unused=False),
        lambda c, b, k: frozen(c, b, k, unused=True),
        lambda c, b, k: ~frozen(c, b, k, unused=False),
        lambda c, b, k: c.argsort(descending=True)[:k],
    ],
    "still_free": [
        lambda counts, k: [counts.shape[1] - k * (t + 1) for t in range(len(counts))],
        lambda counts, k: [counts.shape[1] - k for _ in counts],
        lambda counts, k: still_free_of_unused(counts, k),
    ],
    "drift_by_task": [
        lambda now, then, task: torch.stack([((now - then).norm(dim=1) / then.norm(dim=1))[task == t].mean() for t in range(int(task.max()) + 1)]),
        lambda now, then, task: (100 * (now - then).norm(dim=1) / then.norm(dim=1)).mean(),
    ],
    "reconstruction_error": [
        lambda autoencoder, f: (autoencoder(f) - f).pow(2).mean(),
        lambda autoencoder, f: (autoencoder(f) - f).pow(2).sum(1),
        lambda autoencoder, f: (autoencoder(f) - f).pow(2).mean(0),
        lambda autoencoder, f: (autoencoder(f) - f).pow(2).mean(1).sqrt(),
    ],
    "selection": [
        lambda e, threshold: torch.where(e.min(1).values < threshold, 0, e.argmin(1)) - 1,
        lambda e, threshold: torch.where(e.min(1).values > threshold, 0, e.argmin(1)),
        lambda e, threshold: torch.where(e[:, 1:].min(1).values > threshold, -1, e[:, 1:].argmin(1)),
        lambda e, threshold: torch.where(e.min(1).values >= threshold, 0, e.argmin(1)) - 1,
    ],
    "auroc": [
        lambda own, others: (own[:, None] > others).double().mean(),
        lambda own, others: (own[:, None] < others).double().mean(),
        lambda own, others: (own[:, None] <= others).double().sum(),
    ],
    "rounds_until_gone": [
        lambda d, s, part: math.floor(math.log(part) / math.log(1 - s / d)),
        lambda d, s, part: math.ceil(math.log(part) / math.log(s / d)),
        lambda d, s, part: math.log(part) / math.log(1 - s / d),
    ],
    "random_gate_error": [
        lambda n, m, distance: distance * (n - 1) / (n - 1 + m),
        lambda n, m, distance: distance * (1 - (1 - 1 / m) ** (n - 1)),
        lambda n, m, distance: distance / m,
        lambda n, m, distance: 1 - (1 - (1 - 1 / m) ** n) * m / n,
    ],
    "forgetting_of_path": [
        lambda path, u, n: (((path[-1] - u[n]) ** 2).sum(1) - ((path[:-1] - u[n]) ** 2).sum(1))[:-1].mean(),
        lambda path, u, n: (((path[-1] - u[n]) ** 2).sum(1) - ((path[1:] - u[n]) ** 2).sum(1)).mean(),
        lambda path, u, n: (((path[1:] - u[n]) ** 2).sum(1) - ((path[-1] - u[n]) ** 2).sum(1))[:-1].mean(),
        lambda path, u, n: (((path[-1] - u[n]) ** 2).sum(1) - ((path[1:] - u[n]) ** 2).sum(1))[:-1].sum(),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name, answer", [(n, a) for n, answers in WRONG.items() for a in [*answers, no_return]])
def test_a_wrong_answer_is_refused_in_a_sentence(name, answer, capsys):
    told = verdict(getattr(checks, f"check_{name}"), answer, capsys)
    assert told.startswith("✗") and len(told.split()) >= 5 and "was tried" not in told, told


def test_every_check_has_its_wrong_answers():
    assert {f"check_{name}" for name in WRONG} == {name for name in dir(checks) if name.startswith("check_")}


def test_an_answer_that_stops_is_told_why(capsys):
    def answer(matrix):
        return matrix.no_such_thing

    assert "AttributeError" in verdict(checks.check_most_forgotten, answer, capsys)


def test_the_summary_says_what_differs(capsys):
    assert checks.summary({"a": (44.2, 44, 1)})
    assert not checks.summary({"a": (44.2, 44, 1), "b": (10.0, 44, 1)})
    assert [line.endswith("differs") for line in capsys.readouterr().out.splitlines()] == [
        False,
        False,
        False,
        False,
        True,
    ]


def test_right_answers_in_other_forms_are_accepted(capsys):
    """NumPy's functions and 64-bit numbers are right, too."""

    def rate(step, iterations, lr, warmup, floor):
        if step < warmup:
            return np.float64(lr * (step + 1) / warmup)
        return floor + (lr - floor) / 2 * (1 + np.cos(np.pi * (step - warmup) / (iterations - warmup)))

    assert "✓" in verdict(checks.check_rate_with_floor, rate, capsys)

    def as_tensor(*given):
        return torch.tensor(rate(*given), dtype=torch.float64)

    assert "✓" in verdict(checks.check_rate_with_floor, as_tensor, capsys)
    assert "✓" in verdict(checks.check_calibration_error, calibration_error, capsys)
