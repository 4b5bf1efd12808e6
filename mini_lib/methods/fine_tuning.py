"""Continual fine-tuning: all of CLIP is trained on each task in turn. Built in notebook 02."""

import copy

import torch

from ..clip import class_logits, count_parameters, encode_text_trimmed
from .base import TrainedMethod, seed_everything


def trainable_copy(clip, checkpointing):
    """A copy of a CLIP in which everything but the temperature can be trained."""
    model = copy.deepcopy(clip).requires_grad_(True)
    model.logit_scale.requires_grad_(False)
    model.set_grad_checkpointing(checkpointing)
    return model


class FineTuning(TrainedMethod):
    """Cross-entropy on the current task, both towers, the temperature excepted ("Continual-FT" in the paper)."""

    name = "fine-tuning"

    def __init__(self, clip, tokenizer, learning_rate=3e-4, **training):
        super().__init__(clip, tokenizer, {}, learning_rate, **training)
        self.clip = trainable_copy(clip, self.settings["checkpointing"])
        self.learned = 0

    def encode_text(self, tokens):
        return encode_text_trimmed(self.clip, tokens)

    def learn(self, task):
        choice = self.settings
        seed_everything(choice["seed"] + self.learned)
        loss = self.cross_entropy(task, self.clip.encode_image, self.encode_text, choice["label_smoothing"])
        self.fit(task, self.clip, loss)
        self.learned += 1

    def scores(self, images, task):
        embeddings = self.embeddings(task, self.encode_text)
        return class_logits(self.clip, self.clip.encode_image(images.to(self.device)), embeddings)

    def state_dict(self):
        return {**self.clip.state_dict(), "learned": torch.tensor(self.learned)}

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.learned = int(state["learned"])
        self.clip.load_state_dict({k: v for k, v in state.items() if k != "learned"})

    @property
    def trained_parameters(self):
        return count_parameters(self.clip, trainable=True)
