"""Figures in one style: colour-blind-safe, legible at 100 %, each shown with an alternative text.

Every function returns a matplotlib figure; `show` displays it. Used in all notebooks.
"""

import io
from collections.abc import Sequence
from textwrap import wrap
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from IPython.display import display
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from PIL import Image
from seaborn.utils import relative_luminance
from torch import Tensor

from .metrics import AccuracyMatrix

sns.set_theme(style="whitegrid", palette="colorblind", font_scale=0.95, rc={"figure.constrained_layout.use": True})


def show(figure: Figure, alt: str) -> None:
    """Display a figure as PNG with an alternative text for readers who cannot see it, and close it.

    A palette of 256 colours keeps the notebooks small.
    """
    _contrast_numbers(figure)
    buffer, small = io.BytesIO(), io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100, facecolor="white")
    Image.open(buffer).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(small, "png", optimize=True)
    plt.close(figure)
    display({"image/png": small.getvalue(), "text/plain": alt}, raw=True, metadata={"image/png": {"alt": alt}})


def _contrast_numbers(figure):
    """Make the numbers of heat-maps black or white, whichever stands out more: seaborn leaves white on pale cells."""
    for axis in figure.axes:
        mesh = next((drawn for drawn in axis.collections if isinstance(drawn, QuadMesh)), None)
        for text in axis.texts if mesh else ():
            column, row = map(int, text.get_position())
            luminance = relative_luminance(mesh.to_rgba(mesh.get_array()[row, column]))
            text.set_color("black" if luminance > 0.179 else "white")  # at 0.179 both contrasts are 4.6 to 1


def image_grid(rows: Sequence[Sequence[Tensor] | Tensor], titles: Sequence[str], zoom: float = 1.5) -> Figure:
    """Images in labelled rows. rows: a list of uint8 arrays or float tensors in [-1, 1], (N, 3, H, W)."""
    count = max(len(row) for row in rows)
    figure, axes = plt.subplots(
        len(rows), count, figsize=(zoom * 0.42 * count + 1.2, zoom * 0.42 * len(rows)), squeeze=False
    )
    for line, row, title in zip(axes, rows, titles):
        for axis in line:
            axis.axis("off")
        for axis, image in zip(line, row):
            axis.imshow(((image.permute(1, 2, 0) + 1) / 2).clamp(0, 1))
        line[0].text(-0.15, 0.5, title, transform=line[0].transAxes, ha="right", va="center", fontsize=11)
    return figure


def _draw_matrix(axis, matrix, fontsize, frame, **colour_bar):
    """An AccuracyMatrix as a heat-map; a frame of that line width around each cell of the diagonal."""
    sns.heatmap(
        matrix.frame(),
        ax=axis,
        vmin=0,
        vmax=100,
        cmap="cividis",
        annot=True,
        fmt=".0f",
        square=True,
        annot_kws={"fontsize": fontsize},
        **colour_bar,
    )
    for i in range(matrix.done):
        axis.add_patch(plt.Rectangle((i, i), 1, 1, fill=False, edgecolor="white", linewidth=frame))


def matrix_heatmaps(matrices: dict[str, AccuracyMatrix], unit: str = "accuracy (%)") -> Figure:
    """Matrices side by side, one colour scale; the diagonal is framed. matrices: name -> AccuracyMatrix"""
    size = len(next(iter(matrices.values())).tasks)
    shape = (0.48 * size * len(matrices) + 1.8, 0.45 * size + 1.4)
    figure, axes = plt.subplots(1, len(matrices), figsize=shape, squeeze=False)
    for axis, (name, matrix) in zip(axes[0], matrices.items()):
        last = axis is axes[0, -1]
        _draw_matrix(axis, matrix, fontsize=9, frame=2, cbar=last, cbar_kws={"label": unit, "shrink": 0.7})
        axis.set(title=name, xlabel="tested on", ylabel="after learning" if axis is axes[0, 0] else "")
        axis.tick_params(axis="x", rotation=60)
        axis.tick_params(axis="y", rotation=0)
        if axis is not axes[0, 0]:
            axis.set_yticks([])
    return figure


