"""Methods that route: who says which part answers, one's own selector, stops, and what is refused."""

import dataclasses

import pytest
import torch
from helpers import silent

from mini_lib import METHODS, make_method, run
from mini_lib.benchmarks.fingerprint import fingerprint
from mini_lib.clip import vision_blocks
from mini_lib.methods import needs
from mini_lib.methods.routed import Routed
from mini_lib.selectors import GaussianSelector, ReferenceStatistics
from mini_lib.training import checksum

ROUTED = sorted(name for name, method in METHODS.items() if issubclass(method, Routed))
QUICK = {"iterations": 2, "batch_size": 8, "bottleneck": 4, "num_experts": 4, "hidden": 20}


class ByBrightness:
    """A selector of one's own: the task whose mean brightness is nearest, and known within 3 of it."""

    granularity = "sample"

    def __init__(self, within=3.0):
        self.within, self.means = within, torch.zeros(0)

    def learn_reference(self, reference):
        pass

    def learn_task(self, train, held_out=None):
        self.means = torch.cat([self.means, train[:][0].mean()[None]])

    def select(self, images):
        away = (images.mean(dim=(1, 2, 3))[:, None] - self.means).abs()
        least, best = away.min(dim=1)
        return torch.where(least <= self.within, best, -1)

    def selector_state_dict(self):
        return {"means": self.means}

    def load_selector_state_dict(self, state):
        self.means = state["means"]


def made(name, clip, tokenizer, benchmark, **settings):
    known = {field.name for field in dataclasses.fields(METHODS[name].Settings)}
    quick = {k: v for k, v in QUICK.items() if k in known}
    return make_method(name, clip, tokenizer, **needs(name, benchmark), **{**quick, **settings})


def test_who_routes():
    assert ROUTED == [
        "adapter-per-task",
        "analytic",
        "diki",
        "model-per-task",
        "moe-adapters",
        "moe-adapters++",
        "nearest-mean",
    ]


@pytest.mark.parametrize("name", ROUTED)
def test_a_stopped_run_with_a_selector_ends_in_the_same_numbers(clip, tokenizer, small, tmp_path, name, monkeypatch):
    whole = run(made(name, clip, tokenizer, small, selector="gaussian"), small, tmp_path / "whole", log=silent)
    method = made(name, clip, tokenizer, small, selector="gaussian")
    teach = method.selector.learn_task

    def stopped(train, held_out):
        if len(method.selector.limits) == 1:
            raise KeyboardInterrupt
        teach(train, held_out)

    monkeypatch.setattr(method.selector, "learn_task", stopped)
    with pytest.raises(KeyboardInterrupt):
        run(method, small, tmp_path / "parts", log=silent)
    resumed = made(name, clip, tokenizer, small, selector="gaussian")
    assert (run(resumed, small, tmp_path / "parts", log=silent).values == whole.values).all()
    for file in ("routing.csv", "matrix.csv"):
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "parts" / file).read_bytes()
    assert set(resumed.state_dict()) >= {"selector.scatter", "selector.means", "selector.limits"}


@pytest.mark.parametrize("name", ROUTED)
def test_each_image_gets_the_answer_of_the_part_that_was_selected(clip, tokenizer, small, name):
    method = made(name, clip, tokenizer, small, selector="gaussian")
    for task in small.tasks[:2]:
        method.learn(task)
    with torch.no_grad():
        images, task = small.tasks[0].test.tensors[0][:6], small.tasks[0]
        mixed = torch.tensor([0, -1, 1, 0, 1, -1])
        scores = method.scores(images, task, mixed)
        for part in (-1, 0, 1):
            alone = method.scores(images, task, torch.full((6,), part))
            assert torch.allclose(scores[mixed == part], alone[mixed == part], atol=1e-4), part
        assert torch.allclose(method.scores(images, task), method.scores(images, task, method.select(images, task)))


