"""A seal on what the tests are made of: a function, class or module that is another one later is told by its name."""

import builtins
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

import torch
import torchvision  # noqa: F401  (it registers kernels of its own, which is refused later)

from .guard import KERNELS

__builtins__ = dict(vars(builtins))  # functions below keep these, whatever becomes of the others

NEAR = (
    "builtins",
    "math",
    "functools",
    "contextlib",
    "io",
    "torch",
    "torch.functional",
    "torch.nn.functional",
    "numpy",
)
FAR = {"builtins", "math", "operator", "functools", "contextlib", "collections", "io", "copy", "re", "torch", "numpy"}


class Entry(NamedTuple):
    """A module or class as it was."""

    label: str
    owner: Any
    kind: type
    contents: Mapping[str, Any]  # as it is now
    kept: dict[str, Any]  # functions, classes and modules in it, as they were
    names: frozenset[str]  # all names in it, as they were
    hides: frozenset[str]  # names that would hide others if they came new: a builtin, or what a class inherits


def _module(module: ModuleType, known: frozenset[str]) -> Entry:
    contents = vars(module)
    kept = {name: value for name, value in contents.items() if callable(value) or isinstance(value, ModuleType)}
    return Entry(module.__name__, module, type(module), contents, kept, frozenset(contents), known)


def _class(one: type) -> Entry:
    contents = vars(one)
    kept = {name: value for name, value in contents.items() if callable(value) or hasattr(type(value), "__get__")}
    above = frozenset(name for base in one.__mro__[1:] for name in vars(base))
    return Entry(f"{one.__module__}.{one.__name__}", one, type(one), contents, kept, frozenset(contents), above)


def _entries(modules: list[ModuleType], known: frozenset[str]) -> list[Entry]:
    entries = [_module(module, known) for module in modules]
    homes = {module.__name__ for module in modules}
    classes = {id(v): v for e in entries for v in e.kept.values() if isinstance(v, type) and v.__module__ in homes}
    return entries + [_class(one) for one in classes.values()]


def _parts(function: FunctionType) -> tuple:
    """What a function consists of, and can be made to do another thing by."""
    cells = tuple(cell.cell_contents for cell in function.__closure__ or ())
    return function.__code__, function.__defaults__, function.__kwdefaults__, *cells


def _changed(entries: list[Entry]) -> Iterator[str]:
    """The names that mean something else now."""
    for label, owner, kind, contents, kept, names, hides in entries:
        if type(owner) is not kind:
            yield label
        for name, value in kept.items():
            if contents.get(name) is not value:
                yield f"{label}.{name}"
        if len(contents) != len(names):
            for name in contents:
                if name in hides and name not in names:
                    yield f"{label}.{name}"


def sums() -> list:
    """What torch finds for a few sums: its functions can be given another inside, below Python, and that may be Python."""
    x = torch.tensor([[1.0, -2.0], [0.5, 4.0]], dtype=torch.double)
    found = [x + 1, x - x.T, x * x, x / 3, x @ x, x.exp(), x.sigmoid(), x.relu(), x.softmax(dim=1), x.logsumexp(dim=1)]
    found += [
        x.sum(dim=0),
        x.mean(),
        x.std(),
        x.norm(dim=1),
        x.abs(),
        x.argmax(dim=1),
        x.sort().values,
        x.cumsum(dim=0),
    ]
    found += [x == x.T, x < x.T, x.isinf(), x.isfinite(), torch.isclose(x, x.T), torch.where(x > 0, x, 9), x.float()]
    return [torch.equal(x, x.T), torch.allclose(x, x.T), *(one.tolist() for one in found)]


class Seal:
    """On `private` modules, wholly, and on what the tests use of Python, NumPy and torch."""

    def __init__(self, private: list[ModuleType]):
        for optimiser in (one for one in vars(torch.optim).values() if hasattr(one, "zero_grad")):
            with suppress(TypeError, ValueError, RuntimeError):  # some want other parameters
                optimiser([torch.nn.Parameter(torch.zeros(2, 2))])  # the first instance changes its class
        torch.func.jacfwd(torch.sin)(torch.zeros(1))  # the first use loads kernels
        # Who registers kernels changes what torch computes, and could spare `sums`: from now on that is refused.
        torch._C._dispatch_library = partial(sys.audit, KERNELS)  # type: ignore
        loaded = {name: one for name, one in sys.modules.items() if isinstance(one, ModuleType)}
        known = frozenset(vars(builtins))
        far = {name: one for name, one in loaded.items() if name.split(".")[0] in FAR}
        self.near = _entries([loaded[name] for name in NEAR] + private, known)
        self.far = _entries(list(far.values()), known)
        self.far.append(Entry("sys.modules", sys.modules, dict, sys.modules, far, frozenset(sys.modules), frozenset()))
        functions = [f for entry in _entries(private, known) for f in entry.kept.values()]
        self.parts = [(f, _parts(f)) for f in functions if isinstance(f, FunctionType)]

    def broken(self, everywhere: bool = False) -> list[str]:
        """The names of what was changed. everywhere: also in all modules below torch and NumPy, 25 ms."""
        found = [*_changed(self.near), *(_changed(self.far) if everywhere else ())]
        for function, parts in self.parts:
            if any(now is not before for now, before in zip(_parts(function), parts, strict=True)):
                found.append(f"{function.__module__}.{function.__qualname__}")
        return found
