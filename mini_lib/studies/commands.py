"""`python -m mini_lib compare | ablations | selectors | photographs | cost`: what the notebooks 08 and 11 to 15 read, measured again."""

from pathlib import Path
from typing import Any

ABLATIONS = ("choices", "parts", "length")


def add(commands: Any) -> None:
    """Add this room's commands to the front door's."""
    text = "every method on MiniMTIL, all seeds and orders; what is in the CSV is not run again"
    compare = commands.add_parser("compare", help="compare the methods on MiniMTIL", description=text)
    compare.add_argument(
        "study",
        nargs="?",
        default="methods",
        choices=["tuning", "methods"],
        help="tuning searches the learning rates, methods (the default) compares with those found",
    )
    _add_what(compare)
    text = "MoE-Adapters with one thing changed at a time; what is in the CSVs is not run again"
    ablations = commands.add_parser("ablations", help="change one part of MoE-Adapters at a time", description=text)
    text = f"{', '.join(ABLATIONS)}; by default all, in turn"
    ablations.add_argument("study", nargs="?", choices=ABLATIONS, help=text)
    _add_what(ablations)
    text = "how well the selector tells known images from unknown ones, by features, block, rule and limit"
    commands.add_parser("selectors", help=text, description=text).set_defaults(run=_selectors)
    _add_photographs(commands)
    _add_cost(commands)


def _add_what(parser):
    parser.add_argument("--names", nargs="+", metavar="NAME", help="only these contestants")
    parser.add_argument("--orders", nargs="+", type=int, metavar="N", help="only these orders of the tasks")
    parser.add_argument("--seeds", nargs="+", type=int, metavar="N", help="only these seeds")
    parser.add_argument("--work", type=Path, help="folder of the runs, which go on after a stop; default: runs/compare")
    parser.add_argument("--out", type=Path, help="the CSV, by default that of the study in data/results/")
    parser.set_defaults(run=_compare)


def _compare(options):
    from .compare import run_study

    if options.out and not options.study:  # a CSV holds one study
        raise ValueError(f"--out is the CSV of one study: say which of {', '.join(ABLATIONS)}.")
    for name in [options.study] if options.study else ABLATIONS:
        run_study(name, options.names, options.orders, options.seeds, options.work, options.out)


def _selectors(options):
    from .selectors import measure_all

    measure_all()


def _add_photographs(commands):
    text = "both CLIPs that ship, each selector, on folders of photographs; what is in the CSV is not measured again"
    photographs = commands.add_parser("photographs", help="the selectors on photographs", description=text)
    photographs.add_argument("--root", type=Path, required=True, help="the folder with one folder a task")
    photographs.add_argument("--reference", type=Path, help="the folder of Tiny ImageNet: DDAS with photographs, too")
    photographs.add_argument(
        "--tasks", nargs="+", metavar="TASK", help="the tasks in their order; default: all, by name"
    )
    photographs.add_argument("--clips", nargs="+", choices=["tiny", "photo"], default=["tiny", "photo"])
    photographs.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="N", help="default: 0 1 2")
    photographs.add_argument(
        "--work", type=Path, help="folder of the runs, which go on after a stop; default: runs/photographs"
    )
    photographs.add_argument(
        "--out", type=Path, help="the CSV, a new one for other folders; default: data/results/photographs.csv"
    )
    photographs.set_defaults(run=_photographs)


def _photographs(options):
    from .photographs import FILE, RUNS, measure_all

    work, out = options.work or RUNS, options.out or FILE
    measure_all(options.root, options.reference, options.tasks, options.clips, options.seeds, work, out)


def _add_cost(commands):
    text = "time and memory of a training step of ViT-B/16 (random weights and images), added to data/results/cost.csv"
    cost = commands.add_parser("cost", help="measure a training step of ViT-B/16", description=text)
    text = "only count what a GPU would be asked in a step, and how often it would be waited for"
    cost.add_argument("what", nargs="?", choices=["step"], help=text)
    cost.add_argument("--batch", type=int, help="images a step; default: 8, on a GPU 64")
    cost.add_argument("--classes", type=int, help="prompts a step; default: 20, on a GPU 100")
    precisions = ["float32", "bf16", "fp16"]
    cost.add_argument("--precision", nargs="+", choices=precisions, help="default: float32, on a GPU bf16, too")
    cost.add_argument("--steps", type=int, help="steps timed, 0 counts saved bytes only; default: 5, on a GPU 20")
    cost.add_argument("--out", type=Path, help="the CSV; default: data/results/cost.csv")
    cost.set_defaults(run=_cost)


def _cost(options):
    from .cost import measure_all, print_asks

    if options.what:
        return print_asks()
    measure_all(options.batch, options.classes, options.precision, options.steps, options.out)
