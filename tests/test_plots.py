"""The figures of notebook 08 show the numbers that they are given, each under its name."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import seaborn as sns
from seaborn.utils import relative_luminance

from mini_lib import AccuracyMatrix, plots


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def texts(axis):
    return [text.get_text() for text in axis.texts if text.get_text()]


def test_a_gallery_has_a_framed_matrix_for_each_name():
    rows = [[80, 50, 20], [90, 60, 30], [70, 40, 100]]
    matrices = {
        "first": AccuracyMatrix("abc", rows),
        "second": AccuracyMatrix("abc", rows[:2]),
        "third": AccuracyMatrix("abc", rows),
    }
    figure = plots.matrix_gallery(matrices, columns=2)
    drawn = [axis for axis in figure.axes if axis.get_title()]
    assert [axis.get_title() for axis in drawn] == list(matrices) and not figure.axes[3].axison
    assert texts(drawn[0]) == ["80", "50", "20", "90", "60", "30", "70", "40", "100"] and len(texts(drawn[1])) == 6
    assert [patch.get_xy() for patch in drawn[1].patches] == [(0, 0), (1, 1)]
    tasks = [[label.get_text() for label in axis.get_xticklabels()] for axis in drawn]
    assert tasks == [[], ["a", "b", "c"], ["a", "b", "c"]]  # under the lowest matrix of each column


def test_the_trade_off_names_its_points_from_the_largest_last_down():
    measured = pd.DataFrame(
        {"transfer": [65, 40, 64], "last": [64, 55, 91], "transfer_sd": 1, "last_sd": 2}, list("xyz"), dtype=float
    )
    reported = measured.iloc[:2, :2]
    figure = plots.trade_off({"measured": measured, "reported": reported}, {"x": "still", "y": "moved", "z": "still"})
    left, right = figure.axes
    names = sorted(left.texts, key=lambda text: -text.xyann[1])
    assert [name.get_text() for name in names] == ["z", "x", "y"] and [name.xy for name in names] == [
        (64, 91),
        (65, 64),
        (40, 55),
    ]
    assert (left.get_title(), right.get_title(), len(right.texts)) == ("measured", "reported", 2)
    markers = {container[0].get_xydata()[0].tolist()[0]: container[0].get_marker() for container in left.containers}
    assert markers[65] == markers[64] != markers[40]
    assert all(container.has_yerr for container in left.containers) and not any(c.has_yerr for c in right.containers)
    assert [text.get_text() for text in figure.legends[0].texts] == ["still", "moved"]


def test_a_dot_for_each_pair_of_runs_and_a_stroke_at_the_mean():
    index = pd.MultiIndex.from_product([[1, 2], [0, 1]], names=["order", "seed"])
    last = pd.DataFrame({"a": [-20.0, -22, -18, -24], "b": [0.5, np.nan, np.nan, np.nan]}, index)
    figure = plots.paired_dots({"transfer": last / 10, "last": last}, "base")
    panel = figure.axes[1]
    first, second, means = (line.get_xydata() for line in panel.lines[:3])
    assert [axis.get_title() for axis in figure.axes] == ["Transfer", "Last"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["b", "a"]
    assert sorted(first[first[:, 1] == 1][:, 0]) == [-22, -20] and sorted(second[second[:, 1] == 1][:, 0]) == [-24, -18]
    assert first[first[:, 1] == 0][:, 0].tolist()[0] == 0.5 and means.tolist() == [[0.5, 0], [-21, 1]]
    assert panel.lines[0].get_marker() != panel.lines[1].get_marker()
    low, high = panel.get_xlim()
    assert low < -24 and high > 0.5
    assert [text.get_text() for text in figure.legends[0].texts] == ["order 1", "order 2"]


def test_the_numbers_of_a_heat_map_stand_out_from_every_cell(monkeypatch):
    """Contrast by WCAG 2: (lighter + 0.05) / (darker + 0.05), at least 4.5 to 1, for every colour of the scale."""
    monkeypatch.setattr(plots, "display", lambda *args, **more: None)
    figure, axis = plt.subplots()
    sns.heatmap(np.arange(101.0).reshape(1, 101), vmin=0, vmax=100, cmap="cividis", annot=True, cbar=False, ax=axis)
    plots.show(figure, "all values")
    for value, text in enumerate(axis.texts):
        pair = relative_luminance(plt.get_cmap("cividis")(value / 100)), relative_luminance(text.get_color())
        assert (max(pair) + 0.05) / (min(pair) + 0.05) > 4.5, value
    assert [axis.texts[value].get_color() for value in (0, 30, 70, 100)] == ["white", "white", "black", "black"]
