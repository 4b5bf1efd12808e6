"""The examiner: hands the cells of a notebook to the desk, tests the functions written there, and reports what passed.

It runs in a thread of its own, with checks of its own that no module name leads to; the code of a submission only ever
runs in the main thread (desk.py), and never while a test computes. A test cell finds the library's names bound anew, and
in place of each function of the submission one that asks the desk. What comes back must be plain values, and after each
call the seal must be whole. A verdict is signed with a key that only this thread and the grading process know.
"""

import builtins
import contextlib
import ctypes
import functools
import gc
import json
import math
import os
import signal
import sys
import threading
from _thread import _count, interrupt_main, start_new_thread
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from io import StringIO
from os import _exit, write
from queue import Empty, SimpleQueue
from sys import _current_frames
from time import monotonic, sleep
from types import CodeType, FunctionType
from typing import Any
from weakref import getweakrefcount

import numpy as np
import torch

from .guard import Guard
from .seal import Seal, sums

__builtins__ = dict(vars(builtins))  # functions below keep these, whatever becomes of the others

# From here on nothing is looked up in a module that the submission can change: names stand in this one, and
# the streams are set where `sys` keeps them.
MAIN, INTERRUPT, STREAMS = threading.main_thread().ident or 0, signal.SIGINT, sys.__dict__
timer, signal_thread = getattr(signal, "getitimer", None), getattr(signal, "pthread_kill", None)  # not on Windows
PLAIN = {bool, int, float, complex, str, type(None)}
PLAIN |= {kind for kind in np.sctypeDict.values() if issubclass(kind, (np.number, np.bool_, np.str_))}
ERRORS = "AssertionError NotImplementedError RuntimeError TypeError ValueError IndexError KeyError ZeroDivisionError"
STRANGE = "code of the submission runs while the test computes."
KINDS = {name: vars(builtins)[name] for name in ERRORS.split()}  # checks may tell them apart


class Stopped(Exception):
    """A test is over: its time, or because of what a function of the submission did."""


def exact(value: Any) -> bool:
    """Whether an answer is made of plain types only: comparing it runs no code of the submission."""
    if type(value) in (list, tuple):
        return all(map(exact, value))
    if type(value) is dict:
        return all(map(exact, value)) and all(map(exact, value.values()))
    if type(value) is torch.Tensor:
        return not vars(value) and not value._backward_hooks and not getweakrefcount(value)
    return type(value) in PLAIN or (type(value) is np.ndarray and not value.dtype.hasobject)


def watchers(value: Any) -> int:
    """How many have asked to be told when one of these arguments is gone: they would be, while the test computes."""
    if type(value) in (list, tuple, dict):
        return sum(map(watchers, value.values() if type(value) is dict else value))
    return 0 if type(value) in PLAIN else getweakrefcount(value)


def start(work: bytes, *desk: Any) -> None:
    """Begin, in a thread that has no name: everything it needs is in `work`, JSON of isolation.py, and in `desk`."""
    start_new_thread(_examine, (work, *desk))


def _examine(work, *desk):
    try:
        examiner = Examiner(json.loads(work), *desk)
        try:
            examiner.prepare()
        except Exception as error:  # nothing of the submission has run yet
            examiner.report("broken", 0, ascii(f"{type(error).__name__}: {error}"))
        else:
            examiner.examine()
    finally:
        _exit(0)  # nothing that a submission has left for the end is run


