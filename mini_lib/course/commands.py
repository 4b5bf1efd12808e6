"""`python -m mini_lib execute | predict | assignments | grade | book | check | notebooks`: running the course and teaching with it."""

from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    """Add this room's commands to the front door's."""
    _add_execute(commands)
    _add_predict(commands)
    text = "write the students' versions of the graded assignments to build/assignments/release/"
    commands.add_parser("assignments", help=text, description=text).set_defaults(run=_assignments)
    text = "run and grade FOLDER/<student>/<assignment>/<notebook>.ipynb; points and feedback go to build/assignments/"
    grade = commands.add_parser("grade", help="grade submissions", description=text)
    grade.add_argument("folder", type=Path, metavar="FOLDER", help="one folder per student, in it one per assignment")
    grade.add_argument(
        "--sandbox", choices=["bwrap", "docker"], help="what stands around each submission, where it is there"
    )
    grade.set_defaults(run=_grade)
    text = "write all notebooks as a site that is read without a network: build/book/index.html"
    commands.add_parser("book", help="write all notebooks as a site", description=text).set_defaults(run=_book)
    text = "print a line for each package, [OK] or [FAIL]: please include it when you ask for help"
    commands.add_parser("check", help="is everything there?", description=text).set_defaults(run=_check)
    text = (
        "write into every notebook what all share (first cell, link to Colab, minutes), and the minutes into README.md"
    )
    notebooks = commands.add_parser("notebooks", help="for maintainers: keep the notebooks alike", description=text)
    notebooks.add_argument(
        "command", nargs="?", choices=["run", "time"], help="execute notebooks and save, or only time them"
    )
    notebooks.add_argument(
        "numbers", nargs="*", metavar="NN", help="of the notebooks to measure; all if there are none"
    )
    notebooks.set_defaults(run=_notebooks)


def _add_execute(commands):
    text = (
        "run a notebook unattended, with papermill; a parameter that it does not know, or a value of another type, is "
        "refused before anything runs. Notebook, report and results lie in the folder OUT, inside the repository where it "
        "is relative, by default runs/PARAMETERS"
    )
    execute = commands.add_parser("execute", help="run a notebook with a parameter file", description=text)
    execute.add_argument("notebook", type=Path, metavar="NOTEBOOK")
    execute.add_argument("parameters", type=Path, metavar="PARAMETERS.yaml", help="notebooks/params/ has examples")
    execute.add_argument(
        "changes",
        nargs="*",
        metavar="NAME=VALUE",
        help="other values than the file's, as typed; [a, b] and {a: 1} as in YAML",
    )
    execute.set_defaults(run=_execute)


def _execute(options):
    from .execute import execute

    execute(options.notebook, options.parameters, options.changes)


def _add_predict(commands):
    text = (
        "ask a finished run about pictures: prints for each the class, how sure it is of it among the names that it may "
        "choose from, and the task that its selector chose; exit code 1 where a picture cannot be read"
    )
    predict = commands.add_parser("predict", help="ask a finished run about pictures", description=text)
    predict.add_argument(
        "out", type=Path, metavar="OUT", help="the folder of the run, such as runs/folders/moe-adapters"
    )
    predict.add_argument("images", nargs="+", metavar="IMAGE", help="a picture, or a folder of pictures")
    predict.add_argument("--names", metavar="A,B,C", help="the names to choose from; default: those of the task chosen")
    predict.add_argument("--task", metavar="NAME", help="the pictures' task, for methods that must be told it")
    predict.add_argument("--csv", type=Path, metavar="FILE", help="write file, task, name and percent there, too")
    predict.set_defaults(run=_predict)


def _predict(options):
    from ..methods.predict import answer

    names = options.names and [name.strip() for name in options.names.split(",") if name.strip()]
    return answer(options.out, options.images, options.task, names, options.csv)


def _assignments(options):
    from . import grading

    grading.make_all()


def _grade(options):
    from . import grading

    grading.grade_all(options.folder, options.sandbox)


def _book(options):
    from . import book

    book.write()


def _check(options):
    from .environment import check

    return 0 if check() else 1


def _notebooks(options):
    from . import notebooks

    if options.command is None:
        notebooks.write()
    else:
        {"run": notebooks.rerun, "time": notebooks.measure}[options.command](options.numbers)
