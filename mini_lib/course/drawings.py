"""Drawings of one notebook each: what its explorers show, and the sketch of the method."""

from collections.abc import Sequence
from textwrap import wrap

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from torch import Tensor

from ..metrics import AccuracyMatrix


def matrix_so_far(matrix: AccuracyMatrix, learned: int, zero_shot: Sequence[float]) -> Figure:
    """The accuracy matrix after its first `learned` tasks, zero-shot on top; beside it, that moment task by task.

    zero_shot (T,) in percent. On the right a bar is the accuracy now. Its mark is what the task once had: right after
    it was learned, or, if that is still to come, zero-shot.
    """
    size = len(matrix.tasks)
    rows = np.vstack([zero_shot, matrix.values])  # (1 + T, T)
    rows[learned + 1 :] = np.nan
    once = np.where(np.arange(size) < learned, matrix.values.diagonal(), zero_shot)
    colours = ["C0"] * (learned - 1) + ["C1"] * (learned > 0) + ["C2"] * (size - learned)
    shape = (1.05 * size + 2.4, 0.42 * size + 1.4)
    figure, (left, right) = plt.subplots(1, 2, figsize=shape, width_ratios=[1.5, 1])
    sns.heatmap(
        rows,
        ax=left,
        vmin=0,
        vmax=100,
        cmap="cividis",
        annot=True,
        fmt=".0f",
        cbar=False,
        annot_kws={"fontsize": 9},
        xticklabels=matrix.tasks,
        yticklabels=["zero-shot", *matrix.tasks],
    )
    left.axhline(1, color="white", linewidth=6)  # what is above this line is not part of the matrix
    for i in range(learned):
        left.add_patch(plt.Rectangle((i, i + 1), 1, 1, fill=False, edgecolor="white", linewidth=3))
    left.set(xlabel="tested on", ylabel="after learning")
    left.tick_params(axis="y", rotation=0)
    left.grid(False)
    right.bar(range(size), rows[learned], color=colours)
    mark = right.scatter(range(size), once, marker="_", s=330, color="black", linewidth=2.5, zorder=3)
    right.set(ylim=(0, 102), ylabel="accuracy (%)", title=f"tasks learned: {learned}")
    right.set_xticks(range(size), matrix.tasks)
    for axis in (left, right):
        axis.tick_params(axis="x", rotation=45)
    bars = [plt.Rectangle((0, 0), 1, 1, color=colour) for colour in ("C0", "C1", "C2")]
    names = ["old", "just learned", "unseen", "once"]
    figure.legend([*bars, mark], names, loc="outside upper right", ncols=4, frameon=False)
    return figure


def who_answers(image: Tensor, prompt: str, image_gates: np.ndarray, text_gates: np.ndarray) -> Figure:
    """The gates (blocks, E) of one image (3, H, W), and below of one prompt: a row a block, a column an expert."""
    heights = [len(image_gates), len(text_gates)]
    shape = (0.46 * image_gates.shape[1] + 2.8, 0.38 * sum(heights) + 1.5)
    figure, axes = plt.subplots(2, 2, figsize=shape, width_ratios=[1, 3.6], height_ratios=heights)
    for (asked, answers), gates, tower in zip(axes, (image_gates, text_gates), ("image", "text")):
        asked.axis("off")
        shown = np.where(gates > 0, np.char.mod("%.2f", gates), "")  # experts that do not answer stay blank
        sns.heatmap(
            gates,
            ax=answers,
            vmin=0,
            vmax=1,
            cmap="cividis",
            annot=shown,
            fmt="",
            cbar=False,
            annot_kws={"fontsize": 9},
        )
        answers.set(ylabel=f"{tower} block")
        answers.tick_params(axis="y", rotation=0)
    axes[0, 0].imshow(((image.permute(1, 2, 0) + 1) / 2).clamp(0, 1), interpolation="nearest")
    axes[1, 0].text(0.5, 0.5, "\n".join(wrap(prompt, 16)), ha="center", va="center", fontsize=11)
    axes[1, 1].set_xlabel("expert")
    return figure


