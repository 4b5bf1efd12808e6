"""WiSE-FT: after each task, back part of the way to the weights before it. Used in notebook 08."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..benchmarks.base import Task
from .base import register, share
from .fine_tuning import FineTuning


@register
class WiSEFT(FineTuning):
    """Fine-tuning, then theta <- alpha theta_t + (1 - alpha) theta_(t-1), all weights alike.

    (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models"; step by step over tasks as in ZSCL's experiments,
    alpha 0.8 there.) alpha 1 is fine-tuning, alpha 0 never moves.
    """

    @dataclass
    class Settings(FineTuning.Settings):
        alpha: float = 0.8  # of the new weights; the rest is the old ones'

        def __post_init__(self):
            super().__post_init__()
            share("alpha", self.alpha)

    name = "wise-ft"

    def fit(self, task: Task, model: nn.Module, loss: Callable[[Tensor, Tensor], Tensor], **options) -> None:
        before = [p.detach().clone() for p in model.parameters()]
        super().fit(task, model, loss, **options)
        with torch.no_grad():
            for parameter, old in zip(model.parameters(), before):
                parameter.mul_(self.settings.alpha).add_(old, alpha=1 - self.settings.alpha)
