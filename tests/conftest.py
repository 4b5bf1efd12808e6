"""Fixtures. Tests against the official code's values or real images skip where their folders are missing."""

import os
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("MOE_SHARED", ROOT.parent / "shared"))
torch.set_num_threads(2)


@pytest.fixture(scope="session")
def golden():
    """The folder of values computed by the official code."""
    if not (SHARED / "golden").is_dir():
        pytest.skip("the official code's values are not here (set MOE_SHARED to their parent folder)")
    return SHARED / "golden"


@pytest.fixture(scope="session")
def real_images():
    """The folder of real images, task/train|test/class/*.jpg."""
    if not (SHARED / "data" / "folders").is_dir():
        pytest.skip("the real images are not here (set MOE_SHARED to the folder that has data/folders)")
    return SHARED / "data" / "folders"
