"""Analytic learning: a classifier that is solved for instead of trained, so that nothing is forgotten. Built in notebook 12."""

from functools import partial

import torch
from torch.nn import functional as F

from ..benchmarks.base import loader
from ..clip import class_logits, encode_text_trimmed
from .base import Method


class Analytic(Method):
    """Ridge regression from random features of the frozen CLIP to the classes of all tasks (RAIL, primal form).

    h = relu(f(x) M) with M random; (sum h^T h + ridge I)^-1 and the weights are updated batch by batch (Woodbury's identity),
    and equal those of all data at once. In scores, `share` of the regression and the rest of the zero-shot probabilities.
    Images of tasks not yet learned get CLIP's answer. (Xu et al. 2024, NeurIPS.)
    """

    name = "analytic"
    knows_tasks = True

    def __init__(self, clip, tokenizer, hidden=1000, ridge=0.1, share=0.8, seed=0):
        if not (hidden >= 1 and ridge > 0 and 0 <= share <= 1):
            raise ValueError(
                f"hidden >= 1, ridge > 0 and 0 <= share <= 1 are needed, not {hidden}, {ridge} and {share}."
            )
        super().__init__(clip, tokenizer, hidden=hidden, ridge=ridge, share=share, seed=seed)
        dim = clip.encode_image(torch.zeros(1, 3, *clip.visual.image_size, device=self.device)).shape[1]
        generator = torch.Generator().manual_seed(seed)
        self.projection = (torch.randn(dim, hidden, generator=generator) / dim**0.5).to(self.device)
        self.inverse = torch.eye(hidden, dtype=torch.float64, device=self.device) / ridge  # of sum h^T h + ridge I
        self.weights = self.inverse.new_zeros(hidden, 0)  # a column a class
        self.first = {}  # a task's name -> its first column

    @torch.no_grad()
    def features(self, images):
        """Random features (B, hidden) of images, in double precision: the inverse needs it."""
        features = F.normalize(self.clip.encode_image(images.to(self.device)), dim=-1)
        return (features @ self.projection).relu().double()

    def learn(self, task):
        self.first[task.name] = self.weights.shape[1]
        self.weights = F.pad(self.weights, (0, len(task.classnames)))
        for images, labels in loader(task.train, 128):
            targets = F.one_hot(labels + self.first[task.name], self.weights.shape[1]).double().to(self.device)
            self.inverse, self.weights = update(self.inverse, self.weights, self.features(images), targets)

    def scores(self, images, task):
        classes = self.embeddings(task, partial(encode_text_trimmed, self.clip), key=-1)
        zero_shot = class_logits(self.clip, self.clip.encode_image(images.to(self.device)), classes).softmax(dim=1)
        if task.name not in self.first:
            return zero_shot
        columns = self.weights[:, self.first[task.name] :][:, : len(task.classnames)]
        share = self.settings["share"]
        return share * (self.features(images) @ columns).float() + (1 - share) * zero_shot

    def state_dict(self):
        learned = {f"first.{task}": torch.tensor(column) for task, column in self.first.items()}
        return {"inverse": self.inverse, "weights": self.weights, **learned}

    def load_state_dict(self, state):
        self.inverse, self.weights = (state[name].to(self.device) for name in ("inverse", "weights"))
        self.first = {k.removeprefix("first."): int(v) for k, v in state.items() if k.startswith("first.")}

    @property
    def trained_parameters(self):
        return self.weights.numel()


def update(inverse, weights, h, targets):
    """The solution after one more batch. inverse (H, H), weights (H, C), h (B, H), targets (B, C) -> inverse, weights

    Q <- Q - Q h^T (I + h Q h^T)^-1 h Q, then V <- V + Q h^T (y - h V): only a (B, B) matrix is inverted.
    """
    gain = inverse @ h.T
    inner = torch.eye(len(h), dtype=h.dtype, device=h.device) + h @ gain
    inverse = inverse - gain @ torch.linalg.solve(inner, gain.T)
    return inverse, weights + inverse @ h.T @ (targets - h @ weights)