def test_a_selector_of_ones_own(clip, tokenizer, small, tmp_path):
    def go(**choices):
        method = made("adapter-per-task", clip, tokenizer, small, selector=ByBrightness(**choices))
        return run(method, small, tmp_path, log=silent)

    first = go()
    assert (go().values == first.values).all()  # it goes on, though a selector object is another each time
    with pytest.raises(ValueError, match=r"selector: 'ByBrightness\(within=3.0\)"):
        go(within=0.5)
    told = made("adapter-per-task", clip, tokenizer, small)
    assert told.settings.selector == told.selector == "known" and told.knows_tasks


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"selector": "oracle"}, "'gaussian', 'ddas', 'known' or 'none'"),
        ({"selector": object()}, "this object lacks learn_reference"),
        ({"selector": "gaussian", "ddas": {}}, "settings of the selector 'ddas', and the selector is 'gaussian'"),
        ({"selector": "gaussian", "reference": None}, "the selector 'gaussian' needs reference images"),
    ],
)
def test_what_is_refused(clip, tokenizer, small, settings, words):
    with pytest.raises(ValueError, match=words):
        make_method("moe-adapters", clip, tokenizer, **{"reference": small.reference, **settings})


def test_by_default_the_selector_that_settings_are_given_for(clip, tokenizer, small):
    for settings, chosen in (
        ({}, "gaussian"),
        ({"ddas": {"iterations": 5}}, "ddas"),
        ({"gaussian": {"prior": 5.0}}, "gaussian"),
    ):
        assert made("moe-adapters", clip, tokenizer, small, **settings).settings.selector == chosen
    assert made("moe-adapters", clip, tokenizer, small, gaussian={"prior": 5.0}).selector.prior == 5
    assert made(
        "moe-adapters", clip, tokenizer, small, ddas={}, selector="known"
    ).knows_tasks  # the same settings, task told


def test_statistics_as_reference(clip, tokenizer, small, tmp_path):
    selector = GaussianSelector(clip)
    selector.learn_reference(small.reference)

    held = (selector.mean, selector.std, selector.background, selector.within)
    stored = ReferenceStatistics(*held, checksum(selector.features))
    assert fingerprint(stored) != fingerprint(dataclasses.replace(stored, mean=stored.mean + 1))
    by_images, by_statistics = (
        run(
            make_method("analytic", clip, tokenizer, reference=reference, hidden=20, selector="gaussian"),
            small,
            tmp_path / name,
            log=silent,
        )
        for name, reference in (("images", small.reference), ("statistics", stored))
    )
    assert (by_images.values == by_statistics.values).all()
    with pytest.raises(ValueError, match="DDAS learns from reference images, not from their statistics"):
        make_method("moe-adapters", clip, tokenizer, reference=stored, selector="ddas")


def test_the_original_clip_s_features_are_not_computed_twice(clip, tokenizer, small):
    """What the Gaussian selector has seen of an image that it sends to CLIP is what CLIP says of it."""
    learner = made("moe-adapters", clip, tokenizer, small, selector="gaussian", gaussian={"quantile": 0.9})
    learner.learn(small.tasks[0])
    images = torch.cat([task.test.tensors[0][:3] for task in small.tasks])
    with torch.no_grad():
        selected = torch.tensor([0, -1, 0, -1, -1, -1, -1, -1, -1])
        alone = learner.scores(images.clone(), small.tasks[0], selected)  # another tensor: computed
        learner.select(images, small.tasks[0])
        calls = []
        handle = vision_blocks(clip)[0].attn.register_forward_hook(lambda m, i, o: calls.append(len(i[0])))
        shared = learner.scores(images, small.tasks[0], selected)
        all_of_clip = learner.scores(images, small.tasks[0], torch.full_like(selected, -1))
        handle.remove()
    assert calls == [2]  # the two images that have a router
    torch.testing.assert_close(shared, alone, atol=1e-4, rtol=0)
    zero_shot = make_method("zero-shot", clip, tokenizer).scores(images, small.tasks[0])
    torch.testing.assert_close(all_of_clip, zero_shot, atol=1e-4, rtol=0)
