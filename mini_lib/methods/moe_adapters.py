"""MoE-Adapters, the paper's method: MoEClip and a selector, task after task. Built in notebook 07."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..benchmarks.base import Task
from ..clip import class_logits, count_parameters
from ..moe import MoEClip
from ..selectors import ClipStatistics
from ..training import seed_everything
from .base import TrainedMethod, TrainingSettings, register, whole_number
from .routed import Routed, SelectorSettings


@register
class MoEAdapters(Routed, TrainedMethod):
    """Experts shared by all tasks, one router a task, activate–freeze, and a selector: the whole of the paper's method.

    selector: see `SelectorSettings`; "ddas" is the paper's. freeze: how many experts a block and tower are frozen after a
    task, None for all that were used. shared_router: one router for all tasks, as in the class-incremental experiments.
    noise_at_evaluation: the gates stay noisy in evaluation, which the official code does there by mistake; see notebook
    09. gate_noise, image_at and text_at as in `MoEClip`.
    """

    @dataclass
    class Settings(SelectorSettings, TrainingSettings):
        default_selector = "gaussian"
        learning_rate: float | dict[str, float] = 1e-2
        num_experts: int = 14
        top_k: int = 2
        bottleneck: int = 64
        text_router_token: str = "sot"
        load_balance_weight: float = 0.0
        freeze: int | None = 2
        shared_router: bool = False
        noise_at_evaluation: bool = False
        gate_noise: bool = True
        image_at: Sequence[int] | None = None
        text_at: Sequence[int] | None = None

        def __post_init__(self):
            super().__post_init__()
            if self.freeze is not None:
                whole_number("freeze", self.freeze, at_least=0)

    name = "moe-adapters"
    rates = (3e-3, 6e-3, 1e-2, 2e-2)

    def __init__(self, clip: nn.Module, tokenizer: Callable, reference: Any = None, **settings):
        super().__init__(clip, tokenizer, reference, **settings)
        choice = self.settings
        seed_everything(choice.seed)
        self.model = MoEClip(
            clip,
            choice.num_experts,
            choice.top_k,
            choice.bottleneck,
            text_router_token=choice.text_router_token,
            checkpointing=choice.checkpointing,
            image_at=choice.image_at,
            text_at=choice.text_at,
            gate_noise=choice.gate_noise,
        )
        self.learned = 0

    @property
    def learned_tasks(self) -> list[str]:  # type: ignore
        return self.model.tasks

    def learn(self, task: Task) -> None:
        choice, model = self.settings, self.model
        seed_everything(choice.seed + self.learned)
        if not (choice.shared_router and model.tasks):
            model.add_task(task.name)
        router, tokens = model.tasks[-1], self.tokens(task)[:, :1]

        def loss(images, labels):
            images, labels = images.to(self.device), labels.to(self.device)
            with self.autocast():
                value = model(images, tokens, router, labels, choice.label_smoothing)
            if choice.load_balance_weight:
                value = value + choice.load_balance_weight * model.balance_loss()
            return value

        self.fit(task, model, loss)
        model.freeze_used_experts(choice.freeze)
        self.learned += 1
        self.set_evaluation_noise()
        self.teach_selector(task, first=self.learned == 1)

    def set_evaluation_noise(self) -> None:
        """Let the routers draw noise in evaluation, too, if the settings say so."""
        if self.settings.noise_at_evaluation:
            for layer in self.model.layers:
                layer.routers.train()

    def encode_image(self, images: Tensor, selected: Tensor) -> Tensor:
        """Features (B, D), each by its router; of the original CLIP the selector has just made some, which are taken over."""
        features = getattr(self.selector, "features", None)
        kept = features.kept(images) if isinstance(features, ClipStatistics) else None
        rows = {router: (selected == router).nonzero().squeeze(1) for router in selected.unique().tolist()}
        parts = [  # one router after another: within a batch of one no GPU is waited for
            self.model.encode_image(images[own], router) if router >= 0 or kept is None else kept[own]
            for router, own in rows.items()
        ]
        return torch.cat(parts)[torch.cat([*rows.values()]).argsort()]

    def scores(self, images: Tensor, task: Task, selected: Tensor | None = None) -> Tensor:
        """`selected`: what `select` gave, where it is known already."""
        selected = self.select(images, task) if selected is None else selected
        chosen, selected = selected, selected.clamp(max=len(self.model.tasks) - 1)  # tasks that share one router
        features = self.encode_image(images.to(self.device), selected)
        scores = features.new_empty(len(images), len(task.classnames))
        for router in selected.unique().tolist():
            rows = selected == router
            embeddings = self.embeddings(task, partial(self.model.encode_text, task=router), key=router)
            scores[rows] = class_logits(self.clip, features[rows], embeddings)
        return self.among_chosen(scores, chosen, task)

    def state_dict(self) -> dict[str, Tensor]:
        state = {f"model.{k}": v for k, v in self.model.adapter_state_dict().items()}
        state["learned"] = torch.tensor(self.learned)
        return state | self.selector_state()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        super().load_state_dict(state)
        self.model.load_adapter_state_dict(
            {k.removeprefix("model."): v for k, v in state.items() if k.startswith("model.")}
        )
        self.learned = int(state["learned"])
        self.set_evaluation_noise()
        self.load_selector_state(state)

    @property
    def trained_parameters(self) -> int:
        """Experts and routers, and the autoencoders of DDAS."""
        return sum(map(count_parameters, (*self.model.layers, *getattr(self.selector, "autoencoders", ()))))
