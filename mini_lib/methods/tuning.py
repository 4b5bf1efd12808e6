"""A learning rate for data that nobody has tried: a short search on validation images. Used in notebook 07."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from torch import nn

from ..benchmarks.base import Benchmark
from ..embedded.storage import digest_of, read_json, replace_file
from ..run import evaluate
from ..training import checksum, progress, sample_outputs
from .base import make_method, needs


def choose_rate(
    name: str,
    clip: nn.Module,
    tokenizer: Callable,
    benchmark: Benchmark,
    rates: Sequence[float],
    file: Path | None = None,
    **settings,
) -> tuple[float, dict[float, float]]:
    """The rate whose learner is best, and the mean validation accuracy in percent of each.

    With every rate a method of this name learns the stream in a tenth of the steps, and is judged on each task's
    validation images right after it has learned the task; of equal rates the lower wins. Test images are not looked at.
    file: where the result is kept; the same search again reads it there. Raises ValueError where a task has no validation
    images.
    """
    if lacking := [task.name for task in benchmark.tasks if not task.val]:
        raise ValueError(f"task {lacking[0]!r} has no validation images to choose a learning rate on: say which it is.")
    rates = sorted(rates)
    search = {
        "method": name,
        "rates": rates,
        "settings": settings,
        "data": benchmark.fingerprint(),
        "clip": [checksum(clip), sample_outputs(clip, tokenizer)],  # the same weights may compute otherwise
    }
    search = json.loads(json.dumps(search))
    accuracies = _kept(file, search) if file else None
    if accuracies is None:
        accuracies = [
            _tried(name, clip, tokenizer, benchmark, rate, settings) for rate in progress(rates, f"rates of {name}")
        ]
        if file:
            found = {"search": search, "accuracies": accuracies}
            text = json.dumps(found | {"digest": digest_of(json.dumps(found).encode())}, indent=2) + "\n"
            replace_file(file, lambda path: path.write_text(text, encoding="utf-8"))
    found = dict(zip(rates, accuracies))
    return max(found, key=lambda rate: (found[rate], -rate)), found


def _kept(file, search) -> list[float] | None:
    """The accuracies of the same search, None where there are none: none yet, or a file that was cut or changed."""
    try:
        kept = read_json(file)
    except (OSError, ValueError):
        return None
    digest = kept.pop("digest", None)
    same = kept.get("search") == search and digest == digest_of(json.dumps(kept).encode())
    return kept["accuracies"] if same else None


def _tried(name, clip, tokenizer, benchmark, rate, settings):
    """Mean validation accuracy in percent of a method that learned with this rate in a tenth of the steps."""
    iterations = settings["iterations"]
    short = (
        {k: max(v // 10, 1) for k, v in iterations.items()}
        if isinstance(iterations, dict)
        else max(iterations // 10, 1)
    )
    made = {**needs(name, benchmark), **settings, "learning_rate": rate, "iterations": short}
    method, accuracies = make_method(name, clip, tokenizer, **made), []
    for task in benchmark.tasks:
        try:
            method.learn(task)
            accuracies.append(evaluate(method, task, task.val)[0])
        except FloatingPointError:  # it diverges with this rate
            break
    return sum(accuracies) / len(benchmark.tasks)
