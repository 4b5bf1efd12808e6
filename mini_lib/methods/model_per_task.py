"""One fine-tuned CLIP a task: with the task known the upper bound that costs the most. Used in notebook 08."""

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
from .routed import Routed, SelectorSettings


@register
class ModelPerTask(Routed, TrainedMethod):
    """Each task gets a copy of the original CLIP, fine-tuned on that task alone; nothing is shared or forgotten.

    selector: see `SelectorSettings`; by default the task is told, and tasks not yet learned get the original CLIP.
    """

    @dataclass
    class Settings(SelectorSettings, TrainingSettings):
        learning_rate: float | dict[str, float] = 3e-4

    name = "model-per-task"

    def __init__(self, clip: nn.Module, tokenizer: Callable, reference: Any = None, **settings):
        super().__init__(clip, tokenizer, reference, **settings)
        self.models = {}

    @property
    def learned_tasks(self) -> list[str]:  # type: ignore
        return list(self.models)

    def new_model(self) -> Any:
        return trainable_copy(self.clip, self.settings.checkpointing)

    def learn(self, task: Task) -> None:
        seed_everything(self.settings.seed + len(self.models))
        model = self.models[task.name] = self.new_model()
        encode = model.encode_image, partial(encode_text_trimmed, model)
        loss = self.cross_entropy(task, *encode, self.settings.label_smoothing)
        with rows_in_use(model, self.tokens(task)[:, :1]):
            self.fit(task, model, loss)
        self.teach_selector(task, first=len(self.models) == 1)

    def scores_of(self, part: int, images: Tensor, task: Task) -> Tensor:
        model = self.clip if part < 0 else list(self.models.values())[part]
        embeddings = self.embeddings(task, partial(encode_text_trimmed, model), key=part)
        return class_logits(model, model.encode_image(images), embeddings)

    def state_dict(self) -> dict[str, Tensor]:
        state = {f"{task}/{k}": v for task, model in self.models.items() for k, v in model.state_dict().items()}
        return state | self.selector_state()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        super().load_state_dict(state)
        self.models = {}
        self.load_selector_state(state)
        for name, tensor in state.items():
            if "/" not in name:  # the selector's
                continue
            task, name = name.rsplit("/", 1)
            if task not in self.models:
                self.models[task] = self.new_model()
            self.models[task].state_dict()[name].copy_(tensor)

    @property
    def trained_parameters(self) -> int:
        return sum(count_parameters(model, trainable=True) for model in self.models.values())
