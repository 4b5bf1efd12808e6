"""Graded assignments: `python -m mini_lib assignments` and `python -m mini_lib grade FOLDER`.

A thin layer over nbgrader (pip install -e '.[course]'). `make` writes the students' versions, without solutions and
hidden tests. `grade` takes FOLDER/<student>/<assignment>/<notebook>.ipynb, runs each submission apart (isolation.py), hands
nbgrader a notebook whose test cells show what the examiner found, and writes a table of points and feedback as HTML. What a
person grades alone (A5) is not run again, and keeps the outputs that were handed in. All of it lies in
build/assignments/, an nbgrader course folder.
"""

import ast
import csv
import json
import os
import re
import shutil
import sys
import warnings
from contextlib import chdir
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from ..studies import ROOT
from . import submission
from .submission import is_answer, is_test, mark

OUT = ROOT / "build" / "assignments"
CELL_SECONDS, SUBMISSION_SECONDS = 60, 300  # a cell is stopped after the first, a whole submission after the second
COLUMNS = ("student", "assignment", "points", "of", "auto", "auto_of", "written", "written_of", "to_read", "remark")
CONFIG = """c = get_config()
from mini_lib.course.grading import configure
configure(c)
"""


def sources() -> dict[str, Path]:
    """Name of each assignment -> its source notebook."""
    return {path.stem.split("_")[0]: path for path in sorted((ROOT / "notebooks/assignments").glob("*.ipynb"))}


def by_hand(name: str) -> bool:
    """Whether a person gives all points of an assignment; its notebooks are not run again when they are graded."""
    return not any(map(is_test, nbformat.read(sources()[name], 4).cells))


def configure(c: Any) -> None:
    """nbgrader's settings, for `make` and `grade` as for the Formgrader: it runs nothing, and shows what is harmless."""
    from nbgrader import preprocessors as steps

    c.CourseDirectory.course_id = "mini_lib"
    c.Autograde.sanitize_preprocessors = [
        steps.DeduplicateIds, steps.OverwriteKernelspec, steps.OverwriteCells, steps.CheckCellMetadata,
    ]  # fmt: skip
    c.Autograde.autograde_preprocessors = [
        steps.LimitOutput, steps.SaveAutoGrades, steps.AssignLatePenalties, steps.CheckCellMetadata,
    ]  # fmt: skip
    c.HTMLExporter.preprocessors = ["mini_lib.course.feedback.Harmless"]
    c.HTMLExporter.filters = {"markdown2html": "mini_lib.course.feedback.markdown"}
    c.HTMLExporter.sanitize_html = True


