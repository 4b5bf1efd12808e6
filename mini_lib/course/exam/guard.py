"""A guard that refuses what no answer needs: files of others, other processes, the network, the interpreter's inside.

An audit hook (PEP 578) cannot be taken off again by Python code, and sees what Python code asks for. It does not see what
compiled code does by itself: it stops the curious, and names what was tried. The wall is the sandbox (isolation.py).
"""

import builtins
import os
import re
import subprocess
import sys
from _thread import get_ident
from collections.abc import Sequence
from importlib.util import find_spec, module_from_spec
from os import devnull, fspath, sep, write
from pathlib import PosixPath, WindowsPath
from types import FunctionType, SimpleNamespace
from typing import Any

__builtins__ = dict(vars(builtins))  # functions below keep these, whatever becomes of the others


def _apart(name: str, **others: Any) -> Any:
    """A second copy of a module of Python's own, with these in it, whose functions nobody else can change."""
    spec: Any = find_spec(name)
    module: Any = module_from_spec(spec)
    module.__builtins__ = dict(vars(builtins))
    spec.loader.exec_module(module)
    vars(module).update(others)
    return module


_system = SimpleNamespace(**vars(os))
_stat = _apart("stat")
_common = _apart("genericpath", os=_system, stat=_stat)
_shared = {name: one for name, one in vars(_common).items() if not name.startswith("__")}
_paths = _apart(os.path.__name__, **{"genericpath": _common, **_shared})
isdir, normcase, realpath = _paths.isdir, _paths.normcase, _paths.realpath

# Events of https://docs.python.org/3/library/audit_events.html. Of the first ones two arguments are paths, of the next one.
MOVES = frozenset(("os.rename", "os.link", "os.symlink"))
CHANGES = MOVES | set(
    "os.remove os.rmdir os.mkdir os.truncate os.chmod os.chown os.utime os.setxattr os.removexattr".split()
)
PROCESSES = frozenset(
    "subprocess.Popen os.system os.fork os.forkpty os.exec os.spawn os.posix_spawn os.startfile os.killpg pty.spawn "
    "_winapi.CreateProcess".split()
)
NETWORK = frozenset(f"socket.{name}" for name in "connect bind sendto sendmsg getaddrinfo gethostbyname".split())
INSIDE = frozenset(
    "gc.get_objects gc.get_referrers gc.get_referents sys._current_exceptions sys.settrace sys.setprofile "
    "sys.monitoring.register_callback sys.addaudithook code.__new__ cpython.PyInterpreterState_New".split()
)
FORK = "_posixsubprocess"
KERNELS = "torch._C._dispatch_library"  # an event that the seal has made
LIBRARIES = re.compile(r"(\w*openblas|MKL|mkl|omp|kmp|bli|flexiblas)_")
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
ENCODING, ERRORS = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()
PARTS = ("__code__", "__defaults__", "__kwdefaults__")  # of a function
PROCESS = re.compile(r"/proc/(\d+)(/.*)?$")
KNOWN = (str, bytes, int, type(None), PosixPath, WindowsPath, FunctionType)  # others could run code when looked at


