"""CIFAR100 comes as pickles. Here they are read as plain data: nothing that a pickle names is ever imported or called."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np


class _Array:
    """Stands for numpy's array while a pickle is read, and takes its content as bytes."""

    def __init__(self, *_):
        self.shape, self.content = (0,), b""

    def __setstate__(self, state):
        _, self.shape, kind, by_columns, self.content = state
        if not isinstance(kind, _Kind) or kind.name not in ("u1", "|u1") or by_columns:
            raise pickle.UnpicklingError("it holds an array of another kind than unsigned bytes")

    def array(self) -> np.ndarray:
        content = self.content.encode("latin1") if isinstance(self.content, str) else self.content
        return np.frombuffer(content, np.uint8).reshape(self.shape)


class _Kind:
    """Stands for numpy's dtype."""

    def __init__(self, name="", *_):
        self.name = name

    def __setstate__(self, state):
        pass


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it encodes a text as {encoding!r}")
    return text.encode("latin1")


STAND_INS = {
    ("numpy", "ndarray"): _Array, ("numpy", "dtype"): _Kind, ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array, ("_codecs", "encode"): _encode,
}  # fmt: skip


class _Plain(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str, /) -> Any:
        if (module_name, global_name) not in STAND_INS:
            raise pickle.UnpicklingError(f"it wants to run {module_name}.{global_name}: nothing of it was run")
        return STAND_INS[module_name, global_name]


def plain_pickle(file: Path) -> dict[str, Any]:
    """The mapping in a pickle of texts, numbers, lists, mappings and arrays of bytes (N, ...), uint8.

    Raises pickle.UnpicklingError where it names anything else, without running it.
    """
    with file.open("rb") as opened:
        found = _Plain(opened, encoding="latin1").load()
    if not isinstance(found, dict):
        raise pickle.UnpicklingError("it holds no mapping")
    return {key: value.array() if isinstance(value, _Array) else value for key, value in found.items()}
