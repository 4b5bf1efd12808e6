"""What every continual learner is, and the training loop that they share. Built in notebooks 02 and 07."""

import inspect
import math
import random
import zlib
from numbers import Integral

import numpy as np
import torch
from torch.nn import functional as F

from ..benchmarks.base import endless
from ..clip import class_embeddings, class_logits, device_of, prompts
from ..progress import progress


def seed_everything(seed):
    """Seed every source of randomness in use, before each stochastic step."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def learning_rate_at(step, iterations, lr, warmup):
    """Linear warm-up over `warmup` steps, then a cosine down to 0 (official code; its schedule, step by step)."""
    if step < warmup:
        return lr * (step + 1) / warmup
    return lr / 2 * (1 + math.cos(math.pi * (step - warmup) / max(iterations - warmup, 1)))


def train(
    parameters, loss, batches, iterations, lr, weight_decay=0.0, warmup=None, name="", accumulation=1, scaled=False,
    after_step=None,
):  # fmt: skip
    """Minimise `loss(images, labels)` with AdamW, warm-up and cosine; returns the losses.

    Parameters without a gradient in a step (experts that nobody chose) are left untouched: no moments, no decay.
    accumulation: parts that a batch is cut into, one after another, to save memory; one step for all of them.
    scaled: the loss is scaled up for the backward pass, as float16 needs it. warmup: steps, by default a tenth.
    after_step(step) is called after each step, counted from 0.
    Raises FloatingPointError when the loss is no finite number any more.
    """
    parameters = [p for p in parameters if p.requires_grad]
    warmup = iterations // 10 if warmup is None else warmup
    optimiser = torch.optim.AdamW(parameters, lr=lr, betas=(0.9, 0.999), weight_decay=weight_decay)
    scaler = torch.amp.GradScaler(parameters[0].device.type, enabled=scaled)
    losses = []
    for step, batch in progress(zip(range(iterations), batches), name, total=iterations):
        optimiser.param_groups[0]["lr"] = learning_rate_at(step, iterations, lr, warmup)
        optimiser.zero_grad()
        losses.append(0.0)
        for images, labels in zip(*(tensor.chunk(accumulation) for tensor in batch)):
            value = loss(images, labels) * (len(labels) / len(batch[1]))
            if not torch.isfinite(value):
                raise FloatingPointError(
                    f"the loss of {name or 'the training'} is {value.item()} at iteration {step + 1} of {iterations}: "
                    f"lower the learning rate (it is {lr:g})."
                )
            scaler.scale(value).backward()
            losses[-1] += value.item()
        scaler.step(optimiser)
        scaler.update()
        if after_step:
            after_step(step)
    return losses


def checksum(model):
    """CRC-32 of all weights: whether two runs began with the same model."""
    value = 0
    for tensor in model.state_dict().values():
        value = zlib.crc32(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy(), value)
    return value


METHODS = {}
PRECISIONS = {"float32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


class Method:
    """A continual learner. A subclass with a `name` is one new file in this folder; it registers itself.

    learn(task) trains on one task, scores(images, task) -> (B, C) judges images among that task's class names, and
    state_dict / load_state_dict hold all that was learned, as tensors. `settings` are the choices that made it. A method
    that sends images to routers also has select(images, task) -> LongTensor (B,), and scores takes its result.
    """

    name = None
    learns = True  # False where learn() changes nothing, so that nothing has to be tested twice
    knows_tasks = False  # True where test images are judged by the name of their task
    interrupted = False  # True while a task is learned, and afterwards where that was stopped

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if vars(cls).get("name"):  # an inherited name is that of another method
            METHODS[cls.name] = cls

    def __init__(self, clip, tokenizer, **settings):
        self.clip, self.tokenizer, self.settings = clip, tokenizer, settings
        self.device = device_of(clip)
        self.start = checksum(clip)
        self._tokens, self._embeddings = {}, {}

    def learn(self, task):
        raise NotImplementedError(f"{type(self).__name__} does not say how it learns a task.")

    def scores(self, images, task):
        raise NotImplementedError(f"{type(self).__name__} does not say how it scores images.")

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        self.forget_embeddings()

    @property
    def trained_parameters(self):
        """Number of parameters that were trained, all tasks together."""
        return 0

    # What the methods share: the text classifier of a task, the precision of training, and the loss.

    def tokens(self, task):
        """Prompts of a task as tokens (C, K, L), tokenised once."""
        if task.name not in self._tokens:
            self._tokens[task.name] = prompts(self.tokenizer, task.classnames, task.templates).to(self.device)
        return self._tokens[task.name]

    def embeddings(self, task, encode_text, key=None):
        """The text classifier (C, D) of a task in evaluation; kept until `forget_embeddings`, that of key -1 for good."""
        if (task.name, key) not in self._embeddings:
            with torch.no_grad():
                self._embeddings[task.name, key] = class_embeddings(encode_text, self.tokens(task))
        return self._embeddings[task.name, key]

    def forget_embeddings(self):
        """To be called whenever the weights have changed. Those of key -1 are the original CLIP's, which never do."""
        self._embeddings = {(name, key): kept for (name, key), kept in self._embeddings.items() if key == -1}

    def autocast(self):
        """The context in which CLIP's part of a training step is computed, in the precision of the settings."""
        half = PRECISIONS[self.settings.get("precision", "float32")]
        return torch.autocast(self.device.type, half, enabled=half is not None)

    def cross_entropy(self, task, encode_image, encode_text, label_smoothing):
        """The loss function of a task: images and the first template's prompts, both encoded with gradients."""
        tokens = self.tokens(task)[:, :1]

        def loss(images, labels):
            with self.autocast():
                features = encode_image(images.to(self.device))
                classes = class_embeddings(encode_text, tokens)
            logits = class_logits(self.clip, features.float(), classes.float())
            return F.cross_entropy(logits, labels.to(self.device), label_smoothing=label_smoothing)

        return loss


