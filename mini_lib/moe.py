"""Experts and routers in the blocks of a frozen CLIP. Built in notebooks 04 (mixture) and 05 (activate and freeze)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from traceback import clear_frames
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from .adapter import Adapter
from .clip import (
    Noting,
    at_least_float32,
    batch_first,
    class_embeddings,
    class_logits,
    encode_text_trimmed,
    text_blocks,
    vision_blocks,
    with_parts,
    with_text_blocks,
    with_vision_blocks,
)
from .router import Router, load_balance_loss


@dataclass
class Route:
    """Where the samples of the batch under way go, in one block."""

    task: int | Tensor  # the router of all samples, or (B,) of each, -1 for the original CLIP
    token: int | Tensor  # position of the token that the router reads, of all samples or (B,) of each
    noise: Tensor | None = None  # (B, E) the router's noise, if given
    used: list = field(default_factory=list)  # of each block of the tower: samples an expert, (E,)


class Stacked(torch.autograd.Function):
    """Tensors of E experts as one, (E, ...). An expert that nobody chose gets no gradient, where a plain stack gives zeros."""

    @staticmethod
    def forward(ctx, used, *tensors):
        ctx.used, ctx.place = used, len(used) - 1
        return torch.stack(tensors)

    @staticmethod
    def backward(ctx, gradient):
        if isinstance(ctx.used[ctx.place], Tensor):  # the host is told of all blocks at once, and as late as here
            untold = [place for place, number in enumerate(ctx.used) if isinstance(number, Tensor)]
            for place, number in zip(untold, torch.stack([ctx.used[place] for place in untold]).tolist()):
                ctx.used[place] = number
        return None, *(part if used else None for part, used in zip(gradient.contiguous(), ctx.used[ctx.place]))


class MoEAdapter(nn.Module):
    """The experts of one block, shared by all tasks, and one router a task: y = sum_i W_i E_i(x).

    counts (E,): samples sent to each expert while training the current task. frozen (E,): experts that no later task
    may change. usage: gates and load of the last training batch, for the balance loss.
    """

    experts: Any  # a ModuleList of Adapter
    routers: Any  # a ModuleList of Router
    counts: Tensor
    frozen: Tensor
    usage: tuple[Tensor, Tensor] | None

    def __init__(
        self,
        width: int,
        num_experts: int = 22,
        top_k: int = 2,
        bottleneck: int = 64,
        scale: float = 0.1,
        dropout: float = 0.1,
    ):
        super().__init__()
        self.width, self.top_k, self.long = width, top_k, bottleneck  # samples of more tokens are long, see forward
        self.experts = nn.ModuleList(Adapter(width, bottleneck, scale, dropout) for _ in range(num_experts))
        self.routers = nn.ModuleList()
        self.register_buffer("counts", torch.zeros(num_experts, dtype=torch.long))
        self.register_buffer("frozen", torch.zeros(num_experts, dtype=torch.bool))
        self.usage = None

    def add_router(self) -> None:
        """A router for a new task; it alone among the routers is trained from now on. Counting starts anew."""
        for router in self.routers:
            router.requires_grad_(False)
        router = Router(self.width, len(self.experts), self.top_k)
        self.routers.append(router.to(self.counts.device).train(self.training))
        self.counts.zero_()

    def freeze(self, number: int) -> None:
        """Freeze the `number` most used experts (the lower index first where counts are equal; never an unused one)."""
        ranking = self.counts.argsort(descending=True, stable=True)
        self.frozen[[e for e in ranking[:number].tolist() if self.counts[e] > 0]] = True
        self.apply_frozen()

    def apply_frozen(self) -> None:
        """Take frozen experts out of training."""
        for expert, frozen in zip(self.experts, self.frozen.tolist()):
            expert.requires_grad_(not frozen)

    def gates(self, x: Tensor, route: Route) -> Tensor:
        """Router inputs x (B, D) -> gates (B, E); rows of zeros for samples of the original CLIP."""
        if isinstance(route.task, int):
            gates, load = self.routers[route.task](x, route.noise)
            self.usage = (gates, load) if self.training else None
            return gates
        gates = x.new_zeros(len(x), len(self.experts))
        for task in route.task.unique().tolist():
            if task < 0:
                continue
            rows = (route.task == task).nonzero().squeeze(1)
            noise = None if route.noise is None else route.noise[rows]
            chosen, load = self.routers[task](x[rows], noise)
            gates = gates.index_put((rows,), chosen)
            self.usage = (chosen, load) if self.training else None
        return gates

    def forward(self, x: Tensor, route: Route) -> Tensor:
        """Block inputs after attention x (B, L, D) -> what the experts add, (B, L, D)."""
        of_all = isinstance(route.token, int)
        read = x[:, route.token] if of_all else x[torch.arange(len(x), device=x.device), route.token]
        with torch.autocast(x.device.type, enabled=False):  # who answers is decided in float32 at least
            gates = self.gates(at_least_float32(read), route)
        number = (gates > 0).sum(dim=0)  # (E,) of samples that an expert gets
        if self.training:
            self.counts += number
        x = x.to(self.experts[0].up_proj.weight.dtype)  # a CLIP in half precision may have experts in float32
        if x.is_cuda or x.shape[1] > self.long:  # a GPU would wait for the sizes of the parts below
            route.used.append(number)
            return self.gathered(x, gates, route.used)
        experts, samples = (gates > 0).T.nonzero(as_tuple=True)  # (B k,) each: who answers whom, expert by expert
        parts = zip(self.experts, x[samples].split(number.tolist()))
        outputs = torch.cat([expert(part) for expert, part in parts if len(part)] or [x[:0]])  # (B k, L, D)
        weighted = gates[samples, experts, None, None] * outputs
        return torch.zeros_like(x, dtype=gates.dtype).index_add(0, samples, weighted)

    def gathered(self, x: Tensor, gates: Tensor, used: list) -> Tensor:
        """What the experts add, (B, L, D), without a loop: each sample's k experts are one that is k times as wide."""
        shares, chosen = gates.topk(self.top_k)
        rows, first = chosen.flatten(), self.experts[0]
        kinds = zip(*(expert.parameters() for expert in self.experts))
        down, bias, up, shift = (Stacked.apply(used, *kind) for kind in kinds)
        down, up, shift = (w.index_select(0, rows).reshape(len(x), -1, self.width) for w in (down, up.mT, shift))
        bias = bias.index_select(0, rows).reshape(len(x), 1, -1)
        hidden = first.dropout(torch.baddbmm(bias, x, down.mT).relu()).unflatten(2, (self.top_k, -1))
        shares = (first.scale * shares).to(x.dtype)
        weighted = (hidden * shares[:, None, :, None]).flatten(2)
        return torch.baddbmm(torch.bmm(shares.unsqueeze(1), shift), weighted, up)

    @contextmanager
    def uncounted(self) -> Iterator[None]:
        """For a batch that is computed again, in the backward pass: its samples were counted already."""
        counts, usage = self.counts.clone(), self.usage
        try:
            yield
        finally:
            self.counts.copy_(counts)
            self.usage = usage

    def train(self, mode: bool = True) -> Self:
        """Leaving training mode also forgets the usage of the last batch, and with it that batch's graph."""
        self.usage = self.usage if mode else None
        return super().train(mode)


