"""Methods and the incremental loop: what is learned, what is saved, and how a run goes on."""

import copy
import dataclasses
import errno
import shutil
import sys

import pytest
import torch
from helpers import silent

from mini_lib import METHODS, AccuracyMatrix, evaluate, make_method, run
from mini_lib.methods import Method, needs
from mini_lib.training import learning_rate_at, train

LOOP = sys.modules["mini_lib.run"]  # the module; the name mini_lib.run is the function
FOLDER = sys.modules["mini_lib.embedded.run_folder"]
QUICK = {
    "zero-shot": {},
    "fine-tuning": {"iterations": 3, "batch_size": 8},
    "adapter-per-task": {"iterations": 3, "batch_size": 8, "bottleneck": 4},
    "moe-adapters": {"iterations": 3, "batch_size": 8, "bottleneck": 4, "num_experts": 4,
                     "ddas": {"block": 1, "iterations": 20}},
    "lwf": {"iterations": 3, "batch_size": 8},
    "lwf-vr": {"iterations": 3, "batch_size": 8},
    "icarl": {"iterations": 3, "batch_size": 8, "memory": 9},
    "wise-ft": {"iterations": 3, "batch_size": 8},
    "zscl": {"iterations": 3, "batch_size": 8, "average_every": 2},
    "model-per-task": {"iterations": 3, "batch_size": 8},
    "joint": {"iterations": 3, "batch_size": 8},
    "analytic": {"hidden": 20},
    "nearest-mean": {},
    "codyra": {"iterations": 3, "batch_size": 8, "rank": 2},
    "diki": {"iterations": 3, "batch_size": 8, "length": 2},
    "lada": {"iterations": 3, "batch_size": 8, "memories": 3, "prototypes": 2},
    "moe-adapters++": {"iterations": 3, "batch_size": 8, "bottleneck": 4, "max_experts": 5},
}  # fmt: skip


def made(name, clip, tokenizer, benchmark, **settings):
    return make_method(name, clip, tokenizer, **needs(name, benchmark), **{**QUICK[name], **settings})


def test_every_method_is_tried_here():
    assert set(QUICK) == set(METHODS)


@pytest.mark.parametrize("name", QUICK)
def test_interrupted_run_ends_in_the_same_numbers(clip, tokenizer, small, tmp_path, name, monkeypatch):
    whole = run(made(name, clip, tokenizer, small), small, tmp_path / "whole", log=silent)
    method = made(name, clip, tokenizer, small)
    learn, calls = method.learn, []

    def killed_in_the_second_task(task):
        calls.append(task)
        if len(calls) == 2:
            raise KeyboardInterrupt
        learn(task)

    monkeypatch.setattr(method, "learn", killed_in_the_second_task)
    with pytest.raises(KeyboardInterrupt):
        run(method, small, tmp_path / "parts", log=silent)
    assert AccuracyMatrix.from_csv(tmp_path / "parts/matrix.csv").done == 1  # the finished task is kept
    resumed = made(name, clip, tokenizer, small)
    parts = run(resumed, small, tmp_path / "parts", log=silent)
    assert (parts.values == whole.values).all()
    assert (tmp_path / "parts/matrix.csv").read_text() == (tmp_path / "whole/matrix.csv").read_text()
    images = small.tasks[0].test.tensors[0]
    finished = made(name, clip, tokenizer, small)
    lines = []
    run(finished, small, tmp_path / "whole", log=lines.append)
    assert "all 3 tasks are done" in lines[0] and all("WARNING" in line for line in lines[1:])
    with torch.no_grad():
        assert torch.equal(finished.scores(images, small.tasks[0]), resumed.scores(images, small.tasks[0]))
    assert finished.trained_parameters == resumed.trained_parameters


