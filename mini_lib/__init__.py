"""MoE-Adapters for continual learning of CLIP: the thin library of the notebook course.

Each module is a chapter: its docstring says which notebook builds it.
"""

from .benchmarks import Benchmark, Task, cil, folders, mini_mtil, mtil
from .clip import load_clip
from .ddas import DDAS
from .methods import METHODS, Method, make_method
from .metrics import AccuracyMatrix
from .moe import MoEClip
from .run import evaluate, run

__all__ = [
    "DDAS", "METHODS", "AccuracyMatrix", "Benchmark", "Method", "MoEClip", "Task", "cil", "evaluate", "folders",
    "load_clip", "make_method", "mini_mtil", "mtil", "run",
]  # fmt: skip
__version__ = "0.1.0"
