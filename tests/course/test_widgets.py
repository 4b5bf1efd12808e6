"""The explorers: the figures that they bind, what their controls do, and what is left of them without a front end."""

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from nbclient import NotebookClient

from mini_lib import AccuracyMatrix
from mini_lib.course import drawings, widgets


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def texts(axis):
    return [text.get_text() for text in axis.texts if text.get_text()]


@pytest.mark.parametrize(
    "learned, rows, now, once",
    [
        (0, ["70", "60", "40"], [70, 60, 40], [70, 60, 40]),
        (2, ["70", "60", "40", "80", "50", "20", "90", "60", "30"], [90, 60, 30], [80, 60, 40]),
        (3, ["70", "60", "40", "80", "50", "20", "90", "60", "30", "70", "40", "100"], [70, 40, 100], [80, 60, 100]),
    ],
)
def test_the_matrix_grows_by_a_row_a_task(learned, rows, now, once):
    matrix = AccuracyMatrix("abc", [[80, 50, 20], [90, 60, 30], [70, 40, 100]])
    left, right = drawings.matrix_so_far(matrix, learned, [70, 60, 40]).axes
    assert texts(left) == rows
    framed = [patch.get_xy() for patch in left.patches]
    assert framed == [(i, i + 1) for i in range(learned)]  # the zero-shot row is above the matrix
    assert [bar.get_height() for bar in right.patches] == now
    assert right.collections[0].get_offsets()[:, 1].tolist() == once


def test_the_matrix_of_a_run_under_way():
    matrix = AccuracyMatrix("abc", [[80, 50, 20]])
    left, _ = drawings.matrix_so_far(matrix, 1, [70, 60, 40]).axes
    assert texts(left) == ["70", "60", "40", "80", "50", "20"]


def test_only_the_experts_that_answer_have_a_number():
    image_gates = torch.tensor([[0.25, 0.75, 0.0], [0.0, 1.0, 0.0]])
    text_gates = torch.tensor([[0.0, 0.5, 0.5]])
    figure = drawings.who_answers(torch.zeros(3, 8, 8), "a photo of the number two.", image_gates, text_gates)
    _, above, asked, below = figure.axes
    assert texts(above) == ["0.25", "0.75", "1.00"] and texts(below) == ["0.50", "0.50"]
    assert texts(asked) == ["a photo of the\nnumber two."]


@pytest.mark.parametrize(
    "threshold, own, strangers, point",
    [
        (0.35, "2 now refused", "1 now refused", (50, 50)),
        (0.5, "0 now refused", "0 now refused", (75, 100)),  # an error equal to the threshold is accepted
        (0.95, "0 now accepted", "1 now accepted", (100, 100)),
    ],
)
def test_the_threshold_by_hand(threshold, own, strangers, point):
    errors = np.array([0.1, 0.2, 0.4, 0.5, 0.15, 0.3, 0.45, 0.9])
    is_own = np.arange(8) < 4
    images = torch.linspace(-1, 1, 8).view(8, 1, 1, 1).expand(8, 3, 2, 2)
    roc, above, below = drawings.threshold_at_work(errors, is_own, threshold, 0.5, images, most=3).axes
    assert (above.get_title("left"), below.get_title("left")) == (f"own images: {own}", f"strangers: {strangers}")
    usual, now = (dots.get_offsets()[0].tolist() for dots in roc.collections)
    assert usual == [75, 100] and now == list(point)
    x, y = roc.lines[0].get_data()
    assert x.tolist() == [0, 25, 25, 50, 50, 75, 75, 100] and y.tolist() == [25, 25, 50, 50, 75, 75, 100, 100]
    if threshold < 0.5:  # the nearest to the usual threshold flips first, the place of the third image stays white
        strip = above.images[0].get_array()
        expected = [(images[i, 0, 0, 0].item() + 1) / 2 for i in (3, 2)] + [1]
        assert np.allclose([strip[2, 4 * place + 2, 0] for place in range(3)], expected)


