"""The assignments graded by machine: their form, their wrong answers, and the whole way through nbgrader. A5: test_a5."""

import ast
import builtins
import csv
import json
import re
import runpy
import shutil

import nbformat
import pytest
import torch
from helpers import ROOT, mark, needs_nbgrader, read

from mini_lib.course import grading, isolation
from mini_lib.course.checks.graded import Wrong, personal

pytestmark = pytest.mark.slow

SOURCES = {name: path for name, path in grading.sources().items() if not grading.by_hand(name)}
BANKS = {name: runpy.run_path(str(ROOT / f"tests/course/wrong_answers/{name.lower()}.py"))["WRONG"] for name in SOURCES}
HIDDEN = re.compile(r"### BEGIN HIDDEN TESTS\n.*?### END HIDDEN TESTS", re.DOTALL)
SOLUTION = re.compile(r"^( *)### BEGIN SOLUTION\n.*?### END SOLUTION", re.DOTALL | re.MULTILINE)


@pytest.fixture(params=SOURCES)
def name(request):
    return request.param


def student_id(notebook):
    (cell,) = [cell for cell in notebook.cells if cell.metadata.get("tags") == ["student-id"]]
    return cell


def solutions(name):
    """Answer cell -> the test cell after it, of the questions that are graded by machine."""
    cells = [cell for cell in read(SOURCES[name]).cells if cell.cell_type == "code"]
    return {mark(a)["grade_id"]: (a, t) for a, t in zip(cells, cells[1:]) if mark(a).get("solution")}


# The form


def test_there_are_assignments():
    assert {"A1", "A2", "A3", "A4"} <= set(SOURCES)


def test_the_metadata_are_those_of_nbgrader(name):
    marks = [mark(cell) for cell in read(SOURCES[name]).cells if mark(cell)]
    keys = {"schema_version", "task", "grade", "solution", "locked", "grade_id"}
    for m in marks:
        assert set(m) == (keys | {"points"} if m["grade"] else keys)
        assert m["schema_version"] == 3 and m["task"] is False and re.fullmatch(r"[a-z0-9-]+", m["grade_id"])
        assert m["locked"] != m["solution"]
    ids = [m["grade_id"] for m in marks]
    assert len(ids) == len(set(ids)) and all(i.startswith(f"{name.lower()}-") for i in ids)


def test_points(name):
    cells, page = read(SOURCES[name]).cells, read(SOURCES[name]).cells[0].source
    graded = [cell for cell in cells if mark(cell).get("grade")]
    auto, written = ([mark(c)["points"] for c in graded if c.cell_type == kind] for kind in ("code", "markdown"))
    assert sum(auto) + sum(written) == 25 and 4 <= len(auto) <= 6 and 1 <= len(written) <= 2
    rows = re.findall(r"^\| (\d+) \|.*\| (\d+) \|$", page, re.MULTILINE)
    assert [int(n) for n, _ in rows] == list(range(1, len(rows) + 1))
    assert [int(p) for _, p in rows] == auto + written and "| **25** |" in page
    titles = re.findall(r"^## (\d+) · .*\((\d) points\)$", "\n".join(c.source for c in cells), re.MULTILINE)
    assert titles == rows


def test_the_page_says_what_a_student_must_know(name):
    page, answer = read(SOURCES[name]).cells[0].source, student_id(read(SOURCES[name]))
    for part in (f"# {name} · ", "**Goals.**", "**You need**", "**Given**", "**Time**", "**Hardware**", "**Hand in**"):
        assert part in page
    assert "Put your student id into the cell `STUDENT_ID`" in " ".join(page.split())
    assert answer.source.startswith("STUDENT_ID = ") and not mark(answer)