def nbgrader(step: str, *arguments: str, out: Path) -> None:
    """Take a step of nbgrader's in the course folder; ValueError with its reason where it fails."""
    from nbgrader.apps.api import NbGraderAPI
    from nbgrader.coursedir import CourseDirectory
    from traitlets.config import Config

    class Course(CourseDirectory):
        """Paths from the course folder on: brackets, per cent signs and the like in its own path mean nothing then."""

        def format_path(self, nbgrader_step, student_id, assignment_id, escape=False):
            return (re.escape(os.sep) if escape else os.sep).join((nbgrader_step, student_id, assignment_id))

    config, path = Config(), os.environ.get("PATH", "")
    configure(config)
    with chdir(out), warnings.catch_warnings(action="ignore"):  # SQLAlchemy's, about nbgrader's own code
        os.environ["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), path))  # it looks for alembic there
        try:
            course = Course(config=config, db_url="sqlite:///gradebook.db")
            api = NbGraderAPI(course, config=config, log_level="CRITICAL")
            done = getattr(api, step)(*arguments)
        finally:
            os.environ["PATH"] = path
    if not done["success"]:
        text = f"{done.get('error', '')}\n{done.get('log', '')}"
        errors = re.findall(r"^ *([\w.]*(?:Error|Exception|Timeout)\b.*)$", text, re.MULTILINE)
        raise ValueError(f"nbgrader {step} failed: {errors[-1] if errors else text.strip()[-200:]}")


def make(out: Path = OUT) -> list[Path]:
    """Write the student's version of every assignment to out/release/ and its tests to the gradebook. -> notebooks"""
    out.mkdir(parents=True, exist_ok=True)
    (out / "nbgrader_config.py").write_text(CONFIG, encoding="utf-8")
    for name, path in sources().items():
        (out / "source" / name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, out / "source" / name)
        nbgrader("generate_assignment", name, out=out)
    return [out / "release" / name / path.name for name, path in sources().items()]


class Assignment:
    """What is known of an assignment before anything of a student's is read."""

    def __init__(self, name: str, out: Path):
        self.name, self.path = name, sources()[name]
        self.source, self.release = (nbformat.read(p, 4) for p in (self.path, out / "release" / name / self.path.name))
        self.run = any(map(is_test, self.source.cells))
        cells = self.release.cells
        first = next(i for i, cell in enumerate(cells) if is_answer(cell))
        self.setup = "\n".join(c.source for c in cells[:first] if c.cell_type == "code" and mark(c))
        answers = "\n".join(cell.source for cell in cells if is_answer(cell) and cell.cell_type == "code")
        self.functions = [one.name for one in ast.parse(answers).body if isinstance(one, ast.FunctionDef)]

    def job(self, student: str, notebook: NotebookNode, cell_seconds: float) -> dict[str, Any]:
        """What isolation.examine runs: the code cells of a merged notebook, in their order."""
        code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        seeds = [sha256(f"{student}/{mark(cell).get('grade_id')}".encode()).hexdigest() for cell in code]
        cells = [{"source": c.source, "test": is_test(c), "seed": int(seed[:8], 16)} for c, seed in zip(code, seeds)]
        said = submission.student_id(notebook)
        return {
            "cells": cells, "setup": self.setup, "functions": self.functions, "cell_seconds": cell_seconds,
            "student_id": student if said is None else said,
        }  # fmt: skip


def _outputs(found: Any) -> list[NotebookNode]:
    """What a process says that its cell showed, as far as it has the form of a notebook's outputs."""
    kept = []
    for output in found if isinstance(found, list) else []:
        try:
            node = nbformat.from_dict(json.loads(json.dumps(output, ensure_ascii=False).encode("utf-8", "replace")))
            nbformat.validate(node, ref="output", version=4)
            kept.append(node)
        except (ValueError, TypeError, AttributeError, RecursionError, nbformat.ValidationError):
            pass
    return kept


def _error(name: str, text: str) -> NotebookNode:
    return nbformat.v4.new_output("error", ename=name, evalue=text, traceback=[f"{name}: {text}"])


def fill(notebook: NotebookNode, report: Any) -> None:
    """Write a report's outputs into the notebook. nbgrader gives a test cell its points unless it shows an error."""
    for number, cell in enumerate(cell for cell in notebook.cells if cell.cell_type == "code"):
        shown = _outputs(report.outputs.get(number))
        if is_test(cell):
            errors = [output for output in shown if output.output_type == "error"]
            shown = [output for output in shown if output.get("name") == "stdout"]
            if not report.passed.get(number):
                shown += errors or [_error("NotTested", "the submission's process ended before this test.")]
        elif number in report.late:
            shown.append(_error("CellTimeoutError", "stopped, for it ran too long."))
        cell.outputs, cell.execution_count = shown, number + 1


def remarks(student: str, notebook: NotebookNode, report: Any = None) -> str:
    """What the lecturer should know of a graded notebook, in a sentence each."""
    errors = [o for cell in notebook.cells for o in cell.get("outputs", []) if o.output_type == "error"]
    said, notes = submission.student_id(notebook), []
    if stopped := sum(error.ename == "CellTimeoutError" for error in errors):
        notes.append(
            f"{stopped} cell{'s' * (stopped > 1)} ran too long and {'were' if stopped > 1 else 'was'} stopped."
        )
    if many := sum(error.evalue.startswith("stopped: more than") for error in errors):
        notes.append(f"{many} cell{'s' * (many > 1)} printed too much and {'were' if many > 1 else 'was'} stopped.")
    if report and not report.ended:
        notes.append("Its process ended before the last cell.")
    if refused := sorted({error.evalue for error in errors if error.ename == "Refused"}):
        notes.append(f"Tests were refused: {' '.join(refused)}")
    if report and report.new:
        notes.append(f"While it ran, files appeared among the submissions: {', '.join(report.new[:5])}.")
    if report and report.tried:
        notes.append(f"It tried {'; '.join(sorted(set(report.tried))[:5])}: that was refused.")
    if said is None or said.strip().lower() != student.lower():
        notes.append(f"STUDENT_ID is {said!r}, not the folder's name." if said is not None else "STUDENT_ID is missing.")
    return " ".join(notes)


def points(student: str, assignment: str, out: Path, passed: dict[str, bool] | None = None) -> dict[str, Any]:
    """The numbers of a graded submission. Written answers have no points until someone has read them.

    passed: test cell -> what the examiner found. Raises ValueError where the gradebook says something else of one, or gives
    any cell more points than there are, or fewer than none.
    """
    from nbgrader.api import Gradebook

    with chdir(out), warnings.catch_warnings(action="ignore"), Gradebook("sqlite:///gradebook.db") as gradebook:
        grades = [g for notebook in gradebook.find_submission(assignment, student).notebooks for g in notebook.grades]
        wrong = {g.name for g in grades if not 0 <= g.score <= g.max_score}
        if passed is not None:
            given = {g.name: g.auto_score for g in grades if g.cell.cell_type == "code"}
            right = {g.name: passed.get(g.name, False) * g.max_score for g in grades if g.name in given}
            wrong |= {name for name in {*given, *passed} if given.get(name) != right.get(name)}
        if wrong:
            raise ValueError(f"the gradebook has points that no test gave, for {', '.join(sorted(wrong))}.")
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


class Marker:
    """Grades one submission after the other. untouched: what none of them may change; hidden: what none may read."""

    def __init__(self, folder: Path, out: Path, cell_seconds: float, submission_seconds: float, sandbox: str | None):
        from .untouched import Untouched

        self.out, self.cell_seconds, self.seconds, self.sandbox = out, cell_seconds, submission_seconds, sandbox
        self.hidden = [Path.home(), ROOT, out, folder]
        database = [out / f"gradebook.db{end}" for end in ("", "-journal", "-wal", "-shm")]
        steps = [out / name for name in ("source", "release", "submitted", "autograded", "nbgrader_config.py")]
        library = [Path(__file__).parents[1], ROOT / "notebooks/assignments"]
        self.untouched = Untouched([*steps, *database], [folder, out / "feedback", *library])

    def examine(self, one: submission.HandedIn, assignment: Assignment, notebook: NotebookNode, shown: str) -> Any:
        """The report of isolation.examine. Raises ValueError, too, where something was changed meanwhile."""
        from . import isolation

        self.untouched.note()
        job, files = assignment.job(one.student, notebook, self.cell_seconds), {assignment.path.name: shown}
        try:
            report, why = isolation.examine(job, files, self.hidden, self.seconds, self.sandbox), ""
        except ValueError as error:
            report, why = None, f" {error}"
        changed, new = self.untouched.changed()
        if changed:
            names = ", ".join(changed[:5])
            back = "What lies in the course folder was put back."
            raise ValueError(f"while it ran, files that are not its own were changed: {names}. {back}{why}")
        if report is None:
            raise ValueError(why.strip())
        report.new = new
        return report

    def mark(self, one: submission.HandedIn, assignment: Assignment, handed: NotebookNode) -> dict[str, Any]:
        """The row of a submission, from what was read of it."""
        name, report, passed = assignment.name, None, None
        notebook = submission.merge(handed, assignment.release, assignment.source, outputs=not assignment.run)
        if assignment.run:
            shown = submission.merge(handed, assignment.release, None, outputs=False)
            report = self.examine(one, assignment, notebook, nbformat.writes(shown))
            fill(notebook, report)
            code = [cell for cell in notebook.cells if cell.cell_type == "code"]
            passed = {mark(c)["grade_id"]: report.passed.get(n, False) for n, c in enumerate(code) if is_test(c)}
        target = self.out / "submitted" / one.student / name
        target.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, target / assignment.path.name)
        nbgrader("autograde", name, one.student, out=self.out)
        return points(one.student, name, self.out, passed) | {"remark": remarks(one.student, notebook, report)}


