"""Streams of tasks: MiniMTIL, drawn from a seed, and folders of your own images."""

from .base import Benchmark, Task
from .cil import cil
from .folders import folders
from .mini import mini_mtil
from .mtil import mtil
from .twelve import twelve_tasks

__all__ = ["Benchmark", "Task", "cil", "folders", "mini_mtil", "mtil", "twelve_tasks"]
