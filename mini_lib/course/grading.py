"""Graded assignments: `python -m mini_lib assignments` and `python -m mini_lib grade FOLDER`.

A thin layer over nbgrader (pip install -e '.[course]'). `make` writes the students' versions, without solutions and
hidden tests. `grade` takes FOLDER/<student>/<assignment>/<notebook>.ipynb, lets nbgrader run and grade each submission,
and writes a table of points and feedback as HTML. What a person grades alone (A5) is not run again, and keeps the outputs
that were handed in. All of it lies in build/assignments/, an nbgrader course folder.
"""

import csv
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nbformat

from ..studies import ROOT

OUT = ROOT / "build" / "assignments"
CELL_SECONDS, SUBMISSION_SECONDS = 60, 300  # a cell is stopped after the first, a whole submission after the second
COLUMNS = ("student", "assignment", "points", "of", "auto", "auto_of", "written", "written_of", "to_read", "remark")
AS_HANDED_IN = ("--Execute.enabled=False", "--ClearOutput.enabled=False")
CONFIG = """c = get_config()
c.CourseDirectory.course_id = "mini_lib"
c.Execute.timeout = {}
"""


def sources() -> dict[str, Path]:
    """Name of each assignment -> its source notebook."""
    return {path.stem.split("_")[0]: path for path in sorted((ROOT / "notebooks/assignments").glob("*.ipynb"))}


def by_hand(name: str) -> bool:
    """Whether a person gives all points of an assignment; its notebooks are not run again when they are graded."""
    marks = [c.metadata.get("nbgrader", {}) for c in nbformat.read(sources()[name], 4).cells if c.cell_type == "code"]
    return not any(mark.get("grade") for mark in marks)


