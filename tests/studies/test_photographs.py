"""The study of selectors on photographs: what it counts, by hand, and the whole of it on a few drawn images."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch.utils.data import TensorDataset

from mini_lib.studies import photographs as study
from mini_lib.studies.photographs import (
    BOUND,
    COLUMNS,
    bound,
    by_errors,
    by_gaussians,
    facts_of,
    judged,
    measure_all,
)

# task -> errors of two test images under the reference, a's and b's autoencoder
TEST = {"a": torch.tensor([[1.0, 0.5, 0.9], [1.0, 0.9, 0.4]]), "b": torch.tensor([[1.0, 3.0, 0.3], [1.0, 0.6, 2.9]])}
LIMITS = {"a": torch.tensor(1.0), "b": torch.tensor(2.0)}
ERRORS = TEST, TEST, LIMITS


@pytest.fixture
def few(tmp_path):
    """Two tasks of two classes: dark against bright, red against blue."""
    rng = np.random.default_rng(0)
    colours = {
        "light": {"dark": (20, 20, 20), "bright": (230, 230, 230)},
        "tint": {"red": (220, 20, 20), "blue": (20, 20, 220)},
    }
    for task, classes in colours.items():
        for name, colour in classes.items():
            for part, count in (("train", 10), ("test", 4)):
                folder = tmp_path / "few" / task / part / name
                folder.mkdir(parents=True)
                for i in range(count):
                    pixels = np.clip(rng.normal(colour, 20, (32, 32, 3)), 0, 255).astype(np.uint8)
                    Image.fromarray(pixels).save(folder / f"{i}.png")
    return tmp_path / "few"


def test_what_ddas_takes_images_for_by_hand():
    ratio, limits = (list(by_errors(ERRORS, rule, ("a", "b"))) for rule in ("ratio", "limits"))
    assert ratio[0]["a"][0].tolist() == [0, 0] and ratio[0]["b"][0].tolist() == [-1, 0]  # a alone is learned
    # quotients of a's images: .5 and .45, .9 and .2; of b's: 3 and .15, .6 and 1.45
    assert ratio[1]["a"][0].tolist() == [1, 1] and ratio[1]["b"][0].tolist() == [1, 0]
    assert limits[1]["a"][0].tolist() == [0, 1] and limits[1]["b"][0].tolist() == [1, 0]
    turned = list(by_errors(ERRORS, "limits", ("b", "a")))
    assert turned[0]["a"][0].tolist() == [0, 0] and turned[1]["a"][0].tolist() == [1, 0]  # the indices of another order
    batch = list(by_errors(ERRORS, "limits", ("a", "b"), batch=2))
    assert batch[1]["a"][0].tolist() == [1, 1]  # means 1, .7, .65
    threshold = torch.cat([e.min(dim=1).values for e in TEST.values()]).quantile(0.99)
    by_threshold = list(by_errors(ERRORS, "threshold", ("a", "b")))[1]
    assert [t.tolist() for t, _, _ in by_threshold.values()] == [[0, 1], [1, -1]] and threshold < 0.6


def test_percent_and_auroc_by_hand():
    def stage(a, b, *strange):
        return {
            "a": (torch.tensor(a), *map(torch.tensor, strange[::2])),
            "b": (torch.tensor(b), *map(torch.tensor, strange[1::2])),
        }

    first = stage([0, 0], [-1, 0], [0.1, 0.9], [2.0, 0.5], [0.1, 0.2], [0.3, 0.3])
    stages = [first, stage([0, 1], [1, 1], *[[0.1, math.inf]] * 4)]
    found = judged(stages, ("a", "b"))
    # own: a 100, then a 50 and b 100; unknown: b 50 of the first stage; pairs of a and b in it: 3 of 4 the right way round
    assert found == {
        "own": pytest.approx(250 / 3),
        "own at the end": 75,
        "unknown": 50,
        "auroc": 0.75,
        "auroc before limits": 1,
    }


def test_gaussians_and_the_bound_on_clouds_far_apart():
    def cloud(x, seed):
        points = torch.tensor([x, 0.0]) + 0.1 * torch.randn(40, 2, generator=torch.Generator().manual_seed(seed))
        return TensorDataset(points, torch.zeros(40).long())

    features = {n: {p: cloud(x, i) for i, p in enumerate(("train", "val", "test"))} for n, x in (("a", 3), ("b", -3))}
    wide = TensorDataset(torch.randn(200, 2, generator=torch.Generator().manual_seed(9)) * 5, torch.zeros(200).long())
    found = judged(list(by_gaussians(features, wide, ("a", "b"))), ("a", "b"))
    assert found["own"] > 90 and found["unknown"] == 100 and found["auroc"] == 1 and bound(features) == 100


def test_the_whole_study_in_small(few, tmp_path, monkeypatch):
    monkeypatch.setattr(study, "STEPS", 10)
    monkeypatch.setattr(study, "RATES", {"moe-adapters": (3e-3,), "fine-tuning": (1e-4,)})
    out, told = tmp_path / "photographs.csv", []
    measure_all(few, None, None, ["tiny"], [0], tmp_path / "work", out, told.append)
    table = pd.read_csv(out)
    assert list(table.columns) == COLUMNS and set(table["order"]) == {1, 2} and told == ["tiny, seed 0: 24 lines"]
    assert set(table.selector) == {
        "zero-shot", "fine-tuning", "moe-adapters, task known", BOUND, "Gaussian", "DDAS, ratio", "DDAS, limits",
        "DDAS, one threshold",
    }  # fmt: skip
    routed = table[table["decides for"].notna()]
    assert routed[["own", "unknown", "auroc", "last"]].notna().all(axis=None) and routed.own.between(0, 100).all()
    told_task = table[table.selector == "moe-adapters, task known"].set_index("order")
    # a selector that is right for every image ends where the known task ends
    for _, line in routed[(routed.own == 100) & (routed.unknown == 100)].iterrows():
        assert line["last"] == pytest.approx(told_task.loc[line.order, "last"], abs=1e-3)
    before = out.read_bytes()
    measure_all(few, None, None, ["tiny"], [0], tmp_path / "work", out, told.append)
    assert out.read_bytes() == before  # nothing is measured twice
    assert told[1:] == [f"tiny, seed 0: {out} has them already"]
    with pytest.raises(ValueError, match="other folders, or on these in another order: say with --out"):
        measure_all(few, None, ["tint", "light"], ["tiny"], [1], tmp_path / "work", out, told.append)
    assert out.read_bytes() == before and facts_of(few)["images"] == [[16, 4, 8], [16, 4, 8]]