def matrix_gallery(matrices: dict[str, AccuracyMatrix], columns: int = 4) -> Figure:
    """Many matrices in small, in rows of `columns`, in one colour scale; percent. matrices: name -> AccuracyMatrix"""
    rows, size = -(-len(matrices) // columns), len(next(iter(matrices.values())).tasks)
    shape = ((0.31 * size + 0.25) * columns + 1.4, (0.31 * size + 0.35) * rows + 0.8)
    figure, axes = plt.subplots(rows, columns, figsize=shape, squeeze=False)
    for axis in axes.flat[len(matrices) :]:
        axis.axis("off")
    for place, (axis, (name, matrix)) in enumerate(zip(axes.flat, matrices.items())):
        _draw_matrix(axis, matrix, fontsize=8, frame=1.5, cbar=False)
        axis.set_title("\n".join(wrap(name, 24)), fontsize=10)
        axis.set(xlabel="", ylabel="")
        if place % columns:
            axis.set_yticks([])
        if place + columns < len(matrices):
            axis.set_xticks([])
        axis.tick_params(axis="x", rotation=90)
        axis.tick_params(axis="y", rotation=0)
    figure.supxlabel("tested on", fontsize=11)
    figure.supylabel("after learning", fontsize=11)
    return figure


def trade_off(panels: dict[str, pd.DataFrame], groups: dict[Any, str]) -> Figure:
    """Transfer (across) against Last (up), a point a method; the best corner is top right. Panels side by side.

    panels: title -> table with a row a method and columns transfer and last, and if known transfer_sd and last_sd, drawn
    as bars. groups: name of a method -> its group, which has a colour and a marker. The names stand at the right of a
    panel from the largest Last down, each joined to its point.
    """
    kinds = list(dict.fromkeys(groups.values()))
    looks = dict(zip(kinds, zip(("C0", "C1", "C2", "C3"), "osD^")))
    shape = (3.2 + 4.2 * len(panels), 0.25 * max(map(len, panels.values())) + 1.8)
    figure, axes = plt.subplots(1, len(panels), figsize=shape, squeeze=False)
    for axis, (title, table) in zip(axes[0], panels.items()):
        for name, row in table.iterrows():
            colour, marker = looks[groups[name]]
            bars = {"xerr": row.transfer_sd, "yerr": row.last_sd} if "transfer_sd" in table else {}
            axis.errorbar(
                row.transfer,
                row["last"],
                fmt=marker,
                color=colour,
                markeredgecolor="white",
                ecolor="silver",
                elinewidth=1,
                **bars,
            )
        axis.margins(0.08)
        table = table.sort_values("last")
        low, high = axis.get_ylim()
        places = np.linspace(low, high, len(table) + 2)[1:-1]
        for place, (name, row) in zip(places, table.iterrows()):
            axis.annotate(
                name,
                (row.transfer, row["last"]),
                (1.06, place),
                textcoords=axis.get_yaxis_transform(),
                va="center",
                fontsize=9,
                arrowprops={"arrowstyle": "-", "color": "grey", "linewidth": 0.6, "relpos": (0, 0.5), "shrinkB": 3},
            )
        axis.set(title=title, xlabel="Transfer (%)", ylabel="Last (%)")
    dots = [plt.Line2D([], [], color=looks[k][0], marker=looks[k][1], linestyle="") for k in kinds]
    figure.legend(dots, kinds, loc="outside lower center", ncols=len(kinds), frameon=False)
    return figure


def paired_dots(differences: dict[str, pd.DataFrame], base: str) -> Figure:
    """Methods minus `base`, a dot a run and a stroke at the mean; a panel a metric, the axis stretched around zero.

    differences: metric -> table in points, a row a run with the index (order, seed), a column a method.
    """
    names = list(next(iter(differences.values())))[::-1]
    shape = (3.1 * len(differences) + 3, 0.28 * len(names) + 1.5)
    figure, axes = plt.subplots(1, len(differences), figsize=shape, sharey=True, squeeze=False)
    for axis, (metric, runs) in zip(axes[0], differences.items()):
        for (order, part), marker in zip(runs.groupby("order"), "oD"):
            rows, points = np.indices(part[names].shape)[1], part[names]
            axis.plot(points.to_numpy().ravel(), rows.ravel(), marker, alpha=0.6, markersize=5, label=f"order {order}")
        axis.plot(runs[names].mean(), range(len(names)), "|", color="black", markersize=12, markeredgewidth=2)
        axis.axvline(0, color="black", linewidth=0.8)
        axis.set(title=metric.capitalize(), xscale="symlog")
        axis.set_xticks([-30, -10, -3, -1, 0, 1, 3, 10, 30], ["-30", "-10", "-3", "-1", "0", "1", "3", "10", "30"])
        axis.set_xlim(1.2 * min(runs.min(axis=None), -1), 1.2 * max(runs.max(axis=None), 1))
    axes[0, 0].set_yticks(range(len(names)), names)
    figure.supxlabel(f"points more or less than {base}", fontsize=11)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    if len(labels) > 1:
        figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
    return figure


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


def accuracy_over_time(
    matrices: dict[str, AccuracyMatrix], zero_shot: Sequence[float] | np.ndarray | None = None
) -> Figure:
    """One small panel a task: its accuracy after each task learned. zero_shot: accuracies before any training."""
    first = next(iter(matrices.values()))
    figure, axes = plt.subplots(1, len(first.tasks), figsize=(1.55 * len(first.tasks) + 1, 2.6), sharey=True)
    for j, (axis, task) in enumerate(zip(np.atleast_1d(axes), first.tasks)):
        for name, matrix in matrices.items():
            axis.plot(range(1, matrix.done + 1), matrix.values[: matrix.done, j], marker="o", markersize=3, label=name)
        if zero_shot is not None:
            axis.axhline(zero_shot[j], color="grey", linestyle=":", label="zero-shot")
        axis.axvline(j + 1, color="black", linewidth=0.8, alpha=0.5)
        axis.set(title=task, ylim=(0, 102), xticks=range(1, len(first.tasks) + 1, 2))
    np.atleast_1d(axes)[0].set_ylabel("accuracy (%)")
    figure.supxlabel("tasks learned (the vertical line: this one)", fontsize=10)
    handles, labels = np.atleast_1d(axes)[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(handles), frameon=False)
    return figure


def expert_usage(counts: np.ndarray, frozen: np.ndarray, title: str) -> Figure:
    """Share of samples that each expert got in each block, in percent; a dot marks frozen experts.

    counts (blocks, E) as `MoEAdapter.counts`, frozen (blocks, E) as `MoEAdapter.frozen`.
    """
    share = 100 * counts / counts.sum(1, keepdims=True).clip(min=1)
    figure, axis = plt.subplots(figsize=(0.5 * counts.shape[1] + 2.2, 0.42 * counts.shape[0] + 1.2))
    sns.heatmap(share, ax=axis, vmin=0, cmap="cividis", annot=True, fmt=".0f", cbar=False, annot_kws={"fontsize": 9})
    for block, expert in zip(*np.nonzero(frozen)):
        axis.plot(expert + 0.87, block + 0.17, marker="o", markersize=4, color="white", markeredgecolor="black")
    axis.set(title=title, xlabel="expert", ylabel="block")
    axis.tick_params(axis="y", rotation=0)
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


def how_unknown(values: dict[str, Tensor], limits: Sequence[float], tasks: Sequence[str], label: str) -> Figure:
    """How unknown each task's images (rows) seem to each learned task (panels), with the limits.

    values: task -> (N, T), larger for less known; limits (T,); label: what the values are.
    """
    figure, axes = plt.subplots(1, len(limits), figsize=(max(1.75 * len(limits) + 1, 6), 3), sharey=True, squeeze=False)
    for t, axis in enumerate(axes[0]):
        groups = [values[name][:, t] for name in tasks]
        colours = ["C1" if j == t else "lightgrey" for j in range(len(tasks))]
        sns.boxplot(dict(zip(tasks, groups)), orient="h", width=0.6, fliersize=1.5, palette=colours, ax=axis)
        axis.axvline(limits[t], color="black", linewidth=1)
        axis.set(title=tasks[t], xlabel="", ylabel="")
    figure.supxlabel(f"{label}; the line is the limit", fontsize=10)
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
