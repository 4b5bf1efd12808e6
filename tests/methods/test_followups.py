"""The methods after the paper, by values that can be had otherwise: RAIL, CoDyRA, DIKI, LADA, MoE-Adapters++, class means."""

import copy
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mini_lib import make_method
from mini_lib.benchmarks.base import merged
from mini_lib.clip import class_logits, encode_text_trimmed
from mini_lib.methods import needs
from mini_lib.methods.analytic import gaussian_kernel
from mini_lib.methods.codyra import GatedLoRA, gated_lora, soft_threshold
from mini_lib.methods.diki import PrefixedAttention
from mini_lib.methods.growing import Fingerprints, LimitedRouter, fingerprint_distance
from mini_lib.methods.lada import gaussians, k_means, replayed
from mini_lib.router import Router

QUICK = {"iterations": 2, "batch_size": 8}


def made(name, clip, tokenizer, benchmark, **settings):
    return make_method(name, clip, tokenizer, **needs(name, benchmark), **settings)


# RAIL and class means


def test_dual_regression_is_the_solution_for_all_images_at_once(clip, tokenizer, small):
    method = made("analytic", clip, tokenizer, small, kernel="dual", share=1.0, gamma=0.5, ridge=0.01)
    for task in small.tasks:
        method.learn(task)
    f = torch.cat([method.features(task.train[:][0]) for task in small.tasks]).double()
    y = F.one_hot(torch.cat([task.train[:][1] + 10 * i for i, task in enumerate(small.tasks)])).double()
    kernel = torch.stack([torch.stack([(-0.5 * (a - b).square().sum()).exp() for b in f]) for a in f[:3]])
    torch.testing.assert_close(gaussian_kernel(f, f, 0.5)[:3], kernel)
    alpha = torch.linalg.solve(gaussian_kernel(f, f, 0.5) + 0.01 * torch.eye(len(f)), y)
    images = small.tasks[1].test[:][0]
    expected = gaussian_kernel(method.features(images).double(), f, 0.5) @ alpha
    torch.testing.assert_close(method.scores(images, small.tasks[1]).double(), expected[:, 10:20], atol=1e-5, rtol=0)
    assert method.settings.ridge == 0.01
    assert [made("analytic", clip, tokenizer, small, kernel=k).settings.ridge for k in ("primal", "dual")] == [
        0.1,
        0.001,
    ]


@pytest.mark.parametrize("name, settings", [("analytic", {"hidden": 20}), ("nearest-mean", {})])
def test_the_gate_touches_an_unlearned_image_only_where_zero_shot_names_a_learned_class(
    clip, tokenizer, small, name, settings
):
    method = made(name, clip, tokenizer, small, **settings)
    zero_shot = made("zero-shot", clip, tokenizer, small)
    method.learn(small.tasks[0])
    changed = 0
    for place in (1, 2):
        task = merged(small.tasks, place)
        images = torch.stack([task.test[i][0] for i in range(len(task.test))])
        with torch.no_grad():
            own, by_clip = method.scores(images, task), zero_shot.scores(images, task).softmax(dim=1)
        learned = by_clip.argmax(dim=1) < 10  # names of the task that is learned
        assert (own[~learned] == by_clip[~learned]).all()
        assert (method.select(images, task) == torch.where(learned, 0, -1)).all()
        changed += int((own[learned] != by_clip[learned]).any(dim=1).sum())
        labels = torch.tensor([task.test[i][1] for i in range(len(task.test))])
        assert ((own.argmax(1) == labels) >= (by_clip.argmax(1) == labels)).all()  # never worse than zero-shot
    assert changed


def test_class_means_by_hand(clip, tokenizer, small):
    method = made("nearest-mean", clip, tokenizer, small)
    for task in small.tasks[:2]:
        method.learn(task)
    images, labels = small.tasks[1].train[:]
    features = F.normalize(clip.encode_image(images), dim=-1)
    mean = F.normalize(features[labels == 3].mean(dim=0), dim=-1)
    torch.testing.assert_close(method.means[10 + 3], mean)
    assert method.trained_parameters == 20 * len(mean) and method.first == {"digits": 0, "fabric": 10}
    scores = method.scores(images, small.tasks[1])
    assert (scores.argmax(dim=1) == (features @ method.means[10:].T).argmax(dim=1)).all()


# A selector's task, and its names


