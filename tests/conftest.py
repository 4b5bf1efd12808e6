"""Fixtures. Tests against the official code's values or real images skip where their folders are missing."""

import json
import os
from dataclasses import replace

import open_clip
import pytest
import torch
from helpers import ROOT, SHARED

from mini_lib import mini_mtil
from mini_lib.embedded import tiny

SECONDS = {  # of the longer files, about
    "test_assignments.py": 150, "test_attacks.py": 100, "test_browser.py": 60, "test_book.py": 60, "test_notebooks_alike.py": 40, "test_wheel.py": 10,
    "test_a5.py": 10, "test_mtil.py": 20, "test_cost.py": 10, "test_results.py": 5, "test_cil.py": 10,
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


def pytest_collection_modifyitems(items):
    """The longest ahead, so that short tests fill the gap at the end (pytest-xdist, a file in one process)."""
    seconds = json.loads((ROOT / "notebooks" / "seconds.json").read_text())
    items.sort(key=lambda item: -seconds.get(item.path.stem, SECONDS.get(item.path.name, 0)))
