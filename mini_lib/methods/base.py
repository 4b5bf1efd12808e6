"""What every continual learner is: a method, its settings, and the register of all. Shown in notebook 08."""

import dataclasses
import hashlib
import inspect
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from numbers import Integral, Real  # they compare with a float; Python's type hints lack it, so two lines are ignored
from traceback import clear_frames
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..benchmarks.base import Benchmark, Merged, Task
from ..clip import class_embeddings, class_logits, device_of, encode_text_trimmed, prompts
from ..training import checksum, endless, sample_outputs, train

PRECISIONS = {"float32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass
class Settings:
    """The choices that make a method, checked when they are made. `run` stores them by name."""

    def __post_init__(self):
        """Raises ValueError for a choice that cannot be."""

    def check_tasks(self, names: Sequence[str]) -> None:
        """Raises ValueError where a choice that is made for each task lacks one of these."""


@dataclass
class TrainingSettings(Settings):
    """What every method that learns by gradient steps may be told.

    learning_rate and iterations: one for all tasks, or a mapping from every task's name to one. warmup: steps, None for a
    tenth. precision: "float32", or "bf16" or "fp16" for CLIP's part of the training step; evaluation is always in float32.
    checkpointing and accumulation save memory: see `MoEClip` and `train`. Raises ValueError for what cannot be.
    """

    learning_rate: float | dict[str, float] = 1e-3
    iterations: int | dict[str, int] = 150
    batch_size: int = 64
    label_smoothing: float = 0.2
    warmup: int | None = None
    precision: str = "float32"
    checkpointing: bool = False
    accumulation: int = 1
    seed: int = 0

    def __post_init__(self):
        super().__post_init__()
        one_of("precision", self.precision, PRECISIONS)
        for name in ("iterations", "batch_size", "accumulation"):
            value = getattr(self, name)
            for number in value.values() if isinstance(value, dict) else (value,):
                whole_number(name, number, at_least=1)
        for rate in self.learning_rate.values() if isinstance(self.learning_rate, dict) else (self.learning_rate,):
            if not (isinstance(rate, Real) and not isinstance(rate, bool) and 0 <= rate < math.inf):
                raise ValueError(f"learning_rate is a number, or one for each task, and not negative: not {rate!r}.")
        share("label_smoothing", self.label_smoothing)
        if self.warmup is not None:
            whole_number("warmup", self.warmup, at_least=0)
        whole_number("seed", self.seed)

    def check_tasks(self, names: Sequence[str]) -> None:
        for name in names:
            self.of("learning_rate", name)
            self.of("iterations", name)

    def of(self, setting: str, task: str) -> Any:
        """A setting's value for a task, where it may be one for all or a mapping from names."""
        value = getattr(self, setting)
        if isinstance(value, dict) and task not in value:
            raise ValueError(f"{setting} has no value for task {task!r}; it has some for {sorted(value)}.")
        return value[task] if isinstance(value, dict) else value


def one_of(name: str, value: Any, known: Iterable) -> None:
    """Raises ValueError unless a setting is one of the values that there are."""
    if value not in tuple(known):
        *others, last = map(repr, known)
        raise ValueError(f"{name} is {', '.join(others)} or {last}, not {value!r}.")


def whole_number(name: str, value: Any, at_least: float = -math.inf) -> None:
    """Raises ValueError unless a setting is a whole number, and large enough."""
    if not (isinstance(value, Integral) and not isinstance(value, bool) and value >= at_least):  # type: ignore
        bound = "" if at_least == -math.inf else f", at least {at_least}"
        raise ValueError(f"{name} is a whole number{bound}, not {value!r}.")


def share(name: str, value: Any) -> None:
    """Raises ValueError unless a setting lies between 0 and 1."""
    if not (isinstance(value, Real) and 0 <= value <= 1):  # type: ignore
        raise ValueError(f"{name} lies between 0 and 1, and is not {value!r}.")


class Method:
    """A continual learner. A subclass is one new file in this folder, with the line @register above it.

    learn(task) trains on one task, scores(images, task) -> (B, C) judges images among that task's class names, and
    state_dict / load_state_dict hold all that was learned, as tensors. `settings` are the choices that made it, a dataclass
    of the subclass's own. A method that sends images to routers also has select(images, task) -> LongTensor (B,), and
    scores takes its result.
    """

    Settings = Settings
    name: str = ""
    learns = True  # False where learn() changes nothing, so that nothing has to be tested twice
    knows_tasks = False  # True where test images are judged by the name of their task
    taught = 0  # tasks that `run` has begun to teach it, or loaded
    clip: Any
    _tokens: dict[tuple, Tensor]
    _embeddings: dict[tuple[tuple, int | None], Tensor]

    def __init__(self, clip: nn.Module, tokenizer: Callable, **settings):
        self.settings: Any = self.Settings(**settings)
        self.clip, self.tokenizer = clip, tokenizer
        self.device = device_of(clip)
        self.start, self.outputs = checksum(clip), sample_outputs(clip, tokenizer)  # what it begins with
        self._tokens, self._embeddings = {}, {}

    def identity(self) -> dict[str, Any]:
        """What its numbers depend on, for `run`: name, settings, the CLIP, and for a class of one's own its code."""
        found = {
            "method": self.name,
            "method_settings": {f.name: getattr(self.settings, f.name) for f in dataclasses.fields(self.settings)},
            "clip": {"checksum": self.start},
            "outputs": self.outputs,
            "given": self.given(),
        }
        own = not type(self).__module__.startswith("mini_lib.")
        return found | ({"method_code": code_of(type(self))} if own else {})

    def given(self) -> dict[str, str]:
        """A digest of whatever its numbers depend on besides settings and stream, such as reference images, by name."""
        return {}

    def check_tasks(self, tasks: Sequence[Task]) -> None:
        """Raises ValueError where it could not learn one of these tasks; `run` asks before anything is learned."""
        self.settings.check_tasks([task.name for task in tasks])
        for task in tasks:
            self.tokens(task)

    def learn(self, task: Task) -> None:
        raise NotImplementedError(f"{type(self).__name__} does not say how it learns a task.")

    def scores(self, images: Tensor, task: Task) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} does not say how it scores images.")

    def probabilities(self, scores: Tensor) -> Tensor:
        """How sure the method is of each class, (B, C) -> (B, C), rows of sum 1: the softmax, for scores are CLIP's logits."""
        return scores.softmax(dim=1)

    def state_dict(self) -> dict[str, Tensor]:
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.forget_embeddings()

    @property
    def trained_parameters(self) -> int:
        """Number of parameters that were trained, all tasks together."""
        return 0

    # What the methods share: the text classifier of a task, the precision of training, and the loss.

    @torch.inference_mode(False)  # tokens made within inference_mode could not be trained on later
    def tokens(self, task: Task) -> Tensor:
        """Prompts of a task as tokens (C, K, L), tokenised once. Raises ValueError for two classes with the same tokens."""
        said = _said_of(task)
        if said not in self._tokens:
            tokens = prompts(self.tokenizer, task.classnames, task.templates)
            _check_apart(task, tokens)
            self._tokens[said] = tokens.to(self.device)
        return self._tokens[said]

    def embeddings(self, task: Task, encode_text: Callable[[Tensor], Tensor], key: int | None = None) -> Tensor:
        """The text classifier (C, D) of a task in evaluation; kept until `forget_embeddings`, that of key -1 for good."""
        if isinstance(task, Merged):
            return torch.cat([self.embeddings(part, encode_text, key) for part in task.parts])
        said = _said_of(task)
        if (said, key) not in self._embeddings:
            with torch.no_grad():
                self._embeddings[said, key] = class_embeddings(encode_text, self.tokens(task))
        return self._embeddings[said, key]

    def text(self, task: Task) -> Tensor:
        """The text classifier (C, D) of a CLIP that is left as it is; kept for good."""
        return self.embeddings(task, partial(encode_text_trimmed, self.clip), key=-1)

    def forget_embeddings(self) -> None:
        """To be called whenever the weights have changed. Those of key -1 are the original CLIP's, which never do."""
        self._embeddings = {(said, key): kept for (said, key), kept in self._embeddings.items() if key == -1}

    def autocast(self) -> torch.autocast:
        """The context in which CLIP's part of a training step is computed, in the precision of the settings."""
        half = PRECISIONS[getattr(self.settings, "precision", "float32")]
        return torch.autocast(self.device.type, half, enabled=half is not None)

    def cross_entropy(
        self,
        task: Task,
        encode_image: Callable[[Tensor], Tensor],
        encode_text: Callable[[Tensor], Tensor],
        label_smoothing: float,
    ) -> Callable[[Tensor, Tensor], Tensor]:
        """The loss function of a task: images and the first template's prompts, both encoded with gradients."""
        tokens = self.tokens(task)[:, :1]

        def loss(images, labels):
            with self.autocast():
                features = encode_image(images.to(self.device))
                classes = class_embeddings(encode_text, tokens)
            logits = class_logits(self.clip, features.float(), classes.float())
            return F.cross_entropy(logits, labels.to(self.device), label_smoothing=label_smoothing)

        return loss


