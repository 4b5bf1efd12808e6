"""Fixtures. Tests against the official code's values or real images skip where their folders are missing."""

import os

import open_clip
import pytest
import torch
from helpers import ROOT, SHARED

from mini_lib import mini_mtil
from mini_lib.embedded import tiny

torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))


@pytest.fixture
def golden(request):
    """The folder of values computed by the official code: all of them where they are, else the subset in tests/golden."""
    if (SHARED / "golden").is_dir():
        return SHARED / "golden"
    if request.path.name in ("test_metrics.py", "test_reported.py"):  # they read what lies beside the full set
        pytest.skip("ZSCL's matrices are not here (set MOE_SHARED to the folder that has reference/zscl_matrices)")
    return ROOT / "tests" / "golden"


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


@pytest.fixture
def small():
    """Three tasks of MiniMTIL with 10 training and 4 test images a class."""
    benchmark = mini_mtil(seed=0, train_per_class=10, test_per_class=4)
    benchmark.tasks = benchmark.tasks[:3]
    return benchmark
