"""Checks of the graded assignments: like those of the exercises, but a wrong answer also stops its cell.

nbgrader gives a test cell its points unless it ends in an error. So a bad verdict is an error, shown as one sentence.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from functools import wraps
from hashlib import sha256
from typing import Any

from .base import answering

TERM = "2027 spring"  # the salt of all personal numbers: another text, other numbers for everybody


def personal(assignment: str, student_id: str, **choices: Sequence) -> dict[str, Any]:
    """One entry of each list, the same for the same student, assignment and term; others for other students."""
    found = {}
    for name, options in choices.items():
        text = "/".join((TERM, assignment, student_id.strip().lower(), name))
        found[name] = options[int(sha256(text.encode()).hexdigest(), 16) % len(options)]
    return found


class Wrong(AssertionError):
    """An answer is wrong; notebooks show the sentence and no trace."""

    def _render_traceback_(self):
        return [f"✗ {self}"]


@contextmanager
def verdict() -> Iterator[None]:
    """Whatever goes wrong inside becomes one sentence. Warnings are not shown: nbgrader takes them for errors."""
    try:
        with redirect_stderr(io.StringIO()):
            yield
    except NotImplementedError:
        raise Wrong("not written yet: put your code in place of `raise NotImplementedError()`.") from None
    except AssertionError as fault:
        raise Wrong(str(fault) or "an `assert` of your own failed, without a word.") from None
    except Exception as error:
        raise Wrong(f"{type(error).__name__} when your function was tried: {error}") from None


def graded(check: Callable) -> Callable[[Callable], None]:
    """Make a check of one function raise its verdict, or print that this much is right."""

    @wraps(check)
    def told(function):
        with verdict():
            check(answering(function))
        print(f"✓ {function.__name__} passes the visible check.")

    return told
