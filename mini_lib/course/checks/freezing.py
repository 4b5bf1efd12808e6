"""Checks of notebook 05: the freeze rule, the free experts, drift."""

from collections.abc import Callable

import torch

from .base import report, same


def _counts(experts=8, unused=3):
    """Counts (E,) of a task, all different where not zero, `unused` of them zero, in random order."""
    counts = torch.randperm(90)[:experts] + 10
    counts[torch.randperm(experts)[:unused]] = 0
    return counts


def _most_used(counts, k):
    """The k most used experts, worked out in plain Python: a set of indices."""
    ranking = sorted(range(len(counts)), key=lambda e: (-int(counts[e]), e))
    return {e for e in ranking[:k] if counts[e] > 0}


@report
def check_frozen_after(frozen_after: Callable) -> None:
    nothing = torch.zeros(8, dtype=torch.bool)

    def given(counts, before, k):
        counts, before = torch.as_tensor(counts), torch.as_tensor(before)
        kept = before.clone()
        found = frozen_after(counts.clone(), before, k)
        assert torch.is_tensor(found) and found.dtype == torch.bool and found.shape == counts.shape, (
            f"the result should be a tensor of True and False, one for each of {len(counts)} experts; "
            "a list of indices, or the k largest counts themselves, is not the mask."
        )
        assert torch.equal(before, kept), "the mask that was passed in has been changed: make a copy of it first."
        return set(found.nonzero().flatten().tolist())

    for _ in range(10):
        counts, k = _counts(), int(torch.randint(1, 4, ()))
        right, found = _most_used(counts, k), given(counts, nothing, k)
        where = f"with counts {counts.tolist()} and k = {k}"
        assert found != set(range(8)) - right, f"{where} the mask is upside down: True means frozen."
        assert found == right, f"{where} experts {sorted(right)} are frozen, not {sorted(found)}."
    found = given([5, 5, 3, 5], nothing[:4], 2)
    assert found == {0, 1}, f"counts [5, 5, 3, 5], k = 2: of equals the lower index comes first, {{0, 1}}, not {found}."
    found = given([0, 0, 7, 0], nothing[:4], 2)
    assert found == {2}, f"counts [0, 0, 7, 0], k = 2: an unused expert is never frozen, so {{2}}, not {found}."
    before = torch.tensor([True, False, False, False])
    found = given([0, 2, 9, 8], before, 2)
    assert found == {0, 2, 3}, f"what was frozen before stays frozen: {{0}} and {{2, 3}} together, not {found}."
    found = given([9, 2, 8, 1], before, 2)
    assert found != {0, 1, 2}, "expert 0 is frozen already, but it is one of the k most used: no other takes its place."
    assert found == {0, 2}, f"counts [9, 2, 8, 1], k = 2, expert 0 frozen before: {{0, 2}}, not {found}."


@report
def check_still_free(still_free: Callable) -> None:
    few = torch.as_tensor(still_free(torch.tensor([[0, 0, 7, 0], [0, 0, 7, 5]]), 2)).tolist()
    assert few != [2, 1], "an expert that a task never used is not frozen, however few it used."
    assert few == [3, 2], f"for the counts [[0, 0, 7, 0], [0, 0, 7, 5]] and k = 2 there are [3, 2] free, not {few}."
    for _ in range(10):
        tasks, k = int(torch.randint(2, 6, ())), int(torch.randint(1, 4, ()))
        counts, frozen, right = torch.stack([_counts() for _ in range(tasks)]), set(), []
        for row in counts:
            frozen |= _most_used(row, k)
            right.append(8 - len(frozen))
        found = still_free(counts.clone(), k)
        found = torch.as_tensor(found)
        shape = tuple(found.shape)
        assert shape == (tasks,), f"{tasks} tasks were counted: {tasks} numbers are expected, not the shape {shape}."
        found = found.tolist()
        assert found != [8 - r for r in right], "these are the frozen experts; count the free ones."
        worst = [8 - k * (t + 1) for t in range(tasks)]
        assert found == right or found not in (worst, [max(w, 0) for w in worst]), (
            "that is E - k t, the worst case: an expert that two tasks use most is frozen only once."
        )
        alone = [8 - len(_most_used(row, k)) for row in counts]
        assert found == right or found != alone, "every task is counted alone: what was frozen before stays frozen."
        assert found == right, f"for the counts {counts.tolist()} and k = {k} there are {right} free, not {found}."


@report
def check_drift_by_task(drift_by_task: Callable) -> None:
    for _ in range(5):
        task = torch.cat([torch.arange(3), torch.randint(3, (9,))])[torch.randperm(12)]
        then = torch.randn(12, 5) * torch.rand(12, 1).add(0.2).mul(5)
        now = then + torch.randn(12, 5) * (task[:, None] + 1) / 2
        change = 100 * (now - then).norm(dim=1) / then.norm(dim=1)
        found = drift_by_task(now.clone(), then.clone(), task.clone())
        found = torch.as_tensor(found)
        shape = tuple(found.shape)
        assert shape == (3,), f"one number for each of the three tasks is expected, not the shape {shape}."

        def by_task(values):
            return torch.stack([values[task == t].mean() for t in range(3)])

        def fault(values):
            return torch.allclose(found, values, rtol=1e-4) and not torch.allclose(values, by_task(change), rtol=1e-4)

        assert not fault(by_task(change) / 100), "these are fractions: multiply by 100 for percent."
        other = 100 * (now - then).norm(dim=1) / now.norm(dim=1)
        assert not fault(by_task(other)), "divide by the length of `then`, not `now`."
        ratio = 100 * by_task((now - then).norm(dim=1)) / by_task(then.norm(dim=1))
        assert not fault(ratio), "this is the ratio of two means: take the ratio for each image first, then the mean."
        assert not fault(change.mean().expand(3)), "this is the mean over all images: take it for each task alone."
        same(found, by_task(change), "the drift of the three tasks", 1e-4)
    two, task = torch.tensor([[3.0, 4.0], [0.0, 2.0]]), torch.tensor([0, 1])
    moved = two + torch.tensor([[0.0, 1.0], [0.0, 0.0]])
    same(drift_by_task(moved, two, task), [20.0, 0.0], "the drift of the two images of section 1, a task each,")
