"""ZSCL: zero-shot ability kept by distilling what CLIP says of reference images and texts. Used in notebook 08."""

from torch.optim.swa_utils import AveragedModel

from .distilled import Distilled


class ZSCL(Distilled):
    """L = CE + KD + consolidation * |theta - theta_(t-1)|^2, and at the end the mean of the weights on the way.

    KD, in both directions, from the original CLIP on reference images and captions; the squared distance to the weights
    at the start of the task keeps them together; the mean is taken over the start and the weights after every
    `average_every` steps, the first step included (Zheng et al. 2023, sections 3.1 and 3.2; official code: 100 of 1,000
    iterations, consolidation 1). average_every None is a tenth of the iterations, 0 no mean. With distillation_weight,
    consolidation and average_every 0 it is fine-tuning, to the bit.
    captions: reference texts, those of a benchmark. Raises ValueError where there are none.
    """

    name = "zscl"

    def __init__(self, clip, tokenizer, reference, captions, consolidation=1.0, average_every=None, **training):
        super().__init__(clip, tokenizer, **training)
        if reference is None or not captions:
            raise ValueError("ZSCL needs reference images and captions, and this benchmark lacks them.")
        self.settings |= {"consolidation": consolidation, "average_every": average_every}
        self.references = clip, reference, tokenizer(sorted(set(captions)))

    def reference(self, task, model):
        return self.references

    def fit(self, task, model, loss):
        choice = self.settings
        every = self.setting("iterations", task) // 10 if choice["average_every"] is None else choice["average_every"]
        if choice["consolidation"]:
            loss = self.consolidating(loss, model)
        if not every:
            super().fit(task, model, loss)
            return
        average = AveragedModel(model)
        average.update_parameters(model)  # the first of the mean: the weights at the start

        def after_step(step):
            if step % every == 0:
                average.update_parameters(model)

        super().fit(task, model, loss, after_step)
        model.load_state_dict(average.module.state_dict())

    def consolidating(self, loss, model):
        """The loss plus the squared distance to the weights as they are now."""
        start = [(p, p.detach().clone()) for p in model.parameters() if p.requires_grad]

        def held(images, labels):
            moved = sum((p - before).pow(2).sum() for p, before in start)
            return loss(images, labels) + self.settings["consolidation"] * moved

        return held
