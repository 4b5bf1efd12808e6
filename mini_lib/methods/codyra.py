"""CoDyRA: low-rank updates with gated ranks, merged into the weights after each task. Built in notebook 16."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from ..benchmarks.base import Task
from ..clip import class_embeddings, class_logits, text_blocks, vision_blocks
from .base import register, whole_number
from .fine_tuning import FineTuning


class GatedLoRA(nn.Module):
    """W -> W + B diag(gate) A, of rank `rank`; one for each of the `parts` of a weight, such as q, k and v.

    W (parts O, I), A (parts, rank, I), B (parts, O, rank), gate (parts, rank). B starts at zero: nothing is changed.
    """

    def __init__(self, weight: Tensor, rank: int, parts: int = 1):
        super().__init__()
        rows, columns = weight.shape
        self.a = nn.Parameter(weight.new_empty(parts, rank, columns).uniform_(-(columns**-0.5), columns**-0.5))
        self.b = nn.Parameter(weight.new_zeros(parts, rows // parts, rank))
        self.gate = nn.Parameter(torch.randn(parts, rank).to(weight))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + ((self.b * self.gate[:, None]) @ self.a).flatten(0, 1)


def weights_of(clip: Any) -> Iterator[tuple[nn.Module, str, int]]:
    """(module, name of its weight, matrices in it) of all linear maps in the blocks of both towers."""
    for block in (*vision_blocks(clip), *text_blocks(clip)):
        for module in block.modules():
            if isinstance(module, nn.MultiheadAttention):
                yield module, "in_proj_weight", 3
            elif isinstance(module, nn.Linear):
                yield module, "weight", 1


@contextmanager
def gated_lora(clip: Any, rank: int) -> Iterator[list[nn.Parameter]]:
    """While this holds, every linear map of the blocks is W + B diag(gate) A; then it is merged. Gives the gates.

    After an exception the weights are what they were.
    """
    places, merge = list(weights_of(clip)), False
    added: Any = [GatedLoRA(getattr(module, name), rank, parts) for module, name, parts in places]
    for (module, name, _), lora in zip(places, added):
        parametrize.register_parametrization(module, name, lora)
    try:
        yield [lora.gate for lora in added]
        merge = True
    finally:
        for module, name, _ in places:
            parametrize.remove_parametrizations(module, name, leave_parametrized=merge)
        clip.requires_grad_(False)


def soft_threshold(x: Tensor, by: float) -> Tensor:
    """sign(x) max(|x| - by, 0): the proximal step of an L1 penalty."""
    return x.sign() * (x.abs() - by).clamp(min=0)


@register
class CoDyRA(FineTuning):
    """Rank-one updates with a gate each, trained together; gates that the loss does not need shrink to 0; the rest is merged.

    Nothing grows and nothing is selected: after a task there is a CLIP as before, with other weights. The loss is the cross-
    entropy of images among names plus that of names among the images of the batch. In the second half of the steps every gate
    is soft-thresholded after each step, by more and more. (Lu et al., ICLR 2026; their threshold ends at `threshold` in
    250 steps of 500, here in half of the steps, scaled so that it takes away as much in all.)
    """

    @dataclass
    class Settings(FineTuning.Settings):
        learning_rate: float | dict[str, float] = 1e-3
        label_smoothing: float = 0.0
        rank: int = 16
        threshold: float = 0.005

        def __post_init__(self):
            super().__post_init__()
            whole_number("rank", self.rank, at_least=1)
            if not self.threshold >= 0:
                raise ValueError(f"threshold is 0 or above, not {self.threshold!r}.")

    name = "codyra"
    rates = (3e-4, 1e-3, 3e-3, 1e-2)

    def __init__(self, clip: nn.Module, tokenizer: Callable, **settings):
        super().__init__(clip, tokenizer, **settings)
        self.clip.requires_grad_(False)

    def loss(self, task: Task) -> Callable[[Tensor, Tensor], Tensor]:
        tokens = self.tokens(task)[:, :1]

        def loss(images, labels):
            images, labels = images.to(self.device), labels.to(self.device)
            with self.autocast():
                features, classes = self.clip.encode_image(images), class_embeddings(self.encode_text, tokens)
            logits = class_logits(self.clip, features.float(), classes.float())
            members = F.one_hot(labels, len(task.classnames)).T.to(logits)  # (C, B)
            of_names = F.cross_entropy(logits.T, members)
            return F.cross_entropy(logits, labels, label_smoothing=self.settings.label_smoothing) + of_names

        return loss

    def fit(self, task: Task, model: nn.Module, loss: Callable[[Tensor, Tensor], Tensor], **options) -> None:
        steps = self.settings.of("iterations", task.name)
        most = self.settings.threshold * 500 / steps

        with gated_lora(model, self.settings.rank) as gates:

            @torch.no_grad()
            def after_step(step):
                risen = (step + 1 - steps // 2) / (steps - steps // 2)  # from 0 to 1 in the second half
                for gate in gates if risen > 0 else ():
                    gate.copy_(soft_threshold(gate, most * risen))

            super().fit(task, model, loss, after_step=after_step, **options)

    @property
    def trained_parameters(self) -> int:
        """Those of one task: every task has as many anew, and they are merged."""
        shapes = [(*getattr(module, name).shape, parts) for module, name, parts in weights_of(self.clip)]
        rank = self.settings.rank
        return sum(rank * (rows + parts * (columns + 1)) for rows, columns, parts in shapes)
