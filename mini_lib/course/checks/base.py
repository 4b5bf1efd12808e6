"""What every check is made of: a verdict in one sentence, a comparison, and the summary at a notebook's end."""

from collections.abc import Callable
from functools import partial, wraps
from typing import Any

import numpy as np
import torch


def answering(function: Callable) -> Callable:
    """The function, with a sentence where it returns nothing, or changes an array that it was given."""

    @wraps(function)
    def answer(*arguments, **named):
        before = [value.copy() for value in _arrays(arguments)]
        found = function(*arguments, **named)
        assert found is not None, "the answer is None: does the function return it?"
        after = _arrays(arguments)
        same_still = len(after) == len(before) and all(map(partial(np.array_equal, equal_nan=True), after, before))
        assert same_still, "the function changes its input: work on a copy."
        return found

    return answer


def _arrays(value):
    """Arrays and tensors in lists, tuples and dicts, as arrays that share their memory."""
    if isinstance(value, (list, tuple, dict)):
        return [array for part in (value.values() if isinstance(value, dict) else value) for array in _arrays(part)]
    if torch.is_tensor(value):
        return [value.detach().cpu().numpy()]
    return [value] if isinstance(value, np.ndarray) else []


def report(check: Callable) -> Callable[[Callable], None]:
    """Make a check print its verdict: an AssertionError's text, or that the function is right."""

    @wraps(check)
    def told(function):
        try:
            check(answering(function))
        except NotImplementedError:
            print("... not written yet: put your code in place of `raise NotImplementedError`.")
        except AssertionError as fault:
            print(f"✗ {fault}")
        except Exception as error:
            print(f"✗ {type(error).__name__} when your function was tried: {error}")
        else:
            print(f"✓ {function.__name__} is right.")

    return told


def same(found: Any, expected: Any, what: str, tolerance: float = 1e-5) -> None:
    """Assert that `found` is `expected` in form and value; `what` begins the sentence that says where it is not."""
    found, expected = (  # a Python float has 64 bits, and keeps them
        torch.as_tensor(value, dtype=torch.float64 if isinstance(value, float) else None) for value in (found, expected)
    )
    assert found.shape == expected.shape, f"{what} has the shape {tuple(found.shape)}, not {tuple(expected.shape)}."
    near = torch.isclose(found.double(), expected.double(), atol=tolerance, rtol=tolerance).flatten()
    if not near.all():
        first = int((~near).nonzero()[0])
        wanted, given = (_short(values, first) for values in (expected, found))
        if wanted == given:
            wanted, given = (_short(values, first, digits=9) for values in (expected, found))
        raise AssertionError(f"{what} should be {wanted}, but is {given}{f', from entry {first} on' * (first > 0)}.")


def not_one_of(found: Any, right: Any, faults: dict[str, Any]) -> None:
    """Assert that `found` is none of the wrong results that differ from the right one. faults: text -> result"""
    for fault, wrong in faults.items():
        hit = np.shape(found) == np.shape(wrong) and np.allclose(found, wrong, 1e-4, 1e-5, equal_nan=True)
        assert not hit or np.allclose(wrong, right, 1e-4, 1e-5, equal_nan=True), fault


def _short(tensor, first, digits=4):
    """A number, or up to six from the first that differs."""
    shown = [f"{value:.{digits}g}" for value in tensor.double().flatten()[first : first + 6].tolist()]
    return f"[{', '.join(shown)}]" if tensor.ndim else shown[0]


def summary(rows: dict[str, tuple[float, float, float]]) -> bool:
    """Print the numbers that a text quotes beside those of this run; True if every one lies within its tolerance.

    rows: what -> (number of this run, number in the text, tolerance). Trained numbers differ a little between machines.
    """
    print(f"{'':46}{'in the text':>12}{'in this run':>13}")
    for what, (here, quoted, tolerance) in rows.items():
        print(f"{what:46}{quoted:12g}{here:13.1f}{'' if abs(here - quoted) <= tolerance else '   differs'}")
    return all(abs(here - quoted) <= tolerance for here, quoted, tolerance in rows.values())
