"""From a notebook that was handed in to its points: merged with the assignment, run apart, and given to nbgrader."""

import ast
import json
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_output

from ..studies import ROOT
from . import gradebook, isolation, submission
from .isolation import PACKAGE, Report
from .submission import is_answer, is_test, mark
from .untouched import Untouched


class Assignment:
    """What is known of an assignment before anything of a student's is read. source: its notebook; out: the course folder."""

    def __init__(self, name: str, source: Path, out: Path):
        self.name, self.file = name, source.name
        self.source, self.release = (nbformat.read(p, 4) for p in (source, out / "release" / name / source.name))
        self.run = any(map(is_test, self.source.cells))
        cells = self.release.cells
        first = next(i for i, cell in enumerate(cells) if is_answer(cell))
        self.setup = "\n".join(cell.source for cell in cells[:first] if cell.cell_type == "code" and mark(cell))
        answers = "\n".join(cell.source for cell in cells if cell.cell_type == "code" and is_answer(cell))
        self.functions = [one.name for one in ast.parse(answers).body if isinstance(one, ast.FunctionDef)]

    def job(self, student: str, notebook: NotebookNode, cell_seconds: float) -> dict[str, Any]:
        """What isolation.examine runs: the code cells of a merged notebook, in their order."""
        code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        seeds = [sha256(f"{student}/{mark(cell).get('grade_id')}".encode()).hexdigest() for cell in code]
        said = submission.student_id(notebook)
        return {
            "cells": [{"source": c.source, "test": is_test(c), "seed": int(s[:8], 16)} for c, s in zip(code, seeds)],
            "setup": self.setup,
            "functions": self.functions,
            "cell_seconds": cell_seconds,
            "student_id": student if said is None else said,
        }


def _outputs(found: Any) -> list[NotebookNode]:
    """What a process says that its cell showed, as far as it has the form of a notebook's outputs."""
    kept = []
    for output in found if isinstance(found, list) else []:
        try:
            node = nbformat.from_dict(json.loads(json.dumps(output, ensure_ascii=False).encode("utf-8", "replace")))
            nbformat.validate(node, ref="output", version=4)
        except (ValueError, TypeError, AttributeError, RecursionError, nbformat.ValidationError):
            continue
        kept.append(node)
    return kept


def _error(name: str, text: str) -> NotebookNode:
    return new_output("error", ename=name, evalue=text, traceback=[f"{name}: {text}"])


def fill(notebook: NotebookNode, report: Report) -> None:
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


def _of_cells(number: int, what: str) -> list[str]:
    return (
        [f"{number} cell{'s' * (number > 1)} {what} and {'were' if number > 1 else 'was'} stopped."] if number else []
    )


def remarks(student: str, notebook: NotebookNode, report: Report | None) -> str:
    """What the lecturer should know of a graded notebook, in a sentence each."""
    errors = [o for cell in notebook.cells for o in cell.get("outputs", []) if o.output_type == "error"]
    said = submission.student_id(notebook)
    notes = _of_cells(sum(error.ename == "CellTimeoutError" for error in errors), "ran too long")
    notes += _of_cells(sum(error.evalue.startswith("stopped: more than") for error in errors), "printed too much")
    if report and not report.ended:
        notes.append("Its process ended before the last cell.")
    if refused := sorted({error.evalue for error in errors if error.ename == "Refused"}):
        notes.append(f"Tests were refused: {' '.join(refused)}")
    if report and report.new:
        notes.append(f"While it ran, files appeared among the submissions: {', '.join(report.new[:5])}.")
    if report and report.tried:
        notes.append(f"It tried {'; '.join(sorted(set(report.tried))[:5])}: that was refused.")
    if said is None or said.strip().lower() != student.lower():
        notes.append("STUDENT_ID is missing." if said is None else f"STUDENT_ID is {said!r}, not the folder's name.")
    return " ".join(notes)


@dataclass
class Marker:
    """Marks one submission after the other. folder: all of them; out: the course folder; the others as in grading.grade."""

    folder: Path
    out: Path
    cell_seconds: float
    submission_seconds: float
    sandbox: str | None

    def __post_init__(self):
        database = [self.out / f"gradebook.db{end}" for end in ("", "-journal", "-wal", "-shm")]
        steps = [self.out / name for name in ("source", "release", "submitted", "autograded", "nbgrader_config.py")]
        watched = [self.folder, self.out / "feedback", PACKAGE, ROOT / "notebooks/assignments"]
        self.untouched = Untouched([*steps, *database], watched)
        self.hidden = [place for place in (Path.home(), ROOT, self.out, self.folder) if place.parent != place]

    def mark(self, student: str, assignment: Assignment, handed_in: NotebookNode) -> dict[str, Any]:
        """Points and remark of a submission. Raises ValueError with a sentence where it cannot be graded."""
        name, report, passed = assignment.name, None, None
        notebook = submission.merge(handed_in, assignment.release, assignment.source, outputs=not assignment.run)
        if assignment.run:
            visible = submission.merge(handed_in, assignment.release, None, outputs=False)
            job = assignment.job(student, notebook, self.cell_seconds)
            report = self._examine(job, {assignment.file: nbformat.writes(visible)})
            fill(notebook, report)
            code = [cell for cell in notebook.cells if cell.cell_type == "code"]
            passed = {mark(c)["grade_id"]: report.passed.get(i, False) for i, c in enumerate(code) if is_test(c)}
        target = self.out / "submitted" / student / name
        target.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, target / assignment.file)
        gradebook.take_step("Autograde", name, student, out=self.out)
        return gradebook.points(student, name, self.out, passed) | {"remark": remarks(student, notebook, report)}

    def _examine(self, job: dict[str, Any], files: dict[str, str]) -> Report:
        """The report of isolation.examine. Raises ValueError, too, where something was changed meanwhile."""
        self.untouched.note()
        report, why = None, ""
        try:
            report = isolation.examine(job, files, self.hidden, self.submission_seconds, self.sandbox)
        except ValueError as error:
            why = str(error)
        changed, new = self.untouched.changed()
        if changed:
            names, back = ", ".join(changed[:5]), "What lies in the course folder was put back."
            raise ValueError(f"while it ran, files that are not its own were changed: {names}. {back} {why}".strip())
        if report is None:
            raise ValueError(why)
        report.new = new
        return report
