"""load_run: the method of a finished run, from its folder; what is not that run is refused."""

import dataclasses
import json
import shutil
import sys
from pathlib import Path

import open_clip
import pytest
import torch
from helpers import Flat, silent
from safetensors import safe_open
from safetensors.torch import save_file
from test_routed import ByBrightness
from torch.utils.data import TensorDataset

from mini_lib import METHODS, load_clip, load_run, make_method, run
from mini_lib.embedded import storage
from mini_lib.methods import needs

LOOP = sys.modules["mini_lib.embedded.run_folder"]
QUICK = {"iterations": 1, "batch_size": 4, "bottleneck": 2, "num_experts": 4, "hidden": 10}
SELECTORS = [("moe-adapters", "ddas"), ("analytic", "gaussian")]  # the others are those by default


def fewer(benchmark, **counts):
    """The same tasks and reference with fewer images; counts: of a part of the tasks."""

    def some(dataset, count):
        return TensorDataset(*dataset[:count])

    tasks = [
        dataclasses.replace(task, **{part: some(getattr(task, part), count) for part, count in counts.items()})
        for task in benchmark.tasks
    ]
    return dataclasses.replace(benchmark, tasks=tasks, reference=some(benchmark.reference, 40))


@pytest.fixture
def few(small):
    """What is learned does not matter here."""
    return fewer(dataclasses.replace(small, tasks=small.tasks[:2]), train=8, val=4, test=6)


def made(name, clip, tokenizer, benchmark, **settings):
    known = {field.name for field in dataclasses.fields(METHODS[name].Settings)}
    quick = {key: value for key, value in QUICK.items() if key in known}
    return make_method(name, clip, tokenizer, **needs(name, benchmark), **{**quick, **settings})


@pytest.fixture
def out(clip, tokenizer, few, tmp_path):
    run(made("analytic", clip, tokenizer, few, selector="gaussian"), few, tmp_path / "out", log=silent)
    return tmp_path / "out"


def edit(out, change):
    """Change settings.json as somebody would by hand."""
    settings = json.loads((out / "settings.json").read_text())
    change(settings)
    (out / "settings.json").write_text(json.dumps(settings))


def same_scores(learned, method, task):
    images = task.test.tensors[0][:5]
    with torch.no_grad():
        there, here = learned.method.scores(images, task), method.scores(images, task)
    return torch.equal(there, here)


@pytest.mark.parametrize("name, selector", [*((name, None) for name in sorted(METHODS)), *SELECTORS])
def test_the_loaded_method_gives_the_same_scores(clip, tokenizer, few, tmp_path, name, selector):
    choice = {} if selector is None else {"selector": selector}
    choice |= {"ddas": {"iterations": 2}} if selector == "ddas" else {}
    method = made(name, clip, tokenizer, few, **choice)
    run(method, few, tmp_path, log=silent)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    learned = load_run(tmp_path, clip, tokenizer)
    assert type(learned.method) is type(method) and learned.preprocess is None
    assert all(same_scores(learned, method, task) for task in few.tasks)
    for task, own in zip(learned.tasks, few.tasks, strict=True):
        assert (task.name, task.classnames, task.templates) == (own.name, own.classnames, own.templates)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before  # nothing was written
    with pytest.raises(ValueError, match="is asked, not taught"):
        learned.method.learn(few.tasks[0])


def test_the_clip_is_loaded_as_it_was_then(tokenizer, few, tmp_path):
    clip, preprocess, _ = load_clip("tiny")
    method = made("moe-adapters", clip, tokenizer, few, selector="known")
    run(method, few, tmp_path, log=silent)
    assert json.loads((tmp_path / "settings.json").read_text())["clip_source"] == clip.source
    learned = load_run(tmp_path)
    assert learned.original.clip is not clip and same_scores(learned, method, few.tasks[0])
    assert str(learned.preprocess) == str(preprocess)


