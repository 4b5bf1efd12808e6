"""How well does DDAS tell known images from unknown ones? `python -m mini_lib.selector_study`. Read in notebook 14.

Features, the block they are taken after, the rule, and the limit, each against the others on MiniMTIL's test images. No
expert is trained: an image is sent well or it is not.
"""

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score

from .benchmarks import mini_mtil
from .benchmarks.base import loader
from .clip import load_clip
from .ddas import DDAS, FEATURES
from .methods.base import seed_everything
from .run import replace_file
from .studies import RESULTS

FILE = RESULTS / "ddas.csv"
KNOWN = 4  # tasks of the stream that the selector has learned; the other three are unknown to it
FACTORS = np.geomspace(1 / 4, 4, 33).round(4)  # of the limits; 1 is where calibration sets them
RULES = ("a limit for each task", "one threshold")


def scores(errors, limits, rule):
    """How unknown each image is, and the task that would take it. errors (N, 1 + T) -> (N,), (N,)

    At most 1 means that it is taken. limits: (T,) for the first rule, one number for the second, the paper's, by which an
    image that the reference explains best is never taken.
    """
    if rule == RULES[0]:
        return (errors[:, 1:] / errors[:, :1] / limits).min(dim=1)
    smallest, best = errors.min(dim=1)
    return torch.where(best == 0, torch.inf, smallest / limits), best - 1


def judged(errors, limits, rule):
    """One line a factor: percent of known images that get their own router, percent of unknown ones kept out, and the AUROC.

    errors: those of each task's test images, a list of (N, 1 + KNOWN). The AUROC is the chance that a known image looks more
    known than an unknown one, whichever task would take it.
    """
    unknown, taker = zip(*(scores(of_task, limits, rule) for of_task in errors))
    own = torch.cat([taker[t] == t for t in range(KNOWN)])
    known, others = torch.cat(unknown[:KNOWN]), torch.cat(unknown[KNOWN:])
    strange = torch.cat([known, others]).nan_to_num(posinf=1e9)
    auroc = roc_auc_score(torch.arange(len(strange)) >= len(known), strange)
    return [
        {
            "rule": rule, "factor": factor, "known": 100 * (own & (known <= factor)).double().mean().item(),
            "unknown": 100 * (others > factor).double().mean().item(), "auroc": auroc,
        }
        for factor in FACTORS
    ]  # fmt: skip


def _errors(ddas, dataset):
    return torch.cat([ddas.errors(images) for images, _ in loader(dataset, 256)])


def study(seeds=(0, 1, 2), order=1, blocks=range(4), log=print):
    """All combinations as one table: seed, features, block, rule, factor, known, unknown, auroc."""
    lines = []
    clip = load_clip("tiny")[0]
    for seed in seeds:
        benchmark = mini_mtil(seed, order)
        for features in FEATURES:
            for block in blocks:
                ddas = DDAS(clip, features, block)
                seed_everything(seed)
                ddas.learn_reference(benchmark.reference)
                for task in benchmark.tasks[:KNOWN]:
                    ddas.learn_task(task.train, task.val)
                errors = [_errors(ddas, task.test) for task in benchmark.tasks]
                held_out = torch.cat([_errors(ddas, task.val).min(dim=1).values for task in benchmark.tasks[:KNOWN]])
                threshold = held_out.quantile(ddas.quantile)  # lets in as many held-out images as the limits do
                for rule, limits in zip(RULES, (ddas.limits, threshold)):
                    settings = {"seed": seed, "features": features, "block": block}
                    lines += [settings | line for line in judged(errors, limits, rule)]
                log(f"seed {seed}, {features} after block {block}: AUROC {lines[-len(FACTORS) - 1]['auroc']:.4f}")
    return pd.DataFrame(lines).round(4)


if __name__ == "__main__":
    table = study()
    replace_file(FILE, lambda path: table.to_csv(path, index=False))
