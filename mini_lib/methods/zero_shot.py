"""Zero-shot: the original CLIP, which learns nothing and forgets nothing. Shown in notebook 01."""

from torch import Tensor

from ..benchmarks.base import Task
from ..clip import class_logits
from .base import Method, register


@register
class ZeroShot(Method):
    """Scores are CLIP's own: cosine similarity of the image with each class's prompts (Radford et al. 2021)."""

    name = "zero-shot"
    learns = False

    def learn(self, task: Task) -> None:
        pass

    def scores(self, images: Tensor, task: Task) -> Tensor:
        embeddings = self.embeddings(task, self.clip.encode_text, key=-1)
        return class_logits(self.clip, self.clip.encode_image(images.to(self.device)), embeddings)