class ExpertBlock(nn.Module):
    """A frozen block with the experts of one layer beside it, for the batch that goes by `route`.

    It shares the block's weights and runs open_clip's own code; the block itself stays as it is. checkpointing: only the
    input is kept, and the rest is computed again in the backward pass.
    """

    def __init__(self, block: Any, layer: MoEAdapter, route: Route, checkpointing: bool = False):
        super().__init__()
        self.layer, self.route, self.checkpointing = layer, route, checkpointing
        self.ln_2 = Noting(block.ln_2)  # it reads the state after attention, not normalised, which the experts want
        self.block = with_parts(block, ln_2=self.ln_2)

    def __getattr__(self, name: str) -> Any:
        """What open_clip asks a block about itself, such as the type of its weights."""
        modules = vars(self)["_modules"]
        return modules[name] if name in modules else getattr(modules["block"], name)

    def forward(self, *inputs, **named) -> Tensor:
        if self.checkpointing:
            contexts = partial(_first_and_again, self.layer)
            try:
                return checkpoint(self.with_experts, *inputs, use_reentrant=False, context_fn=contexts, **named)
            except BaseException as error:
                clear_frames(error.__traceback__)  # torch below 2.14 else goes on with it in all that is computed later
                raise
        return self.with_experts(*inputs, **named)

    def with_experts(self, *inputs, **named) -> Tensor:
        """The block's output plus what its experts add to it."""
        output = self.block(*inputs, **named)
        state, _ = self.ln_2.take()
        added = self.layer(batch_first(self.block, state), self.route)
        return output + batch_first(self.block, added).to(output.dtype)


def _first_and_again(layer):
    return nullcontext(), layer.uncounted()


