"""Visible checks of assignment A3: fresh random inputs against the library's block and against plain counting."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector

from ...adapter import Adapter
from ...moe import MoEAdapter, Route
from ...router import top_k_softmax
from .base import not_one_of, same
from .graded import graded


def by_task(values: Tensor, task: Tensor) -> Tensor:
    """Sum of the values (N, E) of each task's samples. (T, E)"""
    return torch.stack([values[task == t].sum(dim=0) for t in range(int(task.max()) + 1)])


@graded
def check_counts_by_task(function: Callable) -> None:
    for sizes, experts in (((7, 4, 10), 5), ((3, 12), 6)):
        T, task = len(sizes), torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
        gates = top_k_softmax(torch.randn(len(task), experts), 2)
        found = torch.as_tensor(function(gates, task))
        shape = tuple(found.shape)
        assert shape == (T, experts), f"the counts have the shape {shape}, not {(T, experts)}: (T, E), a row a task."
        right = by_task((gates > 0).long(), task)
        faults = {
            "this is gate weight: a choice counts 1, whatever its gate.": by_task(gates, task),
            "only the largest gate of a sample is counted: the second choice counts as much.": (
                by_task((gates > 0.5).long(), task)
            ),
            "a task begins to count at 0, but yours goes on where the task before it ended.": right.cumsum(dim=0),
            "these are shares of the samples: counts are asked for.": right / torch.tensor(sizes)[:, None],
            "tasks have different numbers of samples: `task` says which are whose.": (
                torch.stack([(part > 0).sum(dim=0) for part in gates.chunk(T)])
            ),
        }
        not_one_of(found, right, faults)
        same(found, right, f"for tasks of {list(sizes)} samples the counts")


def masks_by_library(counts: Tensor, number: int) -> Tensor:
    """counts (T, blocks, E) -> what the library's block has frozen after each task, (T, blocks, E)."""
    masks = torch.zeros_like(counts, dtype=torch.bool)
    for b in range(counts.shape[1]):
        block = MoEAdapter(width=2, num_experts=counts.shape[2], bottleneck=1)
        for t, used in enumerate(counts[:, b]):
            block.counts.copy_(used)
            block.freeze(number)
            masks[t, b] = block.frozen
    return masks


def most(counts: Tensor, number: int) -> Tensor:
    """True for the `number` largest counts of the last dimension, the lower index first where they are equal."""
    ranking = counts.argsort(dim=-1, descending=True, stable=True)[..., :number]
    return torch.zeros_like(counts, dtype=torch.bool).scatter(-1, ranking, True)


def joined(chosen: Tensor) -> Tensor:
    """Frozen after each task, if `chosen` (T, blocks, E) joins what was frozen before."""
    return chosen.long().cumsum(dim=0) > 0


def no_place_twice(counts: Tensor, number: int) -> Tensor:
    """The wrong rule by which the most used among those still free are frozen. (T, blocks, E)"""
    masks, frozen = [], torch.zeros_like(counts[0], dtype=torch.bool)
    for used in counts:
        frozen = frozen | most(used.masked_fill(frozen, 0), number) & (used > 0)
        masks.append(frozen)
    return torch.stack(masks)


def same_masks(found: Tensor, right: Tensor, counts: Tensor, where: str) -> None:
    """Assert that masks (T, blocks, E) are the right ones; the sentence shows the first task and block that differ."""
    if not torch.equal(found, right):
        t, b = (found != right).any(dim=2).nonzero()[0].tolist()
        used, (mine, wanted) = counts[t, b], (mask[t, b].nonzero().flatten() for mask in (found, right))
        tied = sorted(used[mine].tolist()) == sorted(used[wanted].tolist())
        raise AssertionError(
            f"{where.format(b)} should have frozen {wanted.tolist()} after task {t}, not {mine.tolist()}, by the "
            f"counts {used.tolist()}{' (of equal counts the lower index comes first)' if tied else ''}."
        )