def test_a_file_of_weights_is_found_from_anywhere_and_may_move(tokenizer, few, tmp_path, monkeypatch):
    """The place of a file does not count for what a run is."""
    here, there = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    small = {"embed_dim": 64, "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16}}
    small["text_cfg"] = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1}
    (tmp_path / "ViT-mini.json").write_text(json.dumps(small))
    open_clip.add_model_config(tmp_path / "ViT-mini.json")
    clip = load_clip("ViT-mini", None)[0]
    assert clip.source == {"name": "ViT-mini", "pretrained": None}
    run(made("zero-shot", clip, tokenizer, few), few, tmp_path / "random", log=silent)
    with pytest.raises(ValueError, match=r"has random weights, and cannot be loaded again: pass load_run the CLIP"):
        load_run(tmp_path / "random")
    save_file(clip.state_dict(), here)
    monkeypatch.chdir(tmp_path)
    with pytest.warns(UserWarning, match="QuickGELU"):
        clip = load_clip("ViT-mini", "a.safetensors")[0]
    assert clip.source == {"name": "ViT-mini", "pretrained": str(here.resolve())}
    run(made("zero-shot", clip, tokenizer, few), few, tmp_path / "out", log=silent)
    here.rename(there)
    with pytest.raises(ValueError, match=r"cannot be loaded again \(.*a.safetensors.*pass load_run the CLIP"):
        load_run("out")
    lines = []
    with pytest.warns(UserWarning, match="QuickGELU"):
        moved = load_clip("ViT-mini", str(there))[0]
    run(made("zero-shot", moved, tokenizer, few), few, tmp_path / "out", log=lines.append)
    assert "all 2 tasks are done already" in lines[0]
    edit(tmp_path / "out", lambda settings: settings["clip_source"].update(pretrained=str(there)))
    with pytest.warns(UserWarning, match="QuickGELU"):
        assert len(load_run("out").tasks) == 2


def test_a_clip_made_by_hand_has_to_be_given(out, clip, tokenizer):
    with pytest.raises(ValueError, match="did not come from load_clip, and cannot be loaded again: pass load_run"):
        load_run(out)
    with pytest.raises(ValueError, match="by its tokenizer: pass load_run the CLIP"):
        load_run(out, clip)


def test_another_clip_is_refused(out, clip, tokenizer):
    with torch.no_grad():
        clip.logit_scale += 0.1
    with pytest.raises(ValueError, match=r"is not what made .*clip.checksum: \d+ there, \d+ now"):
        load_run(out, clip, tokenizer)


def test_weights_that_load_clip_changed_meanwhile_are_refused(out, clip):
    """clip_source is a note: what it leads to is compared."""
    edit(out, lambda settings: settings.update(clip_source={"name": "tiny", "pretrained": "embedded"}))
    with pytest.raises(ValueError, match="is not what made .*clip.checksum"):
        load_run(out)


@pytest.mark.parametrize("change", [
    lambda s: s["method_settings"].update(share=0.5), lambda s: s["prompts"]["digits"][0].reverse(),
    lambda s: s["prompts"]["digits"][1].append("{}"), lambda s: s["tasks"].reverse(),
])  # fmt: skip
def test_edited_settings_are_refused(out, clip, tokenizer, change):
    edit(out, change)
    with pytest.raises(ValueError, match="digests.json belongs to other settings"):
        load_run(out, clip, tokenizer)


def test_a_tampered_or_exchanged_checkpoint_is_refused(out, clip, tokenizer, few, tmp_path):
    file = out / "checkpoint.safetensors"
    with safe_open(file, "pt") as saved:
        facts, state = saved.metadata(), {name: saved.get_tensor(name) for name in saved.keys()}
    state["weights"] = state["weights"] + 1e-9
    save_file(state, file, metadata=facts)
    with pytest.raises(ValueError, match="checkpoint.safetensors is damaged: it is not what was written"):
        load_run(out, clip, tokenizer)
    run(made("analytic", clip, tokenizer, few, selector="gaussian", seed=1), few, tmp_path / "b", log=silent)
    shutil.copy(tmp_path / "b/checkpoint.safetensors", file)
    with pytest.raises(ValueError, match="is no checkpoint of this run: it was exchanged"):
        load_run(out, clip, tokenizer)
    file.unlink()
    with pytest.raises(ValueError, match="holds no checkpoint.safetensors: its first task is not learned yet"):
        load_run(out, clip, tokenizer)