class Guard:
    """work: the one folder that may be written; hidden: folders that may not be read, except for those in `shown`.

    firm: folders of code whose functions stay what they are. told: the number of an open file; what is refused is a line in it.
    """

    def __init__(self, work: str, hidden: Sequence[str], shown: Sequence[str], firm: Sequence[str], told: int):
        self.own, self.examiner, self.firm, self.told, self.said = os.getpid(), get_ident(), firm, told, set()
        self.may_watch = False  # whether a test may look at the calls in its thread, once
        self.work, *rest = (realpath(folder) for folder in (work, *hidden, *shown))
        self.hidden, self.shown = rest[: len(hidden)], rest[len(hidden) :]

    def _path(self, value: Any) -> str:
        return realpath(_text(value))

    def _within(self, path: str, folders: Sequence[str]) -> bool:
        path = normcase(path)
        return any(path.startswith(normcase(one).rstrip(sep) + sep) for one in folders) or path in folders

    def _secret(self, path: str) -> bool:
        """Whether a file or folder may not even be read."""
        process = PROCESS.match(path)
        if process:
            return int(process[1]) != self.own or path.endswith("/mem")
        return self._within(path, self.hidden) and not self._within(path, self.shown)

    def refusal(self, event: str, args: tuple[Any, ...]) -> str | None:
        """What is refused of an event, in words; or None."""
        first: Any = args[0] if args else None
        if event == "open" and type(first) is not int:  # an int is a file that is open already
            path = self._path(first)
            writes = args[2] & WRITES or any(letter in (args[1] or "") for letter in "wax+")
            if path == realpath(devnull) or self._within(path, [self.work]):
                return None
            if writes or self._secret(path) or isdir(path):  # from an open folder paths lead on unseen
                return f"to {'write' if writes else 'read'} {_short(path)}"
        elif event in ("os.listdir", "os.scandir"):
            path = self.work if type(first) is int else self._path("." if first is None else first)
            return f"to read {_short(path)}" if self._secret(path) else None
        elif event in CHANGES:
            paths = [self._path(one) for one in args[: 1 + (event in MOVES)] if not isinstance(one, int)]
            outside = [path for path in paths[event == "os.symlink" :] if not self._within(path, [self.work])]
            return f"to change {_short(outside[0])}" if outside else None
        elif event == "sqlite3.connect":
            name = _text(args[0]).removeprefix("file:").partition("?")[0]
            path = self._path(name)
            return None if name in ("", ":memory:") or self._within(path, [self.work]) else f"to open {_short(path)}"
        elif event in PROCESSES or (event == "os.kill" and first != self.own):
            return f"to start or end a process ({event})"
        elif event in NETWORK:
            return f"to use the network ({event})"
        elif event == "sys.setprofile" and self.may_watch:
            self.may_watch = False
        elif event == KERNELS:
            return "to change what torch computes"
        elif event in INSIDE or (event == "sys._current_frames" and get_ident() != self.examiner):
            return f"to look into the interpreter ({event})"
        elif event == "object.__setattr__" and args[1] in PARTS:
            known = self._within(args[0].__code__.co_filename, self.firm)
            return f"to change the function {args[0].__code__.co_name}" if known else None
        elif event == "import":
            own = type(args[1]) is str and self._within(realpath(args[1]), [self.work])
            return f"to load compiled code ({first})" if own or first == FORK else None
        elif event == "ctypes.dlopen" and type(first) is str:
            library = self._within(realpath(first), self.shown) and not self._within(realpath(first), [self.work])
            return None if library else f"to use memory directly ({event})"
        elif event == "ctypes.dlsym":  # scikit-learn asks libraries how many threads they use
            return None if LIBRARIES.match(str(args[1])) else f"to use memory directly ({event})"
        elif event.startswith("ctypes."):
            return f"to use memory directly ({event})"
        return None

    def check(self, event: str, args: tuple) -> str | None:
        """As `refusal`, and told to the lecturer."""
        try:
            refused = self.refusal(event, tuple(one if type(one) in KNOWN else ... for one in args))
        except (TypeError, ValueError, LookupError, AttributeError):  # an event of another form
            refused = f"to do what cannot be judged ({event})"
        if refused and refused not in self.said and len(self.said) < 20:
            self.said.add(refused)
            write(self.told, f"{refused!a}\n".encode())
        return refused

    def on(self) -> None:
        """From here on, and for good."""
        for module in (subprocess, sys.modules.get(FORK, subprocess)):
            for name in ("_fork_exec", "fork_exec"):  # it starts processes without an event
                vars(module).pop(name, None)
        # The error's traceback shows the hook's frame to whoever catches it: no way may lead from there to this guard.
        sys.addaudithook(FunctionType(_hook.__code__, {"__builtins__": {}}, argdefs=(self.check, PermissionError)))


def _text(value: Any) -> str:
    """A path as a text; os.fsdecode asks another function, which can be replaced."""
    value = fspath(value)
    return value if type(value) is str else value.decode(ENCODING, ERRORS)


def _hook(event, args, check, error):
    refused = check(event, args)
    if refused:
        del check
        raise error("a submission is not allowed " + refused)


def _short(path: str) -> str:
    """The end of a path: a remark is short, and says nothing of where things lie."""
    return "/".join(path.replace(sep, "/").split("/")[-2:])[-80:]
