"""iCaRL as it is used on MTIL: a bounded memory of old images, and distillation on them. Used in notebook 08."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import ConcatDataset, Dataset, Subset

from ..benchmarks.base import Task
from ..training import loader
from .base import register, whole_number
from .distilled import Distilled


def herding(features: Tensor, count: int) -> Tensor:
    """Indices of `count` rows whose mean, at every length, is near the mean of all; the most typical row first.

    features (N, D), made unit -> LongTensor (count,). The k-th is argmin |mu - (f_i + sum of those chosen) / k| over
    the rows left (Rebuffi et al. 2017, algorithm 4).
    """
    features = F.normalize(features, dim=-1)
    mean, total = features.mean(dim=0), torch.zeros_like(features[0])
    free, chosen = torch.ones(len(features), dtype=torch.bool, device=features.device), []
    for k in range(1, min(count, len(features)) + 1):
        distance = (mean - (features + total) / k).norm(dim=1)
        best = distance.where(free, torch.inf).argmin()
        total, free[best] = total + features[best], False
        chosen.append(int(best))
    return torch.tensor(chosen)


@register
class ICaRL(Distilled):
    """At most `memory` images of the tasks learned, the same number of each; the original CLIP is asked about them.

    (Rebuffi et al. 2017; on CLIP as in ZSCL's experiments: the teacher is the original CLIP, the texts are the current
    task's prompts, images are chosen by herding for each data set, and the scores are CLIP's, not those of nearest class
    means. The bound of 10,000 images there is 3 % of the training images of MTIL; 175 are 3 % of MiniMTIL's.)
    tasks: those of the benchmark, from which the images are taken; a checkpoint holds their indices only.
    """

    @dataclass
    class Settings(Distilled.Settings):
        memory: int = 175  # images kept

        def __post_init__(self):
            super().__post_init__()
            whole_number("memory", self.memory, at_least=1)

    name = "icarl"

    def __init__(self, clip: nn.Module, tokenizer: Callable, tasks: Sequence[Task], **settings):
        super().__init__(clip, tokenizer, **settings)
        self.teacher = clip
        self.datasets = {task.name: task.train for task in tasks}
        self.memory = {}  # name of a task -> indices of its images, the most typical first

    def reference(self, task: Task) -> tuple[nn.Module, Dataset, Tensor] | None:
        if not self.memory:
            return None
        exemplars = ConcatDataset([Subset(self.datasets[name], kept.tolist()) for name, kept in self.memory.items()])
        return self.teacher, exemplars, self.tokens(task)[:, 0]

    def learn(self, task: Task) -> None:
        super().learn(task)
        share = self.settings.memory // (len(self.memory) + 1)
        self.memory = {name: kept[:share] for name, kept in self.memory.items()}
        with torch.no_grad():
            images = (batch.to(self.device) for batch, _ in loader(task.train, batch_size=256))
            features = torch.cat([self.clip.encode_image(batch) for batch in images])
        self.memory[task.name] = herding(features, share)

    def state_dict(self) -> dict[str, Tensor]:
        return super().state_dict() | {f"memory.{name}": kept for name, kept in self.memory.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        names = [name for name in self.datasets if f"memory.{name}" in state]
        self.memory = {name: state[f"memory.{name}"] for name in names}
        super().load_state_dict({k: v for k, v in state.items() if not k.startswith("memory.")})