def test_what_is_no_run_is_named(out, clip, tokenizer):
    with pytest.raises(
        ValueError, match=r"holds no run, for it has no settings.json. The folders in it do: take .*out"
    ):
        load_run(out.parent)
    with pytest.raises(ValueError, match=r"nowhere holds no run, for it has no settings.json.$"):
        load_run("nowhere")
    edit(out, lambda settings: settings.update(format=2))
    with pytest.raises(ValueError, match="is no run of this version of mini_lib"):
        load_run(out, clip, tokenizer)
    edit(out, lambda settings: settings.update(format=LOOP.FORMAT))
    (out / "digests.json").unlink()
    with pytest.raises(ValueError, match="has lost its digests.json"):
        load_run(out, clip, tokenizer)


def test_a_run_under_way_knows_the_tasks_learned_so_far(clip, tokenizer, few, tmp_path):
    def stop(done):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(made("analytic", clip, tokenizer, few), few, tmp_path, log=silent, after_task=stop)
    with storage.one_writer(tmp_path):  # another process may go on meanwhile
        assert [task.name for task in load_run(tmp_path, clip, tokenizer).tasks] == [few.tasks[0].name]


def test_a_selector_of_ones_own_is_given_and_compared(clip, tokenizer, few, tmp_path):
    method = made("analytic", clip, tokenizer, few, selector=ByBrightness())
    run(method, few, tmp_path, log=silent)
    with pytest.raises(ValueError, match=r"cannot be made again \(selector is .*be passed to load_run: selector="):
        load_run(tmp_path, clip, tokenizer)
    with pytest.raises(ValueError, match=r"ByBrightness\(within=3.0\).*ByBrightness\(within=0.5\)"):
        load_run(tmp_path, clip, tokenizer, selector=ByBrightness(within=0.5))
    learned = load_run(tmp_path, clip, tokenizer, selector=ByBrightness())
    assert same_scores(learned, method, few.tasks[0])


def test_features_that_are_drawn_at_random_are_compared(clip, tokenizer, few, tmp_path):
    def ddas(factor):
        return {"iterations": 2, "features": Flat(factor)}

    run(made("analytic", clip, tokenizer, few, ddas=ddas(1.0)), few, tmp_path, log=silent)
    with pytest.raises(ValueError, match="cannot be made again .*Flat"):
        load_run(tmp_path, clip, tokenizer)
    with pytest.raises(ValueError, match="other selector's features"):
        load_run(tmp_path, clip, tokenizer, ddas=ddas(2.0))
    assert len(load_run(tmp_path, clip, tokenizer, ddas=ddas(1.0)).tasks) == 2


def test_an_unknown_method_is_told(out, clip, tokenizer, monkeypatch):
    monkeypatch.delitem(METHODS, "analytic")
    with pytest.raises(ValueError, match="method 'analytic' is unknown.*of your own must be registered first"):
        load_run(Path(out), clip, tokenizer)


def test_other_class_names_are_told_once(out, clip, tokenizer, few):
    few.tasks[0].templates = ["an image of {}."]
    with pytest.raises(ValueError) as told:
        run(made("analytic", clip, tokenizer, few, selector="gaussian"), few, out, log=silent)
    phrase = "images, their preprocessing, labels, class names or prompts of 'digits' have changed"
    assert str(told.value).count(few.tasks[0].name) == 1 and phrase in str(told.value)
