"""X-TAIL: ten data sets of MTIL, sixteen images a class, all 1,100 names at once and no task told. Used in notebook 12."""

from dataclasses import dataclass
from pathlib import Path

from torchvision.transforms import Compose

from .base import Benchmark, Task, merged
from .mtil import mtil

ORDERS = {  # 1: alphabetical (Xu et al. 2024); 2: as in LADA
    1: ("aircraft", "caltech101", "dtd", "eurosat", "flowers", "food", "mnist", "pets", "cars", "sun397"),
    2: ("cars", "aircraft", "pets", "food", "sun397", "mnist", "flowers", "dtd", "caltech101", "eurosat"),
}
TEMPLATE = "a photo of a {}."  # the only one


@dataclass
class CrossDomain(Benchmark):
    """A stream whose images are judged among the names of all its tasks, learned or not."""

    candidates = "all"

    def tested(self, learned: int) -> list[Task]:
        """All tasks, each with the names of all."""
        return [merged(self.tasks, place) for place in range(len(self.tasks))]


def xtail(
    root: str | Path = "data/mtil",
    order: int = 1,
    shots: int | None = 16,
    splits: str | Path | None = None,
    preprocess: Compose | None = None,
    reference: str | Path | None = "tinyimagenet",
    seed: int = 0,
) -> CrossDomain:
    """The ten data sets under `root`, `shots` training images a class (None: all), in Order I or II.

    splits: a folder of CoOp's files split_zhou_*.json, by default `root`/splits; val is theirs, and a tenth of each class's
    training images where there is none (MNIST). Everything else as in `mtil`, which raises what can be wrong; ValueError
    for an unknown order.
    """
    if order not in tuple(ORDERS):
        raise ValueError(f"order {order!r} is unknown: X-TAIL has the orders {sorted(ORDERS)}.")
    splits = Path(root).expanduser() / "splits" if splits is None else splits
    found = mtil(1, root, preprocess, shots, splits, ORDERS[order], val_part=0.1, reference=reference, seed=seed)
    for task in found.tasks:
        task.templates = [TEMPLATE]
    settings = found.settings | {"order": order}
    return CrossDomain("xtail", found.tasks, found.reference, settings, found.captions)
