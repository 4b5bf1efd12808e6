"""Checks of notebook 06: reconstruction error, the paper's rule, AUROC."""

from collections.abc import Callable

import torch

from ...ddas import Autoencoder, select_below
from .base import not_one_of, report, same


@report
def check_reconstruction_error(function: Callable) -> None:
    """Notebook 06, exercise 1: the error of each sample, compared with a library autoencoder on random features."""
    for size, dim in ((5, 12), (7, 3)):
        autoencoder = Autoencoder(dim, 4, squash=False).requires_grad_(False)
        features = torch.randn(size, dim)
        right, found = autoencoder.error(features), function(autoencoder, features)
        assert torch.is_tensor(found), "a tensor with one error for each sample is expected."
        assert found.ndim > 0, "one number for all samples is too few: take the mean over the features only, dim=1."
        if found.shape == (dim,):
            raise AssertionError("the mean goes over the features, not over the samples: one number for each sample.")
        assert found.shape == (size,), f"the errors should have the shape ({size},), not {tuple(found.shape)}."
        faults = {
            "this is the sum over the features, not their mean.": right * dim,
            "this is the root of the error: leave it squared.": right.sqrt(),
            "these are absolute differences: square them.": (autoencoder(features) - features).abs().mean(dim=1),
        }
        not_one_of(found, right, faults)
        same(found, right, f"for {size} samples of {dim} features, the error")


@report
def check_selection(function: Callable) -> None:
    """Notebook 06, exercise 2: the paper's rule, by hand and on random errors."""
    by_hand = torch.tensor([[0.3, 0.1, 0.2], [0.05, 0.1, 0.2], [0.4, 0.3, 0.25]])
    found = function(by_hand, 0.15)
    assert found.shape == (3,), f"for three images the answer should have the shape (3,), not {tuple(found.shape)}."
    found = [round(v) for v in found.tolist()]
    assert found[0] != 1, "task 0 has column 1: subtract 1 from the column."
    assert found[0] == 0, (
        f"errors 0.3, 0.1, 0.2 with threshold 0.15 are of task 0, not {found[0]}: compare the right way."
    )
    assert found[1] == -1, "where the reference (column 0) has the smallest error, the answer is -1."
    assert found[2] == -1, "where the smallest error, 0.25, is above the threshold, 0.15, the answer is -1."
    assert function(torch.tensor([[0.5, 0.25]]), 0.25).tolist() == [0], "an error equal to the threshold is accepted."
    for tasks in (1, 4):
        errors = torch.rand(50, 1 + tasks)
        same(function(errors, 0.3), select_below(errors, 0.3), f"for 50 random images and {tasks} tasks, the answer")


@report
def check_auroc(function: Callable) -> None:
    """Notebook 06, exercise 3: pairs in the right order, ties counted half."""
    found = function(torch.tensor([0.1, 0.2, 0.5]), torch.tensor([0.3, 0.6, 0.9, 1.0]))
    found = float(found)
    assert abs(found - 1 / 12) > 1e-5, "this is 1 - AUROC: count the pairs where the own image has the smaller error."
    assert found <= 1, "divide the count by the number of pairs."
    same(found, 11 / 12, "with 11 of 12 pairs in order, the AUROC", tolerance=1e-6)
    found = float(function(torch.tensor([0.2, 0.2]), torch.tensor([0.2, 0.4])))
    assert abs(found - 0.5) > 1e-5, "a pair of equal errors counts half, not nothing."
    assert abs(found - 1.0) > 1e-5, "a pair of equal errors counts half, not one."
    same(found, 0.75, "with 2 pairs in order and 2 ties of 4, the AUROC", tolerance=1e-6)
    own, others = torch.randint(10, (30,)) / 10, torch.randint(3, 13, (40,)) / 10
    first = (own[:, None] < others).double().mean() + (own[:, None] == others).double().mean() / 2
    same(float(function(own, others)), float(first), "for 30 own and 40 other errors, the AUROC")
