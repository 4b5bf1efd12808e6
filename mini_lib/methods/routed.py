"""What the methods that route share: a part for each task, and who says which part answers for an image. Shown in notebook 07."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..benchmarks.base import Merged, Task, parts_of
from ..benchmarks.fingerprint import fingerprint
from ..ddas import DDAS
from ..selectors import GaussianSelector, ReferenceStatistics
from ..training import checksum
from .base import Method, Settings, code_of, one_of

SELECTORS: dict[str, Callable[..., Any]] = {"gaussian": GaussianSelector, "ddas": DDAS}
TOLD = ("known", "none", "own")  # who needs no selector
OFFERS = ("learn_reference", "learn_task", "select", "selector_state_dict", "load_selector_state_dict")


@dataclass
class SelectorSettings(Settings):
    """Who says which part of a method answers for an image, and the settings of "gaussian" and "ddas".

    selector: "gaussian" (`GaussianSelector`) and "ddas" (`DDAS`, the paper's) choose for every image without being told
    its task; "known" is told it, and takes the original CLIP for a task not yet learned; "none" always takes the newest
    part; "own" is the method's own way, where it has one. Or a selector of one's own, as `mini_lib.selectors` describes
    it. By default the one that settings are given for, else `default_selector`. names_of_chosen: among the names of
    several tasks, an image that was sent to a task is judged among that task's names alone.
    Raises ValueError for what is none of these, and for settings of the other selector.
    """

    selector: Any = None
    gaussian: dict[str, Any] | None = None
    ddas: dict[str, Any] | None = None
    names_of_chosen: bool = True
    default_selector: ClassVar[str] = "known"

    def __post_init__(self):
        super().__post_init__()
        given = [name for name in SELECTORS if getattr(self, name) is not None]
        if self.selector is None:
            self.selector = given[0] if given else self.default_selector
        if isinstance(self.selector, str):
            told = TOLD if self.default_selector == "own" else TOLD[:-1]
            one_of("selector", self.selector, (*SELECTORS, *told))
            if self.selector in SELECTORS and (others := set(given) - {self.selector}):
                raise ValueError(
                    f"there are settings of the selector {min(others)!r}, and the selector is {self.selector!r}."
                )
        elif lacks := [name for name in OFFERS if not callable(getattr(self.selector, name, None))]:
            kind = type(self.selector).__name__
            raise ValueError(f"a selector of one's own has {', '.join(OFFERS)}; this {kind} lacks {', '.join(lacks)}.")


class Routed(Method):
    """A method with a part (a router, adapters, a model) for each task.

    A subclass names the tasks that it has learned, in order, as `learned_tasks`, has `scores_of` one part, calls
    `teach_selector` at the end of `learn`, and keeps `selector_state` among its own. reference: what the selector learns
    the unknown from, a data set of images of no task, or for "gaussian" `ReferenceStatistics`.
    """

    selector: Any  # a selector, or "known" or "none"
    learned_tasks: list[str]

    def __init__(self, clip: nn.Module, tokenizer: Callable, reference: Any = None, **settings):
        super().__init__(clip, tokenizer, **settings)
        chosen = self.settings.selector
        if chosen not in TOLD and reference is None:
            name = repr(chosen) if isinstance(chosen, str) else type(chosen).__name__
            raise ValueError(f"the selector {name} needs reference images: pass reference=benchmark.reference.")
        if chosen == "ddas" and isinstance(reference, ReferenceStatistics):
            raise ValueError("DDAS learns from reference images, not from their statistics: give a folder of images.")
        self.reference = reference
        self._own = None if isinstance(chosen, str) else _described(chosen)  # before it learns anything
        if isinstance(chosen, str) and chosen in SELECTORS:
            chosen = SELECTORS[chosen](clip, **(getattr(self.settings, chosen) or {}))
        self.selector = chosen

    @property
    def knows_tasks(self) -> bool:  # type: ignore  # of the class for other methods
        return self.selector == "known"

    def check_tasks(self, tasks: Sequence[Task]) -> None:
        super().check_tasks(tasks)
        calibrates = getattr(self.selector, "calibrates", False)
        if calibrates and (lacking := [task.name for task in tasks if task.val is None]):
            raise ValueError(
                f"{type(self.selector).__name__} sets a limit for each task on validation images, and there are none "
                f"of {', '.join(lacking)}: keep some apart (val_part=0.1), or give DDAS a threshold."
            )

    def identity(self) -> dict[str, Any]:
        found = super().identity()
        if self._own:
            found["method_settings"]["selector"] = self._own
        return found

    def given(self) -> dict[str, str]:
        if self.selector in TOLD:
            return {}
        features = getattr(self.selector, "features", None)
        of_features = {"selector's features": str(checksum(features))} if isinstance(features, nn.Module) else {}
        return of_features | {"reference": fingerprint(self.reference)}

    def teach_selector(self, task: Task, first: bool) -> None:
        """Let the selector learn the task that was learned just now; before the first of all, the reference."""
        if self.selector in TOLD:
            return
        if first:
            self.selector.learn_reference(self.reference)
        self.selector.learn_task(task.train, task.val)

    def choose(self, images: Tensor, task: Task) -> Tensor:
        """The selector "own": as `select`."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it chooses a part itself.")

    def select(self, images: Tensor, task: Task) -> Tensor:
        """Which part answers for each image: LongTensor (B,), the index of a learned task, -1 for the original CLIP."""
        if self.selector == "own":
            return self.choose(images, task)
        if self.selector not in TOLD and self.learned_tasks:
            return self.selector.select(images.to(self.device))
        known = self.learned_tasks.index(task.name) if task.name in self.learned_tasks else -1
        return torch.full((len(images),), len(self.learned_tasks) - 1 if self.selector == "none" else known)

    def scores(self, images: Tensor, task: Task, selected: Tensor | None = None) -> Tensor:
        """`selected`: what `select` gave, where it is known already."""
        selected = self.select(images, task) if selected is None else selected
        images = images.to(self.device)
        parts = selected.unique().tolist()
        if len(parts) == 1:
            return self.among_chosen(self.scores_of(parts[0], images, task), selected, task)
        scores = torch.empty(len(images), len(task.classnames), device=self.device)
        for part in parts:
            rows = selected == part
            scores[rows] = self.scores_of(part, images[rows], task)
        return self.among_chosen(scores, selected, task)

    def owners(self, task: Task) -> Tensor:
        """The learned task that each name belongs to, -1 for names not learned yet: LongTensor (C,)."""
        places = {name: place for place, name in enumerate(self.learned_tasks)}
        return torch.tensor([places.get(part.name, -1) for part in parts_of(task) for _ in part.classnames])

    def among_chosen(self, scores: Tensor, selected: Tensor, task: Task) -> Tensor:
        """Scores (B, C) in which only the names of the task that a selector chose can win, where there are others, too."""
        if not (self.settings.names_of_chosen and isinstance(task, Merged)) or self.selector in TOLD[:2]:
            return scores
        chosen = selected[:, None].cpu()
        others = (chosen >= 0) & (self.owners(task) != chosen)
        return scores.masked_fill(others.to(scores.device), torch.finfo(scores.dtype).min)

    def scores_of(self, part: int, images: Tensor, task: Task) -> Tensor:
        """Scores (B, C) of images by one part: the index of a learned task, or -1 for the original CLIP."""
        raise NotImplementedError(f"{type(self).__name__} does not say how a part of it scores images.")

    def selector_state(self) -> dict[str, Tensor]:
        """What the selector has learned, its names beginning with "selector."."""
        state = {} if self.selector in TOLD else self.selector.selector_state_dict()
        return {f"selector.{k}": v for k, v in state.items()}

    def load_selector_state(self, state: dict[str, Tensor]) -> None:
        """Take over what `selector_state` gave; other names are left alone."""
        if self.selector not in TOLD:
            own = {k.removeprefix("selector."): v for k, v in state.items() if k.startswith("selector.")}
            self.selector.load_selector_state_dict(own)


def _described(selector):
    """A selector of one's own, in a line that `run` knows it by: its class, that code, and its plain choices."""
    plain = {k: v for k, v in sorted(vars(selector).items()) if isinstance(v, (str, int, float, tuple)) and k[0] != "_"}
    choices = ", ".join(f"{k}={v!r}" for k, v in plain.items() if k != "training")
    return f"{type(selector).__name__}({choices}) {code_of(type(selector))}"
