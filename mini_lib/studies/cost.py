"""What it costs to learn a task: parameters, operations, bytes, seconds. Built in notebook 11.

`python -m mini_lib cost` measures a training step of ViT-B/16 (random weights and images: the values do not matter) on
the machine at hand, and adds its rows to data/results/cost.csv. `python -m mini_lib cost step` counts on any machine
what a GPU would be asked in a step, and how often it would be waited for.
"""

import gc
import platform
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import open_clip
import pandas as pd
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from ..benchmarks.base import Task
from ..clip import count_parameters, load_clip
from ..ddas import AlexNetFeatures, Autoencoder
from ..embedded import tiny
from ..embedded.storage import replace_file
from ..methods import make_method
from ..moe import MoEClip
from ..training import seed_everything, train
from . import RESULTS

FILE = RESULTS / "cost.csv"
MODEL = "ViT-B-16-quickgelu"  # OpenAI's weights want QuickGELU, which keeps more for the backward pass than GELU
CASES = (  # method and settings; with two experts all samples go to both, as they do once a router has settled
    ("fine-tuning", {}),
    ("adapter-per-task", {}),
    ("moe-adapters", {"num_experts": 22, "selector": "known"}),
    ("moe-adapters", {"num_experts": 22, "selector": "known", "checkpointing": True}),
    ("moe-adapters", {"num_experts": 2, "selector": "known"}),
)
KEY = ["machine", "model", "method", "experts", "checkpointing", "precision", "batch", "classes"]


def shapes(name: str) -> open_clip.CLIP:
    """A CLIP of shapes only, on torch's device "meta": no numbers, no memory, no time.

    Raises ValueError for a model that open_clip does not list.
    """
    config = open_clip.get_model_config(name)
    if config is None:
        raise ValueError(f"model {name!r} is unknown: take one of open_clip.list_models().")
    with torch.device("meta"):
        return open_clip.CLIP(**config)


def parameter_terms(clip: Any, tasks: int = 11, num_experts: int = 22, bottleneck: int = 64) -> dict[str, int]:
    """Parameters of MoE-Adapters after `tasks` tasks, part by part, counted on the real modules. clip: from `shapes`.

    DDAS as in the paper, on AlexNet's features.
    """
    with torch.device("meta"):
        model = MoEClip(clip, num_experts, bottleneck=bottleneck)
        for t in range(tasks):
            model.add_task(f"task {t + 1}")
        alexnet = AlexNetFeatures(weights=None)
        autoencoder = Autoencoder(alexnet(torch.zeros(1, 3, 224, 224)).shape[1], alexnet.code)
    routers = [router for layer in model.layers for router in layer.routers]
    return {
        "image experts": sum(count_parameters(layer.experts) for layer in model.image_layers),
        "text experts": sum(count_parameters(layer.experts) for layer in model.text_layers),
        "routers": sum(router.w_gate.numel() for router in routers),
        "routers' noise": sum(router.w_noise.numel() for router in routers),
        "one autoencoder": count_parameters(autoencoder),
        "convolutions of AlexNet": count_parameters(alexnet),
        "may change in the last task": sum(count_parameters(layer, trainable=True) for layer in model.layers),
    }


def saved_bytes(compute: Callable[[], object], module: nn.Module) -> int:
    """Bytes that autograd keeps for the backward pass while `compute()` runs, beside the tensors of `module`.

    Memory that several saved tensors share is counted once. The count is exact and the same on every run.
    """
    own = {t.untyped_storage().data_ptr() for t in (*module.parameters(), *module.buffers())}
    kept = {}  # address -> memory; holding it here keeps the address from being used again

    def note(tensor):
        memory = tensor.untyped_storage()
        if memory.data_ptr() not in own:
            kept[memory.data_ptr()] = memory
        return tensor.detach()  # with its history, an output kept by its own operation would never be freed

    with saved_tensors_hooks(note, lambda tensor: tensor):
        compute()
    return sum(memory.nbytes() for memory in kept.values())


def training_step(learner: Any, task: Task) -> tuple[nn.Module, Callable[[Tensor, Tensor], Tensor]]:
    """The model and the loss function that a method trains on a task, caught before it does."""
    caught = {}
    learner.fit = lambda task, model, loss: caught.update(model=model, loss=loss)
    learner.learn(task)
    return caught["model"].train(), caught["loss"]


def fused_attention(query: Sequence[int], key: Sequence[int], value: Sequence[int], width: int, *_, **__) -> int:
    """Operations of attention where PyTorch computes all of it at once, as below the first thing that learns."""
    batch, length, _ = query  # shapes
    return 2 * batch * length * width * (4 * width + 2 * length)


