"""Checks of notebook 04: gates, a balance loss, active parameters."""

from collections.abc import Callable

import torch

from ...adapter import Adapter
from ...moe import MoEAdapter
from ...router import top_k_softmax
from .base import not_one_of, report, same


@report
def check_gates_from_probabilities(function: Callable) -> None:
    for rows, experts, k in ((3, 5, 2), (4, 7, 3), (2, 4, 1), (2, 3, 3)):
        logits = 2 * torch.randn(rows, experts)
        p = logits.softmax(dim=1)
        before = p.clone()
        gates = function(p, k)
        assert gates.shape == p.shape, f"the gates have the shape {tuple(gates.shape)}, not {tuple(p.shape)}: (B, E)."
        assert torch.equal(p, before), "the function changes its input: work on a copy of p."
        kept = (gates > 0).sum(dim=1)
        assert (kept == k).all(), f"every row should keep {k} gates above 0, but rows keep {kept.tolist()}."
        sums = gates.sum(dim=1)
        assert torch.allclose(sums, torch.ones(rows), atol=1e-5), (
            f"the gates of a row should sum to 1, but sum to {sums[0]:.3f}: the k that were kept are not renormalised."
        )
        same(gates, top_k_softmax(logits, k), "the gates (divide the kept ones by their sum; no second softmax)")


@report
def check_switch_loss(function: Callable) -> None:
    even = torch.full((8, 4), 0.25)
    same(function(even, torch.eye(4).repeat(2, 1)), 1.0, "with all experts alike the loss (sum and mean, factor N_E)")
    for rows, experts, k in ((6, 4, 1), (9, 5, 2), (16, 8, 3)):
        logits = torch.randn(rows, experts) + torch.linspace(0, 2, experts)
        p, gates = logits.softmax(dim=1), top_k_softmax(logits, k)
        share = (gates > 0).sum(dim=0) / (rows * k)
        importance = (gates.sum(dim=0) / rows * p.mean(dim=0)).sum() * experts
        found = function(p, gates)
        assert torch.as_tensor(found).ndim == 0, "the loss should be one number."
        right = experts * (share * p.mean(dim=0)).sum()
        faults = {
            "f should be counted: every choice counts 1, whatever its gate.": importance,
            f"f should sum to 1: with k = {k} there are {k} choices a row.": k * right,
        }
        not_one_of(found, right, faults)
        same(found, right, "the loss (N_E times the sum of f_i P_i)")


@report
def check_block_parameters(function: Callable) -> None:
    for width, experts, tasks, k, bottleneck in ((6, 4, 3, 2, 5), (16, 3, 1, 1, 2), (9, 5, 2, 3, 7)):
        block = MoEAdapter(width, experts, k, bottleneck)
        for _ in range(tasks):
            block.add_router()
        everything = sum(p.numel() for p in block.parameters())
        expert = sum(p.numel() for p in Adapter(width, bottleneck).parameters())
        found = function(width, experts, tasks, k, bottleneck)
        assert isinstance(found, tuple) and len(found) == 2, "the function should return two numbers: all, active."
        hints = {
            tasks * width * experts: " (each router has two matrices: the gate's and the noise's)",
            experts * (width + bottleneck): " (both projections have a bias)",
            (tasks - 1) * 2 * width * experts: " (there is one router a task)",
        }
        hint = hints.get(everything - found[0], "")
        assert found[0] == everything, f"all parameters should be {everything}, not {found[0]}{hint}."
        active = k * expert + width * experts
        hint = " (a sample meets only k experts)" if found[1] >= experts * expert else ""
        if abs(found[1] - active) == width * experts:
            noise, gate = "in evaluation there is no noise, so its matrix is not used", "the gate itself is read, too"
            hint = f" ({noise if found[1] > active else gate})"
        assert found[1] == active, f"active parameters should be {active}, not {found[1]}{hint}."