def test_an_image_is_judged_among_the_names_of_the_task_that_was_chosen(clip, tokenizer, small):
    found = {}
    for chosen in (True, False):
        method = made(
            "moe-adapters", clip, tokenizer, small, selector="gaussian", names_of_chosen=chosen, bottleneck=4, **QUICK
        )
        for task in small.tasks[:2]:
            method.learn(task)
        task = merged(small.tasks, 0)
        images = torch.stack([task.test[i][0] for i in range(6)])
        selected = torch.tensor([0, 1, -1, 0, 1, -1])
        with torch.no_grad():
            found[chosen] = method.scores(images, task, selected)
    owner = torch.arange(30) // 10
    lowest = torch.finfo(torch.float32).min
    for row, of in zip(range(6), selected.tolist()):
        kept = owner == of if of >= 0 else torch.ones(30, dtype=torch.bool)
        assert (found[True][row, ~kept] == lowest).all()
        assert torch.equal(found[True][row, kept], found[False][row, kept])


# CoDyRA


def test_merging_changes_no_score_and_nothing_grows(clip, tokenizer, small):
    model, images = copy.deepcopy(clip), small.tasks[0].test[:][0][:4]
    tokens = tokenizer(["a cat.", "a dog."])
    names, before = list(model.state_dict()), copy.deepcopy(model.state_dict())
    with torch.no_grad(), gated_lora(model, 3) as gates:
        for lora in (m for m in model.modules() if isinstance(m, GatedLoRA)):
            lora.b.normal_(std=0.02)
        assert len(gates) == 4 * (len(model.visual.transformer.resblocks) + len(model.transformer.resblocks))
        changed = model.encode_image(images), encode_text_trimmed(model, tokens)
    merged_features = model.encode_image(images), encode_text_trimmed(model, tokens)
    for a, b in zip(changed, merged_features):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=0)
    assert set(model.state_dict()) == set(names)
    assert not torch.allclose(changed[0], clip.encode_image(images), atol=1e-3)
    assert not any(p.requires_grad for p in model.parameters())
    model.load_state_dict(before)
    with pytest.raises(KeyboardInterrupt), torch.no_grad(), gated_lora(model, 3):
        for lora in (m for m in model.modules() if isinstance(m, GatedLoRA)):
            lora.b.normal_()
        raise KeyboardInterrupt
    assert all(torch.equal(before[name], model.state_dict()[name]) for name in names)


def test_gated_update_by_hand():
    lora = GatedLoRA(torch.zeros(4, 3), 2, parts=2)
    with torch.no_grad():
        lora.b.normal_()
        expected = torch.cat([lora.b[i] @ lora.gate[i].diag() @ lora.a[i] for i in range(2)])
        torch.testing.assert_close(lora(torch.ones(4, 3)), 1 + expected)
    assert soft_threshold(torch.tensor([-0.5, 0.2, 0.0, 0.7]), 0.3).tolist() == pytest.approx([-0.2, 0, 0, 0.4])


def test_codyra_s_gates_shrink_in_the_second_half_and_its_size_stays(clip, tokenizer, small, monkeypatch):
    taken = []
    monkeypatch.setattr("mini_lib.methods.codyra.soft_threshold", lambda x, by: (taken.append(by), x)[1])
    method = made("codyra", clip, tokenizer, small, iterations=4, batch_size=8, rank=2, threshold=0.004)
    size = sum(v.numel() for v in method.state_dict().values())
    for task in small.tasks[:2]:
        method.learn(task)
    blocks = len(clip.visual.transformer.resblocks) + len(clip.transformer.resblocks)
    assert sorted(set(taken)) == pytest.approx([0.25, 0.5])  # 0.004 * 500 / 4, half of it in the first of two steps
    assert len(taken) == 2 * 2 * 4 * blocks
    assert sum(v.numel() for v in method.state_dict().values()) == size
    with gated_lora(method.clip, 2):
        now = sum(p.numel() for m in method.clip.modules() if isinstance(m, GatedLoRA) for p in m.parameters(False))
    assert method.trained_parameters == now


# DIKI


@pytest.mark.parametrize("batch_first", [True, False])
def test_prefixes_are_a_second_attention(batch_first):
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(8, 2, batch_first=batch_first)
    nn.init.normal_(attention.in_proj_bias)
    x, keys, values, weight = torch.randn(3, 5, 8), torch.randn(4, 8), torch.randn(4, 8), torch.tensor([0.0, 0.5, 1.0])
    given = x if batch_first else x.transpose(0, 1)
    with torch.no_grad():
        found = PrefixedAttention(attention, keys, values, weight)(given, given, given, need_weights=False)[0]
        plain = attention(given, given, given, need_weights=False)[0]
        found, plain = (y if batch_first else y.transpose(0, 1) for y in (found, plain))
        q = x @ attention.in_proj_weight[:8].T + attention.in_proj_bias[:8]
        heads = [(q[..., h] @ keys[:, h].T / 2).softmax(-1) @ values[:, h] for h in (slice(0, 4), slice(4, 8))]
        added = torch.cat(heads, dim=-1) @ attention.out_proj.weight.T
        torch.testing.assert_close(found, plain + weight[:, None, None] * added)
        none = PrefixedAttention(attention, keys, torch.zeros(4, 8))(given, given, given, need_weights=False)[0]
        assert torch.equal(none if batch_first else none.transpose(0, 1), plain)


