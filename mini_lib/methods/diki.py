"""DIKI: learned keys and values in a second attention, whose result is added. Shown in notebook 16."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..benchmarks.base import Task
from ..clip import (
    class_logits,
    count_parameters,
    encode_text_trimmed,
    text_blocks,
    vision_blocks,
    with_parts,
    with_text_blocks,
    with_vision_blocks,
)
from ..selectors import GaussianSelector, relative
from ..training import seed_everything
from .base import TrainedMethod, TrainingSettings, register, whole_number
from .routed import Routed, SelectorSettings


class PrefixedAttention(nn.Module):
    """A block's frozen attention plus weight * SDPA(q, keys, values), with a softmax of its own, before the last map.

    keys, values (length, D) as the heads split them; weight (B,) of each image, or None for 1. Values of zero add nothing.
    """

    def __init__(self, attention: Any, keys: Tensor, values: Tensor, weight: Tensor | None = None):
        super().__init__()
        self.attention, self.batch_first = attention, attention.batch_first
        self.prefix, self.weight = (keys, values), weight

    def forward(self, query: Tensor, *others, **named) -> tuple[Tensor, None]:
        inner = self.attention
        output, width = inner(query, *others, **named)[0], query.shape[-1]
        x = query if self.batch_first else query.transpose(0, 1)  # (B, L, D)
        q = F.linear(x, inner.in_proj_weight[:width], inner.in_proj_bias[:width])
        q, k, v = (y.unflatten(-1, (inner.num_heads, -1)).transpose(-3, -2) for y in (q, *self.prefix))
        found = F.scaled_dot_product_attention(q, k.expand(len(x), -1, -1, -1), v.expand(len(x), -1, -1, -1))
        added = F.linear(found.transpose(1, 2).flatten(2), inner.out_proj.weight)
        if self.weight is not None:
            added = self.weight[:, None, None] * added
        return output + (added if self.batch_first else added.transpose(0, 1)).to(output.dtype), None


class Prefixes(nn.Module):
    """Keys and values of one task, in the first blocks of both towers: (blocks, length, D) each."""

    def __init__(self, clip: Any, length: int, blocks: int | None):
        super().__init__()
        towers: Any = {"image": vision_blocks(clip), "text": text_blocks(clip)}
        for tower, of_tower in towers.items():
            count = math.ceil(len(of_tower) * 2 / 3) if blocks is None else min(blocks, len(of_tower))
            width = of_tower[0].ln_2.normalized_shape[0]
            setattr(self, f"{tower}_keys", nn.Parameter(torch.empty(count, length, width).uniform_(-1, 1)))
            setattr(self, f"{tower}_values", nn.Parameter(torch.zeros(count, length, width)))

    def blocks(self, tower: str, frozen: nn.ModuleList, weight: Tensor | None = None) -> list[nn.Module]:
        """The blocks of a tower, "image" or "text", the first of them with prefixes; the frozen ones stay as they are."""
        blocks: list[Any] = list(frozen)
        for i, pair in enumerate(zip(getattr(self, f"{tower}_keys"), getattr(self, f"{tower}_values"))):
            blocks[i] = with_parts(blocks[i], attn=PrefixedAttention(blocks[i].attn, *pair, weight))
        return blocks


@register
class DIKI(Routed, TrainedMethod):
    """A frozen CLIP with `length` learned keys and values a block and task (Tang et al. 2024, ECCV).

    In evaluation an image's prefixes count the more, the surer the Gaussian selector is: the weight is
    sigmoid((limit - log(d_t / d_0)) / softness), 1/2 at the task's limit; with other selectors it is 1. Against the paper:
    this selector in the place of one Gaussian a task, weights in the image tower alone, and the training of all methods here.
    blocks: how many a tower get prefixes, from the first on; None for two thirds, as 8 of 12 in the paper.
    """

    @dataclass
    class Settings(SelectorSettings, TrainingSettings):
        default_selector = "gaussian"
        learning_rate: float | dict[str, float] = 3e-1
        length: int = 8
        blocks: int | None = None
        softness: float = 0.1

        def __post_init__(self):
            super().__post_init__()
            whole_number("length", self.length, at_least=1)
            if self.blocks is not None:
                whole_number("blocks", self.blocks, at_least=1)
            if not self.softness > 0:
                raise ValueError(f"softness is above 0, not {self.softness!r}.")

    name = "diki"
    rates = (3e-2, 1e-1, 3e-1, 1.0)

    def __init__(self, clip: nn.Module, tokenizer: Callable, reference: Any = None, **settings):
        super().__init__(clip, tokenizer, reference, **settings)
        self.prefixes = {}  # a task's name -> its Prefixes

    @property
    def learned_tasks(self) -> list[str]:  # type: ignore
        return list(self.prefixes)

    def new_prefixes(self) -> Prefixes:
        return Prefixes(self.clip, self.settings.length, self.settings.blocks).to(self.device)

    def encode_image(self, images: Tensor, of: Prefixes, weight: Tensor | None = None) -> Tensor:
        """Features (B, D) with the prefixes of a task, weighed (B,)."""
        return with_vision_blocks(self.clip, of.blocks("image", vision_blocks(self.clip), weight)).encode_image(images)

    def encode_text(self, tokens: Tensor, of: Prefixes) -> Tensor:
        return encode_text_trimmed(with_text_blocks(self.clip, of.blocks("text", text_blocks(self.clip))), tokens)

    def learn(self, task: Task) -> None:
        seed_everything(self.settings.seed + len(self.prefixes))
        new = self.prefixes[task.name] = self.new_prefixes()
        encoders = partial(self.encode_image, of=new), partial(self.encode_text, of=new)
        self.fit(task, new, self.cross_entropy(task, *encoders, self.settings.label_smoothing))
        self.teach_selector(task, first=len(self.prefixes) == 1)

    def weights(self, images: Tensor, part: int) -> Tensor | None:
        """How much the prefixes of a task count for each image (B,); None where nobody says how sure it is."""
        if not isinstance(self.selector, GaussianSelector):
            return None
        distance = relative(self.selector.distances(images))[:, part]
        return ((self.selector.limits[part] - distance) / self.settings.softness).sigmoid().to(images.dtype)

    def scores_of(self, part: int, images: Tensor, task: Task) -> Tensor:
        if part < 0:
            return class_logits(self.clip, self.clip.encode_image(images), self.text(task))
        of = list(self.prefixes.values())[part]
        classes = self.embeddings(task, partial(self.encode_text, of=of), key=part)
        return class_logits(self.clip, self.encode_image(images, of, self.weights(images, part)), classes)

    def state_dict(self) -> dict[str, Tensor]:
        state = {f"{task}/{k}": v for task, of in self.prefixes.items() for k, v in of.state_dict().items()}
        return state | self.selector_state()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        super().load_state_dict(state)
        self.load_selector_state(state)
        self.prefixes = {}
        for name in dict.fromkeys(key.rsplit("/", 1)[0] for key in state if "/" in key):
            self.prefixes[name] = self.new_prefixes()
            self.prefixes[name].load_state_dict(
                {key.rsplit("/", 1)[1]: v for key, v in state.items() if key.rsplit("/", 1)[0] == name}
            )

    @property
    def trained_parameters(self) -> int:
        return sum(map(count_parameters, self.prefixes.values()))
