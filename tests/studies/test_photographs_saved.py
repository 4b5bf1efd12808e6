"""The saved results on photographs: complete, as good as the course says, and the numbers that README prints."""

import json
import re

import pandas as pd
import pytest
from helpers import ROOT

from mini_lib.benchmarks.mini import ORDERS
from mini_lib.studies import RESULTS
from mini_lib.studies.compare import load_results, scores
from mini_lib.studies.contestants import rivals
from mini_lib.studies.photographs import BOUND, COLUMNS, FILE, KEY

BOTH = "photographs and drawings"
KNOWN = "moe-adapters, task known"
PLAIN = [BOUND, "zero-shot", "fine-tuning", KNOWN]


@pytest.fixture(scope="module")
def saved():
    return pd.read_csv(FILE)


@pytest.fixture(scope="module")
def mean(saved):
    """mean(clip, selector, column, reference) over seeds, orders 1 and 2, of single images."""
    single = saved[(saved.order <= 2) & (saved["decides for"] != "batch")].fillna({"reference": ""})
    means = single.groupby(["clip", "selector", "reference"]).mean(numeric_only=True)
    return lambda clip, selector, column, reference="": means.loc[(clip, selector, reference), column]


def test_they_are_complete(saved):
    assert list(saved.columns) == COLUMNS and not saved.duplicated(KEY).any()
    for (clip, seed), part in saved.groupby(["clip", "seed"]):
        routed = part[part["decides for"].notna()]
        assert set(routed["decides for"]) == {"sample", "batch"} and set(part.order) == {1, 2, 3, 4}
        assert (routed.groupby(["selector", "reference", "decides for"]).size() == 4).all()
        assert routed[["own", "own at the end", "unknown", "auroc"]].notna().all(axis=None)
        assert set(part[part["decides for"].isna()].selector) == set(PLAIN)
        experts = part[(part.order <= 2) & (part.selector != BOUND)]
        assert experts[["transfer", "average", "last"]].notna().all(axis=None)
        references = set(routed[routed.selector == "Gaussian"].reference)
        assert references == ({"drawings", BOTH} if clip == "photo" else {"drawings"})
    assert set(map(tuple, saved[["clip", "seed"]].to_numpy())) == {(c, s) for c in ("tiny", "photo") for s in (0, 1, 2)}
    percent = saved[["own", "own at the end", "unknown", "transfer", "average", "last"]]
    assert ((percent >= 0) & (percent <= 100) | percent.isna()).all(axis=None)


def test_they_say_of_which_folders_they_are():
    facts = json.loads(FILE.with_suffix(".json").read_text(encoding="utf-8"))
    assert facts["tasks"] == ["flowers", "cifar10", "clothing", "caltech101_sub", "pets3", "eurosat", "mnist"]
    assert len(facts["images"]) == len(facts["classes"]) == 7


def test_the_gaussian_selector_is_as_good_as_the_course_says(mean):
    bound, last = mean("photo", BOUND, "own at the end"), mean("photo", KNOWN, "last")
    assert mean("photo", "Gaussian", "own at the end", BOTH) >= bound - 2
    assert mean("photo", "Gaussian", "unknown", BOTH) >= 60
    assert mean("photo", "Gaussian", "last", BOTH) >= last - 4
    for column in ("own at the end", "unknown", "auroc", "auroc before limits", "last"):
        assert mean("photo", "Gaussian", column, BOTH) > mean("photo", "DDAS, ratio", column, "drawings"), column


def test_readme_s_first_screen_has_both_worlds(saved, mean):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    drawings = load_results(rivals(), RESULTS / "mini_mtil.csv")
    at_the_end = drawings[drawings.after == drawings.groupby(["order", "seed"]).after.transform("last")]
    own = at_the_end.groupby("method").routed.mean()
    place = {(order, name): i for order, names in ORDERS.items() for i, name in enumerate(names)}
    ahead = [place[o, task] > place[o, after] for o, task, after in zip(drawings.order, drawings.task, drawings.after)]
    unknown = drawings[ahead].groupby("method").routed.mean()
    last = scores(drawings)["last"].groupby("method").mean()
    gaussian = "moe-adapters, Gaussian selector"
    expected = {
        "own router, all tasks learned: DDAS": [
            own["moe-adapters"], mean("photo", "DDAS, ratio", "own at the end", "drawings"),
        ],
        "own router, all tasks learned: Gaussian selector": [
            own[gaussian], mean("photo", "Gaussian", "own at the end", BOTH),
        ],
        "not yet learned, to CLIP: DDAS": [
            unknown["moe-adapters"], mean("photo", "DDAS, ratio", "unknown", "drawings"),
        ],
        "not yet learned, to CLIP: Gaussian selector": [
            unknown[gaussian], mean("photo", "Gaussian", "unknown", BOTH),
        ],
        "Last: zero-shot": [last["zero-shot"], mean("photo", "zero-shot", "last")],
        "Last: fine-tuning": [last["fine-tuning"], mean("photo", "fine-tuning", "last")],
        "Last: MoE-Adapters, Gaussian selector": [last[gaussian], mean("photo", "Gaussian", "last", BOTH)],
    }  # fmt: skip
    for what, numbers in expected.items():
        row = re.search(rf"^\| {re.escape(what)} \|(.*)\|$", text, re.MULTILINE)
        assert row, what
        assert [cell.strip() for cell in row[1].split("|")] == [f"{n:.1f}" for n in numbers], what
    bound = re.search(r"all tasks at once reaches ([\d.]+) %", " ".join(text.split()))
    assert bound and bound[1] == f"{mean('photo', BOUND, 'own at the end'):.1f}"
    worst = saved[(saved.order == 3) & (saved.selector == "Gaussian") & (saved.reference == BOTH)]
    worst = worst[worst["decides for"] == "sample"].unknown.mean()
    assert f"Caltech101, it keeps out only {worst:.0f} % of" in " ".join(text.split())