def test_killed_between_saving_and_evaluating(clip, tokenizer, small, tmp_path, monkeypatch):
    whole = run(made("moe-adapters", clip, tokenizer, small), small, tmp_path / "whole", log=silent)
    monkeypatch.setattr(LOOP, "evaluate", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        run(made("moe-adapters", clip, tokenizer, small), small, tmp_path / "parts", log=silent)
    monkeypatch.undo()
    parts = run(made("moe-adapters", clip, tokenizer, small), small, tmp_path / "parts", log=silent)
    assert (parts.values == whole.values).all()
    assert (tmp_path / "parts/routing.csv").read_text() == (tmp_path / "whole/routing.csv").read_text()


def test_known_selector_keeps_zero_shot_exactly(clip, tokenizer, small, tmp_path):
    zero_shot = run(made("zero-shot", clip, tokenizer, small), small, tmp_path / "z", log=silent)
    known = run(made("moe-adapters", clip, tokenizer, small, selector="known"), small, tmp_path / "k", log=silent)
    for j in range(1, 3):
        assert (known.values[:j, j] == zero_shot.values[:j, j]).all()
    newest = made("moe-adapters", clip, tokenizer, small, selector="none")
    newest.learn(small.tasks[0])
    assert newest.select(torch.zeros(3, 3, 32, 32), small.tasks[1]).tolist() == [0, 0, 0]


def test_balance_loss_spreads_the_work(clip, tokenizer, small):
    shares = []
    for weight in (0.0, 1.0):
        method = made("moe-adapters", clip, tokenizer, small, selector="known", iterations=40, learning_rate=0.05,
                      load_balance_weight=weight)  # fmt: skip
        method.learn(small.tasks[0])
        shares.append(
            torch.stack([layer.counts.max() / layer.counts.sum() for layer in method.model.image_layers]).mean()
        )
    assert shares[1] < shares[0]


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_learning_without_gradients_gets_a_sentence(clip, tokenizer, small, tmp_path, mode):
    method = made("fine-tuning", clip, tokenizer, small)
    with pytest.raises(ValueError, match="learns by gradients: call it outside torch.no_grad"), mode():
        run(method, small, tmp_path, log=silent)


def test_schedule_by_hand():
    rates = [learning_rate_at(step, 6, 1.0, 2) for step in range(7)]
    assert rates == pytest.approx([0.5, 1.0, 1.0, 0.853553, 0.5, 0.146447, 0.0], abs=1e-6)


def test_fine_tuning_leaves_the_given_clip_alone(clip, tokenizer, small):
    before = {k: v.clone() for k, v in clip.state_dict().items()}
    method = made("fine-tuning", clip, tokenizer, small)
    method.learn(small.tasks[0])
    assert all(torch.equal(v, before[k]) for k, v in clip.state_dict().items())
    assert torch.equal(method.clip.logit_scale, clip.logit_scale)
    assert not torch.equal(method.clip.visual.proj, clip.visual.proj)


def test_nan_loss_stops_with_a_remedy(clip, tokenizer, small, tmp_path):
    with pytest.raises(FloatingPointError, match="at iteration .* of 3: lower the learning rate"):
        run(made("fine-tuning", clip, tokenizer, small, learning_rate=1e9), small, tmp_path, log=silent)
    with pytest.raises(FloatingPointError, match="at iteration 1 of 2"):
        w = torch.ones(1, requires_grad=True)
        train([w], lambda x, y: w.sum() * float("nan"), iter([(torch.zeros(1), torch.zeros(1))] * 2), 2, 0.1)


def test_other_settings_are_refused(clip, tokenizer, small, tmp_path):
    run(made("zero-shot", clip, tokenizer, small), small, tmp_path, log=silent)
    with pytest.raises(ValueError, match="other settings.*method.*Take another folder"):
        run(made("fine-tuning", clip, tokenizer, small), small, tmp_path, log=silent)
    small.settings["seed"] = 5
    with pytest.raises(ValueError, match=r"other settings \(benchmark_settings.seed: 0 there, 5 now\)"):
        run(made("zero-shot", clip, tokenizer, small), small, tmp_path, log=silent)


def test_damaged_checkpoint(clip, tokenizer, small, tmp_path):
    run(made("adapter-per-task", clip, tokenizer, small), small, tmp_path, log=silent)
    file = tmp_path / "checkpoint.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ValueError, match="checkpoint.safetensors is damaged.*Take another folder"):
        run(made("adapter-per-task", clip, tokenizer, small), small, tmp_path, log=silent)


def test_full_disk_keeps_finished_tasks(clip, tokenizer, small, tmp_path, monkeypatch):
    real, calls = FOLDER.save_file, []

    def full(state, path, metadata):
        calls.append(1)
        if len(calls) == 2:
            path.write_bytes(b"half of it")
            raise OSError(errno.ENOSPC, "No space left on device")
        real(state, path, metadata=metadata)

    monkeypatch.setattr(FOLDER, "save_file", full)
    with pytest.raises(OSError, match="cannot be written .*No space left.*finished tasks are kept"):
        run(made("adapter-per-task", clip, tokenizer, small), small, tmp_path, log=silent)
    assert not list(tmp_path.glob(".mini_lib-part-*"))
    monkeypatch.undo()
    run(made("adapter-per-task", clip, tokenizer, small), small, tmp_path, log=silent)


def test_out_that_is_a_file(clip, tokenizer, small, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="cannot be written"):
        run(made("zero-shot", clip, tokenizer, small), small, tmp_path / "file", log=silent)


@pytest.mark.parametrize(
    "name, settings, words",
    [
        ("lwff", {}, "method 'lwff' is unknown; there are"),
        ("fine-tuning", {"rate": 1}, "has no setting 'rate'; it has accumulation"),
        ("moe-adapters", {}, "needs reference images"),
        ("moe-adapters", {"selector": "oracle"}, "'gaussian', 'ddas', 'known' or 'none'"),
    ],
)
def test_unknown_methods_and_settings(clip, tokenizer, name, settings, words):
    with pytest.raises(ValueError, match=words):
        make_method(name, clip, tokenizer, **settings)


def test_bad_scores_are_named(clip, tokenizer, small):
    class Wrong(Method):
        def scores(self, images, task):
            return torch.zeros(len(images), 3)

    class Broken(Method):
        def scores(self, images, task):
            return torch.full((len(images), 10), float("nan"))

    with pytest.raises(ValueError, match=r"Wrong.scores gave .* it must be \(images, classes\)"):
        evaluate(Wrong(clip, tokenizer), small.tasks[0])
    with pytest.raises(FloatingPointError, match="Broken gave scores that are no finite numbers"):
        evaluate(Broken(clip, tokenizer), small.tasks[0])
    assert not {"Wrong", "Broken", None} & set(METHODS)


METHODS_THAT_TRAIN = ["fine-tuning", "adapter-per-task", "moe-adapters"]


def losses_of(name, clip, tokenizer, small, monkeypatch, **settings):
    """The losses of learning the first task, and the learner."""
    kept = []
    monkeypatch.setattr("mini_lib.methods.base.train", lambda *a, **k: kept.extend(train(*a, **k)))
    learner = made(name, clip, tokenizer, small, iterations=4, batch_size=16, **settings)
    learner.learn(small.tasks[0])
    return torch.tensor(kept), learner


@pytest.mark.parametrize("name", METHODS_THAT_TRAIN)
def test_what_saves_memory_leaves_the_losses_as_they_are(clip, tokenizer, small, name, monkeypatch):
    plain, learner = losses_of(name, clip, tokenizer, small, monkeypatch)
    assert len(plain) == 4
    again, other = losses_of(name, clip, tokenizer, small, monkeypatch, checkpointing=True)
    torch.testing.assert_close(again, plain, atol=1e-6, rtol=1e-6)
    if name == "moe-adapters":
        for ours, theirs in zip(learner.model.layers, other.model.layers):
            assert torch.equal(ours.counts, theirs.counts) and ours.counts.sum() > 0
    half, _ = losses_of(name, clip, tokenizer, small, monkeypatch, precision="bf16")
    assert half.dtype == torch.float32 and not torch.equal(half, plain)
    torch.testing.assert_close(half, plain, atol=0.04, rtol=0)  # bf16: steps of 0.016 near a loss of 3


@pytest.mark.parametrize("name", ["fine-tuning", "adapter-per-task"])  # no noise in the gate, so that parts are alike
def test_accumulation_takes_the_same_step(clip, tokenizer, small, name, monkeypatch):
    monkeypatch.setattr("mini_lib.adapter.nn.Dropout", lambda p: torch.nn.Identity())
    monkeypatch.setattr("mini_lib.router.torch.randn_like", torch.zeros_like)
    plain, _ = losses_of(name, clip, tokenizer, small, monkeypatch)
    parts, _ = losses_of(name, clip, tokenizer, small, monkeypatch, accumulation=3)  # 6 + 6 + 4 images
    torch.testing.assert_close(parts, plain, atol=1e-5, rtol=1e-5)


def test_half_precision_scales_the_loss(clip, tokenizer, small, monkeypatch):
    plain, _ = losses_of("moe-adapters", clip, tokenizer, small, monkeypatch)
    half, learner = losses_of("moe-adapters", clip, tokenizer, small, monkeypatch, precision="fp16")
    torch.testing.assert_close(half, plain, atol=0.05, rtol=0)  # the first scale may be too high: a step is left out
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in learner.model.parameters())


