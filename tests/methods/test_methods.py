"""The rivals: each on cases that can be worked out by hand, and at the ends where it must equal something simpler."""

import copy
import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from helpers import ROOT, silent
from torch.nn import functional as F

from mini_lib import Benchmark, Task, evaluate, make_method, run
from mini_lib.clip import encode_text_trimmed
from mini_lib.methods import METHODS, Method, needs
from mini_lib.methods.base import register
from mini_lib.methods.distilled import distillation, distillation_both_ways
from mini_lib.methods.icarl import herding
from mini_lib.training import endless, seed_everything, train

TRAINING = {"iterations": 4, "batch_size": 8}


def made(name, clip, tokenizer, benchmark, **settings):
    return make_method(name, clip, tokenizer, **needs(name, benchmark), **{**TRAINING, **settings})


def learned(name, clip, tokenizer, benchmark, tasks=2, **settings):
    method = made(name, clip, tokenizer, benchmark, **settings)
    for task in benchmark.tasks[:tasks]:
        method.learn(task)
    return method


def weights(method):
    return {k: v for k, v in method.clip.state_dict().items()}


def same(a, b):
    return all(torch.equal(v, b[k]) for k, v in a.items())


def test_distillation_by_hand():
    reference, logits = torch.tensor([[0.0, 2.0]]), torch.tensor([[2.0, 0.0]])
    p = [1 / (1 + math.e), math.e / (1 + math.e)]  # softmax of (0, 1): the temperature is 2
    log_q = [1 - math.log(1 + math.e), -math.log(1 + math.e)]  # log softmax of (1, 0)
    by_hand = 4 * -(p[0] * log_q[0] + p[1] * log_q[1])
    assert distillation(reference, logits, 2.0).item() == pytest.approx(by_hand, rel=1e-6)
    # the entropy of (.12, .88)
    assert distillation(reference, reference, 1.0).item() == pytest.approx(0.3653, abs=1e-4)


def test_distillation_has_no_gradient_where_both_agree_and_looks_both_ways():
    reference = torch.randn(3, 5)
    logits = reference.clone().requires_grad_()
    distillation_both_ways(reference, logits).backward()
    assert logits.grad.abs().max() < 1e-6
    other = torch.randn(3, 5)
    assert distillation_both_ways(reference, other).item() == pytest.approx(
        distillation(reference, other).item() + distillation(reference.T, other.T).item(), rel=1e-6
    )


def test_wise_ft_at_its_ends_and_half_way(clip, tokenizer, small):
    tuned = weights(learned("fine-tuning", clip, tokenizer, small, tasks=1))
    assert same(weights(learned("wise-ft", clip, tokenizer, small, tasks=1, alpha=1.0)), tuned)
    assert same(weights(learned("wise-ft", clip, tokenizer, small, alpha=0.0)), clip.state_dict())
    half = weights(learned("wise-ft", clip, tokenizer, small, tasks=1, alpha=0.5))
    for name, value in clip.state_dict().items():
        assert torch.allclose(half[name], (value + tuned[name]) / 2, atol=1e-7), name


def test_zscl_without_its_three_parts_is_fine_tuning(clip, tokenizer, small):
    nothing = {"distillation_weight": 0, "consolidation": 0, "average_every": 0}
    tuned = weights(learned("fine-tuning", clip, tokenizer, small))
    assert same(weights(learned("zscl", clip, tokenizer, small, **nothing)), tuned)
    for part, value in (("distillation_weight", 1.0), ("consolidation", 1.0), ("average_every", 1)):
        assert not same(weights(learned("zscl", clip, tokenizer, small, **{**nothing, part: value})), tuned), part


def test_zscl_ends_at_the_mean_of_start_and_steps(clip, tokenizer, small, monkeypatch):
    """Every second step of four: the start, and the weights after steps 0 and 2."""
    states = [copy.deepcopy(clip.state_dict())]
    zscl = made("zscl", clip, tokenizer, small, average_every=2)
    fit = type(zscl).__mro__[1].fit

    def watched(self, task, model, loss, after_step):
        def noted(step):
            after_step(step)
            states.extend([copy.deepcopy(model.state_dict())] * (step in (0, 2)))

        fit(self, task, model, loss, after_step=noted)

    monkeypatch.setattr(type(zscl).__mro__[1], "fit", watched)
    zscl.learn(small.tasks[0])
    rows, table = zscl.tokens(small.tasks[0])[:, :1].unique(), "token_embedding.weight"  # while it learns, these alone
    states[0][table], found = states[0][table][rows], weights(zscl)
    found[table] = found[table][rows]
    for name, value in found.items():
        assert torch.allclose(value, sum(s[name] for s in states) / 3, atol=1e-6), name


