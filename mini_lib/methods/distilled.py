"""What LwF, LwF-VR, iCaRL and ZSCL share: a frozen teacher, asked about reference images and texts. Used in notebook 08."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from ..benchmarks.base import Task
from ..clip import encode_text_trimmed
from ..training import endless
from .fine_tuning import FineTuning

TEXTS_AT_ONCE = 512  # reference texts that the teacher encodes in one batch


def distillation(reference: Tensor, logits: Tensor, temperature: float = 2.0) -> Tensor:
    """T^2 CE(softmax(reference / T), softmax(logits / T)), the mean over rows. (B, C), (B, C) -> ()

    (Hinton et al. 2015; T = 2 in LwF and ZSCL.) The gradient vanishes where the two softmaxes agree.
    """
    return temperature**2 * F.cross_entropy(logits / temperature, (reference / temperature).softmax(dim=1))


def distillation_both_ways(reference: Tensor, logits: Tensor, temperature: float = 2.0) -> Tensor:
    """Of each image over all texts, and of each text over all images of the batch (ZSCL, equations 3 and 4)."""
    return distillation(reference, logits, temperature) + distillation(reference.T, logits.T, temperature)


class Distilled(FineTuning):
    """Fine-tuning with L = CE + distillation_weight (KD over texts + KD over images), on images x and texts z of a subclass's choice:

    logits = s f(x) g'(z)^T against s f'(x) g'(z)^T, with the teacher's towers f' and g', unit features, and CLIP's scale
    s. The texts are the teacher's on both sides, so that distillation itself trains the image tower alone, as in ZSCL's
    code for all four methods.
    """

    @dataclass
    class Settings(FineTuning.Settings):
        distillation_weight: float = 1.0
        temperature: float = 2.0

    def reference(self, task: Task) -> tuple[Any, Dataset, Tensor] | None:
        """What is distilled while a task is learned: teacher, data set of images, texts (N, L). None: nothing."""
        raise NotImplementedError(f"{type(self).__name__} does not say what it distils.")

    def loss(self, task: Task) -> Callable[[Tensor, Tensor], Tensor]:
        """Cross-entropy plus distillation, on a new batch of reference images every time."""
        loss, choice = super().loss(task), self.settings
        found = self.reference(task) if choice.distillation_weight else None
        if found is None:
            return loss
        teacher, dataset, tokens = found
        scale = teacher.logit_scale.exp()
        with torch.no_grad():
            texts = [encode_text_trimmed(teacher, part) for part in tokens.to(self.device).split(TEXTS_AT_ONCE)]
            texts = scale * F.normalize(torch.cat(texts), dim=-1)  # (N, D)
        batches = endless(dataset, max(choice.batch_size // choice.accumulation, 1))

        def both(images, labels):
            seen = next(batches)[0].to(self.device)
            with self.autocast():
                with torch.no_grad():
                    before = teacher.encode_image(seen)
                now = self.clip.encode_image(seen)
            before, now = (F.normalize(features.float(), dim=-1) @ texts.T for features in (before, now))  # (B, N)
            kept = distillation_both_ways(before, now, choice.temperature)
            return loss(images, labels) + choice.distillation_weight * kept

        return both
