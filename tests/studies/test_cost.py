"""The cost of learning: the paper's count of parameters, bytes and operations by hand, the saved table, the command."""

import json
import re

import nbformat
import pandas as pd
import pytest
import torch
from helpers import ROOT
from torch import nn

from mini_lib import load_clip, make_method
from mini_lib.__main__ import main
from mini_lib.clip import count_parameters
from mini_lib.embedded import tiny
from mini_lib.studies import cost


@pytest.fixture(scope="module")
def vit():
    return cost.shapes("ViT-B-16")


@pytest.fixture(scope="module")
def terms(vit):
    return cost.parameter_terms(vit)


@pytest.fixture(scope="module")
def table():
    return pd.read_csv(cost.FILE)


CLAIM = ("image experts", "text experts", "routers", "routers' noise", "one autoencoder")


def test_the_claim_term_by_term(vit, terms):
    assert {t.device.type for t in (*vit.parameters(), *vit.buffers())} == {"meta"}
    assert count_parameters(vit) == 149_620_737
    assert [terms[part] for part in CLAIM] == [26_171_904, 17_453_568, 3_717_120, 3_717_120, 8_696_164]
    assert sum(terms[part] for part in CLAIM) == 59_755_876
    assert 100 * (59_755_876 / 149_620_737 - 1) == pytest.approx(-60.06, abs=0.005)
    assert terms["may change in the last task"] == 43_625_472 + 2 * 12 * 22 * (768 + 512) == 44_301_312
    assert terms["convolutions of AlexNet"] == 2_469_696


def test_the_same_counts_as_the_official_code(terms, golden):
    official = json.loads((golden / "params_vitb16.json").read_text())
    assert terms["image experts"] == official["experts_vision"] and terms["text experts"] == official["experts_text"]
    assert terms["routers"] == official["routers"] and terms["routers' noise"] == official["noise"]
    assert terms["one autoencoder"] == official["autoencoder_one"]
    assert sum(terms[part] for part in CLAIM) == official["claim_trainable"]
    assert terms["may change in the last task"] == official["receive_gradient_one_task_max"]
    stored = official["claim_trainable"] + 11 * terms["one autoencoder"]
    assert stored == official["stored_total_with_12_autoencoders"]


def test_an_unknown_model():
    with pytest.raises(ValueError, match=r"'ViT-B-17' is unknown: take one of open_clip\.list_models"):
        cost.shapes("ViT-B-17")


@pytest.mark.parametrize("option", ["--batch=0", "--classes=0", "--steps=-1"])
def test_the_command_refuses_counts_that_cannot_be(option):
    with pytest.raises(SystemExit, match="^--batch and --classes are at least 1, --steps is at least 0.$"):
        main(["cost", option, "--out", "never.csv"])


def test_no_more_than_may_change_gets_a_gradient(clip, tokenizer):
    """The count of 44.3 million, on a small model: experts and one task's routers with their noise, nothing else."""
    learner = make_method("moe-adapters", clip, tokenizer, num_experts=2, selector="known")
    learner.model.add_task("old")
    model, loss = step(learner)
    loss(torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 0])).backward()
    learned = sum(p.numel() for p in model.parameters() if p.grad is not None)
    with torch.device("meta"):
        terms = cost.parameter_terms(tiny.build(width=64, vision_layers=2, text_layers=2), tasks=2, num_experts=2)
    assert learned == count_parameters(model, trainable=True) == terms["may change in the last task"]


def step(learner):
    return cost.training_step(learner, cost.Task("new", ["a", "b", "c"], ["{}"], None, None))


def test_saved_bytes_by_hand():
    x, layer = torch.randn(2, 3, requires_grad=True), nn.Linear(3, 4)
    assert cost.saved_bytes(lambda: layer(x).relu(), layer) == 4 * (2 * 3 + 2 * 4)
    assert cost.saved_bytes(lambda: (layer(x).relu(), layer(x).relu()), layer) == 4 * (2 * 3 + 2 * 2 * 4)  # x once
    layer.requires_grad_(False)
    assert cost.saved_bytes(lambda: layer(x).relu(), layer) == 4 * 2 * 4
    with torch.no_grad():
        assert cost.saved_bytes(lambda: layer(x).relu(), layer) == 0


def test_operations_by_hand():
    x, layer = torch.randn(2, 3, requires_grad=True), nn.Linear(3, 4)
    assert cost.step_operations(lambda images, labels: layer(images).sum(), x, None) == (48, 96)
    layer.requires_grad_(False)
    assert cost.step_operations(lambda images, labels: layer(images).sum(), x, None) == (48, 48)


def test_fused_attention_counts_like_its_parts():
    """Frozen attention in evaluation mode is one operation to PyTorch; trained, it is counted product by product."""
    x, attention = torch.randn(2, 5, 8), nn.MultiheadAttention(8, 2, batch_first=True).eval()
    head = nn.Linear(8, 1)

    def loss(images, labels):
        return head(attention(images, images, images, need_weights=False)[0]).sum()

    trained, _ = cost.step_operations(loss, x, None)
    attention.requires_grad_(False)
    frozen, backward = cost.step_operations(loss, x, None)
    assert frozen == trained and backward == 2 * 2 * 5 * 8


