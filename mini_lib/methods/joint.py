"""Joint training on all tasks at once: the upper bound for a single model. Used in notebook 08."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import ConcatDataset

from ..benchmarks.base import Shifted, Task
from ..benchmarks.fingerprint import digest, fingerprint
from .base import register
from .fine_tuning import FineTuning


@register
class Joint(FineTuning):
    """Fine-tuning on the images of all tasks, shuffled together, before the first; the other tasks change nothing.

    Each image is judged among its own task's classes. The iterations are those of all tasks together. It breaks the rule
    of the game: nothing is ever unseen, so its Transfer is no zero-shot ability.
    """

    @dataclass
    class Settings(FineTuning.Settings):
        def __post_init__(self):
            super().__post_init__()
            if isinstance(self.learning_rate, dict):
                raise ValueError("joint learns all tasks at once: learning_rate is one number, not one for each task.")

    name = "joint"

    def __init__(self, clip: nn.Module, tokenizer: Callable, tasks: Sequence[Task], **settings):
        super().__init__(clip, tokenizer, **settings)
        self.tasks = tasks

    def given(self) -> dict[str, str]:
        return {"tasks": digest(*(fingerprint(task.train) for task in self.tasks))}

    def learn(self, task: Task) -> None:
        if self.learned:
            self.learned += 1
            return
        everything = ConcatDataset([Shifted(task.train, first) for task, first in zip(self.tasks, self.firsts)])
        names = [name for task in self.tasks for name in task.classnames]
        super().learn(Task("all tasks", names, [], train=everything, test=None))

    def trained_tokens(self, task: Task) -> Tensor:
        return torch.cat([self.tokens(task)[:, :1] for task in self.tasks])

    @property
    def firsts(self) -> list[int]:
        """The place of each task's first class among the classes of all."""
        sizes = [len(task.classnames) for task in self.tasks]
        return [sum(sizes[:i]) for i in range(len(sizes))]

    def loss(self, task: Task) -> Callable[[Tensor, Tensor], Tensor]:
        of_tasks = [super(Joint, self).loss(task) for task in self.tasks]

        def loss(images: Tensor, labels: Tensor) -> Any:
            total = 0
            for task, first, own in zip(self.tasks, self.firsts, of_tasks):
                rows = (labels >= first) & (labels < first + len(task.classnames))
                if rows.any():
                    total = total + own(images[rows], labels[rows] - first) * (rows.sum() / len(rows))
            return total

        return loss

    def fit(self, task: Task, model: nn.Module, loss: Callable[[Tensor, Tensor], Tensor], **options) -> None:
        iterations = sum(self.settings.of("iterations", task.name) for task in self.tasks)
        super().fit(task, model, loss, iterations=iterations, **options)