def test_zscl_consolidation_by_hand(clip, tokenizer, small):
    zscl = made("zscl", clip, tokenizer, small, consolidation=0.5)
    loss = zscl.consolidating(lambda images, labels: torch.tensor(2.0), zscl.clip)
    assert loss(None, None).item() == 2.0
    with torch.no_grad():
        zscl.clip.visual.proj.add_(0.1)
    assert loss(None, None).item() == pytest.approx(2 + 0.5 * 0.01 * zscl.clip.visual.proj.numel(), rel=1e-5)


def test_settings_that_cannot_be(clip, tokenizer, small):
    with pytest.raises(ValueError, match="memory is a whole number, at least 1, not 0"):
        make_method("icarl", clip, tokenizer, tasks=small.tasks, memory=0)
    for wrong, words in (
        ({"ridge": -1}, "ridge is above 0, not -1"),
        ({"share": 5}, "share lies between 0 and 1, and is not 5"),
        ({"hidden": 0}, "hidden is a whole number, at least 1, not 0"),
    ):
        with pytest.raises(ValueError, match=words):
            make_method("analytic", clip, tokenizer, **wrong)
    for wrong, words in (
        ({"iterations": 0}, "iterations is a whole number, at least 1, not 0"),
        ({"iterations": {"digits": 2.5}}, "iterations is a whole number, at least 1, not 2.5"),
        ({"batch_size": True}, "batch_size is a whole number"),
        ({"learning_rate": "1e-3"}, "learning_rate is a number, or one for each task, and not negative: not '1e-3'"),
        ({"learning_rate": {"digits": float("nan")}}, "not negative: not nan"),
        ({"label_smoothing": 2}, "label_smoothing lies between 0 and 1"),
        ({"warmup": -1}, "warmup is a whole number, at least 0, not -1"),
        ({"precision": "half"}, "precision is 'float32', 'bf16' or 'fp16', not 'half'"),
    ):
        with pytest.raises(ValueError, match=words):
            make_method("fine-tuning", clip, tokenizer, **wrong)


def test_a_choice_for_each_task_is_checked_before_the_first_is_learned(clip, tokenizer, small, tmp_path, monkeypatch):
    names = [task.name for task in small.tasks]
    for setting, value in (("learning_rate", 1e-3), ("iterations", 2)):
        learner = made("fine-tuning", clip, tokenizer, small, **{setting: dict.fromkeys(names[:2], value)})
        monkeypatch.setattr(learner, "learn", lambda task: pytest.fail("it learned"))
        with pytest.raises(ValueError, match=f"{setting} has no value for task '{names[2]}'; it has some for"):
            run(learner, small, tmp_path / setting, log=silent)
        assert not (tmp_path / setting).exists()


def test_wise_ft_goes_between_old_and_new(clip, tokenizer):
    with pytest.raises(ValueError, match=r"alpha lies between 0 and 1, and is not 2"):
        make_method("wise-ft", clip, tokenizer, alpha=2)


def test_zscl_wants_captions(clip, tokenizer, small):
    with pytest.raises(ValueError, match="needs reference images and captions"):
        make_method("zscl", clip, tokenizer, reference=small.reference, captions=[])


def test_what_distillation_asks_the_teacher(clip, tokenizer, small, monkeypatch):
    """The added loss, from features that are computed here: CLIP's scale, the teacher's texts on both sides."""
    zscl, task = made("zscl", clip, tokenizer, small), small.tasks[0]
    with torch.no_grad():
        zscl.clip.visual.proj.mul_(0.5).add_(0.02)
    tokens = zscl.tokens(task)[:, 0]
    seed_everything(3)
    monkeypatch.setattr(zscl, "references", (clip, task.train, tokens))
    monkeypatch.setattr(zscl, "cross_entropy", lambda *task: lambda images, labels: torch.tensor(1.0))
    both = zscl.loss(task)
    found = both(None, None).item()
    seed_everything(3)
    images, _ = next(endless(task.train, 8))
    with torch.no_grad():
        texts = F.normalize(clip.encode_text(tokens), dim=-1)
        before, now = (F.normalize(c.encode_image(images), dim=-1) @ texts.T for c in (clip, zscl.clip))
        scale = clip.logit_scale.exp()
        assert found == pytest.approx(1 + distillation_both_ways(scale * before, scale * now).item(), rel=1e-5)


