"""MoEClip: the original path, batches of mixed tasks, what training may touch, activate–freeze."""

import copy
from concurrent.futures import ThreadPoolExecutor

import open_clip
import pytest
import torch
from helpers import ask_experts

from mini_lib.clip import class_embeddings, class_logits, encode_text_trimmed
from mini_lib.moe import MoEAdapter, MoEClip, Route


@pytest.fixture(autouse=True, params=["sorted", "gathered"])
def way(request, monkeypatch):
    """Both ways of asking the experts, whatever the samples' length and wherever they are."""
    ask_experts(monkeypatch, request.param)


@pytest.fixture
def images():
    return torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def tokens(tokenizer):
    return tokenizer(["a star.", "a photo of the number three in red.", "the letter k.", "something green."])


def stirred(clip, tasks=("a", "b"), **settings):
    """A MoEClip whose experts and routers are random instead of zero, so that every path gives something else."""
    model = MoEClip(clip, **{"num_experts": 4, "bottleneck": 8, **settings})
    for task in tasks:
        model.add_task(task)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for layer in model.layers:
            for p in layer.parameters():
                p.copy_(torch.randn(p.shape, generator=generator) * 0.5)
    return model.eval()


def test_original_path_is_clip_to_the_bit(clip, images, tokens):
    expected_image, expected_text = clip.encode_image(images), clip.encode_text(tokens)
    model = stirred(clip)
    assert torch.equal(model.encode_image(images), expected_image)
    assert torch.equal(model.encode_image(images, torch.full((6,), -1)), expected_image)
    assert torch.equal(model.encode_text(tokens), expected_text)
    assert not torch.allclose(model.encode_image(images, "a"), expected_image, atol=1e-2)
    torch.testing.assert_close(encode_text_trimmed(clip, tokens), expected_text, atol=1e-5, rtol=1e-5)


def test_new_task_starts_as_clip(clip, images):
    model = MoEClip(clip, num_experts=3)
    model.add_task("a")
    torch.testing.assert_close(model.eval().encode_image(images, "a"), clip.encode_image(images), atol=0, rtol=0)


def test_one_route_serves_step_after_step():
    """Notebook 04 trains a layer by hand so: each step's gradients are those that a new route gives."""
    torch.manual_seed(0)
    layer = MoEAdapter(width=8, num_experts=4, top_k=2, bottleneck=3, dropout=0.0)
    layer.add_router()
    torch.nn.init.normal_(layer.routers[0].w_gate)
    for expert in layer.experts:
        torch.nn.init.normal_(expert.up_proj.weight)
    x = torch.randn(3, 5, 8)
    route, seen = Route(0, 0), []
    for used in (route, route, Route(0, 0), route):
        layer.zero_grad()
        torch.manual_seed(1)  # the router's noise
        first = layer(x, used)
        (first + layer(2 * x, used)).square().sum().backward()  # twice in one graph, as a tower's blocks are
        seen.append([None if p.grad is None else p.grad.clone() for p in layer.parameters()])
    for gradients in seen[1:]:
        assert all(a is b is None or torch.equal(a, b) for a, b in zip(seen[0], gradients))


@pytest.mark.parametrize("token", ["sot", "eot"])
def test_mixed_batch_equals_one_task_at_a_time(clip, images, tokens, token):
    model = stirred(clip, text_router_token=token)
    mixed = model.encode_image(images, torch.tensor([0, -1, 1, 1, 0, -1]))
    for row, task in enumerate(["a", None, 1, "b", 0, -1]):
        torch.testing.assert_close(mixed[row], model.encode_image(images, task)[row], atol=1e-5, rtol=1e-5)
    mixed = model.encode_text(tokens, torch.tensor([1, 0, -1, 0]))
    for row, task in enumerate([1, 0, None, 0]):
        torch.testing.assert_close(mixed[row], model.encode_text(tokens, task)[row], atol=1e-5, rtol=1e-5)


