"""The short search for a learning rate: on validation images, in a tenth of the steps."""

import re
from copy import deepcopy
from dataclasses import replace

import pytest
from torch import nn

from mini_lib import evaluate, make_method
from mini_lib.methods import tuning
from mini_lib.methods.tuning import choose_rate

QUICK = {"iterations": 40, "batch_size": 8, "bottleneck": 4}


def test_by_hand(clip, tokenizer, small):
    rate, found = choose_rate("adapter-per-task", clip, tokenizer, small, (1e-2, 0.0), **QUICK)
    for tried in (0.0, 1e-2):
        method = make_method("adapter-per-task", clip, tokenizer, **{**QUICK, "iterations": 4, "learning_rate": tried})
        accuracies = []
        for task in small.tasks:
            method.learn(task)
            accuracies.append(evaluate(method, task, task.val)[0])
        assert found[tried] == pytest.approx(sum(accuracies) / 3, abs=1e-12)
    assert rate == max(found, key=found.get)


def test_the_lower_of_equal_rates_and_one_that_diverges(clip, tokenizer, small):
    assert choose_rate("fine-tuning", clip, tokenizer, small, (1e-9, 0.0), iterations=10, batch_size=8)[0] == 0.0
    _, found = choose_rate("fine-tuning", clip, tokenizer, small, (0.0, 1e9), iterations=30, batch_size=8)
    assert found[1e9] < found[0.0]


def test_test_images_are_not_looked_at(clip, tokenizer, small, monkeypatch):
    seen = []
    monkeypatch.setattr(
        tuning, "evaluate", lambda method, task, dataset: (seen.append((dataset, task)), (50.0, None))[1]
    )
    choose_rate("adapter-per-task", clip, tokenizer, small, (1e-2,), **QUICK)
    assert len(seen) == 3 and all(dataset is task.val for dataset, task in seen)


def test_a_task_without_validation_images(clip, tokenizer, small):
    small.tasks[1] = replace(small.tasks[1], val=None)
    with pytest.raises(ValueError, match="task 'fabric' has no validation images to choose a learning rate on"):
        choose_rate("adapter-per-task", clip, tokenizer, small, (1e-2,), **QUICK)


def test_the_same_search_is_not_made_again(clip, tokenizer, small, tmp_path, monkeypatch):
    file = tmp_path / "rate.json"
    first = choose_rate("adapter-per-task", clip, tokenizer, small, (1e-2, 1e-3), file, **QUICK)
    real, calls = tuning._tried, []
    monkeypatch.setattr(tuning, "_tried", lambda *a: (calls.append(a), real(*a))[1])
    assert choose_rate("adapter-per-task", clip, tokenizer, small, (1e-3, 1e-2), file, **QUICK) == first and not calls
    choose_rate("adapter-per-task", clip, tokenizer, small, (1e-3, 1e-2), file, **{**QUICK, "batch_size": 4})
    assert len(calls) == 2
    file.write_text(file.read_text()[:50])
    choose_rate("adapter-per-task", clip, tokenizer, small, (1e-3, 1e-2), file, **QUICK)
    assert len(calls) == 4
    file.write_text(re.sub(r'"accuracies": \[\s*', '"accuracies": [9', file.read_text()))  # by hand
    assert choose_rate("adapter-per-task", clip, tokenizer, small, (1e-3, 1e-2), file, **QUICK) == first
    assert len(calls) == 6
    other = deepcopy(clip)
    for block in other.visual.transformer.resblocks:
        block.mlp.gelu = nn.ReLU()
    choose_rate("adapter-per-task", other, tokenizer, small, (1e-3, 1e-2), file, **QUICK)
    assert len(calls) == 8  # the same weights, another activation