def limit(memory: int, file: int, processes: int) -> None:
    """Bytes of memory and of one file, and processes and threads of this user; where the system knows such limits."""
    if sys.platform == "win32":
        return
    import resource

    if sys.platform == "linux":  # it does not live on when the grading process is killed
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    data = "RLIMIT_DATA" if sys.platform == "linux" else "RLIMIT_AS"  # torch reserves much that it does not use
    for name, most in {data: memory, "RLIMIT_FSIZE": file, "RLIMIT_CORE": 0, "RLIMIT_NPROC": processes}.items():
        hard = resource.getrlimit(getattr(resource, name))[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        with contextlib.suppress(ValueError, OSError):  # macOS knows some of them by name only
            resource.setrlimit(getattr(resource, name), (most, most))


class Examiner:
    """job: what isolation.py sends; orders and answers: the way to the desk and back; idle: what it runs while it waits."""

    def __init__(self, job: dict[str, Any], orders: SimpleQueue, answers: SimpleQueue, idle: CodeType):
        self.job, self.orders, self.answers, self.number = job, orders, answers, 0
        self.idle, self.late, self.fault, self.deadline, self.printed = idle, False, None, math.inf, StringIO()
        self.results, self.told, nowhere = os.dup(1), os.dup(2), os.open(os.devnull, os.O_RDWR)
        for stream in range(3):
            os.dup2(nowhere, stream)

    def prepare(self) -> None:
        """Set the limits, import what the tests need, seal it, and guard the rest."""
        limit(**self.job["limits"])
        self.space: dict[str, Any] = {"__name__": "__main__", "STUDENT_ID": self.job["student_id"]}
        self.space["__builtins__"] = dict(vars(builtins))
        STREAMS["stdout"] = STREAMS["stderr"] = StringIO()
        exec(compile(self.job["setup"], "<setup>", "exec"), self.space)
        own = {name: one for name, one in sys.modules.items() if name.split(".")[0] == "mini_lib"}
        for name in own:
            if name.startswith(("mini_lib.course.checks", "mini_lib.course.exam")):
                del sys.modules[name]  # the submission imports the checks anew; these here have no name any more
        for name in ("checks", "exam"):
            vars(own["mini_lib.course"]).pop(name, None)
        self.seal, self.sums, self.threads = Seal(list(own.values())), repr((sums(), sums())), _count()
        firm = [*torch.__path__, *np.__path__, *own["mini_lib"].__path__, contextlib.__file__, functools.__file__]
        self.known = with_inner(one.__code__ for one in gc.get_objects() if type(one) is FunctionType)
        self.guard = Guard(**self.job["folders"], firm=firm, told=self.told)
        self.guard.on()

    def report(self, kind: str, number: int, text: str) -> None:
        """A signed line for the grading process. Made without any function of Python code, for that could be changed."""
        signature = blake2b(f"{kind} {number} {text}".encode(), key=self.job["key"].encode()).hexdigest()
        line = f"{signature} {kind} {number} {text}\n".encode()
        while line:
            line = line[write(self.results, line) :]

    def examine(self) -> None:
        """All cells in order, then the end."""
        self.report("ready", 0, "")
        for number, cell in enumerate(self.job["cells"]):
            self.late, self.deadline = False, monotonic() + self.job["cell_seconds"]
            if cell["test"]:
                outputs, passed = self.test(cell["source"], cell["seed"])
                self.report("outputs", number, f"{outputs!a}")
                self.report("passed", number, f"{passed}")
            else:
                _, shown, _ = self.ask("cell", cell["source"])
                self.report("shown", number, f"{shown!a}")
                if self.late:
                    self.report("late", number, "")
        self.report("end", 0, "")

    def ask(self, kind: str, *order: Any) -> tuple[Any, str, str]:
        """What the desk answers: what came of it, what it showed as JSON, and what it printed. Interrupts it once."""
        self.number += 1
        streams = STREAMS["stdout"], STREAMS["stderr"]
        self.orders.put((self.number, kind, *order))
        while True:
            try:
                left = max(0.0, self.deadline - monotonic())
                answer = self.answers.get(timeout=None if self.late else left)
            except Empty:
                self.late = True
                interrupt()
                continue
            if type(answer) is tuple and len(answer) == 4 and type(answer[0]) is int and answer[0] == self.number:
                break  # others are of an order that was interrupted too late
        STREAMS["stdout"], STREAMS["stderr"] = streams
        came, shown, printed = answer[1:]
        return came, shown if type(shown) is str else "[]", printed if type(printed) is str else ""

    def disturbed(self, threads: int, everywhere: bool = False, allowed: Sequence[str] = ()) -> str | None:
        """Why a test cannot go on, in a sentence. threads: how many there may be beside those at the start."""
        if changed := [name for name in self.seal.broken(everywhere) if name not in allowed]:
            return f"{changed[0]} was changed: the tests need everything as it is."
        if _current_frames()[MAIN].f_code is not self.idle:
            return "code of the submission goes on while the test compares."
        if _count() > self.threads + threads:
            return "a thread of the submission goes on while the test compares."
        if timer is not None and any(timer(0)):  # ITIMER_REAL
            return "a timer of the submission goes on while the test compares."

    def answer(self, name: str, arguments: tuple, named: dict, gradients: bool) -> tuple:
        """What a function of the submission answers, as `desk.call`; or ("stopped",)."""
        if self.fault or self.late:
            return ("stopped",)
        by_test = self.seal.broken()  # as where a check refuses that the library's own function is called
        told = watchers(arguments) + watchers(named)
        came, _, printed = self.ask("call", name, arguments, named, gradients)
        self.fault = self.fault or self.disturbed(1, allowed=by_test)
        if watchers(arguments) + watchers(named) > told:
            self.fault = self.fault or "an argument was given something to do when it is gone, while the test compares."
        if self.fault or self.late:
            return ("stopped",)
        self.printed.write(printed)
        if type(came) is tuple and exact(came):
            return came
        text = "the answer is none of: number, text, tensor, array, or a list or tuple of them."
        return "raised", "AssertionError", "AssertionError", text

    def test(self, source: str, seed: int) -> tuple[list[dict[str, Any]], bool]:
        """What a test cell shows, and whether it passed: it came to its end, and everything is as it was."""
        calls, replies, error = SimpleQueue(), SimpleQueue(), None
        space = self.space | {name: remote(name, calls, replies) for name in self.job["functions"]}
        self.printed = STREAMS["stdout"] = STREAMS["stderr"] = StringIO()
        self.fault = self.disturbed(0, everywhere=True)
        if not self.fault:
            torch.manual_seed(seed)
            np.random.seed(seed)
            code = compile(source, "<test>", "exec")
            gc.disable()  # or what the submission has left would be ended, and its code run, in the test's thread
            self.guard.may_watch = True
            start_new_thread(run, (code, space, calls, self.known, with_inner([code])))
            while type(call := calls.get()) is tuple and len(call) == 4:
                replies.put(self.answer(*call))
            gc.enable()
            error, found = call if type(call) is tuple and len(call) == 2 else ("", None)
            if error == STRANGE:
                replies.put(("stopped",))  # it may have asked meanwhile, and ends then
            while _count() > self.threads and not self.fault and monotonic() < self.deadline + 1:
                sleep(0.001)  # until the test's thread is gone
            self.fault = self.fault or (STRANGE if error == STRANGE else self.disturbed(0, everywhere=True))
            if not calls.empty():
                self.fault = self.fault or "the test was said to be over before it was."
            if error is None and (type(found) is not str or found != self.sums):
                self.fault = self.fault or "what torch computes was changed: the tests need everything as it is."
        outputs = [{"output_type": "stream", "name": "stdout", "text": self.printed.getvalue()}]
        if self.late:
            outputs += [_error("CellTimeoutError", "", f"stopped after {self.job['cell_seconds']} seconds.")]
        elif self.fault:
            outputs += [_error("Refused", self.fault, f"✗ {self.fault}")]
        elif type(error) is str:
            name, _, text = error.partition(" ")
            outputs += [_error(name, text, f"✗ {text}" if name == "Wrong" else f"{name}: {text}")]
        return outputs, error is None and len(outputs) == 1


def with_inner(codes: Iterable[CodeType]) -> dict[int, CodeType]:
    """Code, and that of the functions defined in it, by its identity: code of another origin can look the same."""
    found, left = {}, list(codes)
    while left:
        code = left.pop()
        if id(code) not in found:
            found[id(code)] = code
            left += [inner for inner in code.co_consts if type(inner) is CodeType]
    return found


def run(
    code: CodeType, space: dict[str, Any], calls: SimpleQueue, known: dict[int, CodeType], own: dict[int, CodeType]
) -> None:
    """A test, in a thread of its own: what torch or Python call back while it computes finds neither key nor seal there.

    Calls of functions have four parts; the end has two: the error as text or None, and what torch computed before and after.
    Other code than `known` and the test's `own`, such as a hook in the gradient of an answer, ends the test before its first
    line: it could exchange what the test compares with.
    """

    def watch(frame, event, _):
        if event == "call" and id(frame.f_code) not in known and id(frame.f_code) not in own:
            calls.put((STRANGE, None))

    try:
        sys.setprofile(watch)
        before = sums()
        exec(code, space)
        calls.put((None, repr((before, sums()))))
    except BaseException as error:
        calls.put((f"{type(error).__name__} {error}", None))


def remote(name: str, calls: SimpleQueue, replies: SimpleQueue) -> Callable:
    """What a test finds in place of a function of the submission."""

    def ask(*arguments, **named):
        calls.put((name, arguments, named, torch.is_grad_enabled()))
        kind, *came = replies.get()
        if kind == "returned":
            return came[0]
        if kind == "stopped":
            raise Stopped
        base, kind, text = came
        raise type(kind if kind.isidentifier() else "Error", (KINDS.get(base, Exception),), {})(text)

    ask.__name__ = name
    return ask


def _error(name: str, text: str, line: str) -> dict[str, Any]:
    return {"output_type": "error", "ename": name, "evalue": text, "traceback": [line]}


def interrupt() -> None:
    """KeyboardInterrupt in the main thread, also where it sleeps."""
    if signal_thread:
        signal_thread(MAIN, INTERRUPT)
    else:
        interrupt_main()