def test_lwf_starts_each_task_at_its_teacher(clip, tokenizer, small):
    lwf = learned("lwf", clip, tokenizer, small, tasks=1)
    teacher, images, tokens = lwf.reference(small.tasks[1])
    assert same(teacher.state_dict(), weights(lwf)) and teacher is not lwf.clip
    assert images is small.tasks[1].train and torch.equal(tokens, lwf.tokens(small.tasks[1])[:, 0])
    assert not any(p.requires_grad for p in teacher.parameters()) and not teacher.training


def test_lwf_vr_s_sentences(clip, tokenizer, small):
    method = made("lwf-vr", clip, tokenizer, small)
    seed_everything(1)
    sentences = method.texts(small.tasks[0])
    start, end = tokenizer(["a"])[0, [0, 2]].tolist()
    assert sentences.shape == (1000, 77)
    assert (sentences[:, 0] == start).all() and (sentences[:, 11] == end).all() and (sentences[:, 12:] == 0).all()
    words = sentences[:, 1:11]
    assert words.min() >= 1 and words.max() < start and words.unique().numel() > 5000
    seed_everything(1)
    assert torch.equal(sentences, method.texts(small.tasks[0]))


def test_herding_by_hand():
    """Directions of 0, 90, 44 and 20 degrees: the mean of all is at 37 degrees, so 44 comes first, and then 20."""
    angles = torch.tensor([0.0, 90.0, 44.0, 20.0]).deg2rad()
    features = 3 * torch.stack([angles.cos(), angles.sin()], dim=1)  # lengths do not count
    assert herding(features, 1).tolist() == [2]  # the mean, (0.665, 0.509), is 0.61, 0.83, 0.19 and 0.32 away
    assert herding(features, 2).tolist() == [2, 3]  # with the third, the others' means are 0.25, 0.46 and 0.17 away
    assert sorted(herding(features, 9).tolist()) == [0, 1, 2, 3]


def test_icarl_s_memory_is_bounded_and_reproducible(clip, tokenizer, small):
    memories = []
    for _ in range(2):
        icarl = made("icarl", clip, tokenizer, small, memory=10)
        sizes = []
        for task in small.tasks:
            icarl.learn(task)
            sizes.append([len(kept) for kept in icarl.memory.values()])
        assert sizes == [[10], [5, 5], [3, 3, 3]]
        memories.append({name: kept.tolist() for name, kept in icarl.memory.items()})
    assert memories[0] == memories[1]
    teacher, images, tokens = icarl.reference(small.tasks[2])
    assert teacher is clip and len(images) == 9
    assert torch.equal(images[3][0], small.tasks[1].train[memories[0][small.tasks[1].name][0]][0])


def test_icarl_distils_nothing_in_its_first_task(clip, tokenizer, small):
    tuned = weights(learned("fine-tuning", clip, tokenizer, small, tasks=1))
    assert same(weights(learned("icarl", clip, tokenizer, small, tasks=1)), tuned)


def test_a_model_a_task_is_fine_tuning_from_the_start(clip, tokenizer, small):
    method = learned("model-per-task", clip, tokenizer, small)
    alone = made("fine-tuning", clip, tokenizer, small, seed=1)  # the second task's seed
    alone.learn(small.tasks[1])
    assert same(method.models[small.tasks[1].name].state_dict(), weights(alone))
    images = torch.stack([small.tasks[2].test[i][0] for i in range(5)])
    zero_shot = make_method("zero-shot", clip, tokenizer)
    with torch.no_grad():
        assert torch.allclose(
            method.scores(images, small.tasks[2]), zero_shot.scores(images, small.tasks[2]), atol=1e-4
        )


def test_joint_training_sees_all_tasks_once(clip, tokenizer, small):
    joint = made("joint", clip, tokenizer, small, label_smoothing=0.0)
    loss = joint.loss(small.tasks[0])
    parts = [(task, *next(endless(task.train, size))) for task, size in zip(small.tasks, (2, 5, 1))]
    images = torch.cat([images for _, images, _ in parts])
    labels = torch.cat([labels + 10 * i for i, (_, _, labels) in enumerate(parts)])
    alone = made("fine-tuning", clip, tokenizer, small)
    losses = [
        alone.cross_entropy(task, alone.clip.encode_image, alone.encode_text, 0.0)(x, y).item() for task, x, y in parts
    ]
    assert loss(images, labels).item() == pytest.approx((2 * losses[0] + 5 * losses[1] + losses[2]) / 8, rel=1e-4)
    joint.learn(small.tasks[0])
    after_one = copy.deepcopy(weights(joint))
    joint.learn(small.tasks[1])
    assert same(after_one, weights(joint)) and not same(after_one, clip.state_dict())


