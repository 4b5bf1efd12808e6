"""Among which names an image is judged: its task's, those learned so far, or all of the stream."""

import pytest
import torch
from helpers import silent
from torch.utils.data import TensorDataset

from mini_lib import AccuracyMatrix, evaluate, make_method, run
from mini_lib.benchmarks.base import Benchmark, Merged, Task, merged
from mini_lib.methods import Method, needs


def task(name, classnames, values):
    """Test images whose first pixel says which of all names is taken for theirs."""
    images = torch.zeros(len(values), 3, 32, 32)
    images[:, 0, 0, 0] = torch.tensor(values, dtype=torch.float)
    labels = torch.arange(len(values)) % len(classnames)
    return Task(name, classnames, ["a {}."], TensorDataset(images, labels), TensorDataset(images, labels))


@pytest.fixture
def three():
    """Names 0 and 1, 2 and 3 (one of them there before), 4 and 5; two test images each."""
    return Benchmark(
        "three",
        [task("a", ["cat", "dog"], [0, 1]), task("b", ["cat", "cup"], [0, 3]), task("c", ["pen", "ink"], [4, 1])],
        None,
    )


class Reader(Method):
    """Takes an image for the name that its first pixel says, if that is a candidate; else for the first."""

    name = "reader"

    def __init__(self, clip, tokenizer, places):
        super().__init__(clip, tokenizer)
        self.places = places

    def learn(self, task):
        pass

    def scores(self, images, task):
        names = [(part.name, c) for part in getattr(task, "parts", [task]) for c in part.classnames]
        wanted = [self.places[int(v)] for v in images[:, 0, 0, 0]]
        return torch.tensor([[float(name == want) for name in names] for want in wanted])


def test_the_three_protocols_by_hand(clip, tokenizer, three, tmp_path):
    places = [(t.name, c) for t in three.tasks for c in t.classnames]
    found = {
        how: run(Reader(clip, tokenizer, places), three, tmp_path / how, log=silent, candidates=how).values.tolist()
        for how in ("own", "seen", "all")
    }
    # b's first image looks like a's cat: among its own names the first is taken, cat, which is right; among a's, too, it is
    # wrong, though the name is the same. c's second image looks like a's dog.
    assert found["own"] == [[100, 100, 50]] * 3
    assert found["seen"] == [[100, 100, 50], [100, 50, 50], [100, 50, 50]]
    assert found["all"] == [[100, 50, 50]] * 3
    assert AccuracyMatrix(["a", "b", "c"], found["seen"]).transfer == 75 and three.candidates == "own"


def test_merged_tasks_shift_labels_and_keep_templates(clip, tokenizer, three):
    method = make_method("zero-shot", clip, tokenizer)
    of = merged(three.tasks, 2)
    assert of.classnames == ["cat", "dog", "cat", "cup", "pen", "ink"] and of.val is None
    assert [of.test[i][1] for i in range(2)] == [4, 5]
    three.tasks[1].templates = ["a photo of a {}."]
    with torch.no_grad():
        alone = torch.cat([method.embeddings(t, clip.encode_text, key=-1) for t in three.tasks])
        assert torch.equal(method.embeddings(of, clip.encode_text, key=-1), alone)
    assert [type(t) for t in three.tested_among("seen", 2)] == [Merged, Merged, Task]
    assert three.tested(2) is three.tasks
    with pytest.raises(ValueError, match="candidates are 'own', 'seen' or 'all', not 'every'"):
        three.tested_among("every", 1)


@pytest.mark.parametrize("name, settings", [
    ("zero-shot", {}), ("fine-tuning", {"iterations": 2, "batch_size": 8}),
    ("moe-adapters", {"iterations": 2, "batch_size": 8, "bottleneck": 4, "num_experts": 4}),
    ("adapter-per-task", {"iterations": 2, "batch_size": 8, "bottleneck": 4, "selector": "gaussian"}),
    ("model-per-task", {"iterations": 2, "batch_size": 8, "selector": "gaussian"}),
])  # fmt: skip
def test_all_names_are_as_many_scores_and_the_same_for_own_ones(clip, tokenizer, small, tmp_path, name, settings):
    method = make_method(name, clip, tokenizer, **needs(name, small), **settings)
    matrix = run(method, small, tmp_path, log=silent, candidates="all")
    own = [evaluate(method, task)[0] for task in small.tasks]
    assert all(a <= o for a, o in zip(matrix.values[-1], own))  # more candidates never help
    images = small.tasks[1].test.tensors[0]
    with torch.no_grad():
        first, of = len(small.tasks[0].classnames), merged(small.tasks, 1)
        among_all, among_own = method.scores(images, of), method.scores(images, small.tasks[1])
    assert among_all.shape == (len(images), len(of.classnames))
    torch.testing.assert_close(among_all[:, first : first + among_own.shape[1]], among_own)


def test_who_is_told_the_task_refuses_and_other_candidates_are_another_run(clip, tokenizer, small, tmp_path):
    for how in ("seen", "all"):
        with pytest.raises(
            ValueError, match=f"'adapter-per-task' judges an image by the name of its task.*{how!r}: give it a selector"
        ):
            run(make_method("adapter-per-task", clip, tokenizer, bottleneck=2), small, tmp_path / how, candidates=how)
    run(make_method("zero-shot", clip, tokenizer), small, tmp_path, log=silent)
    with pytest.raises(ValueError, match="candidates: 'own' there, 'all' now"):
        run(make_method("zero-shot", clip, tokenizer), small, tmp_path, log=silent, candidates="all")
    with pytest.raises(ValueError, match="candidates are 'own', 'seen' or 'all'"):
        run(make_method("zero-shot", clip, tokenizer), small, tmp_path / "x", candidates="mine")


def test_what_learns_nothing_is_judged_again_only_where_the_names_have_changed(
    clip, tokenizer, small, tmp_path, monkeypatch
):
    counted = []
    for how in ("own", "seen", "all"):
        method, calls = make_method("zero-shot", clip, tokenizer), []
        scores = method.scores
        monkeypatch.setattr(method, "scores", lambda *a, scores=scores, calls=calls: (calls.append(1), scores(*a))[1])
        run(method, small, tmp_path / how, log=silent, candidates=how)
        counted.append(len(calls))
    assert counted == [3, 9, 3]