def test_new_prefixes_change_nothing_and_a_sure_selector_lets_them_count(clip, tokenizer, small):
    method = made("diki", clip, tokenizer, small, length=3, **QUICK)
    images = small.tasks[0].test[:][0][:8]
    with torch.no_grad():
        torch.testing.assert_close(method.encode_image(images, method.new_prefixes()), clip.encode_image(images))
    method.learn(small.tasks[0])
    own, other = method.weights(images, 0), method.weights(small.tasks[2].test[:][0][:8], 0)
    assert own.mean() > other.mean() and (0 <= other).all() and (own <= 1).all()
    told = made("diki", clip, tokenizer, small, selector="known", length=3, **QUICK)
    assert told.weights(images, 0) is None
    count = sum(-(-2 * len(b) // 3) for b in (clip.visual.transformer.resblocks, clip.transformer.resblocks))
    width = clip.visual.transformer.width
    assert method.trained_parameters == 2 * 3 * width * count  # both towers of the tiny CLIP are as wide


# LADA


def test_centres_and_gaussians_by_hand():
    torch.manual_seed(0)
    x = torch.tensor([[0.0, 0.0], [0.0, 2.0], [9.0, 0.0], [9.0, 4.0]])
    for _ in range(5):
        centres, nearest = k_means(x, 2)
        if centres[:, 0].sort().values.tolist() == [0, 9]:
            break
    assert {tuple(c) for c in centres.tolist()} == {(0.0, 1.0), (9.0, 2.0)} and nearest[0] == nearest[1] != nearest[2]
    assert k_means(x[:1], 3)[0].tolist() == [[0, 0]] * 3  # fewer rows than centres
    one = gaussians([x[:2]], 1)
    assert one["means"].tolist() == [[[0, 1]]] and one["shares"].tolist() == [[1]]
    assert one["deviations"].item() == pytest.approx(0.5**0.5)  # squares (0 + 1) / 2 a coordinate


def test_replay_draws_from_old_classes_alone():
    kept = {
        "means": torch.eye(3)[:, None], "shares": torch.ones(3, 1), "deviations": torch.full((3, 1), 0.01),
    }  # fmt: skip
    features, labels = replayed([kept, kept], 200)
    assert set(labels.tolist()) == set(range(6)) and features.shape == (200, 3)
    assert (features.argmax(dim=1) == labels % 3).all()
    torch.testing.assert_close(features.norm(dim=1), torch.ones(200))


def test_memories_add_to_clip_s_scores(clip, tokenizer, small):
    method = made("lada", clip, tokenizer, small, memories=2, prototypes=1, sharpness=3.0, **QUICK)
    method.learn(small.tasks[0])
    images, task = small.tasks[0].test[:][0][:4], small.tasks[0]
    f, kept = method.features(images), method.learned["digits"]
    by_clip = class_logits(clip, f, method.text(task))
    near = torch.stack([(f @ w.T) for w in kept["memories"]], dim=1)  # (4, C, 2)
    torch.testing.assert_close(method.scores(images, task), by_clip + (-3 * (1 - near)).exp().sum(dim=2))
    other = small.tasks[2]
    torch.testing.assert_close(method.scores(images, other), class_logits(clip, f, method.text(other)))
    before = kept["memories"].clone()
    method.learn(small.tasks[1])
    assert torch.equal(method.learned["digits"]["memories"], before)


# MoE-Adapters++


def test_a_router_sees_only_the_experts_that_there_are():
    torch.manual_seed(0)
    router, whole = LimitedRouter(5, 6, 2), Router(5, 3, 2)
    with torch.no_grad():
        for weights in (router.w_gate, router.w_noise):
            weights.normal_()
        whole.w_gate.copy_(router.w_gate[:, :3])
    router.active.fill_(3)
    x = torch.randn(7, 5)
    gates, load = router.eval()(x)
    assert torch.equal(gates[:, :3], whole.eval()(x)[0]) and not gates[:, 3:].any() and load.shape == (6,)
    gates = router.train()(x)[0]
    gates[:, 0].sum().backward()
    assert router.w_gate.grad[:, :3].any() and not router.w_gate.grad[:, 3:].any()


def test_fingerprints_by_hand():
    mark, errors = torch.tensor([1.0, 2.0]), torch.tensor([[2.0, 2.0, 5.0], [1.0, 1.0, 5.0]])
    assert fingerprint_distance(mark, errors).tolist() == pytest.approx([0.25 / 2**0.5, 0.25 / 2**0.5])
    prints = Fingerprints(quantile=1.0, granularity="sample")
    assert prints.select(errors).tolist() == [-1, -1]
    prints.marks, prints.held_out = [mark, torch.tensor([1.0, 1.0, 5.0])], torch.tensor([0.1])
    assert prints.select(errors).tolist() == [-1, 1]  # 0.177 and more is too far, 0 is not
    prints.granularity = "batch"
    assert prints.distances(errors).shape == (1, 2) and len(prints.select(errors)) == 2


def test_when_an_expert_is_added(clip, tokenizer, small):
    def grown(expand, history):
        method = made("moe-adapters++", clip, tokenizer, small, expand=expand, bottleneck=4, max_experts=4)
        method.experts, method.usual = torch.tensor([2, 2]), torch.tensor([1.0, 0.1])[:, None, None].expand(2, 2, 4)
        history = torch.tensor(history)[:, None, None].expand(-1, 2, 4)
        method.grow(history, method.experts.clone())
        return method.experts.tolist()

    assert grown("always", [1.0]) == [3, 3]
    assert grown("old_tasks", [1.05, 1.1]) == [2, 2] and grown("old_tasks", [1.2, 1.3]) == [3, 3]
    assert grown("within", [1.0]) == [3, 2]  # nothing to compare with yet; the lowest block is forced
    assert grown("within", [1.0, 1.0, 1.0, 1.2]) == [3, 3]  # an outlier within the task is enough
    assert grown("within", [5.0, 5.0, 5.1, 5.0]) == [3, 2]  # however far the whole task is from the old ones


def test_older_experts_and_autoencoders_stay(clip, tokenizer, small):
    method = made("moe-adapters++", clip, tokenizer, small, expand="always", bottleneck=4, max_experts=5, **QUICK)
    method.learn(small.tasks[0])
    held = copy.deepcopy(method.model.adapter_state_dict()), copy.deepcopy(method.coders.state_dict())
    images = small.tasks[0].test[:][0][:4]
    with torch.no_grad():
        before = method.scores(images, small.tasks[0], torch.zeros(4, dtype=torch.long))
    method.learn(small.tasks[1])
    assert method.experts.tolist() == [3] * len(method.experts) and len(method.prints.marks[1]) == 3
    now = method.model.adapter_state_dict(), method.coders.state_dict()
    for old, new, kind in zip(held, now, ("experts", None)):
        for name, tensor in old.items():
            parts = name.split(".")
            number = int(parts[parts.index("experts") + 1] if kind and "experts" in parts else parts[1]) if (kind is None or "experts" in parts) else None  # fmt: skip
            if number is not None and number < 2:
                assert torch.equal(tensor, new[name]), name
    with torch.no_grad():
        after = method.scores(images, small.tasks[0], torch.zeros(4, dtype=torch.long))
        by_clip = method.scores(images, small.tasks[0], torch.full((4,), -1))
        expected = class_logits(clip, clip.encode_image(images), method.embeddings(
            small.tasks[0], partial(encode_text_trimmed, clip), key=-1))  # fmt: skip
    assert torch.equal(before, after) and torch.equal(by_clip, expected)


def test_a_checkpoint_holds_the_experts_that_there_are(clip, tokenizer, small):
    """The others come back as they were made: a method that goes on learns the same as one that was never stopped."""
    settings = dict(expand="always", bottleneck=4, max_experts=5, **QUICK)
    whole, stopped, resumed = (made("moe-adapters++", clip, tokenizer, small, **settings) for _ in range(3))
    for method in (whole, stopped):
        method.learn(small.tasks[0])
    state = stopped.state_dict()
    assert {name.split(".")[4] for name in state if ".experts." in name} == {"0", "1"}  # of five
    assert {name.split(".")[2] for name in state if name.startswith("coders.")} == {"0", "1"}
    resumed.load_state_dict(state)
    for method in (whole, resumed):
        method.learn(small.tasks[1])
    assert all(torch.equal(tensor, resumed.made()[name]) for name, tensor in whole.made().items())