def test_answers_have_regions_and_tests_have_hidden_parts(name):
    for answer, test in solutions(name).values():
        assert len(SOLUTION.findall(answer.source)) == 1 and mark(test)["grade"]
        visible = HIDDEN.sub("", test.source)
        assert len(HIDDEN.findall(test.source)) == 1 and re.match(r"checks\.check_\w+\(\w+\)\n", visible)
    for cell in read(SOURCES[name]).cells:
        if cell.cell_type == "markdown" and mark(cell).get("grade"):
            assert "**Mark scheme.**" in cell.source


def test_a_test_cell_needs_nothing_but_the_setup_and_the_answers(name):
    """Elsewhere names are bound anew for it: nothing else of the notebook is there when it is graded."""
    cells = read(SOURCES[name]).cells
    first = next(i for i, cell in enumerate(cells) if mark(cell).get("solution"))
    known = {"STUDENT_ID", *dir(builtins)}
    for cell in cells[:first]:
        if cell.cell_type == "code":
            known |= {node.id for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.Name)}
            known |= {
                (n.asname or n.name).split(".")[0]
                for node in ast.walk(ast.parse(cell.source))
                for n in getattr(node, "names", ())
            }
    known |= {node.name for answer, _ in solutions(name).values() for node in ast.parse(answer.source).body}
    for _, test in solutions(name).values():
        nodes = list(ast.walk(ast.parse(test.source)))
        own = {node.id for node in nodes if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)}
        own |= {node.arg for node in nodes if isinstance(node, ast.arg)} | {
            n.name for n in nodes if isinstance(n, ast.FunctionDef)
        }
        assert {node.id for node in nodes if isinstance(node, ast.Name)} <= known | own