class MoEClip(nn.Module):
    """A frozen CLIP with a MoEAdapter in every block of both towers.

    `task`, wherever it is asked for, is a task's name or index, None for the original CLIP, or a LongTensor (B,) of
    indices with -1 for the original CLIP, so that one batch can hold samples of different tasks. A call with None runs
    open_clip's code alone: the features are CLIP's own, to the bit.

    text_router_token: "sot", as in the official code, lets the text routers read the start-of-text token, which under
    the causal mask cannot depend on the prompt; "eot" lets them read the end-of-text token. checkpointing: in training,
    blocks keep their inputs only and are computed again in the backward pass; less memory for more time. image_at,
    text_at: numbers of the blocks that get experts, by default all; [] leaves a tower as it is. gate_noise: False trains
    without noise in the gates.
    """

    clip: Any
    image_layers: Any  # a ModuleList of MoEAdapter, as text_layers
    text_layers: Any

    def __init__(
        self,
        clip: Any,
        num_experts: int = 22,
        top_k: int = 2,
        bottleneck: int = 64,
        scale: float = 0.1,
        dropout: float = 0.1,
        text_router_token: str = "sot",
        checkpointing: bool = False,
        image_at: Sequence[int] | None = None,
        text_at: Sequence[int] | None = None,
        gate_noise: bool = True,
    ):
        super().__init__()
        if text_router_token not in ("sot", "eot"):
            raise ValueError(f"text_router_token is 'sot' or 'eot', not {text_router_token!r}.")
        if bottleneck < 1:
            raise ValueError(f"bottleneck is at least 1, not {bottleneck!r}: it is the width inside an expert.")
        self.clip = clip.requires_grad_(False)
        self.text_router_token, self.checkpointing, self.gate_noise = text_router_token, checkpointing, gate_noise
        self.tasks = []

        def layers(blocks, at):
            if absent := [place for place in at if not 0 <= place < len(blocks)]:
                raise ValueError(f"a tower has the blocks 0 to {len(blocks) - 1}: there is no block {absent[0]!r}.")
            widths = [blocks[place].ln_2.normalized_shape[0] for place in at]
            return nn.ModuleList(MoEAdapter(w, num_experts, top_k, bottleneck, scale, dropout) for w in widths)

        blocks = vision_blocks(clip), text_blocks(clip)
        self.image_at, self.text_at = (
            list(range(len(of_tower)) if at is None else at) for of_tower, at in zip(blocks, (image_at, text_at))
        )
        self.image_layers, self.text_layers = layers(blocks[0], self.image_at), layers(blocks[1], self.text_at)
        self.to(clip.logit_scale.device)
        self.train(clip.training)

    @property
    def layers(self) -> list[MoEAdapter]:
        """The MoEAdapters of both towers, image first."""
        return [*self.image_layers, *self.text_layers]

    def train(self, mode: bool = True) -> Self:
        """Training mode for experts and routers; the frozen CLIP stays in eval mode."""
        super().train(mode)
        self.clip.eval()
        if not self.gate_noise:
            for layer in self.layers:
                layer.routers.eval()  # routers draw noise in training mode
        return self

    def add_task(self, name: str) -> int:
        """A new router in every block; the routers of earlier tasks are not trained any more. Returns its index."""
        if name in self.tasks:
            raise ValueError(f"task {name!r} is there already: every task has one router, under its own name.")
        self.tasks.append(name)
        for layer in self.layers:
            layer.add_router()
        return len(self.tasks) - 1

    def freeze_used_experts(self, number: int | None = 2) -> None:
        """After a task: freeze its most used experts in every block of both towers (the paper's activate–freeze).

        number: how many a block, as counted over the task's training; 2 in the official code whatever k is; None
        freezes all that were used at all. Raises ValueError where it is negative.
        """
        if number is not None and number < 0:
            raise ValueError(f"{number!r} experts cannot be frozen: take 0 or more, or None for all that were used.")
        for layer in self.layers:
            layer.freeze(len(layer.experts) if number is None else number)

    def task_indices(self, task: str | int | Tensor | None, size: int) -> int | Tensor:
        """`task` in any of its forms as the index of all samples, or a LongTensor (size,) where they differ."""
        if task is None:
            return -1
        if isinstance(task, str):
            if task not in self.tasks:
                raise KeyError(f"task {task!r} was never added; there are {self.tasks}.")
            return self.tasks.index(task)
        lowest = highest = task
        if type(task) is not int:  # what a tensor holds is known to its device only, which is asked once
            indices = torch.as_tensor(task, device=self.clip.logit_scale.device)
            if indices.dtype not in (torch.int64, torch.int32):
                raise TypeError(f"task must be a name, an index, None or a LongTensor, not {indices.dtype}.")
            indices = indices.expand(size) if indices.ndim == 0 else indices
            if indices.shape != (size,):
                raise ValueError(
                    f"task indices have the shape {tuple(indices.shape)}, but the batch holds {size} samples."
                )
            lowest, highest = torch.stack(indices.aminmax()).tolist() if size else (-1, -1)
        if not -1 <= lowest <= highest < len(self.tasks):
            raise IndexError(
                f"task indices must lie between -1 and {len(self.tasks) - 1}: {len(self.tasks)} were added."
            )
        return lowest if lowest == highest else indices.long()

    def encode_image(
        self, images: Tensor, task: str | int | Tensor | None = None, noise: Tensor | None = None
    ) -> Tensor:
        """images (B, 3, H, W) -> features (B, D), not normalised. noise (layers, B, E): the routers' noise, if given."""
        task = self.task_indices(task, len(images))
        images = images.to(self.clip.visual.transformer.get_cast_dtype())  # of a CLIP in another precision
        if isinstance(task, int) and task < 0:
            return self.clip.encode_image(images)
        blocks = self._blocks(vision_blocks(self.clip), self.image_at, self.image_layers, task, 0, noise)
        return with_vision_blocks(self.clip, blocks).encode_image(images)

    def encode_text(
        self, tokens: Tensor, task: str | int | Tensor | None = None, noise: Tensor | None = None
    ) -> Tensor:
        """tokens (B, L) -> features (B, D), not normalised. noise (layers, B, E): the routers' noise, if given."""
        task = self.task_indices(task, len(tokens))
        if isinstance(task, int) and task < 0:
            return self.clip.encode_text(tokens)
        token = tokens.argmax(dim=-1) if self.text_router_token == "eot" else 0
        blocks = self._blocks(text_blocks(self.clip), self.text_at, self.text_layers, task, token, noise)
        return encode_text_trimmed(with_text_blocks(self.clip, blocks), tokens)

    def _blocks(self, blocks, at, layers, task, token, noise):
        """A tower's blocks, with experts where it has some; made for each batch, so that nothing is left on the CLIP."""
        blocks, again, used = list(blocks), self.checkpointing and self.training, []
        for i, (place, layer) in enumerate(zip(at, layers)):
            route = Route(task, token, None if noise is None else noise[i], used)
            blocks[place] = ExpertBlock(blocks[place], layer, route, again)
        return blocks

    def forward(
        self,
        images: Tensor,
        tokens: Tensor,
        task: str | int | None = None,
        labels: Tensor | None = None,
        label_smoothing: float = 0.0,
    ) -> Tensor:
        """Logits (B, C) of images among classes; with labels (B,) the cross-entropy, a scalar.

        images (B, 3, H, W), tokens (C, K, L) as `prompts` makes them: K prompts for each class.
        """
        features = self.encode_image(images, task)
        classes = class_embeddings(partial(self.encode_text, task=task), tokens)
        with torch.autocast(features.device.type, enabled=False):
            logits = class_logits(self.clip, at_least_float32(features), at_least_float32(classes))
            return logits if labels is None else F.cross_entropy(logits, labels, label_smoothing=label_smoothing)

    def balance_loss(self) -> Tensor:
        """Sum over the blocks of both towers of the last training batch's load-balance loss."""
        return sum(load_balance_loss(*layer.usage) for layer in self.layers)  # type: ignore  # no None after a batch

    def adapter_state_dict(self) -> dict[str, Tensor]:
        """Everything but the frozen CLIP: experts, routers, counts, the frozen mask, and the tasks' names (as bytes)."""
        state = {k: v for k, v in self.state_dict().items() if not k.startswith("clip.")}
        return {**state, "task_names": torch.tensor(list("\n".join(self.tasks).encode()), dtype=torch.uint8)}

    def load_adapter_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take over what `adapter_state_dict` gave; routers are added as needed."""
        state = dict(state)
        names = bytes(state.pop("task_names").tolist()).decode().split("\n")
        if names[: len(self.tasks)] != self.tasks:
            raise ValueError(
                f"the checkpoint has the tasks {names}, this model has {self.tasks}: they must begin alike."
            )
        for name in names[len(self.tasks) :]:
            if name:
                self.add_task(name)
        own = {k: v.shape for k, v in self.state_dict().items() if not k.startswith("clip.")}
        if own != {k: v.shape for k, v in state.items()}:
            raise ValueError(
                "the checkpoint was made with another number of experts, blocks or tasks, or other widths, than this model."
            )
        self.load_state_dict(state, strict=False)
        for layer in self.layers:
            layer.apply_frozen()
