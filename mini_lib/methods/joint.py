"""Joint training on all tasks at once: the upper bound for a single model. Used in notebook 08."""

from torch.utils.data import ConcatDataset

from ..benchmarks import Task
from ..benchmarks.cil import Shifted
from .fine_tuning import FineTuning


class Joint(FineTuning):
    """Fine-tuning on the images of all tasks, shuffled together, before the first; the other tasks change nothing.

    Each image is judged among its own task's classes. The iterations are those of all tasks together. It breaks the rule
    of the game: nothing is ever unseen, so its Transfer is no zero-shot ability.
    """

    name = "joint"

    def __init__(self, clip, tokenizer, tasks, **training):
        super().__init__(clip, tokenizer, **training)
        self.tasks = tasks

    def learn(self, task):
        if self.learned:
            self.learned += 1
            return
        everything = ConcatDataset([Shifted(task.train, first) for task, first in zip(self.tasks, self.firsts)])
        names = [name for task in self.tasks for name in task.classnames]
        super().learn(Task("all tasks", names, [], train=everything, test=None))

    @property
    def firsts(self):
        """The place of each task's first class among the classes of all."""
        sizes = [len(task.classnames) for task in self.tasks]
        return [sum(sizes[:i]) for i in range(len(sizes))]

    def cross_entropy(self, everything, encode_image, encode_text, label_smoothing):
        of_one = super().cross_entropy
        losses = [of_one(task, encode_image, encode_text, label_smoothing) for task in self.tasks]

        def loss(images, labels):
            total = 0
            for task, first, own in zip(self.tasks, self.firsts, losses):
                rows = (labels >= first) & (labels < first + len(task.classnames))
                if rows.any():
                    total = total + own(images[rows], labels[rows] - first) * (rows.sum() / len(rows))
            return total

        return loss

    def fit(self, task, model, loss):
        super().fit(task, model, loss, sum(self.setting("iterations", task) for task in self.tasks))