def threshold_at_work(
    errors: np.ndarray, own: np.ndarray, threshold: float, usual: float, images: np.ndarray, most: int = 8
) -> Figure:
    """What a threshold does: the ROC curve with its working point, and the images that flip, compared with `usual`.

    errors (N,) under one autoencoder, accepted if at most the threshold; own (N,) bool, its own images, the others are
    strangers; all NumPy arrays. images (N, 3, H, W). Drawn are the `most` that flip first, of each kind.
    """
    figure = plt.figure(figsize=(9.6, 3.2))
    grid = figure.add_gridspec(2, 2, width_ratios=[1, 1.7])
    roc, strips = figure.add_subplot(grid[:, 0]), [figure.add_subplot(grid[row, 1]) for row in (0, 1)]

    def accepted(kind, values):
        return 100 * np.searchsorted(np.sort(errors[kind]), values, side="right") / kind.sum()

    roc.plot(accepted(~own, np.sort(errors)), accepted(own, np.sort(errors)), color="black", linewidth=1.5)
    for value, colour, name in ((usual, "white", "usual"), (threshold, "black", "now")):
        point = accepted(~own, value), accepted(own, value)
        roc.scatter(*point, s=70, color=colour, edgecolor="black", zorder=3, label=f"{name}: {value:.3f}")
    roc.set(xscale="symlog", xlim=(-0.1, 105), ylim=(0, 103), ylabel="own images accepted (%)")
    roc.set_xlabel("strangers accepted (%), logarithmic", fontsize=10)
    roc.set_xticks([0, 1, 10, 100], ["0", "1", "10", "100"])
    roc.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, frameon=False, title="threshold")
    flipped = (errors <= threshold) != (errors <= usual)
    for axis, kind, name in zip(strips, (own, ~own), ("own images", "strangers")):
        places = np.flatnonzero(flipped & kind)
        places = places[np.abs(errors[places] - usual).argsort()]
        strip = np.ones((most, *images.shape[1:]))  # white
        strip[: len(places)] = images[places[:most]]
        strip = np.pad(strip, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=1)  # white between the images
        axis.imshow((np.concatenate(strip, axis=2).transpose(1, 2, 0).clip(-1, 1) + 1) / 2)
        axis.set_title(f"{name}: {len(places)} now {'accepted' if threshold > usual else 'refused'}", loc="left")
        axis.axis("off")
    return figure


def named_image(image: Tensor, found: pd.DataFrame, most: int = 10) -> Figure:
    """An image (3, H, W) beside the names it was given. found: columns name, p and cosine, the likeliest first."""
    found = found.head(most)
    figure, (left, right) = plt.subplots(1, 2, figsize=(7, 0.32 * len(found) + 1.3), width_ratios=[1, 2.4])
    left.imshow(((image.permute(1, 2, 0) + 1) / 2).clamp(0, 1), interpolation="nearest")
    left.axis("off")
    right.barh(range(len(found)), 100 * found["p"], color="C0", height=0.65)
    right.set_yticks(range(len(found)), [name if len(name) < 25 else name[:23] + "…" for name in found["name"]])
    for i, cosine in enumerate(found["cosine"]):
        right.text(104, i, f"{cosine:.2f}", va="center", fontsize=10)
    right.set(xlim=(0, 122), xticks=[0, 50, 100], xlabel="probability (%); at the right the cosine")
    right.invert_yaxis()
    right.grid(axis="y", visible=False)  # no line through the cosines
    return figure


def method_sketch() -> Figure:
    """The whole method in one drawing: selector, one router a task, experts beside a frozen block, the original CLIP."""
    figure, axis = plt.subplots(figsize=(9.2, 3.4))
    frozen, trained, plain = "#dddddd", "#a6cee3", "white"

    def box(x, y, width, height, text, colour):
        axis.add_patch(plt.Rectangle((x, y), width, height, facecolor=colour, edgecolor="black", linewidth=1))
        axis.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=10)

    def arrow(start, end, **style):
        axis.annotate("", end, start, arrowprops={"arrowstyle": "->", "linewidth": 1.2, "color": "black", **style})

    box(0, 1.5, 1.1, 1.0, "image", plain)
    box(1.8, 1.5, 1.5, 1.0, "DDAS:\nwhose kind?", trained)
    arrow((1.1, 2.0), (1.8, 2.0))
    for i in range(3):
        box(4.5, 4.2 - i * 0.8, 1.4, 0.6, f"router {i + 1}", trained)
        arrow((3.3, 2.2), (4.5, 4.5 - i * 0.8), color="black" if i == 1 else "silver")
    for i in range(4):
        box(7.2, 4.4 - i * 0.6, 1.5, 0.46, f"expert {i + 1}", trained)
    for i, gate, height in ((0, "0.7", 4.35), (3, "0.3", 2.98)):
        arrow((5.9, 3.7), (7.2, 4.63 - i * 0.6))
        axis.text(6.4, height, gate, fontsize=10, ha="center", va="center")  # beside the middle of its arrow
        arrow((8.7, 4.63 - i * 0.6), (9.55, 3.3 if i == 0 else 3.1))
    axis.text(9.75, 3.15, "+", fontsize=18, ha="center", va="center")
    box(7.2, 1.75, 1.5, 0.65, "frozen block", frozen)
    arrow((8.7, 2.07), (9.6, 2.95))
    box(7.2, 0.45, 1.5, 0.65, "frozen block", frozen)
    arrow((3.3, 1.9), (7.2, 2.07))
    arrow((3.3, 1.6), (7.2, 0.8), linestyle="--")
    axis.text(
        4.9, 0.5, "nothing learned looks like this:\nthe original CLIP alone", fontsize=10, ha="center", va="center"
    )
    for start, y in ((9.95, 3.15), (8.7, 0.78)):
        arrow((start, y), (10.7, y))
        axis.text(10.8, y, "next block", fontsize=10, va="center")
    axis.text(0, 0.5, "blue: trained\ngrey: frozen", fontsize=10, va="center")
    axis.set(xlim=(-0.1, 12.1), ylim=(0.2, 5.0))
    axis.axis("off")
    return figure
