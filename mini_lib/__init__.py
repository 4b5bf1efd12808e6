"""MoE-Adapters for continual learning of CLIP: the thin library of the notebook course.

The modules at this level are the method, one chapter each; its docstring says which notebook builds it. Above them, each
using only what stands below: `benchmarks`, `methods`, `studies`, `course`. `embedded` holds the CLIPs that ship with the package.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

__version__ = "0.2.0"


def offer(package: str, homes: dict[str, str]) -> None:
    """Let a package offer names that are imported when they are first asked for (PEP 562). homes: name -> its module.

    A name may be that of its module, too: `mini_lib.run` is the function, `mini_lib/run.py` its home.
    """

    class Package(ModuleType):
        def __getattr__(self, name):
            if name not in homes:
                raise AttributeError(f"module {package!r} has no attribute {name!r}")
            return getattr(import_module(homes[name], package), name)

        def __dir__(self):
            return sorted({*vars(self), *homes})

        def __setattr__(self, name, value):
            if not (name in homes and isinstance(value, ModuleType)):  # importing a module would hide the name
                super().__setattr__(name, value)

    sys.modules[package].__class__ = Package


__all__ = [
    "DDAS",
    "METHODS",
    "AccuracyMatrix",
    "Benchmark",
    "GaussianSelector",
    "Method",
    "MoEClip",
    "Task",
    "cil",
    "evaluate",
    "folders",
    "load_clip",
    "load_run",
    "make_method",
    "mini_mtil",
    "mtil",
    "register",
    "run",
    "xtail",
]

if TYPE_CHECKING:
    from .benchmarks import Benchmark, Task, cil, folders, mini_mtil, mtil, xtail
    from .clip import load_clip
    from .ddas import DDAS
    from .methods import METHODS, Method, load_run, make_method, register
    from .metrics import AccuracyMatrix
    from .moe import MoEClip
    from .run import evaluate, run
    from .selectors import GaussianSelector

_HOMES = {
    ".benchmarks": ("Benchmark", "Task", "cil", "folders", "mini_mtil", "mtil", "xtail"),
    ".methods": ("METHODS", "Method", "load_run", "make_method", "register"),
    ".clip": ("load_clip",),
    ".ddas": ("DDAS",),
    ".metrics": ("AccuracyMatrix",),
    ".moe": ("MoEClip",),
    ".run": ("evaluate", "run"),
    ".selectors": ("GaussianSelector",),
}
offer(__name__, {name: home for home, names in _HOMES.items() for name in names})
