"""Zero-shot: the original CLIP, which learns nothing and forgets nothing. Shown in notebook 01."""

from ..clip import class_logits
from .base import Method


class ZeroShot(Method):
    """Scores are CLIP's own: cosine similarity of the image with each class's prompts (Radford et al. 2021)."""

    name = "zero-shot"
    learns = False

    def __init__(self, clip, tokenizer):
        super().__init__(clip, tokenizer)

    def learn(self, task):
        pass

    def scores(self, images, task):
        embeddings = self.embeddings(task, self.clip.encode_text, key=-1)
        return class_logits(self.clip, self.clip.encode_image(images.to(self.device)), embeddings)
