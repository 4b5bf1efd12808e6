"""A learning rate for data that nobody has tried: a short search on validation images. Used in notebook 07."""

from collections.abc import Callable, Sequence

from torch import nn

from ..benchmarks.base import Benchmark
from ..run import evaluate
from ..training import progress
from .base import make_method, needs


def choose_rate(
    name: str, clip: nn.Module, tokenizer: Callable, benchmark: Benchmark, rates: Sequence[float], **settings
) -> tuple[float, dict[float, float]]:
    """The rate whose learner is best, and the mean validation accuracy in percent of each.

    With every rate a method of this name learns the stream in a tenth of the steps, and is judged on each task's
    validation images right after it has learned the task; of equal rates the lower wins. Test images are not looked at.
    Raises ValueError where a task has no validation images.
    """
    if lacking := [task.name for task in benchmark.tasks if not task.val]:
        raise ValueError(f"task {lacking[0]!r} has no validation images to choose a learning rate on: say which it is.")
    iterations = settings.pop("iterations")
    short = {k: max(v // 10, 1) for k, v in iterations.items()} if isinstance(iterations, dict) else max(iterations // 10, 1)
    found = {}
    for rate in progress(sorted(rates), f"rates of {name}"):
        made = {**needs(name, benchmark), **settings, "learning_rate": rate, "iterations": short}
        method = make_method(name, clip, tokenizer, **made)
        accuracies = []
        for task in benchmark.tasks:
            try:
                method.learn(task)
                accuracies.append(evaluate(method, task, task.val)[0])
            except FloatingPointError:  # it diverges with this rate
                accuracies.append(0.0)
                break
        found[rate] = sum(accuracies) / len(benchmark.tasks)
    return max(found, key=lambda rate: (found[rate], -rate)), found
