"""What several test files use."""

import os
from importlib.util import find_spec
from pathlib import Path

import nbformat
import pytest
import torch
from torch import nn

from mini_lib.moe import MoEAdapter

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("MOE_SHARED", ROOT.parent / "shared"))

needs_nbgrader = pytest.mark.skipif(find_spec("nbgrader") is None, reason="nbgrader is not installed (extra: course)")


def read(path):
    """A notebook."""
    return nbformat.read(path, as_version=4)


def code(notebook):
    """The code cells of a notebook."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def mark(cell):
    """What nbgrader notes of a cell."""
    return cell.metadata.get("nbgrader", {})


def ask_experts(monkeypatch, way):
    """Every MoEAdapter asks its experts "sorted" or "gathered", whatever the samples' length and wherever they are."""
    long = 0 if way == "gathered" else 10**9
    monkeypatch.setattr(MoEAdapter, "long", property(lambda layer: long, lambda layer, own: None), raising=False)


def silent(line):
    """A log that says nothing."""


class Flat(nn.Module):
    """Features for a selector of one's own settings: sixteen numbers of an image, times a factor."""

    squash, code = False, 4

    def __init__(self, factor):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor), requires_grad=False)

    def forward(self, images):
        return images.flatten(1)[:, :16] * self.factor
