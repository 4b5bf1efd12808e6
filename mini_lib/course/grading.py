"""Graded assignments: `python -m mini_lib assignments` and `python -m mini_lib grade FOLDER`.

A thin layer over nbgrader (pip install -e '.[course]'). `make` writes the students' versions, without solutions and
hidden tests. `grade` takes FOLDER/<student>/<assignment>/<notebook>.ipynb, runs each submission apart, lets nbgrader keep
the points, and writes a table of them and feedback as HTML. What a person grades alone (A5) is not run again, and keeps
the outputs that were handed in. All of it lies in build/assignments/, an nbgrader course folder.
"""

import csv
import shutil
import unicodedata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from ..studies import ROOT
from . import gradebook, submission
from .gradebook import take_step

OUT = ROOT / "build" / "assignments"
CELL_SECONDS, SUBMISSION_SECONDS = 60, 300  # a cell is stopped after the first, a whole submission after the second
COLUMNS = ("student", "assignment", "points", "of", "auto", "auto_of", "written", "written_of", "to_read", "remark")


def sources() -> dict[str, Path]:
    """Name of each assignment -> its source notebook."""
    return {path.stem.split("_")[0]: path for path in sorted((ROOT / "notebooks/assignments").glob("*.ipynb"))}


def by_hand(name: str) -> bool:
    """Whether a person gives all points of an assignment; its notebooks are not run again when they are graded."""
    return not any(map(submission.is_test, nbformat.read(sources()[name], 4).cells))


def make(out: Path = OUT) -> list[Path]:
    """Write the student's version of every assignment to out/release/ and its tests to the gradebook. -> notebooks"""
    out.mkdir(parents=True, exist_ok=True)
    (out / "nbgrader_config.py").write_text(gradebook.CONFIG, encoding="utf-8")
    for name, path in sources().items():
        (out / "source" / name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, out / "source" / name)
        take_step("GenerateAssignment", name, ".", out=out)
    return [out / "release" / name / path.name for name, path in sources().items()]


def _read(one: submission.HandedIn, assignments: dict[str, Any]) -> NotebookNode | None:
    """The submission's notebook; or None, with its fault noted."""
    if not one.fault and one.assignment not in assignments:
        one.fault = f"there is no assignment {one.assignment!r}, only {', '.join(assignments)}."
    if one.fault:
        return None
    assignment = assignments[one.assignment]
    try:
        notebook = submission.read(one.path / assignment.file)
        submission.merge(notebook, assignment.release, None, outputs=False)  # whether its cells are there
        return notebook
    except ValueError as error:
        one.fault = str(error)


def grade(
    folder: str | Path,
    out: Path = OUT,
    cell_seconds: float = CELL_SECONDS,
    submission_seconds: float = SUBMISSION_SECONDS,
    sandbox: str | None = None,
) -> list[dict[str, Any]]:
    """Grade every submission in the folder; a bad one gets its sentence, and the others go on. -> rows of the table

    sandbox: "bwrap" or "docker", where the machine has it; else limits and a guard are all that stands around a submission.
    """
    folder, out = Path(folder).resolve(), Path(out).resolve()
    every = list(submission.handed_in(folder)) if folder.is_dir() else []
    if not any(one.assignment for one in every):
        raise ValueError(f"no submissions in {folder}: FOLDER/<student>/<assignment>/<notebook>.ipynb is expected.")
    if folder.is_relative_to(out) or out.is_relative_to(folder):
        raise ValueError(f"{folder} is where grading writes, or around it: keep submissions in a folder of their own.")
    from . import isolation, marking

    isolation.check(sandbox)
    make(out)
    assignments = {name: marking.Assignment(name, path, out) for name, path in sources().items()}
    notebooks = [_read(one, assignments) for one in every]  # all of them, before anything of anybody's is run
    marker, rows = marking.Marker(folder, out, cell_seconds, submission_seconds, sandbox), []
    for one, notebook in zip(every, notebooks):
        row: dict[str, Any] = {"student": one.student} | ({"assignment": one.assignment} if one.assignment else {})
        row["remark"] = one.fault
        if notebook is not None:
            try:
                row |= marker.mark(one.student, assignments[one.assignment], notebook)
            except ValueError as error:
                row["remark"] = f"could not be graded: {' '.join(str(error).split())}"
            except Exception as error:  # whatever it was, the others go on
                row["remark"] = f"could not be graded: {type(error).__name__}: {' '.join(str(error).split())}"
        rows.append(row)
        print(_printable(f"{one.student}, {one.assignment}: {row.get('points', 'no')} points. {row['remark']}"))
    with open(out / "grades.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([COLUMNS, *([_cell(row.get(name, "")) for name in COLUMNS] for row in rows)])
    for assignment in sorted({row["assignment"] for row in rows if "points" in row}):
        take_step("GenerateFeedback", assignment, out=out)
    return rows


def _printable(text: str) -> str:
    """A text without characters that steer a terminal, or turn the direction of writing."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _cell(value: Any) -> str:
    """A value for a spreadsheet, which would take a text that begins in these ways for a formula."""
    text = _printable(str(value))
    first = unicodedata.normalize("NFKC", text[:1])  # some take wide letters for the narrow ones
    return f"'{text}" if first in ("=", "+", "-", "@") else text


def make_all() -> None:
    """The command `assignments`."""
    _need_nbgrader()
    for path in make():
        print(path.relative_to(ROOT))


def grade_all(folder: Path, sandbox: str | None = None) -> None:
    """The command `grade`."""
    _need_nbgrader()
    grade(folder, sandbox=sandbox)
    print(f"\nPoints: {(OUT / 'grades.csv').relative_to(ROOT)}, feedback: {(OUT / 'feedback').relative_to(ROOT)}")


def _need_nbgrader():
    if find_spec("nbgrader") is None:
        raise OSError("nbgrader is not installed: pip install -e '.[course]'")