def test_settings_by_task(clip, tokenizer, small):
    names = [task.name for task in small.tasks]
    learner = made("moe-adapters", clip, tokenizer, small, iterations=dict(zip(names, (1, 2))), selector="known")
    learner.learn(small.tasks[0])
    learner.learn(small.tasks[1])
    with pytest.raises(ValueError, match=f"iterations has no value for task '{names[2]}'"):
        learner.learn(small.tasks[2])
    for wrong in ({"iterations": 0}, {"iterations": {"digits": -1}}, {"batch_size": 0}, {"accumulation": 1.5}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))} is a whole number, at least 1, not"):
            make_method("fine-tuning", clip, tokenizer, **wrong)
    with pytest.raises(ValueError, match="precision is 'float32', 'bf16' or 'fp16', not 'half'"):
        made("fine-tuning", clip, tokenizer, small, precision="half")


def test_shared_router_and_noise_at_evaluation(clip, tokenizer, small):
    def learned(noise):
        learner = made(
            "moe-adapters", clip, tokenizer, small, iterations=3, num_experts=3, freeze=0, selector="none",
            shared_router=True, noise_at_evaluation=noise,
        )  # fmt: skip
        for task in small.tasks[:2]:
            learner.learn(task)
        return learner

    quiet, noisy = learned(False), learned(True)
    assert [len(learner.model.tasks) for learner in (quiet, noisy)] == [1, 1] and quiet.learned == 2
    images = torch.stack([small.tasks[1].test[i][0] for i in range(16)])

    def twice(learner):
        return [learner.model.encode_image(images, 0) for _ in range(2)]

    with torch.no_grad():
        assert torch.equal(*twice(quiet)) and not torch.equal(*twice(noisy))
    again = made(
        "moe-adapters", clip, tokenizer, small, num_experts=3, freeze=0, selector="none", shared_router=True,
        noise_at_evaluation=True,
    )  # fmt: skip
    again.load_state_dict(noisy.state_dict())
    assert again.learned == 2 and again.model.layers[0].routers[0].training


