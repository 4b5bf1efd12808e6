"""What several test files use."""

import json
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


def split_folder(root, folder, **changes):
    """CoOp's files for drawn data under `root`: parts and label numbers other than the official ones."""
    from mini_lib.benchmarks import fixtures
    from mini_lib.benchmarks.mtil import ORDERS
    from mini_lib.benchmarks.sources import SOURCES, read

    folder.mkdir()
    for name in ORDERS[1]:
        source = SOURCES[name]
        if source.split_file:
            rows = []
            with fixtures.unverified():
                for part in ("train", "test"):
                    images, labels, names = read(name, root, part)
                    rows += [[image, 2 - y, names[y].replace(" ", "_")] for image, y in zip(images, labels)]
            base = root / source.images
            base = base / "images" if name == "dtd" else base
            rows = [[str(image)[len(str(base)) + 1 :], y, c] for image, y, c in rows]
            content = {"train": rows[5:], "val": rows[2:5], "test": rows[:2], **changes.get(name, {})}
            (folder / source.split_file).write_text(json.dumps(content))
    return folder