def test_text_gate_sees_the_prompt_only_at_its_end(clip, tokens):
    for token, same in (("sot", True), ("eot", False)):
        model = stirred(copy.deepcopy(clip), text_router_token=token)
        seen = []
        handle = model.text_layers[1].routers[0].register_forward_hook(lambda m, i, o: seen.append(o[0]))
        model.encode_text(tokens, 0)
        handle.remove()
        assert torch.allclose(seen[0], seen[0][:1].expand_as(seen[0]), atol=1e-5) == same


def test_a_step_leaves_the_rest_untouched(clip, images):
    model = stirred(clip)
    model.add_task("c")
    model.image_layers[0].frozen[0] = True
    for layer in model.layers:
        layer.apply_frozen()
    model.train()
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.01, weight_decay=0.1)

    def changed_by_a_step(*experts):
        """Names of what changes in a step whose noise drives every sample to these experts."""
        noise = torch.zeros(2, 6, 4)
        noise[:, :, list(experts)] = 30.0
        before = {k: v.clone() for k, v in model.state_dict().items()}
        optimiser.zero_grad()
        model.encode_image(images, "c", noise).pow(2).sum().backward()
        optimiser.step()
        return {k for k, v in model.state_dict().items() if not torch.equal(v, before[k]) and "counts" not in k}

    for experts in ((0, 1), (2, 3), (0, 1)):  # in the second step, 0 and 1 have moments already and must not move
        changed = changed_by_a_step(*experts)
        moved = {tuple(k.split(".")[:4]) for k in changed}
        assert {m for m in moved if m[2] == "experts"} == {
            ("image_layers", str(block), "experts", str(e)) for block in (0, 1) for e in experts
        } - {("image_layers", "0", "experts", "0")}
        assert {m for m in moved if m[2] != "experts"} == {("image_layers", str(b), "routers", "2") for b in (0, 1)}


def test_counts_and_freezing(clip, images):
    model = stirred(clip)
    layer = model.image_layers[0]
    model.add_task("c")
    model.train()
    model.encode_image(images, "c")
    assert layer.counts.sum() == 2 * len(images)  # top-2
    model.eval()
    model.encode_image(images, "c")
    assert layer.counts.sum() == 2 * len(images)  # evaluation does not count
    layer.counts.copy_(torch.tensor([3, 9, 9, 0]))
    model.text_layers[0].counts.copy_(torch.tensor([0, 0, 5, 0]))
    model.freeze_used_experts()
    assert layer.frozen.tolist() == [False, True, True, False]
    assert model.text_layers[0].frozen.tolist() == [False, False, True, False]  # an unused expert is never frozen
    assert [e.down_proj.weight.requires_grad for e in layer.experts] == [True, False, False, True]
    model.add_task("d")
    assert layer.counts.sum() == 0
    layer.counts.copy_(torch.tensor([1, 8, 0, 7]))
    model.freeze_used_experts(number=None)
    assert layer.frozen.tolist() == [True, True, True, True]  # the union grows
    assert [r.w_gate.requires_grad for r in layer.routers] == [False, False, False, True]


def test_state_survives(clip, images):
    model = stirred(copy.deepcopy(clip))
    model.image_layers[0].frozen[1] = True
    other = MoEClip(copy.deepcopy(clip), num_experts=4, bottleneck=8).eval()
    other.load_adapter_state_dict(model.adapter_state_dict())
    assert other.tasks == ["a", "b"]
    assert torch.equal(other.encode_image(images, "b"), model.encode_image(images, "b"))
    assert not other.image_layers[0].experts[1].up_proj.weight.requires_grad
    with pytest.raises(ValueError, match="another number of experts"):
        MoEClip(copy.deepcopy(clip), num_experts=5, bottleneck=8).load_adapter_state_dict(model.adapter_state_dict())


@pytest.mark.parametrize("other", [{"num_experts": 5}, {"bottleneck": 8}])
def test_a_checkpoint_of_other_sizes_is_refused(clip, other):
    model = MoEClip(clip, **{"num_experts": 4, "bottleneck": 16} | other)
    model.add_task("a")
    with pytest.raises(ValueError, match="the checkpoint was made with another number of experts.*or other widths"):
        MoEClip(clip, num_experts=4, bottleneck=16).load_adapter_state_dict(model.adapter_state_dict())