def nbgrader(*arguments: str, out: Path, seconds: float | None = SUBMISSION_SECONDS) -> None:
    """Run an nbgrader command in the course folder; ValueError with its reason where it fails."""
    command = [sys.executable, "-m", "nbgrader", *arguments, "--log-level=ERROR"]
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))  # it looks for alembic there
    environment = {**os.environ, "PATH": path}
    try:
        done = subprocess.run(command, cwd=out, env=environment, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        raise ValueError(f"stopped after {seconds} seconds: does a cell ignore being interrupted?") from None
    if done.returncode:
        errors = re.findall(r"^ +([\w.]*(?:Error|Exception|Timeout)\b.*)$", done.stderr, re.MULTILINE)
        raise ValueError(f"nbgrader {arguments[0]} failed: {errors[-1] if errors else done.stderr.strip()[-200:]}")


def make(out: Path = OUT, cell_seconds: int = CELL_SECONDS) -> list[Path]:
    """Write the student's version of every assignment to out/release/ and its tests to the gradebook. -> notebooks"""
    out.mkdir(parents=True, exist_ok=True)
    (out / "nbgrader_config.py").write_text(CONFIG.format(cell_seconds), encoding="utf-8")
    for name, path in sources().items():
        (out / "source" / name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, out / "source" / name)
        nbgrader("generate_assignment", name, "--create", "--force", out=out)
    return [out / "release" / name / path.name for name, path in sources().items()]


def grade_ids(notebook: nbformat.NotebookNode) -> list[str]:
    """The names of the cells that nbgrader grades or takes as answers."""
    marks = [cell.metadata.get("nbgrader", {}) for cell in notebook.cells]
    return [mark["grade_id"] for mark in marks if mark.get("grade") or mark.get("solution") or mark.get("task")]


def fault(student: str, assignment: str, path: Path, out: Path) -> str | None:
    """Why a submission cannot be graded, in a sentence; None if it can."""
    if not re.fullmatch(r"[\w.@-]+", student):
        return "the folder's name is no student id: only letters, digits and . _ @ - are."
    if assignment not in sources():
        return f"there is no assignment {assignment!r}, only {', '.join(sources())}."
    if not path.is_file():
        return f"the notebook {path.name} is missing; it must keep the name under which it was handed out."
    try:
        notebook = nbformat.read(path, as_version=4)
        found = grade_ids(notebook)
        nbformat.validate(notebook)
    except Exception as error:  # whatever is in the file
        return f"{path.name} is not a notebook that can be read ({type(error).__name__})."
    wanted = grade_ids(nbformat.read(out / "release" / assignment / path.name, as_version=4))
    lost, twice = [w for w in wanted if w not in found], sorted({f for f in found if found.count(f) > 1})
    if lost:
        return (
            f"the cells {', '.join(lost)} are gone or have lost their metadata: hand in the file that was handed out."
        )
    if twice:
        return f"the cells {', '.join(twice)} are there twice: cells of the assignment must not be copied."


def remarks(student: str, path: Path) -> str:
    """What the lecturer should know of a graded notebook, in a sentence."""
    cells = nbformat.read(path, as_version=4).cells
    found = [o.ename for cell in cells for o in cell.get("outputs", []) if o.output_type == "error"]
    said = re.search(r"^STUDENT_ID\b.*?=\s*[\"'](.*?)[\"']", "\n".join(cell.source for cell in cells), re.MULTILINE)
    notes = []
    if stopped := found.count("CellTimeoutError"):
        notes.append(
            f"{stopped} cell{'s' * (stopped > 1)} ran too long and {'were' if stopped > 1 else 'was'} stopped."
        )
    if not said or said[1].strip().lower() != student.lower():
        notes.append(f"STUDENT_ID is {said[1]!r}, not the folder's name." if said else "STUDENT_ID is missing.")
    return " ".join(notes)


def points(student: str, assignment: str, out: Path) -> dict[str, Any]:
    """The numbers of a graded submission. Written answers have no points until someone has read them."""
    from nbgrader.api import Gradebook

    with Gradebook(f"sqlite:///{out / 'gradebook.db'}") as gradebook:
        grades = [g for notebook in gradebook.find_submission(assignment, student).notebooks for g in notebook.grades]
        auto = [g for g in grades if g.cell.cell_type == "code"]
        written = [g for g in grades if g.cell.cell_type != "code"]
        row = {
            "points": sum(g.score for g in grades),
            "of": sum(g.max_score for g in grades),
            "auto": sum(g.score for g in auto),
            "auto_of": sum(g.max_score for g in auto),
            "written": sum(g.score for g in written),
            "written_of": sum(g.max_score for g in written),
        }
        return {**{k: f"{v:g}" for k, v in row.items()}, "to_read": sum(g.needs_manual_grade for g in grades)}


def grade(
    folder: str | Path, out: Path = OUT, cell_seconds: int = CELL_SECONDS, submission_seconds: int = SUBMISSION_SECONDS
) -> list[dict[str, Any]]:
    """Grade every submission in the folder; a bad one gets its sentence, and the others go on. -> rows of the table"""
    students = [place for place in sorted(Path(folder).glob("[!.]*")) if place.is_dir()]
    handed_in = [(s.name, place) for s in students for place in sorted(s.glob("[!.]*")) if place.is_dir()]
    rows: list[dict] = [
        {"student": s.name, "remark": "no folder of an assignment in this student's folder."}
        for s in students
        if s.name not in dict(handed_in)
    ]
    if not handed_in:
        raise ValueError(f"no submissions in {folder}: FOLDER/<student>/<assignment>/<notebook>.ipynb is expected.")
    make(out, cell_seconds)
    for student, place in handed_in:
        assignment = place.name
        row: dict[str, Any] = {"student": student, "assignment": assignment}
        notebook = place / sources()[assignment].name if assignment in sources() else place
        row["remark"] = fault(student, assignment, notebook, out)
        if not row["remark"]:
            target = out / "submitted" / student / assignment
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(notebook, target)  # nothing but the notebook: no module of the student's shadows the library
            options = ("--student", student, "--force", *(AS_HANDED_IN if by_hand(assignment) else ()))
            try:
                nbgrader("autograde", assignment, *options, out=out, seconds=submission_seconds)
                row |= points(student, assignment, out)
                row["remark"] = remarks(student, out / "autograded" / student / assignment / notebook.name)
            except ValueError as error:
                row["remark"] = f"could not be graded: {error}"
        rows.append(row)
        print(f"{student}, {assignment}: {row.get('points', 'no')} points. {row['remark']}")
    with open(out / "grades.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        table.writerows(rows)
    for assignment in sorted({row["assignment"] for row in rows if "points" in row}):
        nbgrader("generate_feedback", assignment, "--force", out=out, seconds=None)
    return rows


def make_all() -> None:
    """The command `assignments`."""
    _need_nbgrader()
    for path in make():
        print(path.relative_to(ROOT))


def grade_all(folder: Path) -> None:
    """The command `grade`."""
    _need_nbgrader()
    grade(folder)
    print(f"\nPoints: {(OUT / 'grades.csv').relative_to(ROOT)}, feedback: {(OUT / 'feedback').relative_to(ROOT)}")


def _need_nbgrader():
    if find_spec("nbgrader") is None:
        raise OSError("nbgrader is not installed: pip install -e '.[course]'")
