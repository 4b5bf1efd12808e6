"""Networks that grow: experts and their autoencoders in the upper half of the image tower. Used in notebook 16."""

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..clip import Noting, batch_first, vision_blocks, with_parts, with_vision_blocks
from ..moe import MoEClip
from ..router import Router


class LimitedRouter(Router):
    """A gate over the first `active` experts; the others do not exist yet."""

    active: Tensor

    def __init__(self, width: int, num_experts: int, top_k: int):
        super().__init__(width, num_experts, top_k)
        self.register_buffer("active", torch.tensor(num_experts))

    def forward(self, x: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        active, others = int(self.active), self.w_gate.shape[1] - int(self.active)
        seen = with_parts(self, w_gate=self.w_gate[:, :active], w_noise=self.w_noise[:, :active])
        gates, load = Router.forward(seen, x, None if noise is None else noise[:, :active])
        return F.pad(gates, (0, others)), F.pad(load, (0, others))


class GrowingClip(MoEClip):
    """A MoEClip whose routers see only the experts that there are at their task."""

    def add_task(self, name: str) -> int:
        index = super().add_task(name)
        for layer in self.layers:
            router = LimitedRouter(layer.width, len(layer.experts), layer.top_k)
            layer.routers[-1] = router.to(layer.counts.device).train(layer.training)
        return index


def exists(name: str, experts: Tensor) -> bool:
    """Whether there is the expert that a tensor of a checkpoint belongs to; experts (blocks,): how many a block has."""
    found = re.match(r"(?:model\.image_layers|coders)\.(\d+)\.(?:experts\.)?(\d+)\.", name)
    return not found or int(found[2]) < int(experts[int(found[1])])


class Autoencoder(nn.Module):
    """D -> 32 -> D with a sigmoid at the end: it cannot fit a residual stream, and its error is a fingerprint. (N, D) -> (N,)"""

    def __init__(self, width: int):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, 32), nn.ReLU(), nn.Linear(32, width), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            x = x + 0.01 * torch.randn_like(x)
        return (self.layers(x) - x).square().mean(dim=1)


def fingerprint_distance(mark: Tensor, errors: Tensor) -> Tensor:
    """|(m - e) / max(m, e)^2| / sqrt(L) of a task's mark (L,) and errors (N, >= L): (N,). The official form, "CON"."""
    errors = errors[:, : len(mark)]
    return ((mark - errors) / torch.maximum(mark, errors).square()).norm(dim=1) / len(mark) ** 0.5


class Fingerprints:
    """LEAS: which task's usual errors are nearest to an image's, and whether they are near enough.

    A task's mark is the mean error of each autoencoder that there was, over its training. The limit is the `quantile` of the
    distances of all learned tasks' validation images to their own marks. granularity: "sample", or "batch", where all images
    of a call share their mean error.
    """

    def __init__(self, quantile: float, granularity: str):
        self.quantile, self.granularity = quantile, granularity
        self.marks, self.held_out = [], torch.zeros(0)

    def distances(self, errors: Tensor) -> Tensor:
        """To each task's mark (B, tasks) of the errors (B, L) of images; (1, tasks) where a batch decides."""
        errors = errors.mean(dim=0, keepdim=True) if self.granularity == "batch" else errors
        return torch.stack([fingerprint_distance(mark, errors) for mark in self.marks], dim=1)

    def select(self, errors: Tensor) -> Tensor:
        """The task of each image, -1 where none is near enough: LongTensor (B,)."""
        if not self.marks:
            return torch.full((len(errors),), -1)
        least, best = self.distances(errors).min(dim=1)
        return torch.where(least <= self.held_out.quantile(self.quantile), best, -1).expand(len(errors))

    def state_dict(self) -> dict[str, Tensor]:
        return {"held_out": self.held_out} | {str(i): mark for i, mark in enumerate(self.marks)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.held_out, self.marks = state["held_out"], [state[str(i)] for i in range(len(state) - 1)]


@torch.no_grad()
def class_tokens(clip: Any, images: Tensor, at: Sequence[int]) -> list[Tensor]:
    """Class tokens (B, D) of the frozen CLIP after the attention of the blocks `at`."""
    blocks: list[Any] = list(vision_blocks(clip))
    for place in at:
        blocks[place] = with_parts(blocks[place], ln_2=Noting(blocks[place].ln_2))
    with_vision_blocks(clip, blocks).encode_image(images)
    return [batch_first(blocks[place], blocks[place].ln_2.take()[0])[:, 0] for place in at]
