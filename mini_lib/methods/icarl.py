"""iCaRL as it is used on MTIL: a bounded memory of old images, and distillation on them. Used in notebook 08."""

import torch
from torch.nn import functional as F
from torch.utils.data import ConcatDataset, Subset

from ..benchmarks.base import loader
from .distilled import Distilled


def herding(features, count):
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


class ICaRL(Distilled):
    """At most `memory` images of the tasks learned, the same number of each; the original CLIP is asked about them.

    (Rebuffi et al. 2017; on CLIP as in ZSCL's experiments: the teacher is the original CLIP, the texts are the current
    task's prompts, images are chosen by herding for each data set, and the scores are CLIP's, not those of nearest class
    means. The bound of 10,000 images there is 3 % of the training images of MTIL; 175 are 3 % of MiniMTIL's.)
    tasks: those of the benchmark, from which the images are taken; a checkpoint holds their indices only.
    """

    name = "icarl"

    def __init__(self, clip, tokenizer, tasks, memory=175, **training):
        if memory < 1:
            raise ValueError(f"memory is a number of images, at least 1, not {memory!r}.")
        super().__init__(clip, tokenizer, **training)
        self.settings["memory"] = memory
        self.teacher = clip
        self.datasets = {task.name: task.train for task in tasks}
        self.memory = {}  # name of a task -> indices of its images, the most typical first

    def reference(self, task, model):
        if not self.memory:
            return None
        exemplars = ConcatDataset([Subset(self.datasets[name], kept.tolist()) for name, kept in self.memory.items()])
        return self.teacher, exemplars, self.tokens(task)[:, 0]

    def fit(self, task, model, loss):
        super().fit(task, model, loss)
        share = self.settings["memory"] // (len(self.memory) + 1)
        self.memory = {name: kept[:share] for name, kept in self.memory.items()}
        with torch.no_grad():
            features = [model.encode_image(images.to(self.device)) for images, _ in loader(task.train, batch_size=256)]
        self.memory[task.name] = herding(torch.cat(features), share)

    def state_dict(self):
        return super().state_dict() | {f"memory.{name}": kept for name, kept in self.memory.items()}

    def load_state_dict(self, state):
        names = [name for name in self.datasets if f"memory.{name}" in state]
        self.memory = {name: state[f"memory.{name}"] for name in names}
        super().load_state_dict({k: v for k, v in state.items() if not k.startswith("memory.")})