@pytest.mark.parametrize("method", ["fine-tuning", "adapter-per-task", "moe-adapters"])
def test_the_step_that_is_measured_is_the_one_that_is_trained(method, clip, tokenizer, small):
    """The loss that is caught gives the gradients of `learn`; measuring changes no weight."""
    learner = make_method(method, clip, tokenizer, **({"selector": "known"} if method == "moe-adapters" else {}))
    model, loss = step(learner)
    before = {k: v.clone() for k, v in model.named_parameters()}
    images, labels = torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 0])
    seconds = cost.step_seconds(model, loss, images, labels, steps=2)
    assert len(seconds) == 3 and min(seconds) > 0
    assert all(torch.equal(before[k], v) for k, v in model.named_parameters())
    assert all(p.grad is None for p in model.parameters() if not p.requires_grad)


def test_the_parts_of_memory():
    row = pd.DataFrame([{"parameters": 10_000_000, "trained": 2_000_000, "saved_bytes": 3_000_000}])
    assert cost.memory_parts(row).round(6).to_dict("records") == [
        {"weights": 0.04, "gradients": 0.008, "moments": 0.016, "saved": 0.003}
    ]


@pytest.mark.slow
def test_the_command_writes_rows_and_replaces_them(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cost, "load_clip", lambda name, pretrained: load_clip("tiny", pretrained))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    file = tmp_path / "cost.csv"
    sizes = ["--batch", "4", "--classes", "3", "--out", str(file)]
    main(["cost", *sizes, "--steps", "1"])
    first = pd.read_csv(file)
    main(["cost", *sizes, "--steps", "0"])
    second = pd.read_csv(file)
    assert len(first) == len(second) == len(cost.CASES) and list(first.method) == list(second.method)
    assert (first.saved_bytes == second.saved_bytes).all()  # a count, the same on every run
    assert (first.forward_seconds > 0).all() and second.forward_seconds.isna().all()
    assert first.forward_flops.dtype == int


def test_the_saved_table(table, vit, terms):
    assert not table.duplicated(cost.KEY).any() and set(table.model) == {cost.MODEL}
    assert not table.machine.str.contains("/").any()
    trained = table.set_index("method").trained
    full, clip = 149_620_736, 149_620_737  # the temperature is not trained
    assert set(trained["fine-tuning"]) == {full}
    big = table[table.experts == 22]
    assert set(big.trained) == {terms["may change in the last task"]}
    assert set(big.parameters) == {clip + terms["may change in the last task"]}
    for _, part in table.groupby(["machine", "precision", "batch", "classes"]):
        assert len(part) == len(cost.CASES)
        cases = part.set_index(["method", "experts", "checkpointing"]).sort_index()
        moe, again = cases.loc[("moe-adapters", 22, False)], cases.loc[("moe-adapters", 22, True)]
        tuned = cases.loc[("fine-tuning", 0, False)]
        assert again.saved_bytes < 0.15 * moe.saved_bytes
        if part.forward_flops.notna().all():
            assert tuned.backward_flops / tuned.forward_flops == pytest.approx(2, abs=0.03)
            assert moe.backward_flops / moe.forward_flops == pytest.approx(1, abs=0.03)
            assert tuned.forward_flops < moe.forward_flops < 1.04 * tuned.forward_flops
            assert again.backward_flops == pytest.approx(moe.backward_flops + moe.forward_flops, rel=0.02)


def test_every_large_number_in_the_text_was_counted(terms):
    """Whole numbers of seven digits and more in the prose of notebook 11 are in the output of a cell beside it."""
    notebook = nbformat.read(ROOT / "notebooks" / "11_what_does_it_cost.ipynb", as_version=4)
    printed = "".join(o.get("text", "") for c in notebook.cells if c.cell_type == "code" for o in c.outputs)
    prose = "\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")
    quoted = {re.sub(r"\D", "", n) for n in re.findall(r"\d{1,3}(?:(?:,|\\,)\d{3}){2,}", prose)}
    assert len(quoted) > 5
    assert quoted <= {n.replace(",", "") for n in re.findall(r"[\d,]+", printed)}


@pytest.mark.slow
def test_a_gpu_would_hardly_be_waited_for():
    """In a step of 24 blocks with 22 experts. 2,112 of the operations hand the gradients of the experts' tensors over."""
    training, one, three = cost.step_asks(num_experts=22, selector="known").values()
    assert training[0] <= 7600 and training[0] - training[1] <= 4000 and training[2] <= 12
    assert one[2] <= 12 and three[2] <= 40


def test_what_would_be_waited_for():
    x = torch.arange(4.0)
    for waits, work in {
        0: lambda: x.view(2, 2) @ x.view(2, 2), 1: lambda: x.sum().item(), 2: lambda: (x.tolist(), x.nonzero()), 3: lambda: (x[x > 1], bool(x[0]), x.unique()),
    }.items():  # fmt: skip
        with cost.Asked() as asked:
            work()
        assert asked.waits == waits and asked.operations >= asked.looks