def step_operations(loss: Callable[[Tensor, Tensor], Tensor], images: Tensor, labels: Tensor) -> tuple[int, int]:
    """Floating-point operations of the matrix products in one forward and one backward pass."""
    aten = torch.ops.aten
    fused = {  # PyTorch's own counter overlooks the first, and before version 2.15 the others, too
        aten._native_multi_head_attention: fused_attention,
        aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),
        aten._scaled_dot_product_flash_attention_for_cpu_backward: (
            lambda g, q, k, v, *_, **__: sdpa_backward_flop_count(g, q, k, v)
        ),
    }
    with FlopCounterMode(display=False, custom_mapping=fused) as forward:
        value = loss(images, labels)
    with FlopCounterMode(display=False, custom_mapping=fused) as backward:
        value.backward()
    return forward.get_total_flops(), backward.get_total_flops()


def step_seconds(
    model: nn.Module,
    loss: Callable[[Tensor, Tensor], Tensor],
    images: Tensor,
    labels: Tensor,
    steps: int,
    warmup: int = 2,
) -> list[float]:
    """Median seconds of the forward pass, the backward pass and the optimiser (AdamW), over `steps` steps.

    The learning rate is zero: everything is computed as ever, and every step is like the first.
    """
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.0)

    def now():
        if images.is_cuda:
            torch.cuda.synchronize()  # a GPU is still at work when Python goes on
        return time.perf_counter()

    times = []
    for _ in range(warmup + steps):
        optimiser.zero_grad()
        times.append([now()])
        value = loss(images, labels)
        times[-1].append(now())
        value.backward()
        times[-1].append(now())
        optimiser.step()
        times[-1].append(now())
    return torch.tensor(times, dtype=torch.float64).diff(dim=1)[warmup:].median(dim=0).values.tolist()


def measure(learner: Any, images: Tensor, labels: Tensor, classes: int, steps: int) -> dict[str, float]:
    """The cost of one training step of a method, as a dict. steps: how many are timed; 0 counts the saved bytes only."""
    task = Task("cost", [f"thing {i}" for i in range(classes)], ["a photo of a {}."], train=None, test=None)
    model, loss = training_step(learner, task)
    seed_everything(0)  # of dropout and the routers' noise
    cost: dict[str, float] = {
        "parameters": count_parameters(model),
        "trained": count_parameters(model, trainable=True),
        "saved_bytes": saved_bytes(lambda: loss(images, labels), model),
    }
    if steps:
        cost["forward_flops"], cost["backward_flops"] = step_operations(loss, images, labels)
        if images.is_cuda:
            torch.cuda.reset_peak_memory_stats()
        for part, value in zip(("forward", "backward", "optimiser"), step_seconds(model, loss, images, labels, steps)):
            cost[f"{part}_seconds"] = round(value, 6)
        if images.is_cuda:
            cost["peak_bytes"] = torch.cuda.max_memory_allocated()
    return cost


