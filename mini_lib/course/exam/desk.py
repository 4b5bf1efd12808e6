"""The desk at which a submission's code runs: the main thread of a process of its own, and nothing else in it.

Who decides on points (examiner.py) sits in another thread: code can walk up its own stack, so from here no way may lead
there. This module imports nothing of it at its top, and keeps nothing of what it is given to pass on.
"""

import base64
import io
import json
import os
import sys
from queue import SimpleQueue
from typing import Any

import numpy as np
import torch
from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

CHARACTERS = 2_000_000  # of output that a cell, or a test's calls of a function, may leave


class Outputs:
    """What a cell has shown so far, as a notebook stores it."""

    def __init__(self):
        self.found: list[dict[str, Any]] = []
        self.size = 0

    def count(self, size: int) -> None:
        self.size += size
        if self.size > CHARACTERS:
            raise RuntimeError(f"stopped: more than {CHARACTERS:,} characters of output.")

    def add(self, kind: str, **contents: Any) -> None:
        self.count(len(json.dumps(contents, default=str)))
        self.found.append({"output_type": kind, **contents})

    def write(self, name: str, text: str) -> None:
        self.count(len(text))
        if text and self.found and self.found[-1].get("name") == name:
            self.found[-1]["text"].append(text)
        elif text:
            self.found.append({"output_type": "stream", "name": name, "text": [text]})

    def take(self) -> tuple[str, str]:
        """All of it as JSON, and what of it was printed; the next cell begins anew."""
        found, self.found, self.size = self.found, [], 0
        for output in found:
            if output["output_type"] == "stream":
                output["text"] = "".join(output["text"])
        printed = [output["text"] for output in found if output.get("name") == "stdout"]
        return json.dumps(found, default=str), "".join(printed)


SHOWN = Outputs()


class Stream(io.TextIOBase):
    """Standard output or error of a cell."""

    encoding = "utf-8"

    def __init__(self, name: str):
        self.stream = name

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        SHOWN.write(self.stream, text)
        return len(text)


def _plain_data(data):
    return {kind: base64.b64encode(x).decode() if isinstance(x, bytes) else x for kind, x in data.items()}


class Publisher(DisplayPublisher):
    """Notes what `display` shows."""

    def publish(self, data, metadata=None, source=None, *, transient=None, update=False, **kwargs):
        if not update:
            SHOWN.add("display_data", data=_plain_data(data), metadata=metadata or {})

    def clear_output(self, wait=False):
        SHOWN.take()


class Hook(DisplayHook):
    """Notes the value of a cell's last line."""

    def write_output_prompt(self):
        pass

    def write_format_data(self, format_dict, md_dict=None):
        data, number = _plain_data(format_dict), self.prompt_count
        SHOWN.add("execute_result", data=data, metadata=md_dict or {}, execution_count=number)


class Shell(InteractiveShell):
    """IPython as in a notebook's kernel, without files of its own and without a connection to anybody."""

    def enable_gui(self, gui=None):
        """For `%matplotlib inline`: there is no window."""

    def _showtraceback(self, etype, evalue, stb):
        lines, SHOWN.size = [line[-5_000:] for line in stb][-20:], 0  # also where there was too much before it
        SHOWN.add("error", ename=etype.__name__, evalue=str(evalue)[-1_000:], traceback=lines)


def shell() -> Shell:
    """The one shell of this process."""
    Shell.display_pub_class.default_value, Shell.displayhook_class.default_value = Publisher, Hook
    return Shell.instance(config=Config({"HistoryManager": {"enabled": False}}))


def plain(value: Any) -> Any:
    """An answer without what a subclass may do when it is compared: the tests take plain types only."""
    if isinstance(value, torch.Tensor):
        with torch._C.DisableTorchFunctionSubclass():
            return value.as_subclass(torch.Tensor)
    for kind in (bool, str, int, float):
        if isinstance(value, kind) and not isinstance(value, np.generic):
            return kind(value)
    if isinstance(value, (tuple, list, range)):
        return (tuple if isinstance(value, tuple) else list)(map(plain, value))
    if isinstance(value, dict):
        return {plain(name): plain(one) for name, one in value.items()}
    return np.asarray(value) if hasattr(value, "__array__") else value


def _words(error):
    try:
        return str(error)[:1000]
    except BaseException:
        return ""


def call(names: dict[str, Any], name: str, arguments: tuple, named: dict, gradients: bool) -> tuple:
    """("returned", the answer of a function of the submission), or ("raised", Python's own kind of error, its name, text)."""
    try:
        if name not in names:
            raise NameError(f"name {name!r} is not defined")
        with torch.set_grad_enabled(gradients):  # the mode belongs to a thread, and the test runs in another one
            return "returned", plain(names[name](*arguments, **named))
    except BaseException as error:  # whatever the submission does; KeyboardInterrupt comes from the examiner
        kinds = (kind.__name__ for kind in type(error).__mro__ if kind.__module__ == "builtins")
        return "raised", next(kinds), type(error).__name__, _words(error)


def serve(made: Shell, orders: SimpleQueue, answers: SimpleQueue) -> None:
    """Do what is asked, one after the other: run a cell, or call a function. An answer: (its number, what came, *shown)."""
    number = None
    while True:
        try:
            number, kind, *order = orders.get()
            sys.stdout, sys.stderr = Stream("stdout"), Stream("stderr")
            came = made.run_cell(*order, store_history=True).success if kind == "cell" else call(made.user_ns, *order)
            answers.put((number, came, *SHOWN.take()))
        except KeyboardInterrupt:  # of the examiner, when the time is up; this order may be answered already
            answers.put((number, ("raised", "", "KeyboardInterrupt", ""), *SHOWN.take()))


def main() -> None:
    """Pass the work on to the examiner, then serve."""
    from . import examiner

    work, sys.stdin = sys.stdin, open(os.devnull, encoding="utf-8")
    orders, answers = SimpleQueue(), SimpleQueue()
    made = shell()
    examiner.start(work.buffer.read(), orders, answers, serve.__code__)
    del examiner
    serve(made, orders, answers)
