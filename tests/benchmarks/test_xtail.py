"""X-TAIL: ten data sets, all their names at once, on drawn data in the true layout."""

import numpy as np
import pytest
import torch
from helpers import silent, split_folder

from mini_lib import make_method, run, xtail
from mini_lib.benchmarks import fixtures
from mini_lib.benchmarks.base import Merged
from mini_lib.benchmarks.xtail import ORDERS


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("xtail")
    fixtures.write(folder, classes=3, train=6, test=2)
    split_folder(folder, folder / "splits")
    return folder


def test_ten_data_sets_one_template_and_the_names_of_all(root):
    with fixtures.unverified():
        stream, turned = (xtail(root, order, shots=2, reference=None) for order in (1, 2))
    assert [task.name for task in stream.tasks] == list(ORDERS[1]) and "cifar100" not in ORDERS[1]
    assert [task.name for task in turned.tasks] == list(ORDERS[2]) and sorted(ORDERS[1]) == sorted(ORDERS[2])
    assert stream.settings["order"] == 1 and turned.settings["order"] == 2 and stream.candidates == "all"
    assert all(task.templates == ["a photo of a {}."] and task.val for task in stream.tasks)
    assert all(np.bincount(task.train.labels).tolist() == [2] * 3 for task in stream.tasks)
    tested = stream.tested(0)
    assert all(isinstance(task, Merged) and len(task.classnames) == 30 for task in tested)
    assert {label for _, label in tested[4].test} <= {12, 13, 14}  # the fifth task's own names
    assert stream.tested_among("all", 3)[4].classnames == tested[4].classnames
    assert stream.tested_among("own", 3) == stream.tasks


def test_a_run_is_judged_among_all_names(root, clip, tokenizer, tmp_path):
    with fixtures.unverified():
        stream = xtail(root, shots=2, reference=None)
    stream.tasks = stream.tasks[:3]
    for task in stream.tasks:  # as small as the CLIP of the tests takes them
        for part in (task.train, task.val, task.test):
            part.transform = lambda image: torch.zeros(3, 32, 32)
    matrix = run(make_method("zero-shot", clip, tokenizer), stream, tmp_path, log=silent)
    assert (tmp_path / "settings.json").read_text().count('"candidates": "all"') == 1
    with torch.no_grad():
        best = make_method("zero-shot", clip, tokenizer).scores(torch.zeros(1, 3, 32, 32), stream.tested(0)[0]).argmax()
    right = [100 * np.mean([label == best for _, label in task.test]) for task in stream.tested(0)]
    assert matrix.values[0].tolist() == pytest.approx(right)


def test_what_is_refused(root, tmp_path):
    with pytest.raises(ValueError, match="order 3 is unknown: X-TAIL has the orders .1, 2."):
        xtail(root, 3)
    with pytest.raises(ValueError, match="splits folder .* does not exist"):
        xtail(tmp_path)