def test_deep_copy_is_independent(clip, images):
    model = stirred(clip)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for p in twin.image_layers.parameters():
            p.zero_()
    assert torch.equal(twin.encode_image(images, "a"), clip.encode_image(images))
    assert not torch.equal(model.encode_image(images, "a"), clip.encode_image(images))


def snapshot(clip):
    """All that hangs on a CLIP's modules: parts, hooks, and what was set on an object itself."""
    return {
        name: {key: list(value) if isinstance(value, dict) else value for key, value in vars(module).items()}
        for name, module in clip.named_modules()
    }


class Broken(torch.nn.Module):
    """A part of an expert that fails, or is interrupted."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def forward(self, x):
        raise self.error


@pytest.mark.parametrize("error", [RuntimeError("an expert fails"), KeyboardInterrupt()], ids=type)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_nothing_is_ever_left_on_clip(clip, images, tokens, error, checkpointing):
    model, before = stirred(clip, checkpointing=checkpointing), snapshot(clip)
    features = clip.encode_image(images), clip.encode_text(tokens)
    model.train().encode_image(images, "a").sum().backward()
    for layers in (model.image_layers, model.text_layers):
        for expert in layers[-1].experts:
            expert.dropout = Broken(error)
    for encode, given in ((model.encode_image, images), (model.encode_text, tokens)):
        with pytest.raises(type(error)) as caught:  # it holds the traceback, as a notebook does
            encode(given, "a")
        assert torch._C._autograd._top_saved_tensors_default_hooks(False) is None and caught
    assert snapshot(clip) == before
    assert torch.equal(clip.encode_image(images), features[0]) and torch.equal(clip.encode_text(tokens), features[1])
    with pytest.raises(RuntimeError):
        model.encode_image(torch.randn(6, 3, 16, 16), "a")  # open_clip itself fails
    assert snapshot(clip) == before


def test_two_on_one_clip_do_not_see_each_other_in_two_threads(clip, images, tokens):
    """Of different depths, so that each would notice the other's experts, and with texts of different lengths."""
    first, second = stirred(clip), stirred(clip, image_at=[0], text_at=[])
    longer, shorter = tokens, tokens[[0, 2]]
    with torch.no_grad():
        wanted = {
            first: (first.encode_image(images, "a"), first.encode_text(longer, "b")),
            second: (second.encode_image(images, "b"), second.encode_text(shorter, "a")),
        }

    @torch.no_grad()
    def work(model, tasks, texts):
        found = [(model.encode_image(images, tasks[0]), model.encode_text(texts, tasks[1])) for _ in range(40)]
        return all(torch.equal(a, b) for pair in found for a, b in zip(pair, wanted[model]))

    with ThreadPoolExecutor(2) as pool:
        right = [pool.submit(work, first, "ab", longer), pool.submit(work, second, "ba", shorter)]
        assert all(future.result() for future in right)


def test_one_model_serves_two_threads(clip, images):
    model = stirred(clip)
    with torch.no_grad():
        wanted = {task: model.encode_image(images, task) for task in "ab"}

    @torch.no_grad()
    def work(task):
        return all(torch.equal(model.encode_image(images, task), wanted[task]) for _ in range(40))

    with ThreadPoolExecutor(2) as pool:
        assert all(pool.map(work, "ab"))


@pytest.mark.slow
def test_compiled_encoders_give_the_same(clip, images, tokens):
    model = stirred(clip)
    with torch.no_grad():
        for encode, given in ((model.encode_image, images), (model.encode_text, tokens)):
            compiled = torch.compile(encode, backend="eager")  # tracing, without a C++ compiler
            for task in ("a", "b", None, torch.tensor([0, 1, -1, 0, 1, -1])[: len(given)]):
                torch.testing.assert_close(compiled(given, task), encode(given, task))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions(clip, images, tokens, dtype):
    model = stirred(clip)
    with torch.no_grad():
        wanted = model.encode_image(images, "a"), model.encode_text(tokens, "b"), clip.encode_image(images)
        model.to(dtype)
        found = model.encode_image(images, "a"), model.encode_text(tokens, "b"), model.encode_image(images)
    for ours, theirs in zip(found, wanted):
        assert ours.dtype == dtype
        cosine = torch.nn.functional.cosine_similarity(ours.double(), theirs.double())
        assert cosine.min() > (0.999999 if dtype == torch.float64 else 0.99)


