"""Checks of notebook 01: CLIP's loss, class vectors, calibration."""

from collections.abc import Callable

import torch
from torch.nn import functional as F

from .base import not_one_of, report, same


@report
def check_text_to_image_loss(function: Callable) -> None:
    generator = torch.Generator()
    generator.seed()
    images, texts = torch.randn(2, 7, 5, generator=generator)
    units = [F.normalize(x, dim=-1) for x in (images, texts)]
    labels = torch.arange(7)
    logits = 9.0 * units[1] @ units[0].T
    expected, other = F.cross_entropy(logits, labels), F.cross_entropy(logits.T, labels)
    found = function(images, texts, 9.0)
    found = torch.as_tensor(found)
    assert found.shape == (), f"the loss is one number, a mean; yours has the shape {tuple(found.shape)}."
    faults = {
        "that is the other direction, image to text: here the softmax runs over the images.": other,
        "that is both directions; only text to image is asked for.": (other + expected) / 2,
        "the features are not made unit vectors first.": F.cross_entropy(9.0 * texts @ images.T, labels),
        "the scale is missing.": F.cross_entropy(logits / 9.0, labels),
        "the scale multiplies the cosines; yours divides them.": F.cross_entropy(logits / 81.0, labels),
        "the mean over the captions is asked for, not the sum.": 7 * expected,
    }
    not_one_of(found, expected, faults)
    same(found, expected, "the loss")


@report
def check_weighted_class_vector(function: Callable) -> None:
    generator = torch.Generator()
    generator.seed()
    features = torch.randn(4, 6, generator=generator) * torch.tensor([[9.0], [1.0], [3.0], [0.2]])
    weights = torch.rand(4, generator=generator) + torch.tensor([0.1, 2.0, 0.1, 1.0])
    units = F.normalize(features, dim=-1)
    found = function(features, weights)
    assert tuple(found.shape) == (6,), f"the class vector has the shape (D,), here (6,), not {tuple(found.shape)}."
    right = F.normalize(weights @ units, dim=0)
    faults = {
        "make each vector unit BEFORE the mean, or long ones count more.": F.normalize(weights @ features, dim=0),
        "the weights have no effect.": F.normalize(units.mean(0), dim=0),
    }
    not_one_of(found, right, faults)
    length = found.norm().item()
    assert abs(length - 1) < 1e-4, f"the length of the class vector is {length:.3f}: make it unit AFTER the mean, too."
    same(found, right, "the class vector")


@report
def check_calibration_error(function: Callable) -> None:
    one = function(torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.3, 0.7], [0.3, 0.7]]), torch.tensor([0, 1, 1, 1]), 10)
    one = float(one)
    assert abs(one - 35) > 1e-3, "give a fraction between 0 and 1, not percent."
    assert abs(abs(one) - 0.05) > 1e-4, "take the ABSOLUTE difference in each bin, before bins are added up."
    assert abs(one - 0.35) < 1e-4, (
        "two answers with 0.9, half of them right, and two with 0.7, both right: the error is "
        f"(2 * |0.5 - 0.9| + 2 * |1 - 0.7|) / 4 = 0.35, but yours is {one:.4g}."
    )
    wide = float(function(torch.tensor([[0.55, 0.45], [0.65, 0.35]]), torch.tensor([1, 0]), 2))
    assert abs(wide - 0.1) < 1e-4, (
        "with 2 bins, 0.55 (wrong) and 0.65 (right) share a bin: the error is |1 - 0.55 - 0.65| / 2 = 0.1, but yours is "
        f"{wide:.4g}."
    )
    sure = float(function(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([0, 1]), 10))
    assert abs(sure - 0.5) < 1e-4, (
        f"a confidence of exactly 1 is in the last bin: the error is 0.5 here, not {sure:.4g}."
    )
    generator = torch.Generator()
    generator.seed()
    probabilities = (3 * torch.randn(300, 6, generator=generator)).softmax(1)
    labels = torch.randint(0, 6, (300,), generator=generator)
    confidence, answer = probabilities.max(1)
    which, right = (confidence * 7).long().clamp(max=6), (answer == labels).float()
    gaps = torch.stack([(right - confidence)[which == i].sum().abs() for i in range(7)])
    sizes = torch.stack([(which == i).sum() for i in range(7)])
    found = torch.as_tensor(function(probabilities, labels, 7))
    unweighted = (gaps / sizes.clamp(min=1))[sizes > 0].mean()
    not_one_of(found.float(), gaps.sum() / 300, {"weight each bin by its share of the images.": unweighted})
    same(found.float(), gaps.sum() / 300, "with 7 bins, the error", tolerance=1e-4)