def test_an_image_beside_its_names():
    found = pd.DataFrame({"name": ["a star", "x" * 30], "p": [0.75, 0.25], "cosine": [0.5, 0.25]})
    _, bars = drawings.named_image(torch.zeros(3, 4, 4), found).axes
    assert [bar.get_width() for bar in bars.patches] == [75, 25] and texts(bars) == ["0.50", "0.25"]
    assert [label.get_text() for label in bars.get_yticklabels()] == ["a star", "x" * 23 + "…"]
    many = pd.concat([found] * 8, ignore_index=True)
    assert len(drawings.named_image(torch.zeros(3, 4, 4), many).axes[1].patches) == 10


def test_class_names():
    assert widgets.class_names(" a star,a heart ,, ") == ["a star", "a heart"]
    for text in ("", " , "):
        with pytest.raises(ValueError, match="no class name yet"):
            widgets.class_names(text)
    with pytest.raises(ValueError, match="'a star' is there twice"):
        widgets.class_names("a star, a heart, a star")


def test_names_may_be_typed_and_bad_ones_get_a_sentence(shown, capsys):
    explorer = widgets.zero_shot_names(lambda picture, names: (picture, names), ["moon", "dots"], ["a star", "a moon"])
    explorer.controls["names"].value = "dots"
    explorer.controls["picture"].value = "dots"
    assert [figure for figure, _ in shown] == [("moon", ["a star", "a moon"]), ("moon", ["dots"]), ("dots", ["dots"])]
    assert shown[0][1] == "The picture moon, and the probabilities of these names for it: a star, a moon."
    for text, sentence in (("a, a", "'a' is there twice"), ("", "no class name yet")):
        explorer.controls["names"].value = text
        said = capsys.readouterr().out
        assert sentence in said and len(shown) == 3


def test_what_the_model_refuses_is_told_too(shown, capsys):
    def refuse(picture, names):
        raise ValueError("the prompt is longer than CLIP can read.")

    widgets.zero_shot_names(refuse, ["moon"], ["long"])
    assert "longer than CLIP can read" in capsys.readouterr().out and not shown


def test_the_matrix_has_a_slider(shown):
    explorer = widgets.matrix_over_time(lambda learned: learned, 7)
    slider = explorer.controls["learned"]
    assert (slider.min, slider.max) == (0, 7)
    slider.value = 3
    assert [figure for figure, _ in shown] == [7, 3] and "after 3 tasks" in shown[1][1]


def test_routers_images_and_names_are_chosen(shown):
    explorer = widgets.experts(lambda **chosen: chosen, ["r1", "r2"], ["i1", "i2"], ["n1", "n2"])
    for name, value in {"router": "r2", "image": "i2", "name": "n2"}.items():
        explorer.controls[name].value = value
    assert shown[0][0] == {"router": "r1", "image": "i1", "name": "n1"}
    assert shown[-1][0] == {"router": "r2", "image": "i2", "name": "n2"} and len(shown) == 4
    assert shown[-1][1].endswith("routers of r2: for the image i2 and the class name n2.")


def test_the_threshold_has_a_slider(shown):
    explorer = widgets.threshold(lambda **chosen: chosen, ["plain", "relative"], ["digits", "neon"], "neon")
    explorer.controls["factor"].value = 1.5
    assert shown[0][0] == {"score": "plain", "task": "neon", "factor": 0.7}
    assert shown[-1][0] == {"score": "plain", "task": "neon", "factor": 1.5}
    assert "1.50 times the usual threshold" in shown[-1][1]


def test_without_a_front_end_one_line_is_left_of_an_explorer():
    """As papermill and nbval run it: no error, nothing on stderr; the figure is in the widget alone."""
    source = """
import matplotlib.pyplot as plt
from mini_lib.course import widgets

widgets.matrix_over_time(lambda learned: plt.figure(figsize=(1, 1)), 2)
"""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    (output,) = notebook.cells[0].outputs
    assert output.output_type in ("execute_result", "display_data")  # the latter from ipywidgets 7, as in Colab
    assert output.data["text/plain"].startswith("Run this cell in JupyterLab or Colab")
    assert "image/png" not in output.data
    states = notebook.metadata["widgets"]["application/vnd.jupyter.widget-state+json"]["state"].values()
    (figure,) = [shown for state in states for shown in state["state"].get("outputs", [])]
    alt = figure["metadata"]["image/png"]["alt"]
    assert alt == "The accuracy matrix after 2 tasks, and that moment task by task."