def test_joint_training_takes_the_iterations_of_all_tasks(clip, tokenizer, small, monkeypatch):
    taken = []
    monkeypatch.setattr("mini_lib.methods.base.train", lambda *a, **k: taken.append(a[3]))
    rates = {task.name: n for task, n in zip(small.tasks, (3, 4, 5))}
    learned("joint", clip, tokenizer, small, iterations=rates)
    assert taken == [12]


def test_analytic_learning_ends_at_the_solution_for_all_images_at_once(clip, tokenizer, small):
    method = make_method("analytic", clip, tokenizer, hidden=20, ridge=0.5, share=1.0)
    for task in small.tasks:
        method.learn(task)
    h = torch.cat([method.hidden(method.features(task.train[:][0])) for task in small.tasks])
    targets = F.one_hot(torch.cat([task.train[:][1] + 10 * i for i, task in enumerate(small.tasks)])).double()
    at_once = torch.linalg.solve(h.T @ h + 0.5 * torch.eye(20), h.T @ targets)
    assert (
        torch.allclose(method.learned["weights"], at_once, rtol=0, atol=1e-9) and method.trained_parameters == 20 * 30
    )
    images = small.tasks[1].test[:][0]
    assert torch.allclose(
        method.scores(images, small.tasks[1]).double(),
        method.hidden(method.features(images)) @ at_once[:, 10:20],
        atol=1e-6,
    )


def test_analytic_learning_leaves_unlearned_tasks_to_clip(clip, tokenizer, small):
    zero_shot, images = make_method("zero-shot", clip, tokenizer), small.tasks[2].test[:][0]
    by_clip = zero_shot.scores(images, small.tasks[2]).softmax(dim=1)
    method = make_method("analytic", clip, tokenizer, hidden=20)
    method.learn(small.tasks[0])
    assert torch.allclose(method.scores(images, small.tasks[2]), by_clip, atol=1e-6)
    method.learn(small.tasks[2])
    mixed = 0.8 * (method.hidden(method.features(images)) @ method.learned["weights"][:, 10:]).float() + 0.2 * by_clip
    assert torch.allclose(method.scores(images, small.tasks[2]), mixed, atol=1e-6)


def test_moe_adapters_with_one_task_are_experts_trained_on_it(clip, tokenizer, small):
    """The method's first task, spelt out: one router, the training loop, the two most used experts frozen."""
    from mini_lib import MoEClip

    task, settings = small.tasks[0], {"num_experts": 4, "bottleneck": 4, "selector": "known", "learning_rate": 0.01}
    method = made("moe-adapters", clip, tokenizer, small, **settings)
    method.learn(task)
    seed_everything(0)
    model = MoEClip(clip, 4, 2, 4)
    seed_everything(0)
    model.add_task(task.name)
    encode = (partial(encoder, task=0) for encoder in (model.encode_image, model.encode_text))
    loss = method.cross_entropy(task, *encode, 0.2)
    model.train()
    train(model.parameters(), loss, endless(task.train, 8), 4, 0.01)
    model.eval()
    model.freeze_used_experts()
    ours = model.adapter_state_dict()
    assert all(torch.equal(value, ours[name]) for name, value in method.model.adapter_state_dict().items())


def test_ddas_that_accepts_everything_is_no_ddas(clip, tokenizer, small, tmp_path):
    """With one task there is one router: an infinite limit sends every image of every task to it."""
    one = Benchmark("one", small.tasks[:1], small.reference)
    settings = {"num_experts": 4, "bottleneck": 4, "ddas": {"iterations": 5}}
    accepting = made("moe-adapters", clip, tokenizer, one, **settings)
    run(accepting, one, tmp_path, log=silent)
    accepting.selector.limits.fill_(torch.inf)
    without = made("moe-adapters", clip, tokenizer, one, **{**settings, "ddas": None, "selector": "none"})
    without.learn(one.tasks[0])
    images = torch.cat([task.test.tensors[0] for task in small.tasks])
    with torch.no_grad():
        for task in small.tasks:
            assert (accepting.select(images, task) == 0).all()
            assert torch.equal(accepting.scores(images, task), without.scores(images, task))
    accepting.selector.limits.fill_(0.0)
    assert (accepting.select(images, small.tasks[0]) == -1).all()


