"""nbgrader's part of grading: its steps, its settings, and the points in its data base."""

import logging
import os
import re
import sys
import warnings
from contextlib import chdir
from pathlib import Path
from typing import Any

CONFIG = """c = get_config()
from mini_lib.course.gradebook import configure
configure(c)
"""
DATABASE = "sqlite:///gradebook.db"  # in the course folder, where all of this works


def configure(c: Any) -> None:
    """nbgrader's settings, here as in the Formgrader: it runs nothing of a submission, and shows what is harmless."""
    from nbgrader import preprocessors as steps

    c.CourseDirectory.course_id = "mini_lib"
    clean = "DeduplicateIds OverwriteKernelspec OverwriteCells CheckCellMetadata"
    score = "LimitOutput SaveAutoGrades AssignLatePenalties CheckCellMetadata"
    c.Autograde.sanitize_preprocessors = [getattr(steps, name) for name in clean.split()]
    c.Autograde.autograde_preprocessors = [getattr(steps, name) for name in score.split()]
    c.HTMLExporter.preprocessors = ["mini_lib.course.feedback.Harmless"]
    c.HTMLExporter.filters = {"markdown2html": "mini_lib.course.feedback.markdown"}
    c.HTMLExporter.sanitize_html = True


def take_step(name: str, assignment: str, student: str = "*", *, out: Path) -> None:
    """GenerateAssignment, Autograde or GenerateFeedback in the course folder; ValueError with the reason where it fails."""
    from nbgrader import converters
    from nbgrader.coursedir import CourseDirectory
    from nbgrader.utils import capture_log
    from traitlets.config import Config

    class Course(CourseDirectory):
        """Paths from the course folder on: brackets, per cent signs and the like in its own path mean nothing then."""

        def format_path(self, nbgrader_step, student_id, assignment_id, escape=False):
            return (re.escape(os.sep) if escape else os.sep).join((nbgrader_step, student_id, assignment_id))

    config, log, path = Config(), logging.Logger("nbgrader", logging.ERROR), os.environ.get("PATH", "")
    configure(config)
    with chdir(out), warnings.catch_warnings(action="ignore"):  # SQLAlchemy's, about nbgrader's own code
        os.environ["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), path))  # it looks for alembic there
        try:
            course = Course(config=config, log=log, db_url=DATABASE)
            course.assignment_id, course.student_id = assignment, student
            step = getattr(converters, name)(coursedir=course, config=config, log=log)
            step.force = True
            done = capture_log(step)
        finally:
            os.environ["PATH"] = path
    if not done["success"]:
        text = f"{done.get('error', '')}\n{done.get('log', '')}"
        errors = re.findall(r"^ *([\w.]*(?:Error|Exception|Timeout)\b.*)$", text, re.MULTILINE)
        raise ValueError(f"nbgrader's {name} failed: {errors[-1] if errors else text.strip()[-200:]}")


def points(student: str, assignment: str, out: Path, passed: dict[str, bool] | None = None) -> dict[str, Any]:
    """The numbers of a graded submission. Written answers have no points until someone has read them.

    passed: test cell -> what the examiner found. Raises ValueError where the gradebook says something else of one, or gives
    any cell more points than there are, or fewer than none.
    """
    from nbgrader.api import Gradebook

    with chdir(out), warnings.catch_warnings(action="ignore"), Gradebook(DATABASE) as gradebook:
        grades = [g for notebook in gradebook.find_submission(assignment, student).notebooks for g in notebook.grades]
        auto = [g for g in grades if g.cell.cell_type == "code"]
        written = [g for g in grades if g.cell.cell_type != "code"]
        wrong = {g.name for g in grades if not 0 <= g.score <= g.max_score}
        if passed is not None:
            given, most = {g.name: g.auto_score for g in auto}, {g.name: g.max_score for g in auto}
            earned = {name: most.get(name, 0) * good for name, good in passed.items()}
            wrong |= {name for name in {*given, *earned} if given.get(name) != earned.get(name)}
        if wrong:
            raise ValueError(f"the gradebook has points that no test gave, for {', '.join(sorted(wrong))}.")
        row = {
            "points": sum(g.score for g in grades),
            "of": sum(g.max_score for g in grades),
            "auto": sum(g.score for g in auto),
            "auto_of": sum(g.max_score for g in auto),
            "written": sum(g.score for g in written),
            "written_of": sum(g.max_score for g in written),
        }
        return {**{k: f"{v:g}" for k, v in row.items()}, "to_read": sum(g.needs_manual_grade for g in grades)}
