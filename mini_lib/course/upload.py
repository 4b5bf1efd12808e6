"""A cell to drop a photograph into: what a finished run makes of it, and why. Used in notebook 15."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import torch
from IPython.display import clear_output
from ipywidgets import Dropdown, FileUpload, Output, VBox
from matplotlib.figure import Figure
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from .. import plots
from ..benchmarks.upright import Upright
from ..benchmarks.verify import UNKNOWN
from ..ddas import DDAS
from ..methods.loading import LearnedRun
from ..methods.predict import CLIP, ORIGINAL, check, choose, judge
from ..selectors import GaussianSelector, relative
from .widgets import STYLE

MOST = 8  # names whose probabilities are drawn


def upload(learned: LearnedRun, names: Sequence[str] | None = None) -> "Upload":
    """A button that takes a photograph; below it the picture, the distances to each task, the decision and the answer.

    learned: what `load_run` gave. names: candidates other than those of `predict`. Where the method has to be told the task,
    there is a list of them.
    """
    return Upload(learned, names)


class Upload(VBox):
    """What `upload` gives: controls, and below them the figure of the photograph that was dropped last."""

    def __init__(self, learned: LearnedRun, names: Sequence[str] | None = None):
        self.learned, self.names, self.output = learned, names, Output()
        self.button = FileUpload(
            accept="image/*", multiple=False, description="a photograph", layout={"width": "260px"}
        )
        known = [task.name for task in learned.tasks]
        self.task = Dropdown(options=known, description="task", **STYLE) if learned.method.knows_tasks else None
        controls = [self.button] if self.task is None else [self.task, self.button]
        check(learned, self.task and known[0], names)
        super().__init__([*controls, self.output])
        for control in controls:
            control.observe(self.answer, "value")

    def answer(self, change: Any = None) -> None:
        """Show what the run says of the photograph; a sentence in the place of the figure where it cannot be read."""
        found = newest(self.button.value)
        if found is None:
            return
        with self.output:
            clear_output(wait=True)
            try:
                figure, alt = explain(self.learned, *found, self.task and self.task.value, self.names)
            except ValueError as error:
                print(error)
            else:
                plots.show(figure, alt)

    def __repr__(self) -> str:  # what is seen where there are no controls
        return "Run this cell in JupyterLab or Colab to drop a photograph here."


def newest(value: Any) -> tuple[str, bytes] | None:
    """Name and content of the file uploaded last: {name: {"content"}} in ipywidgets 7, ({"name", "content"},) in 8."""
    files = [{"name": name, **file} for name, file in value.items()] if isinstance(value, Mapping) else list(value)
    return (files[-1]["name"], bytes(files[-1]["content"])) if files else None


class Evidence(NamedTuple):
    """What a selector looks at: a value a row of names, the limit of each, and what is measured; the least value wins."""

    names: list[str]
    values: list[float]
    limits: list[float]
    what: str


@torch.no_grad()
def evidence(learned: LearnedRun, image: Tensor) -> Evidence | None:
    """What the selector makes of one image (3, H, W); None for a selector of another kind, and where there is none."""
    selector, tasks = getattr(learned.method, "selector", None), [task.name for task in learned.tasks]
    if isinstance(selector, GaussianSelector):
        distances = selector.distances(image[None])
        return Evidence(
            tasks, relative(distances)[0].tolist(), selector.limits.tolist(), "log(distance / background's)"
        )
    if not isinstance(selector, DDAS):
        return None
    errors = selector.errors(image[None])[0]
    if selector.rule == "threshold":
        limits = [float(selector.threshold or 0)] * len(errors)
        return Evidence(["reference", *tasks], errors.tolist(), limits, "error")
    quotients, limits = errors[1:] / errors[0], selector.limits
    if selector.rule == "ratio":  # the least part of the limit wins
        return Evidence(
            tasks, (quotients / limits).tolist(), [1.0] * len(tasks), "error, as a part of the task's limit"
        )
    return Evidence(tasks, quotients.tolist(), limits.tolist(), "error, relative to the reference's")


def explain(
    learned: LearnedRun, name: str, content: bytes, task: str | None = None, names: Sequence[str] | None = None
) -> tuple[Figure, str]:
    """The figure of what a run says of a picture, and its alternative text. name, content: of the file.

    Raises ValueError for a file that cannot be read as an image, and where `learned` has no preprocessing.
    """
    if learned.preprocess is None:
        raise ValueError(
            "how pictures become tensors is not known: pass load_run the preprocess= that load_clip returned."
        )
    picture, image = _read(name, content, learned.preprocess)
    part = int(choose(learned, image[None], task)[0])
    candidates, probabilities = judge(learned, image[None], part, names)
    sure, best = probabilities[0].sort(descending=True)
    best = [candidates[i] for i in best.tolist()]
    answer = f"{best[0]}, {100 * float(sure[0]):.0f} %"
    chosen = learned.tasks[part].name if part >= 0 else ORIGINAL if part == CLIP else ""
    by = f"{chosen} answers" if chosen else "no task was chosen"
    seen = None if task else evidence(learned, image)
    widths = [1, 1.3, 1.3] if seen else [1, 1.3]
    figure, axes = plt.subplots(1, len(widths), figsize=(3.4 * sum(widths), 3.2), gridspec_kw={"width_ratios": widths})
    axes[0].imshow(picture)
    axes[0].set_axis_off()
    axes[0].set_title(answer)
    if seen:
        _draw_evidence(axes[1], seen, chosen)
        axes[1].set_title(by)
    _draw_bars(axes[-1], best[:MOST], [100 * p for p in sure[:MOST].tolist()])
    axes[-1].set(xlabel="probability (%)", xlim=(0, 100), title="" if seen else by)
    told = "; ".join(f"{n} {v:.3g}, limit {limit:.3g}" for n, v, limit in zip(*seen[:3])) if seen else ""
    return figure, f"{name}: {answer}; {by}.{f' {seen.what}: {told}.' if seen else ''}"


def _read(name, content, preprocess):
    """The picture as one sees it, made small, and as the CLIP sees it (3, H, W)."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "photograph")
        file.write_bytes(content)
        try:
            picture: Image.Image = Upright([file], [0], lambda image: image)[0][0]  # type: ignore
            image = Upright([file], [0], preprocess)[0][0]
        except ValueError as error:
            cause = error.__cause__
            why = UNKNOWN if isinstance(cause, UnidentifiedImageError) else cause  # Pillow names the copy
            raise ValueError(f"{name} cannot be read as an image ({why}): drop another one.") from error
    picture.thumbnail((480, 480))
    return picture, image


def _draw_evidence(axis, seen, chosen):
    """A bar for each task, its limit as a line across; that of the task that was chosen has a colour."""
    _draw_bars(axis, seen.names, seen.values, ["C0" if name == chosen else "0.75" for name in seen.names])
    axis.scatter(seen.limits, range(len(seen.names)), marker="|", s=200, color="C3", label="limit", zorder=3)
    axis.set(xlabel=seen.what)
    axis.legend(loc="best")


def _draw_bars(axis, names, values, colours: str | list[str] = "C0"):
    axis.barh(range(len(names)), values, color=colours)
    axis.set_yticks(range(len(names)), [name if len(name) <= 24 else name[:23] + "…" for name in names])
    axis.invert_yaxis()
    axis.grid(axis="y", visible=False)