@pytest.mark.parametrize("precision", ["bf16"])
@pytest.mark.parametrize("name", ["lwf", "zscl"])
def test_distillation_in_half_precision_and_parts(clip, tokenizer, small, name, precision):
    method = learned(name, clip, tokenizer, small, tasks=1, precision=precision, accumulation=2, checkpointing=True)
    assert all(v.isfinite().all() for v in weights(method).values())


def test_more_parts_than_a_batch_has_images(clip, tokenizer, small):
    """iCaRL distils from its second task on: what is wrong would be found there, hours in."""
    assert len(learned("icarl", clip, tokenizer, small, tasks=2, batch_size=2, accumulation=3).memory) == 2


def test_needs_are_those_of_the_constructor(small):
    assert needs("zero-shot", small) == {} and set(needs("moe-adapters", small)) == {"reference"}
    assert set(needs("zscl", small)) == {"reference", "captions"} and needs("icarl", small)["tasks"] is small.tasks


def test_methods_are_registered_explicitly_and_a_name_is_taken_once(monkeypatch):
    before, fine_tuning = dict(METHODS), METHODS["fine-tuning"]
    variant = type("Variant", (fine_tuning,), {})
    assert METHODS == before  # a subclass registers nothing by itself
    with pytest.raises(ValueError, match="there is a method 'fine-tuning' already.*override=True"):
        register(variant)
    with pytest.raises(ValueError, match="Method has no name to be known by"):
        register(Method)
    monkeypatch.setitem(METHODS, "fine-tuning", fine_tuning)  # put back after the test
    assert register(override=True)(variant) is variant and METHODS["fine-tuning"] is variant


def test_every_method_is_a_short_file_that_cites_its_source():
    for path in (ROOT / "mini_lib" / "methods").glob("*.py"):
        lines = [line for line in path.read_text().splitlines() if line.strip()]
        assert len(lines) <= 170 or "@register" not in lines, f"{path.name} has {len(lines)} lines"
    assert all(issubclass(m, Method) and m.__doc__ for m in METHODS.values())


def test_texts_of_the_teacher_are_encoded_in_parts(clip, tokenizer, small, monkeypatch):
    method, task = made("zscl", clip, tokenizer, small), small.tasks[0]
    seen = []

    def noted(teacher, tokens):
        seen.append(len(tokens))
        return encode_text_trimmed(teacher, tokens)

    monkeypatch.setattr("mini_lib.methods.distilled.encode_text_trimmed", noted)
    tokens = method.tokens(task)[:, 0].repeat(60, 1)
    monkeypatch.setattr(method, "references", (clip, task.train, tokens))
    method.loss(task)
    assert seen == [512, 88]


def test_tasks_of_another_kind_work_too(clip, tokenizer, small):
    """A task without validation images, as a user may make it."""
    task = small.tasks[0]
    bare = Task(task.name, task.classnames, task.templates, task.train, task.test)
    for name in ("lwf", "icarl", "zscl", "wise-ft"):
        made(name, clip, tokenizer, Benchmark("bare", [bare], small.reference, captions=small.captions)).learn(bare)


def test_classes_that_a_clip_s_own_tokenizer_takes_for_one(clip, tokenizer, small, tmp_path):
    """Such as one that leaves out accents; `Task` only knows the tokenizer of OpenAI's CLIP."""

    def plain(texts):
        return tokenizer([text.replace("é", "e") for text in texts])

    names = ["café", "cafe", *small.tasks[1].classnames[2:]]
    tasks = [small.tasks[0], replace(small.tasks[1], classnames=names)]
    words = f"task {tasks[1].name!r}: to this CLIP's tokenizer the class names 'café' and 'cafe' are the same: rename"
    for name in ("zero-shot", "fine-tuning"):
        settings = TRAINING if name == "fine-tuning" else {}
        with pytest.raises(ValueError, match=words):
            run(make_method(name, clip, plain, **settings), replace(small, tasks=tasks), tmp_path / name, log=silent)
        assert not (tmp_path / name).exists()
    with pytest.raises(ValueError, match=words):
        evaluate(make_method("zero-shot", clip, plain), tasks[1])
    assert evaluate(make_method("zero-shot", clip, tokenizer), tasks[1])[0] >= 0
