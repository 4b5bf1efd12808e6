"""What every learner needs: seeds, batches, and one training loop. Built in notebooks 02 and 07."""

import math
import os
import random
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler, TensorDataset
from tqdm.auto import tqdm

from .clip import device_of, text_tower


def seed_everything(seed: int) -> None:
    """Seed every source of randomness in use, before each stochastic step."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def progress(iterable: Iterable, description: str = "", total: int | None = None) -> tqdm:
    """A bar that moves in a notebook or a terminal, and keeps silent where it would only fill a log.

    TQDM_DISABLE=1 in the environment silences it in notebooks, too.
    """
    visible = "ipykernel" in sys.modules or sys.stderr.isatty()
    silent = not visible or os.environ.get("TQDM_DISABLE") == "1"
    return tqdm(iterable, desc=description, total=total, leave=False, disable=silent)


def loader(dataset: Any, batch_size: int, shuffle: bool = False, drop_last: bool = False) -> DataLoader:
    """Batches of a data set. Tensors are cut a batch at a time; what is decoded gets processes of its own beside a GPU."""
    sampler = RandomSampler(dataset) if shuffle else SequentialSampler(dataset)
    if isinstance(dataset, TensorDataset):
        return DataLoader(dataset, batch_size=None, sampler=BatchSampler(sampler, batch_size, drop_last))
    decodes = getattr(getattr(dataset, "dataset", dataset), "decodes", False)
    workers = min(os.cpu_count() or 1, 8) if decodes and torch.cuda.is_available() else 0
    return DataLoader(
        dataset, batch_size, sampler=sampler, drop_last=drop_last, num_workers=workers, persistent_workers=workers > 0
    )


def endless(dataset: Any, batch_size: int) -> Iterator:
    """Batches without end, reshuffled in every round; the last, smaller batch of a round is left out."""
    rounds = loader(dataset, batch_size, shuffle=True, drop_last=len(dataset) > batch_size)
    while True:
        yield from rounds


def learning_rate_at(step: int, iterations: int, lr: float, warmup: int) -> float:
    """Linear warm-up over `warmup` steps, then a cosine down to 0 (official code; its schedule, step by step)."""
    if step < warmup:
        return lr * (step + 1) / warmup
    return lr / 2 * (1 + math.cos(math.pi * (step - warmup) / max(iterations - warmup, 1)))


def train(
    parameters: Iterable[nn.Parameter],
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    batches: Iterable,
    iterations: int,
    lr: float,
    weight_decay: float = 0.0,
    warmup: int | None = None,
    name: str = "",
    accumulation: int = 1,
    scaled: bool = False,
    after_step: Callable[[int], None] | None = None,
) -> list[float]:
    """Minimise `loss(images, labels)` with AdamW, warm-up and cosine; returns the losses.

    Parameters without a gradient in a step (experts that nobody chose) are left untouched: no moments, no decay.
    accumulation: parts that a batch is cut into, one after another, to save memory; one step for all of them.
    scaled: the loss is scaled up for the backward pass, as float16 needs it. warmup: steps, by default a tenth.
    after_step(step) is called after each step, counted from 0.
    Raises FloatingPointError when the loss is no finite number any more.
    """
    parameters = [p for p in parameters if p.requires_grad]
    warmup = iterations // 10 if warmup is None else warmup
    optimiser = torch.optim.AdamW(parameters, lr=lr, betas=(0.9, 0.999), weight_decay=weight_decay, fused=True)
    scaler = torch.amp.GradScaler(parameters[0].device.type, enabled=scaled)
    losses = []
    for step, batch in progress(zip(range(iterations), batches), name, total=iterations):
        optimiser.param_groups[0]["lr"] = learning_rate_at(step, iterations, lr, warmup)
        optimiser.zero_grad()
        values = []
        for images, labels in zip(*(tensor.chunk(accumulation) for tensor in batch)):
            value = loss(images, labels) * (len(labels) / len(batch[1]))
            scaler.scale(value).backward()
            values.append(value.detach())
        losses.append(sum(torch.stack(values).tolist()))  # the only time in a step that a GPU is waited for
        if not math.isfinite(losses[-1]):
            raise FloatingPointError(
                f"the loss of {name or 'the training'} is {losses[-1]} at iteration {step + 1} of {iterations}: "
                f"lower the learning rate (it is {lr:g})."
            )
        scaler.step(optimiser)
        scaler.update()
        if after_step:
            after_step(step)
    return losses


class RowsInUse(nn.Module):
    """A token table cut to some of its rows (R,); tokens keep their numbers. (..., L) -> (..., L, D)

    A row that no token names gets no gradient and AdamW leaves it alone, but keeps two moments for it and walks over
    them in every step: nine tenths of a small CLIP are such rows.
    """

    place: torch.Tensor

    def __init__(self, table: nn.Embedding, rows: torch.Tensor):
        super().__init__()
        self.weight = nn.Parameter(table.weight.detach()[rows], requires_grad=table.weight.requires_grad)
        place = torch.full((len(table.weight),), -1, device=rows.device)
        self.register_buffer("place", place.index_put((rows,), torch.arange(len(rows), device=rows.device)))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return F.embedding(self.place[tokens], self.weight)


@contextmanager
def rows_in_use(clip: Any, tokens: torch.Tensor) -> Iterator[None]:
    """While this holds, the token table of `clip` has the rows of `tokens` alone; afterwards they are back in the whole."""
    tower, rows = text_tower(clip), tokens.unique()
    table = tower.token_embedding
    tower.token_embedding = RowsInUse(table, rows)
    try:
        yield
    finally:
        with torch.no_grad():
            table.weight[rows] = tower.token_embedding.weight
        tower.token_embedding = table


def checksum(model: nn.Module) -> int:
    """CRC-32 of all weights: whether two runs began with the same model."""
    value = 0
    for tensor in model.state_dict().values():
        value = zlib.crc32(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy(), value)
    return value


@torch.no_grad()
def sample_outputs(clip: Any, tokenizer: Callable) -> list[float]:
    """What a CLIP makes of one fixed image and one fixed prompt: the first eight numbers of each unit feature.

    Weights alone do not say how a model computes: with GELU in the place of QuickGELU these numbers differ.
    """
    device, dtype = device_of(clip), next(clip.parameters()).dtype
    size = clip.visual.image_size
    height, width = size if isinstance(size, tuple) else (size, size)
    image = torch.linspace(0, 40, 3 * height * width).sin().view(1, 3, height, width)
    features = clip.encode_image(image.to(device, dtype)), clip.encode_text(tokenizer(["a photo of a dog."]).to(device))
    return [round(x, 6) for part in features for x in F.normalize(part.float(), dim=-1)[0, :8].tolist()]