@graded
def check_frozen_masks(function: Callable) -> None:
    for (T, image, text, experts), number in (((3, 3, 3, 8), 2), ((4, 2, 3, 7), 1), ((2, 4, 3, 9), 3)):
        counts = {}
        for tower, blocks in (("image", image), ("text", text)):
            counts[tower] = torch.randint(1, 6, (T, blocks, experts)) * (torch.rand(T, blocks, experts) < 0.6)
            counts[tower][-1] = 7 * (torch.arange(experts) == torch.randint(experts, (blocks, 1)))  # one is used
        found = function({tower: used.clone() for tower, used in counts.items()}, number)
        assert isinstance(found, dict) and set(found) == set(counts), "return a dict with the keys of `counts`."
        for tower, used in counts.items():
            mask, right, shape = found[tower], masks_by_library(used, number), tuple(found[tower].shape)
            assert shape == tuple(used.shape), (
                f"the masks of the {tower} tower have the shape {shape}, not {tuple(used.shape)}."
            )
            assert mask.dtype == torch.bool, f"a mask holds True and False, not {mask.dtype}."
            together = used.sum(dim=1, keepdim=True).expand_as(used)
            flipped = most(used.flip(2), number).flip(2) & (used > 0)
            faults = {
                "the mask is upside down: True means frozen.": ~right,
                "these are the masks before each task: freezing comes after it, so the first task freezes, too.": (
                    torch.cat([torch.zeros_like(right[:1]), right[:-1]])
                ),
                "what was frozen stays frozen: every task joins the set.": most(used, number) & (used > 0),
                "every task shows the mask of the last one: copy it when you note it.": right[-1:].expand_as(right),
                f"the {tower} tower is frozen by the counts of the other tower: each tower has experts of its own.": (
                    masks_by_library(counts["text" if tower == "image" else "image"], number)
                ),
                "the blocks are counted together: each block has experts, counts and a mask of its own.": (
                    joined(most(together, number) & (together > 0))
                ),
                "an expert that a task did not use is not frozen by it, however few it used.": (
                    joined(most(used, number))
                ),
                "of equal counts the lower index comes first.": joined(flipped),
                "an expert that is frozen already keeps its place among the most used: no other takes it.": (
                    no_place_twice(used, number)
                ),
                "counts are not added up over the tasks: each task freezes by its own.": (
                    masks_by_library(used.cumsum(dim=0), number)
                ),
            }
            not_one_of(mask, right, faults)
            same_masks(mask, right, used, f"with {number} frozen a task block {{}} of the {tower} tower")


def share(counts: Tensor, mask: Tensor) -> Tensor:
    """Percent of the counts (T, blocks, E) that the mask keeps. (T, blocks)"""
    return 100 * (counts * mask).sum(dim=2) / counts.sum(dim=2)


@graded
def check_reuse(function: Callable) -> None:
    for T, blocks, experts in ((4, 3, 6), (3, 2, 9)):
        counts = torch.randint(0, 20, (T, blocks, experts))
        counts[..., 0] += 1
        frozen = masks_by_library(counts, 2)
        before = torch.cat([torch.zeros_like(frozen[:1]), frozen[:-1]])
        found = function(counts.clone(), frozen.clone())
        assert isinstance(found, (tuple, list)) and len(found) == 2, (
            "return two tensors: the reuse, and the reuse by chance."
        )
        found = [torch.as_tensor(part) for part in found]
        for part in found:
            shape = tuple(part.shape)
            assert shape == (T, blocks), f"one number a task and block is asked for, {(T, blocks)}, not {shape}."
        right, chance = share(counts, before), 100 * before.double().mean(dim=2)
        cyclic = frozen.roll(1, dims=0)
        faults = {
            "these are the masks after the task: it could only reuse what was frozen before it.": share(counts, frozen),
            "Python's row -1 is the last one: before the first task nothing is frozen.": share(counts, cyclic),
            "these are fractions: percent are asked for.": right / 100,
            "this is the share of choices of FREE experts.": 100 - right,
            "every used expert counts the same here: the share of CHOICES is asked for.": (
                share((counts > 0).long(), before)
            ),
            "this is the share of a task's choices in all blocks: each block has its own 100 %.": (
                100 * (counts * before).sum(dim=2) / counts.sum(dim=(1, 2))[:, None]
            ),
        }
        not_one_of(found[0], right, faults)
        same(found[0], right, "the reuse", 1e-3)
        faults = {
            "by chance, too, only experts frozen before the task count.": 100 * frozen.double().mean(dim=2),
            "Python's row -1 is the last one: before the first task nothing is frozen.": (
                100 * cyclic.double().mean(dim=2)
            ),
            "by chance the share is a fraction here: percent are asked for.": chance / 100,
            "by chance every expert is as likely as another: divide by all experts, not by those that were used.": (
                100 * (before & (counts > 0)).sum(dim=2) / (counts > 0).sum(dim=2)
            ),
            "k experts a task are the worst case: count those that are frozen.": (
                100 * (2 * torch.arange(T)[:, None] / experts).expand(T, blocks)
            ),
        }
        not_one_of(found[1], chance, faults)
        same(found[1], chance, "the reuse by chance", 1e-3)


