"""MoE-Adapters++: experts on demand, and a selector made of their autoencoders. Built in notebook 16."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..benchmarks.base import Task
from ..clip import class_logits, count_parameters, vision_blocks
from ..training import loader, seed_everything
from .base import TrainedMethod, TrainingSettings, one_of, register, whole_number
from .growing import Autoencoder, Fingerprints, GrowingClip, class_tokens, exists
from .routed import Routed, SelectorSettings

EXPAND = ("always", "within", "old_tasks")
PARTS = ("coders", "prints")  # what a checkpoint holds besides the experts
LATE = 0.2  # the part of a task's steps, its last, in which the autoencoders' errors are noted for the selector


@register
class MoEAdaptersPP(Routed, TrainedMethod):
    """Experts in the upper half of the image tower, one autoencoder each; a new expert where all autoencoders are surprised.

    The autoencoders read the class token of the frozen CLIP, the routers that of the adapted one. A task has at most one new
    expert a block; all older ones are frozen. expand: "always" gives it at once; "within" is the official code's rule, a batch
    whose error is `surprise` deviations above what this task had so far, in all autoencoders (the lowest block always);
    "old_tasks" is what its prose says: the mean error of the task so far is that far above what each autoencoder's own task had.
    selector "own" (LEAS): errors of the lowest block's autoencoders are compared with each task's; the nearest wins, and beyond
    a limit, the `quantile` of validation images of all learned tasks, the original CLIP. granularity: "sample", or "batch".
    (Yu et al., TPAMI 2025, as far as its code is public: branch of the official repository.)
    """

    @dataclass
    class Settings(SelectorSettings, TrainingSettings):
        default_selector = "own"
        learning_rate: float | dict[str, float] = 2e-2
        top_k: int = 2
        bottleneck: int = 64
        max_experts: int = 14
        expand: str = "within"
        surprise: float = 1.1
        quantile: float = 0.95
        granularity: str = "sample"

        def __post_init__(self):
            super().__post_init__()
            one_of("expand", self.expand, EXPAND)
            one_of("granularity", self.granularity, ("sample", "batch"))
            whole_number("max_experts", self.max_experts, at_least=self.top_k)

    name = "moe-adapters++"
    rates = (1e-3, 3e-3, 6e-3, 1e-2, 2e-2, 4e-2)

    def __init__(self, clip: nn.Module, tokenizer: Callable, reference: Any = None, **settings):
        super().__init__(clip, tokenizer, reference, **settings)
        choice, count = self.settings, len(vision_blocks(clip))
        seed_everything(choice.seed)
        self.model = GrowingClip(
            clip,
            choice.max_experts,
            choice.top_k,
            choice.bottleneck,
            checkpointing=choice.checkpointing,
            image_at=range(count // 2, count),
            text_at=(),
        )
        width, most = self.model.image_layers[0].width, choice.max_experts
        coders = (nn.ModuleList(Autoencoder(width) for _ in range(most)) for _ in self.model.image_layers)
        self.coders: Any = nn.ModuleList(coders).to(self.device).eval()
        blocks = len(self.model.image_layers)
        self.experts = torch.zeros(blocks, dtype=torch.long)  # how many there are in each block
        self.usual = torch.zeros(2, blocks, most)  # each autoencoder's mean error in its own task, and its deviation
        self.prints = Fingerprints(choice.quantile, choice.granularity)

    @property
    def learned_tasks(self) -> list[str]:  # type: ignore
        return self.model.tasks

    def check_tasks(self, tasks: Sequence[Task]) -> None:
        super().check_tasks(tasks)
        if self.selector == "own" and (lacking := [task.name for task in tasks if task.val is None]):
            raise ValueError(
                f"{self.name!r} sets the limit of its selector on validation images, and there are none of "
                f"{', '.join(lacking)}: keep some apart (val_part=0.1), or take another selector."
            )

    @torch.no_grad()
    def batch_errors(self, states: list[Tensor]) -> Tensor:
        """Mean error of a batch under each autoencoder that there is, (blocks, max_experts); 0 for the others."""
        found = torch.zeros_like(self.usual[0])
        for block, (state, count) in enumerate(zip(states, self.experts.tolist())):
            for i, coder in enumerate(self.coders[block][:count]):
                found[block, i] = coder(state).mean()
        return found

    def learn(self, task: Task) -> None:
        choice, model, place = self.settings, self.model, len(self.model.tasks)
        seed_everything(choice.seed + place)
        model.add_task(task.name)
        text = self.text(task)
        before, history = self.experts.clone(), []  # mean errors of every batch of this task
        if place == 0:
            self.experts += choice.top_k

        def loss(images, labels):
            images, labels = images.to(self.device), labels.to(self.device)
            states = class_tokens(self.clip, images, self.model.image_at)
            history.append(self.batch_errors(states))
            if place:
                self.grow(torch.stack(history), before)
            for layer, count in zip(model.layers, self.experts):
                layer.routers[-1].active.copy_(count)
            with self.autocast():
                features = model.encode_image(images, place)
            logits = class_logits(self.clip, features.float(), text)
            value = F.cross_entropy(logits, labels, label_smoothing=choice.label_smoothing)
            for coders, state, old, count in zip(self.coders, states, before.tolist(), self.experts.tolist()):
                value = value + sum(coder(state).mean() for coder in coders[old:count])
            return value

        self.fit(task, nn.ModuleList([model, self.coders]), loss)
        late = torch.stack(history[-max(round(LATE * len(history)), 2) :])
        for block, layer in enumerate(model.layers):
            new = slice(int(before[block]), int(self.experts[block]))
            self.usual[:, block, new] = torch.stack([late.mean(dim=0), late.std(dim=0, correction=0)])[:, block, new]
            layer.frozen[: new.stop] = True
            layer.apply_frozen()
            self.coders[block][: new.stop].requires_grad_(False)
        self.prints.marks.append(late.mean(dim=0)[0, : int(self.experts[0])].to(self.device))
        for images, _ in loader(task.val, 128) if task.val is not None else ():
            own = self.prints.distances(self.errors(images))[:, -1].cpu()
            self.prints.held_out = torch.cat([self.prints.held_out, own])
        self.teach_selector(task, first=place == 0)

    def grow(self, history: Tensor, before: Tensor) -> None:
        """One new expert for a block, once a task, where its errors (steps, blocks, max_experts) so far ask for it."""
        choice = self.settings
        for block, count in enumerate(before.tolist()):
            if self.experts[block] > count or count == choice.max_experts:
                continue
            errors = history[:, block, :count]
            if choice.expand == "within":
                news = len(errors) > 1 and (errors[-1] > errors.mean(dim=0) + choice.surprise * errors.std(dim=0)).all()
                news = news or block == 0
            else:
                mean, deviation = self.usual[:, block, :count]
                news = choice.expand == "always" or (errors.mean(dim=0) > mean + choice.surprise * deviation).all()
            self.experts[block] += int(news)

    @torch.no_grad()
    def errors(self, images: Tensor) -> Tensor:
        """Errors (B, L) of images under the autoencoders of the lowest block with experts."""
        state = class_tokens(self.clip, images.to(self.device), self.model.image_at[:1])[0]
        return torch.stack([coder(state) for coder in self.coders[0][: int(self.experts[0])]], dim=1)

    def choose(self, images: Tensor, task: Task) -> Tensor:
        """LEAS: the task whose mark is nearest, if it is near enough; else -1. LongTensor (B,)"""
        return self.prints.select(self.errors(images)).cpu() if self.learned_tasks else torch.full((len(images),), -1)

    def scores_of(self, part: int, images: Tensor, task: Task) -> Tensor:
        features = self.model.encode_image(images, None if part < 0 else part)
        return class_logits(self.clip, features, self.text(task))

    def made(self) -> dict[str, Tensor]:
        """Whatever has weights, experts that no block has yet among it."""
        state = {f"model.{k}": v for k, v in self.model.adapter_state_dict().items()}
        return state | {f"{name}.{k}": v for name in PARTS for k, v in getattr(self, name).state_dict().items()}

    def state_dict(self) -> dict[str, Tensor]:
        state = {"experts": self.experts, "usual": self.usual} | self.selector_state()
        return state | {name: tensor for name, tensor in self.made().items() if exists(name, self.experts)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        super().load_state_dict(state)
        self.experts, self.usual = state["experts"].clone(), state["usual"].clone()
        state = {name: tensor for name, tensor in self.made().items() if not exists(name, self.experts)} | state
        load = {name: getattr(self, name).load_state_dict for name in PARTS}
        for name, take in (load | {"model": self.model.load_adapter_state_dict}).items():
            take({k.split(".", 1)[1]: v for k, v in state.items() if k.startswith(f"{name}.")})
        for coders, count in zip(self.coders, self.experts.tolist()):
            coders[:count].requires_grad_(False)
        self.load_selector_state(state)

    @property
    def trained_parameters(self) -> int:
        """Of the experts and autoencoders that there are, and all routers."""
        parts = [layer.routers for layer in self.model.layers]
        for layer, coders, count in zip(self.model.layers, self.coders, self.experts.tolist()):
            parts += [layer.experts[:count], coders[:count]]
        return sum(map(count_parameters, parts))
