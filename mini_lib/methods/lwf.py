"""LwF, learning without forgetting, and its variant LwF-VR. Used in notebook 08."""

import copy

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from ..benchmarks.base import Task
from .base import register
from .distilled import Distilled


@register
class LwF(Distilled):
    """The teacher is the model before the task; it is asked about the task's own images and class prompts.

    (Li and Hoiem 2016; on CLIP as in ZSCL's experiments.)
    """

    name = "lwf"

    def texts(self, task: Task) -> Tensor:
        """Tokens (N, L) of the reference texts."""
        return self.tokens(task)[:, 0]

    def reference(self, task: Task) -> tuple[nn.Module, Dataset, Tensor]:
        return copy.deepcopy(self.clip).requires_grad_(False).eval(), task.train, self.texts(task)


@register
class LwFVR(LwF):
    """LwF with random sentences instead of class prompts: words of a virtual vocabulary, not of the task.

    (Ding et al. 2022, "Don't stop learning"; 1,000 sentences of 10 random tokens, as in ZSCL's experiments.)
    """

    name = "lwf-vr"

    def texts(self, task: Task) -> Tensor:
        tokens = self.tokens(task)[0, 0]
        start, end = tokens[0], tokens.max()
        sentences = torch.zeros(1000, len(tokens), dtype=tokens.dtype, device=tokens.device)
        sentences[:, 0], sentences[:, 11] = start, end
        sentences[:, 1:11] = torch.randint(1, int(start), (1000, 10), device=tokens.device)
        return sentences
