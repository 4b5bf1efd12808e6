"""Analytic learning: a classifier that is solved for instead of trained, so that nothing is forgotten. Built in notebook 12."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..benchmarks.base import Task
from ..clip import class_logits, encode_text_trimmed
from ..training import loader
from .base import register, share, whole_number
from .routed import Routed, SelectorSettings


@register
class Analytic(Routed):
    """Ridge regression from random features of the frozen CLIP to the classes of all tasks (RAIL, primal form).

    h = relu(f(x) M) with M random; (sum h^T h + ridge I)^-1 and the weights are updated batch by batch (Woodbury's identity),
    and equal those of all data at once. In scores, `share` of the regression and the rest of the zero-shot probabilities.
    Images that the selector sends to the original CLIP get CLIP's answer; by default it is told the task, and these are the
    images of tasks not yet learned. (Xu et al. 2024, NeurIPS.)
    """

    @dataclass
    class Settings(SelectorSettings):
        hidden: int = 1000  # random features
        ridge: float = 0.1
        share: float = 0.8  # of the regression in the scores; the rest is zero-shot's
        seed: int = 0

        def __post_init__(self):
            super().__post_init__()
            whole_number("hidden", self.hidden, at_least=1)
            share("share", self.share)
            whole_number("seed", self.seed)
            if not self.ridge > 0:
                raise ValueError(f"ridge is above 0, not {self.ridge!r}: the inverse needs it.")

    name = "analytic"

    def __init__(self, clip: Any, tokenizer: Callable, reference: Any = None, **settings):
        super().__init__(clip, tokenizer, reference, **settings)
        hidden, ridge = self.settings.hidden, self.settings.ridge
        dim = clip.encode_image(torch.zeros(1, 3, *clip.visual.image_size, device=self.device)).shape[1]
        generator = torch.Generator().manual_seed(self.settings.seed)
        self.projection = (torch.randn(dim, hidden, generator=generator) / dim**0.5).to(self.device)
        self.inverse = torch.eye(hidden, dtype=torch.float64, device=self.device) / ridge  # of sum h^T h + ridge I
        self.weights = self.inverse.new_zeros(hidden, 0)  # a column a class
        self.first = {}  # a task's name -> its first column

    @property
    def learned_tasks(self) -> list[str]:  # type: ignore
        return list(self.first)

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Random features (B, hidden) of images, in double precision: the inverse needs it."""
        features = F.normalize(self.clip.encode_image(images.to(self.device)), dim=-1)
        return (features @ self.projection).relu().double()

    def learn(self, task: Task) -> None:
        self.first[task.name] = self.weights.shape[1]
        self.weights = F.pad(self.weights, (0, len(task.classnames)))
        for images, labels in loader(task.train, 128):
            targets = F.one_hot(labels + self.first[task.name], self.weights.shape[1]).double().to(self.device)
            self.inverse, self.weights = update(self.inverse, self.weights, self.features(images), targets)
        self.teach_selector(task, first=len(self.first) == 1)

    def scores_of(self, part: int, images: Tensor, task: Task) -> Tensor:
        classes = self.embeddings(task, partial(encode_text_trimmed, self.clip), key=-1)
        zero_shot = class_logits(self.clip, self.clip.encode_image(images), classes).softmax(dim=1)
        if part < 0 or task.name not in self.first:
            return zero_shot
        columns = self.weights[:, self.first[task.name] :][:, : len(task.classnames)]
        share = self.settings.share
        return share * (self.features(images) @ columns).float() + (1 - share) * zero_shot

    def probabilities(self, scores: Tensor) -> Tensor:
        """The scores estimate probabilities already: what is negative counts as 0, and the sum is made 1."""
        positive = scores.clamp(min=1e-9)
        return positive / positive.sum(dim=1, keepdim=True)

    def state_dict(self) -> dict[str, Tensor]:
        learned = {f"first.{task}": torch.tensor(column) for task, column in self.first.items()}
        return {"inverse": self.inverse, "weights": self.weights, **learned, **self.selector_state()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.inverse, self.weights = (state[name].to(self.device) for name in ("inverse", "weights"))
        self.first = {k.removeprefix("first."): int(v) for k, v in state.items() if k.startswith("first.")}
        self.load_selector_state(state)

    @property
    def trained_parameters(self) -> int:
        return self.weights.numel()


def update(inverse: Tensor, weights: Tensor, h: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The solution after one more batch. inverse (H, H), weights (H, C), h (B, H), targets (B, C) -> inverse, weights

    Q <- Q - Q h^T (I + h Q h^T)^-1 h Q, then V <- V + Q h^T (y - h V): only a (B, B) matrix is inverted.
    """
    gain = inverse @ h.T
    inner = torch.eye(len(h), dtype=h.dtype, device=h.device) + h @ gain
    inverse = inverse - gain @ torch.linalg.solve(inner, gain.T)
    return inverse, weights + inverse @ h.T @ (targets - h @ weights)
