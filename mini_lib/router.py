"""The gate: which experts answer, and with what weight. Built in notebook 04."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NOISE_FLOOR = 1e-2  # added to the noise's standard deviation, so that it never vanishes


class Router(nn.Module):
    """Noisy top-k gate (the paper's W = Softmax(TopK(R(c))); Shazeer et al. 2017, equations 3 to 5).

    clean = x W_gate; when training, logits = clean + noise * (softplus(x W_noise) + 0.01), else logits = clean;
    gates = softmax over the k largest logits of a row, 0 elsewhere. Both matrices start at zero: all experts alike.
    """

    def __init__(self, width: int, num_experts: int, top_k: int = 2):
        super().__init__()
        if not 1 <= top_k <= num_experts:
            raise ValueError(f"top_k is {top_k}, but must lie between 1 and the number of experts, {num_experts}.")
        self.top_k = top_k
        self.w_gate = nn.Parameter(torch.zeros(width, num_experts))
        self.w_noise = nn.Parameter(torch.zeros(width, num_experts))

    def forward(self, x: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x (B, D) -> gates (B, E), load (E,).

        noise (B, E): the standard normal draw; by default it is drawn when training and absent in evaluation.
        load: how many samples each expert gets; with noise a smooth estimate that carries gradients.
        """
        clean = x @ self.w_gate.to(x.dtype)  # (B, E)
        if noise is None and self.training:
            noise = torch.randn_like(clean)
        if noise is None:
            gates = top_k_softmax(clean, self.top_k)
            return gates, (gates > 0).sum(dim=0).to(gates.dtype)
        std = F.softplus(x @ self.w_noise.to(x.dtype)) + NOISE_FLOOR
        noisy = clean + noise * std
        gates = top_k_softmax(noisy, self.top_k)
        if self.top_k == clean.shape[1]:
            return gates, (gates > 0).sum(dim=0).to(gates.dtype)
        return gates, smooth_load(clean, noisy, std, self.top_k)


def top_k_softmax(logits: Tensor, k: int) -> Tensor:
    """Softmax over the k largest of each row, 0 elsewhere. (B, E) -> (B, E)"""
    values, indices = logits.topk(k, dim=1)
    return torch.zeros_like(logits).scatter(1, indices, values.softmax(dim=1))


def smooth_load(clean: Tensor, noisy: Tensor, std: Tensor, k: int) -> Tensor:
    """The expected number of samples an expert gets if its own noise were drawn anew. (B, E) x 3 -> (E,)

    Expert e stays in the top k of a row when its new logit exceeds the k-th largest of the others: that is the
    (k+1)-th largest of the row if e is among the top k now, else the k-th. (Shazeer et al. 2017, appendix A.)
    """
    largest = noisy.topk(k + 1, dim=1).values
    chosen_bar, other_bar = largest[:, k : k + 1], largest[:, k - 1 : k]  # (B, 1) each
    bar = torch.where(noisy > chosen_bar, chosen_bar, other_bar)
    return torch.special.ndtr((clean - bar) / std).sum(dim=0)


def load_balance_loss(gates: Tensor, load: Tensor) -> Tensor:
    """Squared variation of importance plus that of load: 0 when all experts are used alike.

    gates (B, E), load (E,) -> scalar. The official code computes it and drops it; here its weight is a choice.
    """

    def squared_variation(v):
        return v.var() / (v.mean() ** 2 + 1e-10) if len(v) > 1 else v.new_zeros(())  # one expert has nothing to share

    return squared_variation(gates.sum(dim=0)) + squared_variation(load)
