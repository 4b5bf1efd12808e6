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
        mesh: Any = next((drawn for drawn in axis.collections if isinstance(drawn, QuadMesh)), None)
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