def memory_parts(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of the table -> gigabytes of a training step by part. AdamW keeps two moments for what is trained.

    All weights count as float32, as they are under autocast, too: its half-precision copies are among the saved
    tensors.
    """
    trained = 4 * rows.trained
    parts = {"weights": 4 * rows.parameters, "gradients": trained, "moments": 2 * trained, "saved": rows.saved_bytes}
    return pd.DataFrame(parts).astype(float) / 1e9


WAITS = (  # for a number, or for the shape of a result; lift_fresh: numbers that Python sends, from pageable memory
    "_local_scalar_dense", "nonzero", "_unique", "_unique2", "unique_dim", "unique_consecutive", "bincount", "masked_select",
    "equal", "lift_fresh",
)  # fmt: skip
LOOKS = (  # at a tensor in another way; detach: autograd, which hands a gradient over
    "view", "_unsafe_view", "detach", "transpose", "t", "expand", "unsqueeze", "squeeze", "select", "slice", "permute", "unbind",
    "split", "split_with_sizes", "alias", "promote_types", "as_strided", "unfold",
)  # fmt: skip
TELLS = ("tolist", "numpy", "cpu")  # copies to the host, which on a CPU pass by the dispatcher


class Asked(ExitStack):
    """What a GPU would be asked while this is entered, counted on a CPU: operations, and among them those it is waited for.

    An operation is one call of PyTorch's dispatcher below autograd (aten). What would be waited for is named above, and an
    index that is a mask. Copies of a batch to the device are not seen: on a CPU there are none.
    """

    operations, looks, waits = 0, 0, 0

    def counts(self) -> tuple[int, int, int]:
        return self.operations, self.looks, self.waits

    def __enter__(self):
        asked = self

        class Operations(TorchDispatchMode):
            def __torch_dispatch__(self, func, types, args=(), kwargs=None):
                name = func.overloadpacket.__name__
                masks = "index" in name and any(t is not None and t.dtype == torch.bool for t in _indices(args))
                asked.operations += 1
                asked.looks += name in LOOKS
                asked.waits += masks or name in WAITS
                return func(*args, **(kwargs or {}))

        def told(method):
            def call(tensor, *args, **kwargs):
                asked.waits += 1
                return method(tensor, *args, **kwargs)

            return call

        for name in TELLS:
            self.enter_context(mock.patch.object(Tensor, name, told(getattr(Tensor, name))))
        self.enter_context(Operations())
        return super().__enter__()


def _indices(args):
    return args[1] if len(args) > 1 and isinstance(args[1], (list, tuple)) else ()


def step_asks(batch: int = 64, classes: int = 100, images: int = 128, **settings) -> dict[str, tuple[int, ...]]:
    """What -> (operations, those that only look, waits) of the whole of a training step, and of judging images by one router or by three kinds.

    On a narrow CLIP as deep as ViT-B/16, for the counts do not depend on the width, with 22 experts and a fresh router in
    every block, so that all experts are chosen.
    """
    seed_everything(0)
    clip = tiny.build(width=64, vision_layers=12, text_layers=12).requires_grad_(False).eval()
    learner: Any = make_method("moe-adapters", clip, open_clip.get_tokenizer("ViT-B-32"), **settings)
    task = Task("cost", [f"thing {i}" for i in range(classes)], ["a photo of a {}."], train=None, test=None)
    learner.model.add_task("old")
    for layer in learner.model.layers:
        layer.long = 0  # as on a GPU, whatever the length
    model, loss = training_step(learner, task)
    pixels = torch.randn(images, 3, tiny.SIZE, tiny.SIZE)
    step, seen = (pixels[:batch], torch.randint(classes, (batch,))), []
    with Asked() as asked:
        train(model.parameters(), loss, [step] * 2, 2, 1e-3, after_step=lambda _: seen.append(asked.counts()))
    found = {f"training, {batch} images, {classes} prompts": tuple(b - a for a, b in zip(*seen))}
    model.eval()
    routers = {"one router": torch.ones(images, dtype=torch.long), "three kinds": torch.arange(images) % 3 - 1}
    for name, selected in routers.items():
        learner.forget_embeddings()
        with torch.no_grad(), Asked() as asked:
            learner.scores(pixels, task, selected)
        found[f"evaluation, {images} images, {name}"] = asked.counts()
    return found


def print_asks() -> None:
    """The command `cost step`."""
    asks = step_asks(num_experts=22, selector="known")
    print(pd.DataFrame(asks, index=["operations", "of them views", "waits for the GPU"]).T.to_string())


def machine_name(device: torch.device) -> str:
    """The GPU's name, or the processor's with the number of threads in use."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    found = Path("/proc/cpuinfo")
    lines = found.read_text(encoding="utf-8").splitlines() if found.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"


def add_rows(rows: Sequence[dict[str, Any]], file: Path) -> None:
    """Put rows into the table at `file`, in place of those that measured the same on the same machine."""
    table = pd.DataFrame(rows)
    if file.exists():
        table = pd.concat([pd.read_csv(file), table]).drop_duplicates(KEY, keep="last")
    counts = [c for c in table.columns if c.endswith(("_bytes", "_flops"))]  # whole even where some are missing
    table = table.astype(dict.fromkeys(counts, "Int64")).sort_values(KEY, kind="stable")
    replace_file(file, lambda path: table.to_csv(path, index=False))


def measure_all(
    batch: int | None = None,
    classes: int | None = None,
    precisions: Sequence[str] | None = None,
    steps: int | None = None,
    out: Path | None = None,
) -> None:
    """The command `cost`: all CASES on the machine at hand, a row each in the table `out`.

    batch: images a step, classes: prompts a step, steps: how many are timed; None takes what suits the machine.
    """
    cuda = torch.cuda.is_available()
    usual = (64, 100, 20) if cuda else (8, 20, 5)
    batch, classes, steps = (own if said is None else said for said, own in zip((batch, classes, steps), usual))
    if batch < 1 or classes < 1 or steps < 0:
        raise ValueError("--batch and --classes are at least 1, --steps is at least 0.")
    if out and out.exists() and (missing := set(KEY) - set(pd.read_csv(out, nrows=1))):
        raise ValueError(
            f"{out} is no table of costs, it lacks the columns {', '.join(sorted(missing))}: take another --out."
        )
    device = torch.device("cuda" if cuda else "cpu")
    for precision in precisions or ["float32", "bf16"][: 1 + cuda]:
        for method, settings in CASES:
            seed_everything(0)
            clip, _, tokenizer = load_clip(MODEL, pretrained=None)
            learner = make_method(method, clip.to(device), tokenizer, precision=precision, **settings)
            images = torch.randn(batch, 3, *clip.visual.image_size, device=device)
            labels = torch.randint(classes, (batch,), device=device)
            row = {
                "machine": machine_name(device),
                "torch": torch.__version__,
                "model": MODEL,
                "method": method,
                "experts": settings.get("num_experts", int(method != "fine-tuning")),
                "checkpointing": settings.get("checkpointing", False),
                "precision": precision,
                "batch": batch,
                "classes": classes,
                **measure(learner, images, labels, classes, steps),
            }
            add_rows([row], out or FILE)
            print({k: v for k, v in row.items() if k not in ("machine", "torch", "model")}, flush=True)
            del clip, learner, images
            gc.collect()
