"""What LwF, LwF-VR, iCaRL and ZSCL share: a frozen teacher, asked about reference images and texts. Used in notebook 08."""

import torch
from torch.nn import functional as F

from ..benchmarks.base import endless
from ..clip import encode_text_trimmed
from .fine_tuning import FineTuning

TEXTS_AT_ONCE = 512  # reference texts that the teacher encodes in one batch


def distillation(reference, logits, temperature=2.0):
    """T^2 CE(softmax(reference / T), softmax(logits / T)), the mean over rows. (B, C), (B, C) -> ()

    (Hinton et al. 2015; T = 2 in LwF and ZSCL.) The gradient vanishes where the two softmaxes agree.
    """
    return temperature**2 * F.cross_entropy(logits / temperature, (reference / temperature).softmax(dim=1))


def distillation_both_ways(reference, logits, temperature=2.0):
    """Of each image over all texts, and of each text over all images of the batch (ZSCL, equations 3 and 4)."""
    return distillation(reference, logits, temperature) + distillation(reference.T, logits.T, temperature)


class Distilled(FineTuning):
    """Fine-tuning with L = CE + distillation_weight (KD over texts + KD over images), on images x and texts z of a subclass's choice:

    logits = s f(x) g'(z)^T against s f'(x) g'(z)^T, with the teacher's towers f' and g', unit features, and CLIP's scale
    s. The texts are the teacher's on both sides, so that distillation itself trains the image tower alone, as in ZSCL's
    code for all four methods.
    """

    def __init__(self, clip, tokenizer, distillation_weight=1.0, temperature=2.0, **training):
        super().__init__(clip, tokenizer, **training)
        self.settings |= {"distillation_weight": distillation_weight, "temperature": temperature}

    def reference(self, task, model):
        """What is distilled while `model` learns the task: teacher, data set of images, texts (N, L). None: nothing."""
        raise NotImplementedError(f"{type(self).__name__} does not say what it distils.")

    def fit(self, task, model, loss, after_step=None):
        found = self.reference(task, model) if self.settings["distillation_weight"] else None
        if found:
            loss = self.distilling(loss, model, *found)
        super().fit(task, model, loss, after_step=after_step)

    def distilling(self, loss, model, teacher, dataset, tokens):
        """The loss plus that of distillation, on a new batch of reference images every time."""
        scale = teacher.logit_scale.exp()
        with torch.no_grad():
            texts = [encode_text_trimmed(teacher, part) for part in tokens.to(self.device).split(TEXTS_AT_ONCE)]
            texts = scale * F.normalize(torch.cat(texts), dim=-1)  # (N, D)
        batches = endless(dataset, self.settings["batch_size"] // self.settings["accumulation"])

        def both(images, labels):
            seen = next(batches)[0].to(self.device)
            with self.autocast():
                with torch.no_grad():
                    before = teacher.encode_image(seen)
                now = model.encode_image(seen)
            before, now = (F.normalize(features.float(), dim=-1) @ texts.T for features in (before, now))  # (B, N)
            kept = distillation_both_ways(before, now, self.settings["temperature"])
            return loss(images, labels) + self.settings["distillation_weight"] * kept

        return both
