"""One fine-tuned CLIP a task, the task known: the upper bound that costs the most. Used in notebook 08."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from ..benchmarks.base import Task
from ..clip import class_logits, count_parameters, encode_text_trimmed
from ..training import rows_in_use, seed_everything
from .base import TrainedMethod, TrainingSettings, register
from .fine_tuning import trainable_copy


@register
class ModelPerTask(TrainedMethod):
    """Each task gets a copy of the original CLIP, fine-tuned on that task alone; nothing is shared or forgotten.

    At test the task is told; tasks not yet learned get the original CLIP.
    """

    @dataclass
    class Settings(TrainingSettings):
        learning_rate: float | dict[str, float] = 3e-4

    name = "model-per-task"
    knows_tasks = True

    def __init__(self, clip: nn.Module, tokenizer: Callable, **settings):
        super().__init__(clip, tokenizer, **settings)
        self.models = {}

    def new_model(self) -> Any:
        return trainable_copy(self.clip, self.settings.checkpointing)

    def learn(self, task: Task) -> None:
        seed_everything(self.settings.seed + len(self.models))
        model = self.models[task.name] = self.new_model()
        encode = model.encode_image, partial(encode_text_trimmed, model)
        loss = self.cross_entropy(task, *encode, self.settings.label_smoothing)
        with rows_in_use(model, self.tokens(task)[:, :1]):
            self.fit(task, model, loss)

    def scores(self, images: Tensor, task: Task) -> Tensor:
        model = self.models.get(task.name, self.clip)
        embeddings = self.embeddings(task, partial(encode_text_trimmed, model))
        return class_logits(model, model.encode_image(images.to(self.device)), embeddings)

    def state_dict(self) -> dict[str, Tensor]:
        return {f"{task}/{k}": v for task, model in self.models.items() for k, v in model.state_dict().items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        super().load_state_dict(state)
        self.models = {}
        for name, tensor in state.items():
            task, name = name.rsplit("/", 1)
            if task not in self.models:
                self.models[task] = self.new_model()
            self.models[task].state_dict()[name].copy_(tensor)

    @property
    def trained_parameters(self) -> int:
        return sum(count_parameters(model, trainable=True) for model in self.models.values())