class TrainedMethod(Method):
    """A method that learns by gradient steps. Subclasses hand on the settings that they do not need themselves.

    own: the settings of the subclass. learning_rate and iterations: a number, or a mapping from every task's name to
    one. warmup: steps of warm-up, None for a tenth. precision: "float32", or "bf16" or "fp16" for CLIP's part of the
    training step; evaluation is always in float32. checkpointing and accumulation save memory: see `MoEClip`, `train`.
    """

    rates = (1e-5, 3e-5, 1e-4, 3e-4)  # learning rates that the search of notebook 08 tries

    def __init__(
        self, clip, tokenizer, own, learning_rate, iterations=150, batch_size=64, label_smoothing=0.2, warmup=None,
        precision="float32", checkpointing=False, accumulation=1, seed=0,
    ):  # fmt: skip
        if precision not in PRECISIONS:
            raise ValueError(f"precision is one of {list(PRECISIONS)}, not {precision!r}.")
        for name, value in {"iterations": iterations, "batch_size": batch_size, "accumulation": accumulation}.items():
            for number in value.values() if isinstance(value, dict) else (value,):
                if not (isinstance(number, Integral) and number >= 1):
                    raise ValueError(f"{name} is a whole number, at least 1, not {number!r}.")
        super().__init__(
            clip, tokenizer, **own, learning_rate=learning_rate, iterations=iterations, batch_size=batch_size,
            label_smoothing=label_smoothing, warmup=warmup, precision=precision, checkpointing=checkpointing,
            accumulation=accumulation, seed=seed,
        )  # fmt: skip

    def setting(self, name, task):
        """A setting's value for a task, where it may be one for all or a mapping from names."""
        value = self.settings[name]
        if isinstance(value, dict) and task.name not in value:
            raise ValueError(f"{name} has no value for task {task.name!r}; it has some for {sorted(value)}.")
        return value[task.name] if isinstance(value, dict) else value

    def fit(self, task, model, loss, iterations=None, after_step=None):
        """Train what may change in `model` on the task's images, by the settings; leaves it in evaluation mode."""
        choice = self.settings
        model.train()
        train(
            model.parameters(), loss, endless(task.train, choice["batch_size"]),
            iterations or self.setting("iterations", task), self.setting("learning_rate", task), warmup=choice["warmup"],
            name=task.name, accumulation=choice["accumulation"], scaled=choice["precision"] == "fp16",
            after_step=after_step,
        )  # fmt: skip
        model.eval()
        self.forget_embeddings()


def needs(name, benchmark):
    """What a method's constructor asks of a benchmark, by its name there: reference, captions or tasks."""
    asked = inspect.signature(METHODS.get(name, Method)).parameters
    return {part: getattr(benchmark, part) for part in ("reference", "captions", "tasks") if part in asked}


def make_method(name, clip, tokenizer, **settings):
    """A method by its name. Raises ValueError for a name or a setting that does not exist."""
    if name not in METHODS:
        raise ValueError(f"method {name!r} is unknown; there are {sorted(METHODS)}.")
    try:
        return METHODS[name](clip, tokenizer, **settings)
    except TypeError as error:
        raise ValueError(f"method {name!r} cannot be made with {settings}: {error}.") from error