def _read(one: submission.HandedIn, assignments: dict[str, Assignment]) -> NotebookNode | None:
    """The submission's notebook; or None, with its fault noted."""
    if one.fault or one.assignment not in assignments:
        one.fault = one.fault or f"there is no assignment {one.assignment!r}, only {', '.join(assignments)}."
        return None
    assignment = assignments[one.assignment]
    try:
        notebook = submission.read(one.path / assignment.path.name)
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

    sandbox: "bwrap" or "docker", where the machine has it; else nothing but limits and the guard stand around a submission.
    """
    folder, out = Path(folder).resolve(), Path(out).resolve()
    every = list(submission.handed_in(folder)) if folder.is_dir() else []
    if not any(one.assignment for one in every):
        raise ValueError(f"no submissions in {folder}: FOLDER/<student>/<assignment>/<notebook>.ipynb is expected.")
    if folder.is_relative_to(out) or out.is_relative_to(folder):
        raise ValueError(f"{folder} is where grading writes, or around it: keep submissions in a folder of their own.")
    make(out)
    assignments = {name: Assignment(name, out) for name in sources()}
    notebooks = [_read(one, assignments) for one in every]  # all of them, before anything of anybody's is run
    marker = Marker(folder, out, cell_seconds, submission_seconds, sandbox)
    rows: list[dict[str, Any]] = []
    for one, notebook in zip(every, notebooks):
        row = {"student": one.student, "assignment": one.assignment} if one.assignment else {"student": one.student}
        row["remark"] = one.fault
        if notebook is not None:
            try:
                row |= marker.mark(one, assignments[one.assignment], notebook)
            except ValueError as error:
                row["remark"] = f"could not be graded: {error}"
        rows.append(row)
        print(_printable(f"{one.student}, {one.assignment}: {row.get('points', 'no')} points. {row['remark']}"))
    with open(out / "grades.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        table.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    for assignment in sorted({row["assignment"] for row in rows if "points" in row}):
        nbgrader("generate_feedback", assignment, out=out)
    return rows


def _printable(text: str) -> str:
    """A text without characters that steer a terminal, or turn the direction of writing."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _cell(value: Any) -> str:
    """A value for a spreadsheet, which would take a text that begins in these ways for a formula."""
    text = _printable(str(value))
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


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
