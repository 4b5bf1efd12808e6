"""What every continual learner is, and the training loop that they share. Built in notebooks 02 and 07."""

import math
import random

import numpy as np
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader

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


def endless(dataset, batch_size):
    """Batches without end, reshuffled in every round; the last, smaller batch of a round is left out."""
    loader = DataLoader(dataset, batch_size, shuffle=True, drop_last=len(dataset) > batch_size)
    while True:
        yield from loader


def train(parameters, loss, batches, iterations, lr, weight_decay=0.0, warmup=None, name=""):
    """Minimise `loss(images, labels)` with AdamW, warm-up and cosine; returns the losses.

    Parameters without a gradient in a step (experts that nobody chose) are left untouched: no moments, no decay.
    Raises FloatingPointError when the loss is no finite number any more.
    """
    parameters = [p for p in parameters if p.requires_grad]
    warmup = iterations // 10 if warmup is None else warmup
    optimiser = torch.optim.AdamW(parameters, lr=lr, betas=(0.9, 0.999), weight_decay=weight_decay)
    losses = []
    for step, (images, labels) in progress(zip(range(iterations), batches), name, total=iterations):
        optimiser.param_groups[0]["lr"] = learning_rate_at(step, iterations, lr, warmup)
        value = loss(images, labels)
        if not torch.isfinite(value):
            raise FloatingPointError(
                f"the loss of {name or 'the training'} is {value.item()} at iteration {step + 1} of {iterations}: "
                f"lower the learning rate (it is {lr:g})."
            )
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        losses.append(value.item())
    return losses


METHODS = {}


class Method:
    """A continual learner. A subclass with a `name` is one new file in this folder; it registers itself.

    learn(task) trains on one task, scores(images, task) -> (B, C) judges images among that task's class names, and
    state_dict / load_state_dict hold all that was learned, as tensors. `settings` are the choices that made it. A method
    that sends images to routers also has select(images, task) -> LongTensor (B,), and scores takes its result.
    """

    name = None

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if cls.name:
            METHODS[cls.name] = cls

    def __init__(self, clip, tokenizer, **settings):
        self.clip, self.tokenizer, self.settings = clip, tokenizer, settings
        self.device = device_of(clip)
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

    # What the methods share: the text classifier of a task, and the loss.

    def tokens(self, task):
        """Prompts of a task as tokens (C, K, L), tokenised once."""
        if task.name not in self._tokens:
            self._tokens[task.name] = prompts(self.tokenizer, task.classnames, task.templates).to(self.device)
        return self._tokens[task.name]

    def embeddings(self, task, encode_text, key=None):
        """The text classifier (C, D) of a task in evaluation; kept until `forget_embeddings`."""
        if (task.name, key) not in self._embeddings:
            with torch.no_grad():
                self._embeddings[task.name, key] = class_embeddings(encode_text, self.tokens(task))
        return self._embeddings[task.name, key]

    def forget_embeddings(self):
        """To be called whenever the weights have changed."""
        self._embeddings = {}

    def cross_entropy(self, task, encode_image, encode_text, label_smoothing):
        """The loss function of a task: images and the first template's prompts, both encoded with gradients."""
        tokens = self.tokens(task)[:, :1]

        def loss(images, labels):
            features = encode_image(images.to(self.device))
            logits = class_logits(self.clip, features, class_embeddings(encode_text, tokens))
            return F.cross_entropy(logits, labels.to(self.device), label_smoothing=label_smoothing)

        return loss


def make_method(name, clip, tokenizer, **settings):
    """A method by its name. Raises ValueError for a name or a setting that does not exist."""
    if name not in METHODS:
        raise ValueError(f"method {name!r} is unknown; there are {sorted(METHODS)}.")
    try:
        return METHODS[name](clip, tokenizer, **settings)
    except TypeError as error:
        raise ValueError(f"method {name!r} cannot be made with {settings}: {error}.") from error
