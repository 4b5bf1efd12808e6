"""The expert and the gate, on numbers computed by hand."""

import math

import pytest
import torch

from mini_lib.adapter import Adapter
from mini_lib.router import Router, load_balance_loss, smooth_load, top_k_softmax


def test_new_adapter_changes_nothing():
    assert torch.equal(Adapter(6, bottleneck=3)(torch.randn(2, 5, 6)), torch.zeros(2, 5, 6))


def test_adapter_by_hand():
    adapter = Adapter(2, bottleneck=1, scale=0.1, dropout=0.0)
    with torch.no_grad():
        adapter.down_proj.weight.copy_(torch.tensor([[1.0, 2.0]]))
        adapter.down_proj.bias.fill_(-1.0)
        adapter.up_proj.weight.copy_(torch.tensor([[10.0], [20.0]]))
        adapter.up_proj.bias.copy_(torch.tensor([1.0, 0.0]))
    # down: 1*3 + 2*1 - 1 = 4; up: (41, 80); scaled: (4.1, 8.0).  Second row: relu(-3) = 0, only the bias is left.
    result = adapter(torch.tensor([[3.0, 1.0], [0.0, -1.0]]))
    torch.testing.assert_close(result, torch.tensor([[4.1, 8.0], [0.1, 0.0]]))


def test_adapter_dropout_only_in_training():
    adapter = Adapter(4, dropout=0.5)
    torch.nn.init.ones_(adapter.up_proj.weight)
    x = torch.ones(1, 4)
    adapter.eval()
    assert torch.equal(adapter(x), adapter(x))
    adapter.train()
    assert not torch.equal(adapter(x), adapter(x))


def test_softmax_over_the_kept_logits_only():
    # Softmax over (2, 1) alone: e / (e + 1), 1 / (e + 1).
    gates = top_k_softmax(torch.tensor([[1.0, -5.0, 2.0, 0.5]]), 2)
    big = math.e / (math.e + 1)
    torch.testing.assert_close(gates, torch.tensor([[1 - big, 0.0, big, 0.0]]))
    assert torch.equal(top_k_softmax(torch.randn(3, 4), 1).max(dim=1).values, torch.ones(3))


def test_noise_follows_training_mode_and_can_be_given():
    router = Router(3, 5)
    x = torch.randn(4, 3)
    router.eval()
    assert torch.equal(router(x)[0], router(x)[0])
    router.train()
    assert not torch.equal(router(x)[0], router(x)[0])
    noise = torch.randn(4, 5)
    assert torch.equal(router(x, noise)[0], router(x, noise)[0])
    # At zero weights the logits are noise * (softplus(0) + 0.01) = noise * (ln 2 + 0.01).
    expected = top_k_softmax(noise * (math.log(2) + 0.01), 2)
    torch.testing.assert_close(router(x, noise)[0], expected)


def test_smooth_load_by_hand():
    # One row, k = 1, noisy logits (3, 1): expert 0 stays on top if its new logit exceeds 1, expert 1 must exceed 3.
    clean, noisy = torch.tensor([[2.0, 1.0]]), torch.tensor([[3.0, 1.0]])
    load = smooth_load(clean, noisy, torch.ones(1, 2), 1)
    torch.testing.assert_close(load, torch.tensor([0.84134, 0.02275]), atol=1e-5, rtol=0)


def test_balance_loss_by_hand():
    gates = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    # importance (2, 0): variance 2, mean 1 -> 2; load (2, 0) the same: together 4. Equal use: 0.
    torch.testing.assert_close(load_balance_loss(gates, torch.tensor([2.0, 0.0])), torch.tensor(4.0))
    assert load_balance_loss(torch.eye(2), torch.ones(2)) == 0
    assert load_balance_loss(torch.ones(3, 1), torch.tensor([3.0])) == 0  # one expert: nothing to share, no NaN


@pytest.mark.parametrize("k", [0, 6])
def test_impossible_top_k(k):
    with pytest.raises(ValueError, match="between 1 and the number of experts, 5"):
        Router(3, 5, top_k=k)
