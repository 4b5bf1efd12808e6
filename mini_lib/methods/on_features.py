"""What classifiers on the frozen CLIP's features share: a column for each class learned, and a gate. Built in notebook 12."""

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..benchmarks.base import Task, parts_of
from ..clip import class_logits
from .base import share
from .routed import Routed, SelectorSettings


class OnFeatures(Routed):
    """A classifier on unit features f of the frozen CLIP; a column for each class of the tasks learned, in their order.

    Its scores r are mixed with zero-shot's probabilities p, `share` r + (1 - `share`) p, for images that the selector sends
    to a learned task; for the others p stays. selector: by default "own", RAIL's gate: an image is taken for one of a
    learned task if zero-shot's best name, among all candidates, is a name of it (Xu et al. 2024).
    """

    @dataclass
    class Settings(SelectorSettings):
        default_selector = "own"
        share: float = 0.8  # of the classifier in the scores

        def __post_init__(self):
            super().__post_init__()
            share("share", self.share)

    first: dict[str, int]  # a task's name -> its first column

    def __init__(self, clip: Any, tokenizer: Callable, reference: Any = None, **settings):
        super().__init__(clip, tokenizer, reference, **settings)
        self.first = {}
        self._seen = None  # the images encoded last, and their features

    @property
    def learned_tasks(self) -> list[str]:  # type: ignore
        return list(self.first)

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Unit features (B, D); those of the images encoded last are kept, for gate and classifier ask for the same."""
        if self._seen is None or self._seen[0]() is not images:
            found = F.normalize(self.clip.encode_image(images.to(self.device)), dim=-1)
            self._seen = weakref.ref(images), found
        return self._seen[1]

    def zero_shot(self, images: Tensor, task: Task) -> Tensor:
        """CLIP's own probabilities (B, C)."""
        return class_logits(self.clip, self.features(images), self.text(task)).softmax(dim=1)

    def learned_scores(self, features: Tensor) -> Tensor:
        """The classifier's scores (B, columns) of unit features (B, D); they estimate probabilities."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it scores features.")

    def choose(self, images: Tensor, task: Task) -> Tensor:
        """The learned task that zero-shot's best name belongs to, -1 if it is a name not learned yet. LongTensor (B,)"""
        return self.owners(task)[self.zero_shot(images, task).argmax(dim=1).cpu()]

    def scores(self, images: Tensor, task: Task, selected: Tensor | None = None) -> Tensor:
        """`selected`: what `select` gave, where it is known already."""
        selected = self.select(images, task) if selected is None else selected
        zero_shot, known = self.zero_shot(images, task), (selected >= 0).to(self.device)
        if not known.any():
            return zero_shot
        learned, columns = self.learned_scores(self.features(images)).float(), []
        for part in parts_of(task):
            at, size = self.first.get(part.name), len(part.classnames)
            columns.append(zero_shot.new_zeros(len(images), size) if at is None else learned[:, at : at + size])
        of_classifier = self.settings.share
        mixed = of_classifier * torch.cat(columns, dim=1) + (1 - of_classifier) * zero_shot
        if self.selector != "own":
            mixed = self.among_chosen(mixed, selected, task)
        return torch.where(known[:, None], mixed, zero_shot)

    def probabilities(self, scores: Tensor) -> Tensor:
        """The scores estimate probabilities already: what is negative counts as 0, and the sum is made 1."""
        positive = scores.clamp(min=1e-9)
        return positive / positive.sum(dim=1, keepdim=True)

    def state_dict(self) -> dict[str, Tensor]:
        return {f"first.{task}": torch.tensor(column) for task, column in self.first.items()} | self.selector_state()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        super().load_state_dict(state)
        self.first = {k.removeprefix("first."): int(v) for k, v in state.items() if k.startswith("first.")}
        self.load_selector_state(state)


def of_class(features: Tensor, labels: Tensor, text: Tensor) -> list[Tensor]:
    """The features (N, D) of each class's images; a class without any has its name's feature, a row of `text` (C, D)."""
    found = [features[labels.to(features.device) == c] for c in range(len(text))]
    return [x if len(x) else name[None] for x, name in zip(found, text)]
