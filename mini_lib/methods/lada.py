"""LADA: a few memory vectors for each class, on features of the frozen CLIP; no selector. Built in notebook 16."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from ..benchmarks.base import Task, parts_of
from ..clip import class_logits
from ..training import loader, seed_everything
from .base import TrainedMethod, TrainingSettings, register, whole_number
from .on_features import of_class


def k_means(x: Tensor, k: int, rounds: int = 10) -> tuple[Tensor, Tensor]:
    """k centres (k, D) of the rows of x (N, D), and the nearest one of each row (N,); Lloyd's rounds from rows at random."""
    centres = x[torch.randperm(len(x))[:k]] if len(x) >= k else x[torch.randint(len(x), (k,))]
    for _ in range(rounds):
        nearest = torch.cdist(x, centres).argmin(dim=1)
        members = F.one_hot(nearest, k).to(x)  # (N, k)
        counts = members.sum(dim=0)[:, None]
        centres = torch.where(counts > 0, members.T @ x / counts.clamp(min=1), centres)
    return centres, torch.cdist(x, centres).argmin(dim=1)


class Memories(nn.Module):
    """The memory vectors of one task's classes, (C, K, D)."""

    def __init__(self, vectors: Tensor):
        super().__init__()
        self.vectors = nn.Parameter(vectors)


@register
class LADA(TrainedMethod):
    """logit_c = s f.t_c + sum_k exp(-sharpness (1 - w_ck.f)): text features t and `memories` vectors w for each class.

    The vectors start as the centres of the class's features and are trained in their own task, their lengths too, then frozen. What was learned
    takes part in it: of each old class `prototypes` Gaussians stand for its images, and the loss is the cross-entropy over
    the names of all tasks so far. Nobody selects a task: vectors that are far from an image add nothing.
    (Luo et al. 2025, ICML. Left out: the adapters in the text tower, so that all features are computed once.)
    """

    @dataclass
    class Settings(TrainingSettings):
        learning_rate: float | dict[str, float] = 3e-3
        memories: int = 16
        prototypes: int = 4
        sharpness: float = 5.0

        def __post_init__(self):
            super().__post_init__()
            for name in ("memories", "prototypes"):
                whole_number(name, getattr(self, name), at_least=1)
            if not self.sharpness > 0:
                raise ValueError(f"sharpness is above 0, not {self.sharpness!r}.")

    name = "lada"
    rates = (1e-3, 3e-3, 1e-2, 3e-2)

    def __init__(self, clip: nn.Module, tokenizer: Callable, **settings):
        super().__init__(clip, tokenizer, **settings)
        self.learned = {}  # a task's name -> what is kept of it: text, memories, and the Gaussians' means, shares, deviations

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Unit features (B, D) of the frozen CLIP."""
        return F.normalize(self.clip.encode_image(images.to(self.device)), dim=-1)

    def logits(self, features: Tensor, text: Tensor, memories: Tensor) -> Tensor:
        """(B, C) of unit features (B, D), text (C, D) and memories (C, K, D)."""
        near = torch.einsum("bd,ckd->bck", features, memories)
        return class_logits(self.clip, features, text) + (-self.settings.sharpness * (1 - near)).exp().sum(dim=2)

    def learn(self, task: Task) -> None:
        seed_everything(self.settings.seed + len(self.learned))
        parts = [(self.features(images), labels) for images, labels in loader(task.train, 256)]
        features, labels = (torch.cat(part) for part in zip(*parts))
        old, text = list(self.learned.values()), self.text(task)
        of_classes = of_class(features, labels, text)
        new = Memories(torch.stack([k_means(x, self.settings.memories)[0] for x in of_classes]))
        before = sum(len(kept["text"]) for kept in old)
        texts = torch.cat([*(kept["text"] for kept in old), text])

        def loss(features, labels):
            features, labels = features.to(self.device), labels.to(self.device) + before
            if old:
                again, whose = replayed(old, len(features))
                features, labels = torch.cat([features, again]), torch.cat([labels, whose])
            memories = torch.cat([*(kept["memories"] for kept in old), new.vectors])
            return F.cross_entropy(
                self.logits(features, texts, memories), labels, label_smoothing=self.settings.label_smoothing
            )

        self.fit(dataclasses.replace(task, train=TensorDataset(features.cpu(), labels)), new, loss)
        self.learned[task.name] = {"text": text.clone(), "memories": new.vectors.detach()} | gaussians(
            of_classes, self.settings.prototypes
        )

    def scores(self, images: Tensor, task: Task) -> Tensor:
        features, found = self.features(images), []
        for part in parts_of(task):
            text, kept = self.text(part), self.learned.get(part.name)
            scores = class_logits(self.clip, features, text)
            found.append(self.logits(features, text, kept["memories"]) if kept else scores)
        return torch.cat(found, dim=1)

    def state_dict(self) -> dict[str, Tensor]:
        return {f"{task}/{k}": v for task, kept in self.learned.items() for k, v in kept.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        super().load_state_dict(state)
        self.learned = {}
        for key, tensor in state.items():
            task, name = key.rsplit("/", 1)
            self.learned.setdefault(task, {})[name] = tensor.to(self.device)

    @property
    def trained_parameters(self) -> int:
        return sum(kept["memories"].numel() for kept in self.learned.values())


def gaussians(of_classes: list[Tensor], count: int) -> dict[str, Tensor]:
    """`count` round Gaussians for the features (N, D) of each class: means (C, P, D), shares (C, P), deviations (C, P)."""
    found: Any = []
    for x in of_classes:
        means, nearest = k_means(x, count)
        members = F.one_hot(nearest, count).to(x)  # (N, P)
        squares = (x - means[nearest]).square().mean(dim=1)  # tr Sigma / D of each row
        found.append((means, members.mean(dim=0), (members.T @ squares / members.sum(dim=0).clamp(min=1)).sqrt()))
    return dict(zip(("means", "shares", "deviations"), map(torch.stack, zip(*found))))


def replayed(old: list[dict[str, Tensor]], count: int) -> tuple[Tensor, Tensor]:
    """`count` unit features drawn from the Gaussians of old classes, all classes alike, and the class of each."""
    means, shares, deviations = (torch.cat([kept[k] for kept in old]) for k in ("means", "shares", "deviations"))
    whose = torch.randint(len(means), (count,))
    which = torch.multinomial(shares[whose].cpu(), 1)[:, 0]
    centres, noise = means[whose, which], torch.randn(count, means.shape[2]).to(means)
    return F.normalize(centres + deviations[whose, which, None] * noise, dim=-1), whose.to(means.device)
