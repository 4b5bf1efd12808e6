"""One adapter a task, the task known: the upper bound for everything that shares adapters. Built in notebook 03."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from ..benchmarks.base import Task
from ..clip import class_logits, count_parameters, encode_text_trimmed
from ..moe import MoEClip
from ..training import seed_everything
from .base import TrainedMethod, TrainingSettings, register, whole_number


@register
class AdapterPerTask(TrainedMethod):
    """A frozen CLIP with a single expert a task in every block; nothing is shared, so nothing is forgotten.

    At test the task is told; tasks not yet learned get the original CLIP.
    """

    @dataclass
    class Settings(TrainingSettings):
        learning_rate: float | dict[str, float] = 2e-2
        bottleneck: int = 64

        def __post_init__(self):
            super().__post_init__()
            whole_number("bottleneck", self.bottleneck, at_least=1)

    name = "adapter-per-task"
    knows_tasks = True
    rates = (3e-3, 6e-3, 1e-2, 2e-2)

    def __init__(self, clip: nn.Module, tokenizer: Callable, **settings):
        super().__init__(clip, tokenizer, **settings)
        self.models = {}

    def new_model(self) -> MoEClip:
        """A single expert in every block; the router of its one task has nothing to choose."""
        choice = self.settings
        return MoEClip(self.clip, 1, 1, choice.bottleneck, checkpointing=choice.checkpointing)

    def encoders(self, task: Task) -> tuple[Callable, Callable]:
        """encode_image and encode_text for a task: through its adapters, or CLIP's own."""
        if task.name not in self.models:
            return self.clip.encode_image, partial(encode_text_trimmed, self.clip)
        model = self.models[task.name]
        return partial(model.encode_image, task=task.name), partial(model.encode_text, task=task.name)

    def learn(self, task: Task) -> None:
        choice = self.settings
        seed_everything(choice.seed + len(self.models))
        model = self.models[task.name] = self.new_model()
        model.add_task(task.name)
        loss = self.cross_entropy(task, *self.encoders(task), choice.label_smoothing)
        self.fit(task, model, loss)

    def scores(self, images: Tensor, task: Task) -> Tensor:
        encode_image, encode_text = self.encoders(task)
        return class_logits(self.clip, encode_image(images.to(self.device)), self.embeddings(task, encode_text))

    def state_dict(self) -> dict[str, Tensor]:
        models = self.models.values()
        return {f"{i}.{k}": v for i, model in enumerate(models) for k, v in model.adapter_state_dict().items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        super().load_state_dict(state)
        self.models = {}
        for i in sorted({int(key.split(".")[0]) for key in state}):
            model = self.new_model()
            model.load_adapter_state_dict(
                {k.removeprefix(f"{i}."): v for k, v in state.items() if k.startswith(f"{i}.")}
            )
            self.models[model.tasks[0]] = model

    @property
    def trained_parameters(self) -> int:
        return sum(count_parameters(layer) for model in self.models.values() for layer in model.layers)
