"""Streams of tasks: MiniMTIL, drawn from a seed; folders of your own images; MTIL and class-incremental streams."""

from typing import TYPE_CHECKING

from .. import offer

__all__ = ["Benchmark", "Task", "cil", "folders", "mini_mtil", "mtil", "twelve_tasks", "xtail"]

if TYPE_CHECKING:
    from .base import Benchmark, Task
    from .cil import cil
    from .folders import folders
    from .mini import mini_mtil
    from .mtil import mtil
    from .twelve import twelve_tasks
    from .xtail import xtail

offer(
    __name__,
    {
        "Benchmark": ".base",
        "Task": ".base",
        "cil": ".cil",
        "folders": ".folders",
        "mini_mtil": ".mini",
        "mtil": ".mtil",
        "twelve_tasks": ".twelve",
        "xtail": ".xtail",
    },
)
