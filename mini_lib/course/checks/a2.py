"""Visible checks of assignment A2: what must hold on fresh random inputs, by autograd and by counting."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch.autograd import forward_ad

from ...adapter import Adapter
from ...moe import MoEAdapter
from ...router import Router, top_k_softmax
from .base import not_one_of, same
from .graded import graded


@contextmanager
def without_autograd() -> Iterator[None]:
    """Whoever calls autograd inside gets a sentence."""
    sentence = "the function calls autograd: write out the formula of the gradient instead."

    def refuse(*_, **__):
        raise AssertionError(sentence)

    backward = patch.multiple(torch.autograd, backward=refuse, grad=refuse)  # Tensor.backward and func.grad end here
    with backward, patch.object(forward_ad, "enter_dual_level", refuse), torch.no_grad():
        try:
            yield
        except RuntimeError as error:  # a `grad` that was imported by its name finds no graph
            raise AssertionError(sentence) if "does not require grad" in str(error) else error from None


@graded
def check_adapter_gradients(function: Callable) -> None:
    for size, width, r, scale in ((8, 6, 3, 0.1), (12, 5, 4, 0.5)):
        x, delta = torch.randn(2, size, width)
        down, up = torch.randn(r, width, requires_grad=True), torch.randn(width, r, requires_grad=True)
        (scale * (x @ down.T).relu() @ up.T * delta).sum().backward()
        with without_autograd():
            found = function(x, delta, down.detach(), up.detach(), scale)
        assert isinstance(found, (tuple, list)) and len(found) == 2, (
            "return two tensors: the gradients of W_up and of W_down."
        )
        gradients: Any = (up.grad, down.grad)
        for name, mine, right in zip(("W_up", "W_down"), found, gradients):
            shape = tuple(mine.shape)
            assert shape == tuple(right.shape), (
                f"the gradient of {name} has the shape {shape}; "
                f"a gradient has the shape of its matrix, {tuple(right.shape)}."
            )
            faults = {
                f"the scale is missing in the gradient of {name}.": right / scale,
                f"the gradient of {name} is a mean over the samples: "
                "the loss is a sum, so their gradients are added.": right / size,
            }
            not_one_of(mine, right, faults)
        silent = (scale * (delta @ up)).detach().T @ x
        faults = {
            "a hidden unit that the ReLU switched off passes no gradient back: [h > 0] is missing for W_down.": silent,
        }
        not_one_of(found[1], down.grad, faults)
        loud = scale * delta.T @ (x @ down.T).detach()
        not_one_of(found[0], up.grad, {"h is what comes out of the ReLU: it is missing for W_up.": loud})
        same(found[0], up.grad, f"for {size} samples the gradient of W_up", 1e-4)
        same(found[1], down.grad, f"for {size} samples the gradient of W_down", 1e-4)


@graded
def check_noisy_logits(function: Callable) -> None:
    router = Router(width=4, num_experts=5)
    for parameter in router.parameters():
        torch.nn.init.normal_(parameter)
    x, noise = torch.randn(6, 4), torch.randn(6, 5)
    noise += 0.1 * noise.sign()  # away from 0: it will be divided by
    w_gate, w_noise = router.w_gate.detach(), router.w_noise.detach()
    clean = x @ w_gate

    def asked(*inputs):
        return torch.as_tensor(function(*inputs)).float()

    found = asked(x, w_gate, w_noise, noise, False)
    assert found.shape == clean.shape, (
        f"the logits have the shape {tuple(found.shape)}, not {tuple(clean.shape)}: (B, E)."
    )
    assert torch.allclose(found, clean, atol=1e-5), "in evaluation the logits are those of the gate: no noise."
    found = asked(x, w_gate, w_noise, noise, True)
    assert not torch.allclose(found, clean, atol=1e-5), "in training the noise is missing."
    for entry in range(3):
        other = noise.clone()
        other[entry + 1 :] = torch.randn(5 - entry, 5)
        again = asked(x, w_gate, w_noise, other, True)
        assert torch.allclose(again[: entry + 1], found[: entry + 1], atol=1e-5), (
            "a sample's logits depend on the noise of other samples."
        )
        assert not torch.allclose(again[-1], found[-1], atol=1e-5), (
            "every sample has noise of its own, a row of `noise`."
        )
    assert torch.allclose(asked(x, w_gate, w_noise, 0 * noise, True), clean, atol=1e-5), (
        "where the draw is 0 nothing is added: it multiplies the whole bracket, the 0.01 too."
    )
    std = (found - clean) / noise
    assert (std > 0).all(), "a standard deviation must be positive: the softplus is missing or replaced."
    quiet = torch.full((6, 5), -30.0)
    still = asked(torch.ones(6, 1), torch.zeros(1, 5), quiet[:1], torch.ones(6, 5), True)
    assert not torch.allclose(still, torch.zeros(6, 5), atol=1e-4), "0.01 is missing: the noise must never vanish."
    same(still, torch.full((6, 5), 0.01), "with softplus near 0 the standard deviation", 1e-4)
    even = asked(torch.ones(1, 1), torch.zeros(1, 5), torch.zeros(1, 5), torch.ones(1, 5), True)
    same(even, torch.full((1, 5), 0.7031), "a new router's standard deviation (ln 2 + 0.01)", 1e-3)


@graded
def check_allowed_gates(function: Callable) -> None:
    for rows, experts, k in ((5, 6, 2), (4, 7, 3), (3, 5, 1)):
        logits = torch.randn(rows, experts) - 2  # mostly negative: a closed expert must not win with a 0
        allowed = torch.zeros(experts, dtype=torch.bool)
        allowed[torch.randperm(experts)[: k + 1]] = True
        gates = torch.as_tensor(function(logits, k, allowed)).float()
        assert gates.shape == logits.shape, f"the gates have the shape {tuple(gates.shape)}, not {(rows, experts)}."
        assert not gates.isnan().any(), "some gates are NaN."
        closed = (gates > 0)[:, ~allowed].any()
        assert not closed, (
            "an expert that is not allowed has a gate above 0: is the mask turned around, or a 0 the largest?"
        )
        kept = (gates > 0).sum(dim=1).tolist()
        assert kept == [k] * rows, (
            f"with k = {k} and {k + 1} experts allowed the rows keep {kept} gates: "
            "close experts BEFORE the top k are taken."
        )
        sums = gates.sum(dim=1)
        assert torch.allclose(sums, torch.ones(rows), atol=1e-5), (
            f"the gates of a row should sum to 1, but sum to {sums[0]:.3f}: the softmax runs over the k that are kept."
        )
        open_ones = allowed.nonzero().squeeze(1)
        right = torch.zeros_like(logits)
        right[:, open_ones] = top_k_softmax(logits[:, open_ones], k)
        same(gates, right, "the gates")


@graded
def check_logit_gradient(function: Callable) -> None:
    for rows, experts, k in ((4, 5, 2), (3, 6, 4)):
        logits, answers = torch.randn(rows, experts, requires_grad=True), torch.randn(rows, experts)
        gates = top_k_softmax(logits, k)
        (gates * answers).sum().backward()
        with without_autograd():
            found, gates = function(logits.detach(), k, answers), gates.detach()
        assert found.shape == (rows, experts), (
            f"the gradient has the shape {tuple(found.shape)}, not {(rows, experts)}."
        )
        right: Any = logits.grad
        faults = {
            "the sign is turned around.": -right,
            "the weighted mean of the chosen is not subtracted: "
            "a logit gains only what it is better than the others.": gates * answers,
        }
        not_one_of(found, right, faults)
        outside = found[gates == 0].abs().max()
        assert outside < 1e-6, f"an expert that was not chosen has a gradient of exactly 0, but you give {outside:.3g}."
        plain = torch.stack([row[chosen].mean() for row, chosen in zip(answers, gates > 0)])[:, None]
        mean = (gates * answers).sum(dim=1, keepdim=True)
        faults = {
            "the mean of the chosen is weighted: every answer counts with its gate.": gates * (answers - plain),
            "W_i in front of the bracket is missing.": (gates > 0) * (answers - mean),
            "the loss is a sum over the samples, not a mean.": right / rows,
        }
        not_one_of(found, right, faults)
        same(found, right, f"for {rows} samples, {experts} experts and k = {k} the gradient", 1e-4)


class Counting:
    """An expert that notes how often it is called, and with how many tokens."""

    def __init__(self, width: int):
        self.expert, self.calls = Adapter(width, bottleneck=3, scale=1.0).eval(), []
        torch.nn.init.normal_(self.expert.up_proj.weight)
        # else a gate could stand before the expert as well as behind it
        torch.nn.init.normal_(self.expert.down_proj.bias)

    def __call__(self, tokens: torch.Tensor) -> torch.Tensor:
        self.calls.append(tokens.shape[:-1].numel())
        return self.expert(tokens)


@graded
def check_mixture_per_token(function: Callable) -> None:
    for size, length, width, number in ((3, 4, 5, 4), (2, 3, 6, 5)):
        x, gates = torch.randn(size, length, width), torch.zeros(size, length, number)
        gates[..., : number - 1] = top_k_softmax(torch.randn(size * length, number - 1), 2).view(size, length, -1)
        gates[0, 0] = torch.tensor([1 - 1e-6, 1e-6] + [0.0] * (number - 2))  # a small gate is one, too
        experts = [Counting(width) for _ in range(number)]  # nobody chooses the last one
        # first what is right: the function gets the experts themselves, and could change them
        every = torch.stack([expert.expert(x) for expert in experts], dim=-1)  # (B, L, D, E)
        right = (every * gates[:, :, None]).sum(dim=-1)
        loud = (every * (gates > 0)[:, :, None]).sum(dim=-1)
        inside: Any = sum((w > 0) * expert.expert(w * x) for expert, w in zip(experts, gates[..., None].unbind(dim=2)))
        last = torch.zeros_like(x)
        for e in range(number):
            last = torch.where(gates[:, :, e, None] > 0, gates[:, :, e, None] * every[..., e], last)
        found = function(x, gates, experts)
        assert found.shape == x.shape, (
            f"what is added has the shape {tuple(found.shape)}, not {tuple(x.shape)}: (B, L, D)."
        )
        calls = [expert.calls for expert in experts]
        assert not calls[-1], "an expert that no token chose was called: it should not be."
        assert all(len(c) <= 1 for c in calls), (
            "an expert was called more than once: give it all its tokens in one call."
        )
        tokens, chosen = [sum(c) for c in calls], (gates > 0).sum(dim=(0, 1)).tolist()
        assert tokens == chosen, (
            f"the experts got {tokens} tokens, but were chosen by {chosen}: only these are computed."
        )
        before = "the gate stands before the expert: it multiplies the expert's answer, not what the expert reads."
        faults = {
            "the gates are missing: each answer counts with its gate.": loud.detach(),
            before: inside.detach(),
            "the second expert of a token overwrites the first: add them.": last.detach(),
        }
        not_one_of(found.detach(), right.detach(), faults)
        same(found, right, "what is added", 1e-4)


@graded
def check_bottleneck_within(function: Callable) -> None:
    for width, experts, tasks, r in ((16, 4, 5, 140), (10, 6, 6, 130)):
        block = MoEAdapter(width, experts, bottleneck=r)
        for _ in range(tasks):
            block.add_router()
        unit, router = experts * (2 * width + 1), 2 * width * experts
        budget = sum(p.numel() for p in block.parameters()) + unit // 2  # a little is left over
        found = function(width, experts, tasks, budget)
        assert isinstance(found, int), f"the bottleneck is an int, not a {type(found).__name__}."
        rest = budget - experts * width
        hints = {
            (rest - tasks * router // 2) // unit: " (a router has two matrices)",
            (rest - router) // unit: " (there is one router a task)",
            (budget - tasks * router) // (experts * 2 * width): " (both projections have a bias)",
            r + 1: " (that is just too large: round down)",
        }
        where = f"for D = {width}, {experts} experts, {tasks} tasks and {budget} parameters"
        assert found == r, f"{where} the largest bottleneck is {r}, not {found}{hints.get(found, '')}."
        exact = function(width, experts, tasks, budget - unit // 2)
        assert exact == r, f"a bottleneck that uses up the budget to the last parameter fits, too: {r}, not {exact}."
