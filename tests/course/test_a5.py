"""A5, the assignment that a person reads: its form, its worked example, and its way through nbgrader."""

import re

import nbformat
import pytest
from helpers import ROOT, code, mark, needs_nbgrader, read

from mini_lib.course import grading

pytestmark = pytest.mark.slow

PATH = ROOT / "notebooks/assignments/A5_an_experiment.ipynb"
SCHEME = re.compile(r"=== BEGIN MARK SCHEME ===\n(.*?)=== END MARK SCHEME ===", re.DOTALL)


def output_of(grade_id):
    cell = next(cell for cell in read(PATH).cells if mark(cell).get("grade_id") == grade_id)
    return "".join(output.get("text", "") for output in cell.outputs)


def test_it_is_graded_by_hand_and_the_others_by_machine():
    by_hand = {name for name in grading.sources() if grading.by_hand(name)}
    assert by_hand == {"A5"} and grading.sources()["A5"] == PATH


def test_the_page_and_the_points():
    page, cells = read(PATH).cells[0].source, read(PATH).cells
    for part in ("# A5 · ", "**Goals.**", "**You need**", "**Given**", "**Time**", "**Hardware**", "**Hand in**"):
        assert part in page
    points = [mark(cell)["points"] for cell in cells if "points" in mark(cell)]
    rows = re.findall(r"^\| (\d+) \|.*\| (\d+) \|$", page, re.MULTILINE)
    titles = re.findall(r"^## (\d+) · .*\((\d) points\)$", "\n".join(cell.source for cell in cells), re.MULTILINE)
    assert rows == titles == [(str(i + 1), str(p)) for i, p in enumerate(points)] and sum(points) == 25
    assert any(cell.metadata.get("tags") == ["student-id"] and "STUDENT_ID = " in cell.source for cell in cells)


def test_tasks_and_written_answers_have_mark_schemes_and_cells_their_metadata():
    tasks = [cell for cell in read(PATH).cells if mark(cell).get("task")]
    written = [cell for cell in read(PATH).cells if mark(cell).get("grade")]
    assert len(tasks) == 3 and all("**Mark scheme.**" in SCHEME.search(cell.source)[1] for cell in tasks)
    assert len(written) == 3 and all(
        cell.cell_type == "markdown" and "**Mark scheme.**" in cell.source for cell in written
    )
    ids = [mark(cell)["grade_id"] for cell in read(PATH).cells if mark(cell)]
    assert len(ids) == len(set(ids)) and all(i.startswith("a5-") for i in ids)
    for cell in read(PATH).cells:
        if mark(cell):
            assert mark(cell)["schema_version"] == 3 and mark(cell)["locked"] != mark(cell)["solution"]
            kinds = [mark(cell)["grade"], mark(cell)["task"], cell.cell_type == "code" and mark(cell)["solution"]]
            assert sum(map(bool, kinds)) <= 1 and ("points" in mark(cell)) == any(kinds[:2])


def test_saved_as_run_from_top_to_bottom():
    notebook = read(PATH)
    nbformat.validate(notebook)
    assert [cell.execution_count for cell in code(notebook)] == list(range(1, len(code(notebook)) + 1))
    assert "widgets" not in notebook.metadata and len(nbformat.writes(notebook)) < 1_000_000
    for cell in code(notebook):
        assert len(cell.source.splitlines()) <= 40 and max(map(len, cell.source.splitlines())) <= 120, cell.source
        for output in cell.outputs:
            assert output.output_type != "error" and output.get("name") != "stderr", cell.source
            assert (
                str(ROOT) not in str(output)
                and len(output.metadata["image/png"]["alt"] if "metadata" in output else "x" * 31) > 30
            )


def test_the_worked_example_does_what_the_questions_ask():
    runs = re.findall(r"^FREEZE = (\d), seed (\d+): done$", output_of("a5-sweep"), re.MULTILINE)
    values, seeds = {value for value, _ in runs}, {seed for _, seed in runs}
    assert len(values) >= 3 and len(seeds) >= 2 and len(runs) == len(set(runs)) == len(values) * len(seeds)
    rows = re.findall(r"^ *(\d) +(\d{3,}) .*$", output_of("a5-table"), re.MULTILINE)
    assert rows == runs


