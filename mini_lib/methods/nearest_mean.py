"""Each class is the mean of its images: the floor that whatever is trained must beat. Used in notebook 08."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..benchmarks.base import Task
from ..training import loader
from .base import register
from .on_features import OnFeatures, of_class


@register
class NearestMean(OnFeatures):
    """The class whose mean, over the unit features of its training images, has the largest cosine with the image's.

    (The classifier of iCaRL, Rebuffi et al. 2017, without its memory.) Nothing is trained, and no image is kept.
    """

    @dataclass
    class Settings(OnFeatures.Settings):
        share: float = 1.0

    name = "nearest-mean"
    means: Any = None  # (classes, D), unit; None before anything is learned

    def learn(self, task: Task) -> None:
        parts = [(self.features(images), labels) for images, labels in loader(task.train, 256)]
        features, labels = (torch.cat(part) for part in zip(*parts))
        means = torch.stack([x.mean(dim=0) for x in of_class(features, labels, self.text(task))])
        self.first[task.name] = 0 if self.means is None else len(self.means)
        self.means = torch.cat([*([] if self.means is None else [self.means]), F.normalize(means, dim=-1)])
        self.teach_selector(task, first=len(self.first) == 1)

    def learned_scores(self, features: Tensor) -> Tensor:
        return (self.clip.logit_scale.exp() * features @ self.means.T).softmax(dim=1)

    def state_dict(self) -> dict[str, Tensor]:
        return super().state_dict() | {"means": self.means}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        super().load_state_dict(state)
        self.means = state["means"].to(self.device)

    @property
    def trained_parameters(self) -> int:
        return 0 if self.means is None else self.means.numel()
