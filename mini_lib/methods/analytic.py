"""Analytic learning: a classifier that is solved for instead of trained, so that nothing is forgotten. Built in notebook 12."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..benchmarks.base import Task
from ..training import loader
from .base import one_of, register, whole_number
from .on_features import OnFeatures

RIDGES = {"primal": 0.1, "dual": 0.001}  # the authors' own


@register
class Analytic(OnFeatures):
    """Ridge regression from features of the frozen CLIP to the classes of all tasks (RAIL; Xu et al. 2024, NeurIPS).

    kernel "primal": h = relu(f M) with M random, `hidden` wide; (sum h^T h + ridge I)^-1 and the weights are updated batch by
    batch (Woodbury's identity), and equal those of all data at once; no image is kept. "dual": the features of all training
    images are kept, K = exp(-gamma |f - f'|^2), and the weights are (K + ridge I)^-1 Y, solved anew after each task; memory
    and time grow with the square and the cube of the images. ridge: by default 0.1 for primal, 0.001 for dual, as published.
    """

    @dataclass
    class Settings(OnFeatures.Settings):
        kernel: str = "primal"
        hidden: int = 1000  # random features; the authors take 15,000
        gamma: float = 0.1
        ridge: float | None = None
        seed: int = 0

        def __post_init__(self):
            super().__post_init__()
            one_of("kernel", self.kernel, RIDGES)
            whole_number("hidden", self.hidden, at_least=1)
            whole_number("seed", self.seed)
            self.ridge = RIDGES[self.kernel] if self.ridge is None else self.ridge
            for name, value in (("ridge", self.ridge), ("gamma", self.gamma)):
                if not value > 0:
                    raise ValueError(f"{name} is above 0, not {value!r}: the regression needs it.")

    name = "analytic"

    def __init__(self, clip: Any, tokenizer: Callable, reference: Any = None, **settings):
        super().__init__(clip, tokenizer, reference, **settings)
        dim, hidden = self.features(torch.zeros(1, 3, *clip.visual.image_size)).shape[1], self.settings.hidden
        generator = torch.Generator().manual_seed(self.settings.seed)
        self.projection = ((2 * torch.rand(dim, hidden, generator=generator) - 1) / dim**0.5).to(self.device)
        self.classes = 0
        empty = torch.zeros(0, dtype=torch.float64, device=self.device)
        if self.settings.kernel == "primal":
            inverse = torch.eye(hidden, dtype=torch.float64, device=self.device) / self.settings.ridge
            self.learned = {"inverse": inverse, "weights": empty.new_zeros(hidden, 0)}  # weights: a column a class
        else:
            self.learned = {"kept": empty.new_zeros(0, dim), "labels": empty.long(), "weights": empty.new_zeros(0, 0)}

    def hidden(self, features: Tensor) -> Tensor:
        """Random features h (B, hidden) of unit features, in double precision: the inverse needs it."""
        return (features @ self.projection).relu().double()

    def learn(self, task: Task) -> None:
        self.first[task.name], self.classes = self.classes, self.classes + len(task.classnames)
        learn = self._add if self.settings.kernel == "primal" else self._keep
        for images, labels in loader(task.train, 128):
            learn(self.features(images), labels.to(self.device) + self.first[task.name])
        if self.settings.kernel == "dual":
            self._solve()
        self.teach_selector(task, first=len(self.first) == 1)

    def _add(self, features, labels):
        held, targets = self.learned, F.one_hot(labels, self.classes).double()
        weights = F.pad(held["weights"], (0, self.classes - held["weights"].shape[1]))
        held["inverse"], held["weights"] = update(held["inverse"], weights, self.hidden(features), targets)

    def _keep(self, features, labels):
        for name, more in (("kept", features.double()), ("labels", labels)):
            self.learned[name] = torch.cat([self.learned[name], more])

    def _solve(self):
        kept, targets = self.learned["kept"], F.one_hot(self.learned["labels"], self.classes).double()
        ridge = self.settings.ridge * torch.eye(len(kept), dtype=kept.dtype, device=kept.device)
        self.learned["weights"] = torch.linalg.solve(gaussian_kernel(kept, kept, self.settings.gamma) + ridge, targets)

    def learned_scores(self, features: Tensor) -> Tensor:
        if self.settings.kernel == "primal":
            return self.hidden(features) @ self.learned["weights"]
        kernel = gaussian_kernel(features.double(), self.learned["kept"], self.settings.gamma)
        return kernel @ self.learned["weights"]

    def state_dict(self) -> dict[str, Tensor]:
        return super().state_dict() | self.learned

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        super().load_state_dict(state)
        self.learned = {name: state[name].to(self.device) for name in self.learned}
        self.classes = self.learned["weights"].shape[1]

    @property
    def trained_parameters(self) -> int:
        return self.learned["weights"].numel()


def update(inverse: Tensor, weights: Tensor, h: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The solution after one more batch. inverse (H, H), weights (H, C), h (B, H), targets (B, C) -> inverse, weights

    Q <- Q - Q h^T (I + h Q h^T)^-1 h Q, then V <- V + Q h^T (y - h V): only a (B, B) matrix is inverted.
    """
    gain = inverse @ h.T
    inner = torch.eye(len(h), dtype=h.dtype, device=h.device) + h @ gain
    inverse = inverse - gain @ torch.linalg.solve(inner, gain.T)
    return inverse, weights + inverse @ h.T @ (targets - h @ weights)


def gaussian_kernel(a: Tensor, b: Tensor, gamma: float) -> Tensor:
    """exp(-gamma |x - y|^2) (A, B) of the rows of a (A, D) and b (B, D)."""
    return torch.exp(-gamma * torch.cdist(a, b).square())
