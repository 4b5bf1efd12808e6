"""ZSCL: zero-shot ability kept by distilling what CLIP says of reference images and texts. Used in notebook 08."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import Dataset

from ..benchmarks.base import Task
from ..benchmarks.fingerprint import digest, fingerprint
from .base import register, whole_number
from .distilled import Distilled


@register
class ZSCL(Distilled):
    """L = CE + KD + consolidation * |theta - theta_(t-1)|^2, and at the end the mean of the weights on the way.

    KD, in both directions, from the original CLIP on reference images and captions; the squared distance to the weights
    at the start of the task keeps them together; the mean is taken over the start and the weights after every
    `average_every` steps, the first step included (Zheng et al. 2023, sections 3.1 and 3.2; official code: 100 of 1,000
    iterations, consolidation 1). average_every None is a tenth of the iterations, 0 no mean. With distillation_weight,
    consolidation and average_every 0 it is fine-tuning, to the bit.
    captions: reference texts, those of a benchmark. Raises ValueError where there are none.
    """

    @dataclass
    class Settings(Distilled.Settings):
        consolidation: float = 1.0
        average_every: int | None = None

        def __post_init__(self):
            super().__post_init__()
            if self.average_every is not None:
                whole_number("average_every", self.average_every, at_least=0)

    name = "zscl"

    def __init__(
        self, clip: nn.Module, tokenizer: Callable, reference: Dataset | None, captions: Sequence[str], **settings
    ):
        super().__init__(clip, tokenizer, **settings)
        if reference is None or not captions:
            raise ValueError("ZSCL needs reference images and captions, and this benchmark lacks them.")
        self.references = clip, reference, tokenizer(sorted(set(captions)))

    def given(self) -> dict[str, str]:
        _, reference, tokens = self.references
        return {"reference": fingerprint(reference), "captions": digest(tokens)}

    def reference(self, task: Task) -> tuple[nn.Module, Dataset, Tensor]:
        return self.references

    def fit(self, task: Task, model: nn.Module, loss: Callable[[Tensor, Tensor], Tensor], **options) -> None:
        choice = self.settings
        every = choice.average_every
        every = choice.of("iterations", task.name) // 10 if every is None else every
        if choice.consolidation:
            loss = self.consolidating(loss, model)
        if not every:
            super().fit(task, model, loss, **options)
            return
        average = AveragedModel(model)
        average.update_parameters(model)  # the first of the mean: the weights at the start

        def after_step(step):
            if step % every == 0:
                average.update_parameters(model)

        super().fit(task, model, loss, after_step=after_step, **options)
        model.load_state_dict(average.module.state_dict())

    def consolidating(self, loss: Callable[[Tensor, Tensor], Tensor], model: nn.Module) -> Callable:
        """The loss plus the squared distance to the weights as they are now."""
        start = [(p, p.detach().clone()) for p in model.parameters() if p.requires_grad]

        def held(images, labels):
            moved = sum((p - before).pow(2).sum() for p, before in start)
            return loss(images, labels) + self.settings.consolidation * moved

        return held
