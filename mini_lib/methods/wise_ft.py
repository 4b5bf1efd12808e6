"""WiSE-FT: after each task, back part of the way to the weights before it. Used in notebook 08."""

import torch

from .fine_tuning import FineTuning


class WiSEFT(FineTuning):
    """Fine-tuning, then theta <- alpha theta_t + (1 - alpha) theta_(t-1), all weights alike.

    (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models"; step by step over tasks as in ZSCL's experiments,
    alpha 0.8 there.) alpha 1 is fine-tuning, alpha 0 never moves.
    """

    name = "wise-ft"

    def __init__(self, clip, tokenizer, alpha=0.8, **training):
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha lies between 0 (the old weights) and 1 (the new ones), not {alpha!r}.")
        super().__init__(clip, tokenizer, **training)
        self.settings["alpha"] = alpha

    def fit(self, task, model, loss):
        before = [p.detach().clone() for p in model.parameters()]
        super().fit(task, model, loss)
        with torch.no_grad():
            for parameter, old in zip(model.parameters(), before):
                parameter.mul_(self.settings["alpha"]).add_(old, alpha=1 - self.settings["alpha"])