def test_saved_as_run_from_top_to_bottom(name):
    notebook = read(SOURCES[name])
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    nbformat.validate(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert "widgets" not in notebook.metadata and len(nbformat.writes(notebook)) < 1_000_000
    for cell in cells:
        assert len(cell.source.splitlines()) <= 40 and max(map(len, cell.source.splitlines())) <= 120, cell.source
        for output in cell.outputs:
            assert output.output_type != "error" and output.get("name") != "stderr", cell.source
            if "image/png" in output.get("data", {}):
                assert len(output.metadata["image/png"]["alt"]) > 30


def test_links_lead_somewhere():
    for path in (ROOT / "notebooks/assignments").glob("[!.]*"):  # JupyterLab leaves a folder of checkpoints
        text = path.read_text()
        for target in re.findall(r"\]\(([^)#\"]+)\)", text):
            assert target.startswith("https://") or (path.parent / target).exists(), f"{path.name}: {target}"


def test_the_numbers_are_personal():
    def numbers(student, assignment="A2"):
        return personal(assignment, student, seed=range(10_000), width=range(96, 160, 8))

    assert numbers("ada") == numbers(" Ada ") and numbers("ada") != numbers("ada", "A1")
    assert len({str(numbers(f"student-{i}")) for i in range(100)}) > 95


# The wrong answers


def outcome(name, question, source):
    """Which test refuses an answer to a question, and its message: ("visible" or "hidden", text), or ("none", "")."""
    torch.manual_seed(0)
    space = {}
    for cell in read(SOURCES[name]).cells:
        if cell.cell_type != "code" or mark(cell).get("grade_id", "").endswith(("-experiment", "-figure")):
            continue
        if mark(cell).get("grade_id") == question:
            exec(source, space)
        elif mark(cell).get("grade_id") == f"{question}-test":
            visible, hidden = cell.source.split("### BEGIN HIDDEN TESTS")
            for kind, test in (("visible", visible), ("hidden", hidden)):
                try:
                    exec(test, space)
                except Wrong as fault:
                    return kind, str(fault)
            return "none", ""
        elif not mark(cell).get("grade"):
            exec(cell.source, space)
    raise LookupError(question)


@pytest.mark.parametrize("name, fault", [(name, fault) for name, bank in BANKS.items() for fault in bank])
def test_a_wrong_answer_is_refused_by_name(name, fault):
    question, kind, words, source = BANKS[name][fault]
    found, message = outcome(name, question, source)
    assert found == kind, message
    assert words in message and "was tried" not in message and "\n" not in message, message


def test_a_wrong_answer_is_refused_with_the_same_words_where_it_is_graded(name):
    """By the examiner, in a process of its own: all of an assignment in one, and then what nobody has answered."""
    cells = read(SOURCES[name]).cells
    setup = next(cell.source for cell in cells if mark(cell).get("grade_id") == f"{name.lower()}-setup")
    tests = {mark(answer)["grade_id"]: test.source for answer, test in solutions(name).values()}
    answers = [(question, source) for question, _, _, source in BANKS[name].values()]
    answers += [(question, stub(answer.source)) for question, (answer, _) in solutions(name).items()]
    sources = [(setup, False)]
    for question, source in answers:
        sources += [(source, False), (tests[question], True)]
    functions = [node.name for answer, _ in solutions(name).values() for node in ast.parse(answer.source).body]
    job = {
        "cells": [{"source": source, "test": test, "seed": 0} for source, test in sources],
        "setup": setup,
        "functions": functions,
        "student_id": "student-0",
        "cell_seconds": 60,
    }
    report = isolation.examine(job, {}, [], 300)
    assert report.ended and not report.tried and len(report.passed) == len(answers)
    assert not any(report.passed.values())
    said = []
    for number in range(len(answers)):
        (error,) = [output for output in report.outputs[2 * number + 2] if output["output_type"] == "error"]
        said.append(error["evalue"])
    for (fault, (_, kind, words, _)), message in zip(BANKS[name].items(), said):
        # other random numbers than above: what is seen there by a hidden test may be seen by the visible one here
        assert "was tried" not in message, fault
        assert words in message or (kind == "hidden" and " should be " in message), (fault, message)
    assert all(message.startswith("not written yet") for message in said[len(BANKS[name]) :]), said


def stub(answer):
    """An answer cell as it is handed out."""
    return SOLUTION.sub(r"\1raise NotImplementedError()", answer)


@pytest.mark.parametrize("name, question", [(name, question) for name in SOURCES for question in solutions(name)])
def test_the_solution_passes_and_stub_and_missing_return_fail(name, question):
    answer = solutions(name)[question][0].source
    assert outcome(name, question, answer) == ("none", "")
    kind, message = outcome(name, question, stub(answer))
    assert kind == "visible" and message.startswith("not written yet")
    kind, message = outcome(name, question, SOLUTION.sub(r"\1pass", answer))
    assert kind == "visible" and message.startswith("the answer is None")


def test_each_question_has_wrong_answers_and_each_bank_at_least_ten(name):
    assert len(BANKS[name]) >= 10
    assert {question for question, *_ in BANKS[name].values()} == set(solutions(name))


# Through nbgrader


def submit(release, folder, student, name, change=lambda notebook: None):
    """Hand in the student's version after `change`."""
    notebook = nbformat.read(release, as_version=4)
    student_id(notebook).source = f'STUDENT_ID = "{student}"'
    change(notebook)
    target = folder / student / name / release.name
    target.parent.mkdir(parents=True)
    nbformat.write(notebook, target)
    return target


def solve(name):
    def change(notebook):
        answers = {mark(c)["grade_id"]: c.source for c in read(SOURCES[name]).cells if mark(c).get("solution")}
        for cell in notebook.cells:
            cell.source = answers.get(mark(cell).get("grade_id"), cell.source)

    return change


def strip(notebook):
    for cell in notebook.cells:
        cell.metadata.pop("nbgrader", None)


def double(notebook):
    notebook.cells.append(next(c for c in notebook.cells if mark(c).get("grade_id") == "a2-q2").copy())
    notebook.cells[-1]["id"] = "a-copy"


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """All made-up submissions, graded in one go: (course folder, (student, assignment) -> row)."""
    folder, out = tmp_path_factory.mktemp("submissions"), tmp_path_factory.mktemp("course")
    for release in grading.make(out):
        name = release.parent.name
        if name in SOURCES:
            submit(release, folder, "perfect", name, solve(name))
    a2 = out / "release/A2" / SOURCES["A2"].name
    submit(a2, folder, "empty", "A2")
    for student, change in {"lost": strip, "twice": double}.items():
        submit(a2, folder, student, "A2", change)
    submit(a2, folder, "broken", "A2").write_text("no notebook at all")
    submit(a2, folder, "renamed", "A2").rename(folder / "renamed/A2/mine.ipynb")
    submit(a2, folder, "ahead", "A9")
    submit(a2, folder, "odd name!", "A2")
    (folder / "notes.txt").write_text("not a student")
    shutil.copytree(folder / "empty/A2", folder / "flat")
    rows = grading.grade(folder, out)
    return out, {(row["student"], row.get("assignment", "")): row for row in rows}


@needs_nbgrader
def test_the_perfect_submission_gets_every_point_of_the_machine(graded, name):
    perfect = graded[1]["perfect", name]
    assert perfect["auto"] == perfect["auto_of"] and perfect["of"] == "25" and not perfect["remark"], perfect
    written = sum(mark(cell).get("grade", False) for cell in read(SOURCES[name]).cells if cell.cell_type == "markdown")
    assert perfect["written"] == "0" and perfect["to_read"] == written  # no points until somebody has read them


@needs_nbgrader
def test_the_empty_submission_gets_none(graded):
    """Of one assignment; that the examiner refuses the stubs of all of them is seen above."""
    out, rows = graded
    empty = rows["empty", "A2"]
    assert empty["points"] == "0" and empty["to_read"] == 0 and not empty["remark"], empty
    feedback = (out / "feedback/empty/A2" / SOURCES["A2"].with_suffix(".html").name).read_text()
    assert "not written yet" in feedback


@needs_nbgrader
def test_no_solution_is_in_the_student_version(graded, name):
    text = (graded[0] / "release" / name / SOURCES[name].name).read_text()
    notebook, source = nbformat.reads(text, as_version=4), read(SOURCES[name])
    for word in (
        "BEGIN SOLUTION",
        "BEGIN HIDDEN",
        "END SOLUTION",
        "END HIDDEN",
        "Mark scheme",
        "passes the visible check",
    ):
        assert word not in text
    assert not any(cell.get("outputs") for cell in notebook.cells)
    for cell in source.cells:
        secret = [cell.source] if mark(cell).get("solution") and cell.cell_type == "markdown" else []
        secret += re.findall(r"### BEGIN (?:SOLUTION|HIDDEN TESTS)\n(.*?)### END", cell.source, re.DOTALL)
        for line in (line.strip() for part in secret for line in part.splitlines()):
            assert len(line) < 25 or json.dumps(line)[1:-1] not in text, line


@needs_nbgrader
@pytest.mark.parametrize("student, assignment, words", [
    ("lost", "A2", "have lost their metadata"), ("twice", "A2", "a2-q2 are there twice"),
    ("broken", "A2", "not a notebook"), ("renamed", "A2", "is missing; it must keep the name"),
    ("ahead", "A9", "there is no assignment 'A9'"),
    ("odd name!", "A2", "no student id"), ("flat", "", "no folder of an assignment"),
])  # fmt: skip
def test_a_submission_that_cannot_be_graded_gets_its_sentence(graded, student, assignment, words):
    row = graded[1][student, assignment]
    assert words in row["remark"] and "points" not in row and "\n" not in row["remark"]


@needs_nbgrader
def test_the_table_has_a_row_for_each_submission(graded):
    out, rows = graded
    with open(out / "grades.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert [(row["student"], row["assignment"]) for row in table] == list(rows)
    assert {row["points"] for row in table if row["student"] == "empty"} == {"0"}


def test_an_empty_folder_is_refused_in_a_sentence(tmp_path):
    with pytest.raises(ValueError, match="no submissions in"):
        grading.grade(tmp_path, tmp_path / "out")