def in_training(
    seed: int, number: int = 5, width: int = 4
) -> tuple[Callable[[], Tensor], torch.optim.Optimizer, list[Adapter], Tensor]:
    """Loss function, AdamW, experts and gate in the middle of training: moments and a last gradient are there."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        experts = [Adapter(width, bottleneck=3, scale=1.0, dropout=0.0) for _ in range(number)]
        for expert in experts:
            torch.nn.init.normal_(expert.up_proj.weight)
        gate, x, y = torch.nn.Parameter(torch.randn(number)), torch.randn(20, width), torch.randn(20, width)

    def loss():
        return (sum(w * expert(x) for w, expert in zip(gate.softmax(dim=0), experts)) - y).pow(2).mean()

    every = [gate, *(parameter for expert in experts for parameter in expert.parameters())]
    optimiser = torch.optim.AdamW(every, lr=0.05, weight_decay=0.1)
    for _ in range(3):
        optimiser.zero_grad()
        loss().backward()
        optimiser.step()
    return loss, optimiser, experts, gate


def weights(experts: Sequence[Adapter]) -> Tensor:
    """All parameters of each expert in a row. (E, n)"""
    return torch.stack([parameters_to_vector(expert.parameters()).detach().clone() for expert in experts])


def stepped(seed: int, step: Callable, number: int = 5) -> tuple[Tensor, Tensor, Any]:
    """Experts (E, n) and gate (E,) after a step of `step(loss, optimiser, experts)`, and what it returned."""
    loss, optimiser, experts, gate = in_training(seed, number)
    told = step(loss, optimiser, list(experts))  # the modules count, whatever becomes of the list
    return weights(experts), gate.detach(), told


def one_step(frozen: Tensor, gradient: Any = "none", add: bool = False, forget: bool = False) -> Callable[..., None]:
    """A step that gives frozen experts no gradient ("none"), a zero, that of the last step ("last"), or their own."""

    def step(loss, optimiser, experts):
        held = [p for expert, still in zip(experts, frozen.tolist()) if still for p in expert.parameters()]
        last = [parameter.grad for parameter in held]
        if not add:
            optimiser.zero_grad()
        loss().backward()
        for parameter, old in zip(held, last) if gradient != "own" else ():
            parameter.grad = {"none": None, "zero": torch.zeros_like(parameter), "last": old}[gradient]
        if forget:
            optimiser.state.clear()
        optimiser.step()

    return step


@graded
def check_step_without_frozen(function: Callable) -> None:
    for frozen in ([True, False, False, True, False], [False, False, True, False, False]):
        frozen, seed = torch.tensor(frozen), int(torch.randint(10_000, ()))
        loss, _, experts, _ = in_training(seed)
        before, value = weights(experts), loss().item()
        found, gate, told = stepped(seed, lambda *given, frozen=frozen: function(*given, frozen))
        moved = (found != before).any(dim=1)  # (E,)
        assert moved.any(), "no expert has changed: is `optimiser.step()` called, with gradients of this loss?"
        assert moved[~frozen].any() or not moved[frozen].any(), "the mask is upside down: True means frozen."
        held = before[frozen], found[frozen]
        faults = {
            "the frozen experts are trained like the others: take their gradients away BEFORE the step.": "own",
            "a gradient of zero is not none: AdamW's moments and its decay still moved the frozen experts.": "zero",
            "the gradient of the last step is still there and moved the frozen experts: they must have none.": "last",
        }
        wrong = {fault: stepped(seed, one_step(frozen, gradient))[0][frozen] for fault, gradient in faults.items()}
        not_one_of(held[1], held[0], wrong)
        assert torch.equal(*held), "a frozen expert has changed: none of its parameters may, the biases neither."
        assert moved.tolist() == (~frozen).tolist(), "an expert that is free should be trained, and was not."
        right, right_gate, _ = stepped(seed, one_step(frozen))
        added, forgotten = (stepped(seed, one_step(frozen, **how))[0] for how in ({"add": True}, {"forget": True}))
        faults = {
            "the gradients of the last step were added to the new ones: clear them.": added[~frozen],
            "the moments of the free experts are gone: keep the optimiser as it is.": forgotten[~frozen],
        }
        not_one_of(found[~frozen], right[~frozen], faults)
        same(found[~frozen], right[~frozen], "after the step the free experts", 1e-4)
        same(gate, right_gate, "the optimiser holds the router as well; after the step it", 1e-4)
        assert isinstance(told, float), f"return the loss as a float, not as a {type(told).__name__}."
        same(told, value, "the loss, as it was before the step,", 1e-4)


@graded
def check_drift_and_bound(function: Callable) -> None:
    for size, experts, width in ((6, 5, 4), (3, 4, 7)):
        gates = top_k_softmax(torch.randn(size, experts), 3)
        then = torch.randn(size, experts, width)
        now = then + torch.randn(size, experts, width) * torch.rand(experts, 1)
        found = function(gates, then.clone(), now.clone())
        assert isinstance(found, (tuple, list)) and len(found) == 2, "return two tensors: the drift, and its bound."
        for part in found:
            shape = tuple(part.shape)
            assert shape == (size,), f"one number for each of {size} samples is asked for, not the shape {shape}."
        change = now - then
        mixed, mixed_then, mixed_now = ((gates[..., None] * part).sum(dim=1) for part in (change, then, now))
        drift, lengths = mixed.norm(dim=1), change.norm(dim=2)  # (B,), (B, E)
        bound = (gates * lengths).sum(dim=1)
        faults = {
            "the gates are missing in the drift: every answer counts with its gate.": change.sum(dim=1).norm(dim=1),
            "this is the difference of two lengths: a vector that turns keeps its length, but it moves.": (
                (mixed_now.norm(dim=1) - mixed_then.norm(dim=1)).abs()
            ),
            "the drift is a length: the root is missing.": drift**2,
            "the drift is divided by the length of `then`: the plain length is asked for here.": (
                drift / mixed_then.norm(dim=1)
            ),
            "the drift is a mean over the batch: every sample has its own.": drift.mean().expand(size),
            "this is the bound in place of the drift: the answers are added first, then comes the length.": bound,
        }
        not_one_of(found[0], drift, faults)
        same(found[0], drift, "the drift", 1e-4)
        faults = {
            "the bound is the drift itself: take the length of each expert's change first, then add.": drift,
            "the gates are missing in the bound: an expert that is not chosen cannot move the answer.": (
                lengths.sum(dim=1)
            ),
            "the gates are missing in the bound: an expert with a small gate moves the answer little.": (
                (lengths * (gates > 0)).sum(dim=1)
            ),
            "take the length of its change, not the change of an expert's length: an answer can turn.": (
                (gates * (now.norm(dim=2) - then.norm(dim=2)).abs()).sum(dim=1)
            ),
            "the bound is a mean over the batch: every sample has its own.": bound.mean().expand(size),
            "the largest change alone is no bound for a sum with these gates: add up, each with its gate.": (
                (gates * lengths).amax(dim=1)
            ),
        }
        not_one_of(found[1], bound, faults)
        same(found[1], bound, "the bound", 1e-4)


class Noted:
    """A function of samples that notes with how many it is called, and accepts only those of the right form."""

    def __init__(self, function: Callable[[Tensor], Tensor], ndim: int, form: str):
        self.function, self.ndim, self.form, self.calls = function, ndim, form, []

    def __call__(self, x: Tensor) -> Tensor:
        assert x.ndim == self.ndim, f"{self.form}, not {tuple(x.shape)}."
        self.calls.append(len(x))
        return self.function(x)


def shared_block(
    width: int, num_experts: int, num_tasks: int, top_k: int = 2
) -> tuple[MoEAdapter, list[Noted], list[Noted]]:
    """A library block with random weights, and its routers and experts as functions that note their calls."""
    block = MoEAdapter(width, num_experts, top_k, bottleneck=3, scale=1.0).eval()
    for _ in range(num_tasks):
        block.add_router()
        torch.nn.init.normal_(block.routers[-1].w_gate)
    block.requires_grad_()
    for expert in block.experts:
        torch.nn.init.normal_(expert.up_proj.weight)
    reads, takes = "a router reads the first token of its samples, (n, D)", "an expert takes whole samples, (n, L, D)"
    routers = [Noted(lambda x, router=router: router(x)[0], 2, reads) for router in block.routers]
    return block, routers, [Noted(expert, 3, takes) for expert in block.experts]


def check_calls(functions: Sequence[Noted], wanted: list[int], what: str, unused: str, twice: str) -> None:
    """Assert that each function was called once, with as many samples as are wanted of it, or not at all."""
    for function, number in zip(functions, wanted):
        assert number or not function.calls, unused
        assert len(function.calls) <= 1, twice
    numbers = [sum(function.calls) for function in functions]
    assert numbers == wanted, f"the {what} got {numbers} samples, but {wanted} are theirs."


@graded
@torch.no_grad()
def check_mixed_batch(function: Callable) -> None:
    for task, T, number in (([-1, 0, 2, 0, -1, 2, 0], 4, 12), ([1, -1, 0, 1, 1], 2, 9)):
        task, first = torch.tensor(task), torch.zeros(len(task), dtype=torch.long)
        block, routers, experts = shared_block(5, number, T)
        x = torch.randn(len(task), 3, 5)
        right, gates = block(x, Route(task, first)), block.gates(x[:, 0], Route(task, first))
        by_mean = block.gates(x.mean(dim=1), Route(task, first))
        every = torch.stack([expert(x) for expert in block.experts], dim=1)  # (B, E, L, D)
        last = torch.zeros_like(x)
        for e in range(number):
            last[gates[:, e] > 0] = (gates[:, e, None, None] * every[:, e])[gates[:, e] > 0]
        faults = {
            "the input itself is not part of it: return what the experts add.": right + x,
            "all samples go through the newest router: each has the router of its own task.": (
                block(x, Route(torch.full_like(task, T - 1), first))
            ),
            "the router reads the first token, not the mean of all.": (by_mean[..., None, None] * every).sum(dim=1),
            "the router reads the first token, not the last.": block(x, Route(task, first + 2)),
            "the gates are missing: every answer counts with its gate.": (
                (every * (gates > 0)[..., None, None]).sum(dim=1)
            ),
            "the second expert of a sample overwrites the first: add them.": last,
        }
        found = function(x, task, routers, experts)  # after what is right: it gets the experts themselves
        assert found.shape == x.shape, f"what is added has the shape {tuple(found.shape)}, not {tuple(x.shape)}."
        not_one_of(found, right, faults)
        assert not found[task < 0].any(), "-1 is the original CLIP: nothing is added (and routers[-1] is the LAST one)."
        check_calls(
            routers,
            [int((task == t).sum()) for t in range(T)],
            "routers",
            "a router was called although the batch has no sample of its task.",
            "a router was called more than once: give it all its samples in one call.",
        )
        check_calls(
            experts,
            (gates > 0).sum(dim=0).tolist(),
            "experts",
            "an expert that no sample chose was called: it should not be.",
            "an expert was called more than once: the tasks share it, so one call serves the samples of all of them.",
        )
        same(found, right, "what is added", 1e-4)
