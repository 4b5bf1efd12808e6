"""The cell to drop a photograph into: both forms of its value, what is drawn, and what is left without a front end."""

import io
from datetime import datetime
from types import SimpleNamespace

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from helpers import silent
from PIL import Image
from torch.utils.data import TensorDataset

from mini_lib import load_clip, load_run, make_method, run
from mini_lib.course.upload import evidence, newest, upload
from mini_lib.ddas import RULES
from mini_lib.methods.predict import predict


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setenv("TQDM_DISABLE", "1")
    yield
    plt.close("all")


@pytest.fixture
def ask(clip, tokenizer, small, tmp_path):
    """ask(...): a run of `analytic` with these settings, loaded."""
    small.reference = TensorDataset(*small.reference[:40])
    for task in small.tasks:
        task.test = TensorDataset(*task.test[:4])

    def loaded(**settings):
        method = make_method("analytic", clip, tokenizer, reference=small.reference, hidden=10, **settings)
        run(method, small, tmp_path / "run", log=silent)
        return load_run(tmp_path / "run", clip, tokenizer, load_clip("tiny", pretrained=None)[1])

    return loaded


@pytest.fixture
def photograph(small):
    """(image as the CLIP sees it, a file of it)."""
    image = small.tasks[0].test[0][0]
    buffer = io.BytesIO()
    Image.fromarray(((image.permute(1, 2, 0) + 1) * 127.5).round().byte().numpy()).save(buffer, "png")
    return image, buffer.getvalue()


def drop(cell, content, version=8, name="p.png"):
    """What the front end does when a file is dropped, in ipywidgets 7 or 8."""
    if version == 8:
        value = ({"name": name, "type": "image/png", "size": len(content), "content": memoryview(content)},)
    else:
        value = {name: {"metadata": {"name": name, "size": len(content)}, "content": content}}
    cell.button = SimpleNamespace(value=value)
    cell.answer()


def test_the_file_uploaded_last_in_both_forms():
    assert newest(()) is newest({}) is None
    assert newest(({"name": "a", "content": memoryview(b"1")}, {"name": "b", "content": memoryview(b"2")})) == (
        "b",
        b"2",
    )
    assert newest({"a": {"content": b"1"}, "b": {"content": b"2"}}) == ("b", b"2")


def test_the_button_calls_the_handler(ask, photograph, shown):
    cell = upload(ask(selector="gaussian"))
    content = photograph[1]
    if ipywidgets.__version__.startswith("7."):
        value = {"p.png": {"metadata": {"name": "p.png"}, "content": content}}
    else:
        file = {"name": "p.png", "type": "image/png", "size": len(content), "content": memoryview(content)}
        value = (file | {"last_modified": datetime.now()},)
    cell.button.set_trait("value", value)
    assert len(shown) == 1 and shown[0][1].startswith("p.png: ")


@pytest.mark.parametrize("version", [7, 8])
def test_a_photograph_gets_the_answer_of_predict_and_the_bars_of_the_selector(ask, photograph, shown, version):
    learned = ask(selector="gaussian")
    image, content = photograph
    drop(upload(learned), content, version)
    (figure, alt), (answer,) = shown[0], predict(learned, image[None])
    picture, bars, names = figure.axes
    assert (
        picture.get_title() == f"{answer.name}, {answer.percent:.0f} %" and bars.get_title() == f"{answer.task} answers"
    )
    assert picture.images[0].get_array().shape == (32, 32, 3)
    distances = learned.method.selector.distances(image[None])[0]
    quotients = (distances[1:] / distances[0]).log()  # what the selector compares with its limits
    assert [bar.get_width() for bar in bars.patches] == pytest.approx(quotients.tolist())
    tasks = [task.name for task in learned.tasks]
    assert [label.get_text() for label in bars.get_yticklabels()] == tasks
    limits = bars.collections[0].get_offsets()
    assert limits[:, 0].tolist() == pytest.approx(learned.method.selector.limits.tolist())
    coloured = [
        name for name, bar in zip(tasks, bars.patches) if bar.get_facecolor() != bars.patches[-1].get_facecolor()
    ]
    assert coloured == ([answer.task] if answer.task in tasks[:-1] else [])
    assert names.patches[0].get_width() == pytest.approx(answer.percent, abs=1e-3)
    assert names.get_yticklabels()[0].get_text() == answer.name
    assert alt.startswith(f"p.png: {answer.name}, {answer.percent:.0f} %; {answer.task} answers. log(distance")


def test_the_bars_of_the_gaussian_selector_decide_as_it_does(ask, small):
    learned, decided = ask(selector="gaussian"), set()
    for image in torch.cat([small.reference[:6][0], *(task.test[:3][0] for task in small.tasks)]):
        seen = evidence(learned, image)
        best = int(np.argmin(seen.values))
        chosen = int(learned.method.selector.select(image[None])[0])
        assert chosen == (best if seen.values[best] <= seen.limits[best] else -1)
        decided.add(chosen)
    assert len(decided) > 1


@pytest.mark.parametrize("rule", sorted(RULES))
def test_the_bars_of_ddas_decide_as_its_rule_does(ask, small, rule):
    """The least of those within their limits, by what is drawn; the reference's bar stands for the original CLIP."""
    learned = ask(ddas={"iterations": 20, "rule": rule, "threshold": 0.5 if rule == "threshold" else None})
    known, decided = [task.name for task in learned.tasks], set()
    for image in torch.cat([small.reference[:6][0], *(task.test[:3][0] for task in small.tasks)]):
        seen = evidence(learned, image)
        within = [(value, name) for name, value, limit in zip(*seen[:3]) if rule != "limits" or value <= limit]
        value, name = min(within, default=(np.inf, None))
        if rule != "limits" and value > seen.limits[seen.names.index(name)]:
            name = None
        chosen = int(learned.method.selector.select(image[None])[0])
        assert (known[chosen] if chosen >= 0 else None) == (name if name in known else None)
        decided.add(chosen)
    assert len(decided) > 1


def test_a_method_that_is_told_the_task_has_a_list_of_them(ask, photograph, shown):
    cell = upload(ask(selector="known"))
    assert cell.task.options == tuple(task.name for task in cell.learned.tasks)
    cell.task.value = cell.learned.tasks[1].name
    assert not shown  # nothing was dropped yet
    drop(cell, photograph[1])
    (figure, alt) = shown[0]
    assert len(figure.axes) == 2 and f"; {cell.learned.tasks[1].name} answers." in alt
    drop(upload(cell.learned, names=["a dog", "a cat"]), photograph[1])
    assert sorted(label.get_text() for label in shown[1][0].axes[1].get_yticklabels()) == ["a cat", "a dog"]


def test_what_is_no_photograph_gets_a_sentence(ask, shown, capsys):
    drop(upload(ask(selector="gaussian")), b"GIF89a", name="broken.gif")
    said = capsys.readouterr().out
    words = "broken.gif cannot be read as an image (it is no kind of image that Pillow decodes): drop another one."
    assert words in said and not shown


def test_without_a_front_end_one_line_is_left(ask):
    """As of an Explorer: see test_widgets.py."""
    assert repr(upload(ask(selector="gaussian"))) == "Run this cell in JupyterLab or Colab to drop a photograph here."
