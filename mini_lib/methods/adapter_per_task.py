"""One adapter a task: with the task known the upper bound for everything that shares adapters. Built in notebook 03."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from ..benchmarks.base import Task
from ..clip import class_logits, count_parameters, encode_text_trimmed
from ..moe import MoEClip
from ..training import seed_everything
from .base import TrainedMethod, TrainingSettings, register, whole_number
from .routed import Routed, SelectorSettings


@register
class AdapterPerTask(Routed, TrainedMethod):
    """A frozen CLIP with a single expert a task in every block; nothing is shared, so nothing is forgotten.

    selector: see `SelectorSettings`; by default the task is told, and tasks not yet learned get the original CLIP.
    """

    @dataclass
    class Settings(SelectorSettings, TrainingSettings):
        learning_rate: float | dict[str, float] = 2e-2
        bottleneck: int = 64

        def __post_init__(self):
            super().__post_init__()
            whole_number("bottleneck", self.bottleneck, at_least=1)

    name = "adapter-per-task"
    rates = (3e-3, 6e-3, 1e-2, 2e-2)

    def __init__(self, clip: nn.Module, tokenizer: Callable, reference: Any = None, **settings):
        super().__init__(clip, tokenizer, reference, **settings)
        self.models = {}

    @property
    def learned_tasks(self) -> list[str]:  # type: ignore
        return list(self.models)

    def new_model(self) -> MoEClip:
        """A single expert in every block; the router of its one task has nothing to choose."""
        choice = self.settings
        return MoEClip(self.clip, 1, 1, choice.bottleneck, checkpointing=choice.checkpointing)

    def encoders(self, part: int) -> tuple[Callable, Callable]:
        """encode_image and encode_text through the adapters of a learned task, by its index; of -1 CLIP's own."""
        if part < 0:
            return self.clip.encode_image, partial(encode_text_trimmed, self.clip)
        model = list(self.models.values())[part]
        return partial(model.encode_image, task=0), partial(model.encode_text, task=0)

    def learn(self, task: Task) -> None:
        choice = self.settings
        seed_everything(choice.seed + len(self.models))
        model = self.models[task.name] = self.new_model()
        model.add_task(task.name)
        loss = self.cross_entropy(task, *self.encoders(len(self.models) - 1), choice.label_smoothing)
        self.fit(task, model, loss)
        self.teach_selector(task, first=len(self.models) == 1)

    def scores_of(self, part: int, images: Tensor, task: Task) -> Tensor:
        encode_image, encode_text = self.encoders(part)
        return class_logits(self.clip, encode_image(images), self.embeddings(task, encode_text, key=part))

    def state_dict(self) -> dict[str, Tensor]:
        models = self.models.values()
        state = {f"{i}.{k}": v for i, model in enumerate(models) for k, v in model.adapter_state_dict().items()}
        return state | self.selector_state()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        super().load_state_dict(state)
        self.models = {}
        self.load_selector_state(state)
        for i in sorted({int(key.split(".")[0]) for key in state if key[0].isdigit()}):
            model = self.new_model()
            model.load_adapter_state_dict(
                {k.removeprefix(f"{i}."): v for k, v in state.items() if k.startswith(f"{i}.")}
            )
            self.models[model.tasks[0]] = model

    @property
    def trained_parameters(self) -> int:
        return sum(count_parameters(layer) for model in self.models.values() for layer in model.layers)