def _said_of(task):
    """Whatever prompts depend on: another task may have the same name, and other classes or templates."""
    return tuple(task.classnames), tuple(task.templates)


def _check_apart(task, tokens):
    """As `Task` by OpenAI's tokenizer; that of another CLIP may leave out accents, too, and one class is then never named."""
    known = {}
    for name, row in zip(task.classnames, tokens.flatten(1).tolist()):
        if (other := known.setdefault(tuple(row), name)) is not name:
            raise ValueError(
                f"task {task.name!r}: to this CLIP's tokenizer the class names {other!r} and {name!r} are the same: rename "
                "one, or put both classes together."
            )


def code_of(kind: type) -> str:
    """A digest of a class that somebody wrote: of its functions' sources and its plain attributes."""
    parts = []
    for name, value in sorted(vars(kind).items()):
        function = getattr(value, "fget", None) or getattr(value, "__func__", value)
        if inspect.isfunction(function):
            try:
                parts.append(inspect.getsource(function))
            except OSError:  # typed at a prompt
                parts.append(_compiled(function.__code__))
        elif isinstance(value, (str, int, float, tuple)) and not name.startswith("__"):
            parts.append(f"{name} = {value!r}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def _compiled(code):
    constants = [_compiled(c) if inspect.iscode(c) else repr(c) for c in code.co_consts]
    return f"{code.co_code.hex()} {code.co_names} {constants}"


class TrainedMethod(Method):
    """A method that learns by gradient steps."""

    Settings = TrainingSettings
    rates = (1e-5, 3e-5, 1e-4, 3e-4)  # learning rates that the search of notebook 08 tries

    def fit(
        self,
        task: Task,
        model: nn.Module,
        loss: Callable[[Tensor, Tensor], Tensor],
        iterations: int | None = None,
        after_step: Callable[[int], None] | None = None,
    ) -> None:
        """Train what may change in `model` on the task's images, by the settings; leaves it in evaluation mode."""
        if not torch.is_grad_enabled():
            raise ValueError(
                f"{self.name!r} learns by gradients: call it outside torch.no_grad and torch.inference_mode."
            )
        choice = self.settings
        model.train()
        try:
            train(
                model.parameters(),
                loss,
                endless(task.train, choice.batch_size),
                iterations or choice.of("iterations", task.name),
                choice.of("learning_rate", task.name),
                warmup=choice.warmup,
                name=task.name,
                accumulation=choice.accumulation,
                scaled=choice.precision == "fp16",
                after_step=after_step,
            )
        except BaseException as error:
            if choice.checkpointing:
                clear_frames(error.__traceback__)  # torch below 2.14 else goes on with it in all that is computed later
            raise
        model.eval()
        self.forget_embeddings()


METHODS: dict[str, type[Method]] = {}


def register(method: type[Method] | None = None, *, override: bool = False) -> Any:
    """Let `make_method` and every comparison know a method by its name: the line @register above its class.

    override: take the place of a method that has this name already; without it that is a ValueError.
    """

    def add(added):
        if not added.name:
            raise ValueError(f"{added.__name__} has no name to be known by: give the class the line name = '...'.")
        if added.name in METHODS and not override:
            raise ValueError(
                f"there is a method {added.name!r} already: choose another name, or say @register(override=True)."
            )
        METHODS[added.name] = added
        return added

    return add if method is None else add(method)


def needs(name: str, benchmark: Benchmark) -> dict[str, Any]:
    """What a method's constructor asks of a benchmark, by its name there: reference, captions or tasks."""
    asked = inspect.signature(METHODS.get(name, Method)).parameters
    return {part: getattr(benchmark, part) for part in ("reference", "captions", "tasks") if part in asked}


def make_method(name: str, clip: nn.Module, tokenizer: Callable, **settings) -> Method:
    """A method by its name. Raises ValueError for a name or a setting that does not exist, or that cannot be."""
    if name not in METHODS:
        raise ValueError(f"method {name!r} is unknown; there are {sorted(METHODS)}.")
    known = {field.name for field in dataclasses.fields(METHODS[name].Settings)}
    known |= inspect.signature(METHODS[name]).parameters.keys() - {"clip", "tokenizer", "settings"}
    if unknown := sorted(settings.keys() - known):
        raise ValueError(f"method {name!r} has no setting {unknown[0]!r}; it has {', '.join(sorted(known))}.")
    try:
        return METHODS[name](clip, tokenizer, **settings)
    except TypeError as error:
        raise ValueError(f"method {name!r} cannot be made with {settings}: {error}.") from error
