"""Continual fine-tuning: all of CLIP is trained on each task in turn. Built in notebook 02."""

import copy

import torch

from ..clip import class_logits, count_parameters, encode_text_trimmed
from .base import Method, endless, seed_everything, train


class FineTuning(Method):
    """Cross-entropy on the current task, both towers, the temperature excepted ("Continual-FT" in the paper)."""

    name = "fine-tuning"

    def __init__(
        self, clip, tokenizer, learning_rate=3e-4, iterations=150, batch_size=64, label_smoothing=0.2, seed=0
    ):
        super().__init__(
            copy.deepcopy(clip), tokenizer, learning_rate=learning_rate, iterations=iterations,
            batch_size=batch_size, label_smoothing=label_smoothing, seed=seed,
        )  # fmt: skip
        self.clip.requires_grad_(True).logit_scale.requires_grad_(False)
        self.learned = 0

    def encode_text(self, tokens):
        return encode_text_trimmed(self.clip, tokens)

    def learn(self, task):
        choice = self.settings
        seed_everything(choice["seed"] + self.learned)
        loss = self.cross_entropy(task, self.clip.encode_image, self.encode_text, choice["label_smoothing"])
        batches = endless(task.train, choice["batch_size"])
        train(self.clip.parameters(), loss, batches, choice["iterations"], choice["learning_rate"], name=task.name)
        self.learned += 1
        self.forget_embeddings()

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
