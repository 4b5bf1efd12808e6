"""Reads the official code's values, from the full set or from this subset, where random weights are drawn again."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

SUBSET = Path(__file__).resolve().parent


def read(folder, name):
    """The tensors of the file `name`.safetensors, with those that drawn.json in the folder tells how to draw."""
    tensors = load_file(folder / f"{name}.safetensors")
    if (folder / "drawn.json").exists():
        drawn = json.loads((folder / "drawn.json").read_text())
        stream = uniform(drawn["seed"], drawn["length"])
        for key, (shape, start, std, last) in drawn["tensors"].get(name, {}).items():
            values = std * normal(stream, start, int(np.prod(shape)))
            assert abs(values[-1] - last) < 3e-6, f"{name}: {key} is not drawn as it was"
            tensors[key] = torch.from_numpy(values.astype(np.float32)).reshape(shape)
    return tensors


@cache
def uniform(seed, length):
    """The first uniform numbers of torch.Generator().manual_seed(seed), from numpy's legacy generator, which stays the same.

    Both are the Mersenne Twister; a float32 is made of the lower 24 bits of its words.
    """
    words = np.random.RandomState(seed).randint(0, 2**32, length, dtype=np.uint32)
    return (words & 0xFFFFFF) / 2**24


def normal(stream, start, count):
    """What torch.randn makes of a stream of uniform numbers: Box and Muller's rule on 8 + 8 of them at a time."""
    u = stream[start : start + count].reshape(-1, 2, 8)
    radius, angle = np.sqrt(-2 * np.log(1 - u[:, 0])), 2 * np.pi * u[:, 1]
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).reshape(-1)
