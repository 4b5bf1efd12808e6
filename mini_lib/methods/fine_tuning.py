"""Continual fine-tuning: all of CLIP is trained on each task in turn. Built in notebook 02."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..benchmarks.base import Task
from ..clip import class_logits, count_parameters, encode_text_trimmed
from ..training import rows_in_use, seed_everything
from .base import TrainedMethod, TrainingSettings, register


def trainable_copy(clip: nn.Module, checkpointing: bool) -> Any:
    """A copy of a CLIP in which everything but the temperature can be trained."""
    model: Any = copy.deepcopy(clip).requires_grad_(True)
    model.logit_scale.requires_grad_(False)
    model.set_grad_checkpointing(checkpointing)
    return model


@register
class FineTuning(TrainedMethod):
    """Cross-entropy on the current task, both towers, the temperature excepted ("Continual-FT" in the paper)."""

    @dataclass
    class Settings(TrainingSettings):
        learning_rate: float | dict[str, float] = 3e-4

    name = "fine-tuning"

    def __init__(self, clip: nn.Module, tokenizer: Callable, **settings):
        super().__init__(clip, tokenizer, **settings)
        self.clip = trainable_copy(clip, self.settings.checkpointing)
        self.learned = 0

    def encode_text(self, tokens: Tensor) -> Tensor:
        return encode_text_trimmed(self.clip, tokens)

    def learn(self, task: Task) -> None:
        choice = self.settings
        seed_everything(choice.seed + self.learned)
        loss = self.loss(task)
        with rows_in_use(self.clip, self.trained_tokens(task)):
            self.fit(task, self.clip, loss)
        self.learned += 1

    def loss(self, task: Task) -> Callable[[Tensor, Tensor], Tensor]:
        """loss(images, labels) of a task."""
        return self.cross_entropy(task, self.clip.encode_image, self.encode_text, self.settings.label_smoothing)

    def trained_tokens(self, task: Task) -> Tensor:
        """All tokens that the text tower reads while it learns a task."""
        return self.tokens(task)[:, :1]

    def scores(self, images: Tensor, task: Task) -> Tensor:
        embeddings = self.embeddings(task, self.encode_text)
        return class_logits(self.clip, self.clip.encode_image(images.to(self.device)), embeddings)

    def state_dict(self) -> dict[str, Tensor]:
        return {**self.clip.state_dict(), "learned": torch.tensor(self.learned)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        super().load_state_dict(state)
        self.learned = int(state["learned"])
        self.clip.load_state_dict({k: v for k, v in state.items() if k != "learned"})

    @property
    def trained_parameters(self) -> int:
        return count_parameters(self.clip, trainable=True)
