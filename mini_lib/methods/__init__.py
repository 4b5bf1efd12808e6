"""The continual learners, one file each. Every module of this folder is imported, and registers its methods."""

import importlib
import pkgutil

from .base import METHODS, Method, make_method, needs, register
from .loading import load_run

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["METHODS", "Method", "load_run", "make_method", "needs", "register"]
