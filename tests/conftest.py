"""Fixtures. Tests against the official code's values or real images skip where their folders are missing."""

import json
import os
from dataclasses import replace
from itertools import count

import open_clip
import pytest
import torch
from helpers import ROOT, SHARED

from mini_lib import mini_mtil
from mini_lib.embedded import tiny

SECONDS = {  # of the longer files, about
    "test_assignments.py": 100, "test_attacks.py": 100, "test_execute.py": 75, "test_compare.py": 30, "test_browser.py": 90,
    "test_book.py": 20, "test_notebooks_alike.py": 40, "test_wheel.py": 10, "test_a5.py": 40, "test_mtil.py": 20,
    "test_cost.py": 15, "test_results.py": 45, "test_cil.py": 30, "test_torture.py": 25,
}  # fmt: skip
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))


@pytest.fixture(scope="session")
def golden():
    """The folder of values computed by the official code: all of them where they are, else the subset in tests/golden."""
    full = SHARED / "golden"
    return full if full.is_dir() else ROOT / "tests" / "golden"


@pytest.fixture(scope="session")
def reference():
    """The folder with tables that others have published."""
    if not (SHARED / "reference").is_dir():
        pytest.skip("the published tables are not here (set MOE_SHARED to the folder that has reference/)")
    return SHARED / "reference"


@pytest.fixture(scope="session")
def real_images():
    """The folder of real images, task/train|test/class/*.jpg."""
    if not (SHARED / "data" / "folders").is_dir():
        pytest.skip("the real images are not here (set MOE_SHARED to the folder that has data/folders)")
    return SHARED / "data" / "folders"


@pytest.fixture(scope="session")
def tokenizer():
    return open_clip.get_tokenizer("ViT-B-32")


@pytest.fixture
def clip():
    """A CLIP of two blocks a tower with random weights."""
    return tiny.build(width=64, vision_layers=2, text_layers=2).requires_grad_(False).eval()


@pytest.fixture(scope="session")
def drawn():
    """MiniMTIL with 10 training and 4 test images a class, drawn once."""
    return mini_mtil(seed=0, train_per_class=10, test_per_class=4)


@pytest.fixture
def small(drawn):
    """Three tasks of MiniMTIL with 10 training and 4 test images a class; a test may change it."""
    tasks = [replace(task) for task in drawn.tasks[:3]]
    return replace(drawn, tasks=tasks, settings=dict(drawn.settings), captions=list(drawn.captions))


def pytest_sessionstart(session):
    """Notebooks go on with what lies in runs/: what earlier code computed there is set aside, so that it is computed anew."""
    if not hasattr(session.config, "workerinput") and session.config.getoption("--nbval-lax", False):
        for folder in (ROOT / "runs").glob("notebook_[0-9][0-9]"):
            folder.rename(next(p for i in count(1) if not (p := folder.with_name(f"{folder.name}.{i}")).exists()))


def pytest_collection_modifyitems(items):
    """Patience for notebooks, and the longest ahead, so that short tests fill the gap at the end (pytest-xdist, a file in one process)."""
    seconds = json.loads((ROOT / "notebooks" / "seconds.json").read_text())
    for item in items:
        if hasattr(
            item, "output_timeout"
        ):  # of nbval: after 5 seconds without a word a busy machine's kernel would be given up
            item.output_timeout = 300
    items.sort(key=lambda item: -seconds.get(item.path.stem, SECONDS.get(item.path.name, 0)))
