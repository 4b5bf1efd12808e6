"""Checks of notebook 03: counting, computing and merging an adapter."""

from collections.abc import Callable

import torch

from .base import not_one_of, report, same


@report
def check_adapter_parameters(function: Callable) -> None:
    for widths, r in (([4], 2), ([128] * 4 + [128] * 3, 64), (torch.randint(5, 40, (6,)).tolist(), 3)):
        found = function(widths, r)
        matrices, both = sum(2 * D * r for D in widths), sum(2 * D * r + r + D for D in widths)
        where = f"for the widths {widths} and the bottleneck {r}"
        assert found != matrices, f"{where} you count the two matrices, but not the biases: r of them below, D above."
        assert found * 2 != matrices, f"{where} you count one of the two matrices."
        assert found != sum(2 * (D * r + r) for D in widths), f"{where} the bias of the up-projection has D numbers."
        assert found != sum(2 * (D * r + D) for D in widths), f"{where} the bias of the down-projection has r numbers."
        assert found == both, f"{where} the count is {both}, not {found}."


@report
def check_adapter_forward(function: Callable) -> None:
    for shape, r, scale in (((3, 4), 2, 0.1), ((2, 5, 8), 3, 0.25), ((1, 6), 6, 2.0)):
        width, x = shape[-1], torch.randn(shape)
        down, up = (torch.randn(r, width), torch.randn(r)), (torch.randn(width, r), torch.randn(width))
        found = function(x, *down, *up, scale)
        hidden = x @ down[0].T + down[1]
        right = scale * (hidden.relu() @ up[0].T + up[1])
        wrong = {
            "the scale is missing.": right / scale,
            "the scale must multiply the bias of the up-projection as well.": right + (1 - scale) * up[1],
            "the ReLU is missing between the two projections.": scale * (hidden @ up[0].T + up[1]),
            "the ReLU stands after the up-projection, not between.": scale * (hidden @ up[0].T + up[1]).relu(),
            "x is added inside; the adapter gives only what is added, and the block adds it to x.": x + right,
            "the biases are missing.": scale * ((x @ down[0].T).relu() @ up[0].T),
        }
        not_one_of(found, right, wrong)
        same(found, right, f"for x {tuple(shape)} the result", tolerance=1e-4)


@report
def check_merged(function: Callable) -> None:
    for width, r, scale in ((4, 2, 0.1), (9, 3, 0.5)):
        x = torch.randn(7, width)
        down, up = (torch.randn(r, width), torch.randn(r)), (torch.randn(width, r), torch.randn(width))
        found = function(*down, *up, scale)
        assert isinstance(found, tuple) and len(found) == 2, "return two tensors, the weight (D, D) and the bias (D,)."
        weight, bias = found
        assert weight.shape == (width, width), f"the weight has the shape {tuple(weight.shape)}, not {(width, width)}."
        assert bias.shape == (width,), f"the bias has the shape {tuple(bias.shape)}, not {(width,)}."
        right = scale * up[0] @ down[0]
        faults = {
            "the weight is turned around: down acts first, so it stands right.": right.T,
            "the scale is missing in the weight.": right / scale,
        }
        not_one_of(weight, right, faults)
        same(weight, right, f"with D = {width} and r = {r} the weight", tolerance=1e-4)
        together = up[0] @ down[1] + up[1]
        faults = {
            "the bias of down passes through up, too.": scale * up[1],
            "the scale is missing in the bias.": together,
        }
        not_one_of(bias, scale * together, faults)
        unmerged = scale * ((x @ down[0].T + down[1]) @ up[0].T + up[1])
        same(x @ weight.T + bias, unmerged, "for random x the merged layer", tolerance=1e-3)
