"""Streams of tasks: MiniMTIL, drawn from a seed, and folders of your own images."""

from .base import Benchmark, Task
from .folders import folders
from .mini import mini_mtil

__all__ = ["Benchmark", "Task", "folders", "mini_mtil"]