def test_what_does_not_learn_is_tested_once(clip, tokenizer, small, tmp_path, monkeypatch):
    tested = []
    monkeypatch.setattr(LOOP, "evaluate", lambda method, task: (tested.append(task.name), (50.0, None))[1])
    run(made("zero-shot", clip, tokenizer, small), small, tmp_path / "a", log=silent)
    assert tested == [task.name for task in small.tasks]
    more = [[dataclasses.replace(t, classnames=[*t.classnames, *"xyz"[:n]]) for t in small.tasks] for n in range(4)]
    monkeypatch.setattr(small, "tested", more.__getitem__)  # as where the classes to choose from grow
    run(made("zero-shot", clip, tokenizer, small), small, tmp_path / "b", log=silent)
    assert tested == [task.name for task in small.tasks] * 4


def test_a_learner_that_was_stopped_is_made_anew(clip, tokenizer, small, tmp_path, monkeypatch):
    method = made("fine-tuning", clip, tokenizer, small)
    monkeypatch.setattr(method, "fit", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        run(method, small, tmp_path, log=silent)
    with pytest.raises(ValueError, match="was stopped in the middle of a task, or .* make the method anew"):
        run(method, small, tmp_path, log=silent)


def test_a_learner_that_knows_more_than_the_folder_is_made_anew(clip, tokenizer, small, tmp_path, monkeypatch):
    """Fine-tuning would go on from what it learned elsewhere, and its numbers be taken for those of a new run."""
    method = made("fine-tuning", clip, tokenizer, small)
    whole = run(method, small, tmp_path / "a", log=silent)
    with pytest.raises(ValueError, match="has learned for another folder: make the method anew"):
        run(method, small, tmp_path / "b", log=silent)
    assert (run(method, small, tmp_path / "a", log=silent).values == whole.values).all()
    with monkeypatch.context() as patch:
        patch.setattr(FOLDER.RunFolder, "save", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        method = made("fine-tuning", clip, tokenizer, small)
        with pytest.raises(KeyboardInterrupt):
            run(method, small, tmp_path / "b", log=silent)
    with pytest.raises(ValueError, match="make the method anew"):
        run(method, small, tmp_path / "b", log=silent)
    assert (
        run(made("fine-tuning", clip, tokenizer, small), small, tmp_path / "b", log=silent).values == whole.values
    ).all()
    resumed = made("fine-tuning", clip, tokenizer, small)
    run(resumed, small, tmp_path / "b", log=silent)
    with pytest.raises(ValueError, match="make the method anew"):
        run(resumed, small, tmp_path / "c", log=silent)


def test_a_run_of_another_clip_is_refused(clip, tokenizer, small, tmp_path):
    run(made("zero-shot", clip, tokenizer, small), small, tmp_path, log=silent)
    other = copy.deepcopy(clip)
    with torch.no_grad():
        other.logit_scale += 0.1
    with pytest.raises(ValueError, match="holds a run of other settings .clip.checksum"):
        run(made("zero-shot", other, tokenizer, small), small, tmp_path, log=silent)


@pytest.mark.parametrize("file, text, words", [
    ("settings.json", "", "settings.json is damaged"), ("settings.json", "[]", "settings.json is damaged"),
    ("matrix.csv", "", "matrix.csv is damaged"), ("matrix.csv", "after,x\na,1\n", "matrix.csv is damaged, or was changed"),
    ("matrix.csv", None, "holds results of 0 tasks but a checkpoint of"), ("routing.csv", None, "routing.csv is missing"),
])  # fmt: skip
def test_damaged_and_missing_files_are_named(clip, tokenizer, small, tmp_path, file, text, words):
    def again():
        return run(made("moe-adapters", clip, tokenizer, small), small, tmp_path, log=silent)

    again()
    (tmp_path / file).unlink() if text is None else (tmp_path / file).write_text(text)
    with pytest.raises(ValueError, match=words):
        again()


def test_a_checkpoint_of_another_method_is_named(clip, tokenizer, small, tmp_path):
    for name in ("fine-tuning", "moe-adapters"):
        run(made(name, clip, tokenizer, small), small, tmp_path / name, log=silent)
    shutil.copy(tmp_path / "fine-tuning/checkpoint.safetensors", tmp_path / "moe-adapters")
    with pytest.raises(ValueError, match="is no checkpoint of this run"):
        run(made("moe-adapters", clip, tokenizer, small), small, tmp_path / "moe-adapters", log=silent)


def test_a_stop_between_routing_and_matrix(clip, tokenizer, small, tmp_path, monkeypatch):
    whole = run(made("moe-adapters", clip, tokenizer, small), small, tmp_path / "whole", log=silent)
    replace = FOLDER.replace_file

    def full(path, write):
        if path.name == "matrix.csv":
            raise OSError("full")
        replace(path, write)

    monkeypatch.setattr(FOLDER, "replace_file", full)
    with pytest.raises(OSError, match="full"):
        run(made("moe-adapters", clip, tokenizer, small), small, tmp_path / "parts", log=silent)
    monkeypatch.setattr(FOLDER, "replace_file", replace)
    parts = run(made("moe-adapters", clip, tokenizer, small), small, tmp_path / "parts", log=silent)
    assert (parts.values == whole.values).all()
    kept, wanted = (AccuracyMatrix.from_csv(tmp_path / folder / "routing.csv") for folder in ("parts", "whole"))
    assert (kept.values == wanted.values).all()


def test_tasks_of_one_name_and_tests_without_images(clip, tokenizer, small, tmp_path):
    twice = dataclasses.replace(small, tasks=[small.tasks[0], small.tasks[0]])
    with pytest.raises(ValueError, match="two tasks have the same name"):
        run(made("zero-shot", clip, tokenizer, small), twice, tmp_path, log=silent)
    empty = torch.utils.data.Subset(small.tasks[0].test, [])
    with pytest.raises(ValueError, match="has no images to test on"):
        evaluate(made("zero-shot", clip, tokenizer, small), small.tasks[0], empty)