def test_experts_in_float32_on_a_clip_in_bf16(clip, images, tokens):
    wanted = stirred(copy.deepcopy(clip)).encode_image(images, "a")
    model = stirred(clip.to(torch.bfloat16)).train()
    assert model.image_layers[0].experts[0].up_proj.weight.dtype == torch.float32
    loss = model(images, tokens[:, None], "a", torch.tensor([0, 1, 2, 3, 0, 1]))
    loss.backward()
    gradients = [p.grad for p in model.image_layers.parameters() if p.grad is not None]
    assert loss.dtype == torch.float32 and gradients and all(g.dtype == torch.float32 for g in gradients)
    found = model.eval().encode_image(images, "a")
    assert torch.nn.functional.cosine_similarity(found.float(), wanted).min() > 0.99


# As one module


def test_forward_is_logits_or_loss(clip, images, tokens):
    model, labels = stirred(clip), torch.tensor([0, 1, 2, 3, 0, 1])
    logits = model(images, tokens.unflatten(0, (2, 2)), "a")
    classes = class_embeddings(lambda tokens: model.encode_text(tokens, "a"), tokens.unflatten(0, (2, 2)))
    assert torch.equal(logits, class_logits(clip, model.encode_image(images, "a"), classes)) and logits.shape == (6, 2)
    four = model(images, tokens[:, None], "a")
    loss = model(images, tokens[:, None], "a", labels, 0.2)
    assert torch.equal(loss, torch.nn.functional.cross_entropy(four, labels, label_smoothing=0.2))


def test_a_data_parallel_wrapper_gives_the_same_gradients(clip, images, tokens, tmp_path):
    model, labels = stirred(clip), torch.tensor([0, 1, 2, 3, 0, 1])
    model(images, tokens[:, None], "a", labels).backward()
    wanted = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    file = (tmp_path / "store").as_uri()
    torch.distributed.init_process_group("gloo", init_method=file, rank=0, world_size=1)
    try:
        wrapped = torch.nn.parallel.DistributedDataParallel(model, find_unused_parameters=True)
        wrapped(images, tokens[:, None], "a", labels).backward()
    finally:
        torch.distributed.destroy_process_group()
    found = dict(model.named_parameters())
    assert len(wanted) > 10
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name].grad, gradient)


@pytest.mark.parametrize(
    "task, error, words",
    [
        ("z", KeyError, "never added"), (2, IndexError, "between -1 and 1"), (-2, IndexError, "between -1 and 1"),
        (torch.tensor([0, 1]), ValueError, "6 samples"), (torch.zeros(6), TypeError, "LongTensor"),
    ],
)  # fmt: skip
def test_bad_tasks(clip, images, task, error, words):
    with pytest.raises(error, match=words):
        stirred(clip).encode_image(images, task)


def test_a_checkpoint_of_other_tasks_is_refused(clip):
    saved, model = MoEClip(clip, num_experts=2), MoEClip(clip, num_experts=2)
    saved.add_task("a")
    model.add_task("b")
    with pytest.raises(
        ValueError, match="the checkpoint has the tasks .'a'., this model has .'b'.: they must begin alike"
    ):
        model.load_adapter_state_dict(saved.adapter_state_dict())


def test_bad_settings(clip):
    model = MoEClip(clip, num_experts=2)
    model.add_task("a")
    with pytest.raises(ValueError, match="there already"):
        model.add_task("a")
    with pytest.raises(ValueError, match="'sot' or 'eot'"):
        MoEClip(clip, text_router_token="cls")
    with pytest.raises(ValueError, match="bottleneck is at least 1, not 0"):
        MoEClip(clip, bottleneck=0)
    with pytest.raises(ValueError, match="-1 experts cannot be frozen: take 0 or more"):
        model.freeze_used_experts(-1)
    with pytest.raises(ValueError, match="take a ViT CLIP"):
        MoEClip(open_clip.create_model("RN50", pretrained=None), num_experts=2)