def test_the_numbers_of_the_model_answer_are_those_of_its_table():
    answer = next(cell.source for cell in read(PATH).cells if mark(cell).get("grade_id") == "a5-q5")
    found = re.findall(r"\b\d+\.\d\b", output_of("a5-table"))
    means = [float(row.split()[5]) for row in output_of("a5-table").splitlines()[-3:]]
    forgotten = [float(row.split()[1]) for row in output_of("a5-table").splitlines()[-3:]]
    gaps = [b - a for column in (1, 5) for row in output_of("a5-table").splitlines()[-3:]
            for a, b in [map(float, row.split()[column + 1 : column + 3])]]  # fmt: skip
    derived = [means[0] - means[1], means[1] - means[2], forgotten[0] - forgotten[1], *gaps]
    for number in re.findall(r"\b\d+\.\d\b", answer.split("**Mark scheme.**")[0]):
        assert number in found or any(abs(float(number) - value) < 0.11 for value in derived), number


# Through nbgrader


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """A course folder with A5 alone, and two submissions graded: (course folder, submissions, student -> row)."""
    out, folder = tmp_path_factory.mktemp("course"), tmp_path_factory.mktemp("submissions")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grading, "sources", lambda: {"A5": PATH})
        (release,) = grading.make(out)
        answers = {mark(cell)["grade_id"]: cell for cell in read(PATH).cells if mark(cell).get("solution")}
        for student in ("perfect", "empty", "lost"):
            notebook = read(release)
            for i, cell in enumerate(notebook.cells):
                if cell.metadata.get("tags") == ["student-id"]:
                    cell.source = f'STUDENT_ID = "{student}"'
                if student == "perfect" and mark(cell).get("grade_id") in answers:
                    answer = answers[mark(cell)["grade_id"]]
                    cell.source = answer.source
                    if cell.cell_type == "code":
                        cell.outputs, cell.execution_count = answer.outputs, answer.execution_count
                if student == "lost" and mark(cell).get("task"):
                    cell.metadata.pop("nbgrader")
            target = folder / student / "A5" / PATH.name
            target.parent.mkdir(parents=True)
            nbformat.write(notebook, target)
        yield out, folder, {row["student"]: row for row in grading.grade(folder, out)}


@needs_nbgrader
def test_all_points_are_given_by_hand(course):
    _, _, rows = course
    assert (rows["perfect"]["of"], rows["perfect"]["written_of"], rows["perfect"]["auto_of"]) == ("25", "25", "0")
    assert rows["perfect"]["points"] == "0" and rows["perfect"]["to_read"] == 6 and not rows["perfect"]["remark"]
    assert (
        rows["empty"]["points"] == "0" and rows["empty"]["to_read"] == 3
    )  # the tasks; unwritten answers have 0 already
    assert "a5-q2, a5-q3, a5-q4 are gone or have lost their metadata" in rows["lost"]["remark"]


@needs_nbgrader
def test_it_is_not_run_again_and_keeps_the_outputs_that_were_handed_in(course):
    out, folder, _ = course
    handed_in = read(folder / "perfect/A5" / PATH.name)
    graded = read(out / "autograded/perfect/A5" / PATH.name)
    assert [cell.outputs for cell in code(graded)] == [cell.outputs for cell in code(handed_in)]
    assert any("image/png" in output.get("data", {}) for cell in code(graded) for output in cell.outputs)


@needs_nbgrader
def test_no_solution_and_no_mark_scheme_is_in_the_student_version(course):
    text = (course[0] / "release/A5" / PATH.name).read_text()
    for word in ("BEGIN SOLUTION", "MARK SCHEME", "Mark scheme", "FREEZE_"):
        assert word not in text
    notebook = nbformat.reads(text, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)
    secrets = [cell.source for cell in read(PATH).cells if mark(cell).get("solution")]
    secrets += [SCHEME.search(cell.source)[1] for cell in read(PATH).cells if mark(cell).get("task")]
    handed_out = "\n".join(cell.source for cell in notebook.cells)
    for line in (line.strip() for part in secrets for line in part.splitlines()):
        assert len(line) < 25 or line not in handed_out, line


@needs_nbgrader
def test_points_given_by_hand_are_kept_when_it_is_graded_again(course):
    from nbgrader.api import Gradebook

    out, folder, _ = course
    with Gradebook(f"sqlite:///{out / 'gradebook.db'}") as gradebook:
        for grade in gradebook.find_submission("A5", "perfect").notebooks[0].grades:
            grade.manual_score, grade.needs_manual_grade = grade.max_score, False
        gradebook.db.commit()
    rows = {row["student"]: row for row in grading.grade(folder, out)}
    assert rows["perfect"]["points"] == rows["perfect"]["written"] == "25"
    assert (out / "feedback/perfect/A5" / PATH.with_suffix(".html").name).is_file()
