"""What a learner is given: tasks, one after another. Shown in notebook 07, used from notebook 02 on."""

from dataclasses import dataclass, field

import torch
from torch.utils.data import Dataset


@dataclass
class Task:
    """One step of the stream: a data set with its own class names (paper, section 3.1).

    train, val and test are map-style datasets of (image, label); image is a float tensor (3, H, W) as CLIP's
    preprocessing makes it, label an index into classnames. val is taken from the training images: tune on it, never
    on test. templates turn a class name into prompts: the first is used in training, all of them in evaluation.
    """

    name: str
    classnames: list
    templates: list
    train: Dataset
    test: Dataset
    val: Dataset = None


@dataclass
class Benchmark:
    """A stream of tasks in a fixed order, and the reference images that stand for "none of them" (paper, 3.4).

    settings says how the benchmark was made; `run` keeps it beside the results.
    """

    name: str
    tasks: list
    reference: Dataset
    settings: dict = field(default_factory=dict)


def split_indices(count, part, seed):
    """Indices of a random split: (first, second), the second holding `part` of `count`, at least one each."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()
    second = min(max(1, round(count * part)), count - 1)
    return sorted(order[second:]), sorted(order[:second])
