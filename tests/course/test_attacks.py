"""Submissions that want more than their answers are worth: none gets it, and what each tried is said."""

import csv
import html.parser
import json
import os
import re
import runpy
import shutil
import sqlite3
import sys
import time
from concurrent.futures import ProcessPoolExecutor

import nbformat
import psutil
import pytest
from helpers import ROOT, mark, needs_nbgrader, read
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from mini_lib.course import gradebook, grading, isolation

BANK = runpy.run_path(str(ROOT / "tests/course/attacks/code.py"))
SETUP = """import torch
from mini_lib.course.checks.base import not_one_of, same
from mini_lib.course.checks.graded import answering, verdict
"""
TEST = """with verdict():
    same(answering({})(torch.tensor([1.0, 2.0]), not_one_of), [{}, {}], "the result")
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="the attacks are written for a system with fork and signals"),
]


def job(sources, place):
    """Cells, each an honest `twice` or somebody's `thrice`, with its test after it."""
    cells = [{"source": SETUP, "test": False, "seed": 0}]
    for source in sources:
        honest = "def twice" in source
        test = TEST.format(*("twice", 2, 4) if honest else ("thrice", 3, 6))
        for secret in ("secret", "outside"):
            source = source.replace(
                f"{{{secret}!r}}", repr(f"{place}/secret.txt" if secret == "secret" else str(place))
            )
        cells += [{"source": source, "test": False, "seed": 0}, {"source": test, "test": True, "seed": 0}]
    return {"cells": cells, "setup": SETUP, "functions": ["twice", "thrice"], "student_id": "x", "cell_seconds": 3}


def examine(sources, place, seconds=60):
    """The report, or why there is none."""
    try:
        return isolation.examine(job(sources, place), {}, [place], seconds)
    except ValueError as error:
        return str(error)


HONEST, ZERO, LATE = "def twice(x, other): return 2 * x", BANK["ZERO"], "stopped after"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("others")
    (folder / "secret.txt").write_text("the solution")
    return folder


@pytest.fixture(scope="module")
def reports(place):
    """Name of an attack -> its report, number of its test, and what was refused."""
    together, found = list(BANK["TOGETHER"]), {}
    with ProcessPoolExecutor(2) as pool:
        first = pool.submit(examine, [HONEST, *(BANK["TOGETHER"][name][1] for name in together), HONEST], place, 120)
        alone = {  # only one of them has no end; the others need a while on a busy machine
            name: pool.submit(
                examine, [HONEST, source, BANK["TOGETHER"]["its own helpers"][1]], place, 15 if words == LATE else 60
            )
            for name, (words, source) in BANK["ALONE"].items()
        }
        found |= {name: (first.result(), 4 + 2 * i) for i, name in enumerate(together)}
        found |= {name: (report.result(), 4) for name, report in alone.items()}
    return found


def test_there_are_many():
    assert len(BANK["TOGETHER"]) + len(BANK["ALONE"]) >= 75


@pytest.mark.parametrize("name", [*BANK["TOGETHER"], *BANK["ALONE"]])
def test_an_attack_gains_nothing_and_is_told(reports, name):
    report, test = reports[name]
    words = (BANK["TOGETHER"] | BANK["ALONE"])[name][0]
    if isinstance(report, str):
        assert name in BANK["ALONE"] and words and words in report
        return
    assert report.passed.get(2) is True  # its honest answer
    assert not report.passed.get(test) and not (name in BANK["ALONE"] and report.passed.get(6))
    errors = [output for output in report.outputs.get(test, []) if output["output_type"] == "error"]
    assert words in " ".join([*(f"{error['evalue']} {error['traceback']}" for error in errors), *report.tried])


@pytest.mark.parametrize("name", BANK["GRADIENTS"])
def test_a_gradient_runs_nothing_of_the_submission(place, name):
    """What torch calls back runs in the test's own thread: it could exchange what the answer is compared with."""
    test = """with verdict():
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    found = answering(thrice)(x, not_one_of)
    same(found, [3, 6], "the result")
    found.sum().backward()
    same(x.grad, [3, 3], "the gradient")
"""
    answers = [BANK["LOOK_BACK"] + BANK["GRADIENTS"][name], "def thrice(x, other): return 3 * x"]
    work = job(answers, place)
    for cell in work["cells"]:
        cell["source"] = test if cell["test"] else cell["source"]
    report = isolation.examine(work, {}, [place], 60)
    assert report.passed == {2: False, 4: True}
    assert "code of the submission runs while the test computes" in report.outputs[2][-1]["evalue"]


def test_what_is_not_changed_is_tested_on(reports):
    """After all attacks that leave no trace the honest answer still gets its point."""
    report, last = reports[list(BANK["TOGETHER"])[-1]]
    assert report.ended and report.passed[last + 2]


def test_nothing_was_changed(reports, place):
    assert [path.name for path in place.iterdir()] == ["secret.txt"]
    assert (place / "secret.txt").read_text() == "the solution"


# Through `grade`: what is handed in, and what the lecturer reads and opens


def tiny(path):
    """The source of an assignment of three questions: 2 and 3 points by machine, 5 for a text."""
    mark = {"schema_version": 3, "task": False, "locked": False, "grade": False, "solution": False}

    def code(source, **kind):
        return new_code_cell(source, metadata={"nbgrader": mark | kind} if kind else {})

    cells = [
        new_code_cell('STUDENT_ID = "x"', metadata={"tags": ["student-id"]}),
        code(SETUP, locked=True, grade_id="t1-setup"),
    ]
    for number, (name, one, two, points) in enumerate((("twice", 2, 4, 2), ("thrice", 3, 6, 3)), 1):
        answer = f"def {name}(x, other):\n    ### BEGIN SOLUTION\n    return {one} * x\n    ### END SOLUTION"
        test = f"### BEGIN HIDDEN TESTS\n{TEST.format(name, one, two)}### END HIDDEN TESTS"
        cells.append(code(answer, solution=True, grade_id=f"t1-q{number}"))
        cells.append(code(test, grade=True, locked=True, points=points, grade_id=f"t1-q{number}-test"))
    written = mark | {"grade": True, "solution": True, "points": 5, "grade_id": "t1-q3"}
    cells.append(new_markdown_cell("A model answer.", metadata={"nbgrader": written}))
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    nbformat.write(new_notebook(cells=cells, metadata=kernel), path)


class Class:
    """A course folder with the tiny assignment, and submissions to it; in folders with names that others do not expect."""

    def __init__(self, place, patch):
        self.folder, self.out = place / "Klasse ä [1] a%20b #?{x}", place / "Kurs ü [2] c%20d" / "course"
        self.folder.mkdir(exist_ok=True)
        tiny(place / "T1_tiny.ipynb")
        patch.setattr(grading, "sources", lambda: {"T1": place / "T1_tiny.ipynb"})
        (self.release,) = grading.make(self.out)

    def hand_in(self, student, change=lambda notebook: None, **answers):
        """A submission with answers to q1, q2 and q3; the honest one has q1 right and q2 wrong."""
        notebook = read(self.release)
        given = {"t1-q1": HONEST, "t1-q2": ZERO.strip(), "t1-q3": "I think so."}
        given |= {f"t1-{question}": source for question, source in answers.items()}
        for cell in notebook.cells:
            cell.source = given.get(mark(cell).get("grade_id"), cell.source)
        notebook.cells[0].source = f"STUDENT_ID = {student!r}"
        change(notebook)
        path = self.folder / student / "T1" / self.release.name
        path.parent.mkdir(parents=True)
        nbformat.write(notebook, path)
        return path

    def grade(self, **settings):
        settings = {"cell_seconds": 20, "submission_seconds": 60} | settings
        rows = grading.grade(self.folder, self.out, **settings)
        return {row["student"]: row for row in rows}


def forge_marks(notebook):
    """More points for a test, tests that are none, helpers in place of the locked cell."""
    for cell in notebook.cells:
        if mark(cell).get("points"):
            cell.metadata.nbgrader.points = 1000
        if mark(cell).get("grade") and cell.cell_type == "code":
            cell.source, cell.metadata.nbgrader.locked = "1000", False
    notebook.cells = [cell for cell in notebook.cells if mark(cell).get("grade_id") != "t1-setup"]
    notebook.cells.insert(1, new_code_cell("same = verdict = answering = print"))
    notebook.metadata["kernelspec"] = {"name": "bash", "display_name": "bash", "language": "bash"}


def reorder(notebook):
    notebook.cells = notebook.cells[::-1]
    for cell in notebook.cells:
        if mark(cell).get("grade") and cell.cell_type == "code":
            cell.cell_type = "raw"
            del cell["outputs"], cell["execution_count"]


def add_cells(notebook):
    """What the assignment allows: cells of one's own, which the answers use."""
    place = next(i for i, cell in enumerate(notebook.cells) if mark(cell).get("grade_id") == "t1-q2")
    notebook.cells.insert(place, new_code_cell("%matplotlib inline\nfactor = 3"))
    notebook.cells.insert(place, new_markdown_cell("Now I need a number."))


SCRIPTS = """<script>alert(1)</script><img src=x onerror=alert(2)> [link](javascript:alert(3)) <svg onload=alert(4)>
<a href="jav&#x61;script:alert(5)">a</a> <iframe src="data:text/html,<script>alert(6)</script>"></iframe> ![p](https://e.org/p.png)
<style>body { display: none }</style> $\\href{javascript:alert(7)}{x}$ <form action="https://e.org"><input name=a></form>
<a href="data:text/html;base64,PHNjcmlwdD4=">b</a> <div style="position:fixed">c</div> <b>bold</b> and $a < b$ and `x < y` [good](https://good.example)
"""
SHOWN = """
from IPython.display import HTML, SVG, Javascript, Latex, Markdown, display
display(HTML("<b>table</b><script>alert(11)</script><img src=x onerror='alert(12)'>"))
display(SVG("<svg xmlns='http://www.w3.org/2000/svg' onload='alert(13)'></svg>"), Javascript("alert(14)"))
display(Markdown("<img src=x onerror=alert(15)> [l](javascript:alert(16))"), Latex("$\\\\href{javascript:alert(17)}{x}$"))
display({"image/png": 'AAAA" onerror="alert(18)', "text/plain": "p"}, raw=True, metadata={"image/png": {"width": "1 onerror=alert(19)"}})
display({"application/vnd.jupyter.widget-view+json": {"model_id": "</script><script>alert(20)"}, "text/plain": "w"}, raw=True)
print("<script>alert(21)</script>")
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A course folder that is ready: nbgrader takes seconds for a new data base."""
    place = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        Class(place, patch)
    return place


@pytest.fixture
def course(made, tmp_path, monkeypatch):
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return Class(tmp_path, monkeypatch)


LOOK = (
    """
import os, sys
print([name for name in os.environ if name.startswith("PYTHON")], "COURSE_TOKEN" in os.environ, sys.flags.optimize, hasattr(__builtins__, "EVIL"), __debug__)
print("in the folder:", sorted(os.listdir(".")))
print("hidden tests" if "BEGIN HID" + "DEN" in open("T1_tiny.ipynb").read() else "as released")
for path in (OUT + "/gradebook.db", OUT + "/source/T1/T1_tiny.ipynb", FOLDER + "/honest/T1/T1_tiny.ipynb"):
    for mode in ("rb", "ab"):
        try: print(len(open(path, mode).read(9)), "bytes of", path)
        except OSError as error: print(error)
"""
    + ZERO
)


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """(course, student -> row) of one `grade`, started in an environment that is set against it."""
    evil = tmp_path_factory.mktemp("evil")
    for name in ("usercustomize", "sitecustomize", "torch", "start"):
        (evil / f"{name}.py").write_text("import builtins; builtins.EVIL = 1")
    with pytest.MonkeyPatch.context() as patch:
        course = Class(tmp_path_factory.mktemp("class"), patch)
        for name, value in {
            "OPTIMIZE": "1",
            "PATH": evil,
            "STARTUP": evil / "start.py",
            "BREAKPOINT": "os.abort",
        }.items():
            patch.setenv(f"PYTHON{name}", str(value))
        patch.setenv("COURSE_TOKEN", "a secret of the lecturer")
        first, lender = course.hand_in("honest"), course.hand_in("lender")
        course.hand_in("forger", lambda notebook: (forge_marks(notebook), reorder(notebook)))
        course.hand_in("adder", add_cells, q2="def thrice(x, other): return factor * x")
        course.hand_in("writer", q2=SHOWN + ZERO, q3=SCRIPTS)
        course.hand_in(
            "looker", q2=LOOK.replace("OUT", repr(str(course.out))).replace("FOLDER", repr(str(course.folder)))
        )
        course.hand_in("printer", q2="while True: print('x' * 1000)" + ZERO)
        course.hand_in(
            "quitter",
            lambda notebook: notebook.cells[0].update(source='STUDENT_ID = "=1+1\u202e"'),
            q2="import os\ndef thrice(x, other): os._exit(0)",
        )
        # and what is not even run
        for name in (
            "--help",
            "-x",
            ".hidden",
            "=1+1",
            "+1",
            "@me",
            "a\tb",
            "a\rb",
            "\u202eabc",
            "two words",
            "end.",
            "a" * 101,
        ):
            course.hand_in(name)
        course.hand_in("Anna"), course.hand_in("anna"), course.hand_in("stra\u00dfe"), course.hand_in("STRASSE")
        (course.folder / "linked").symlink_to(first.parents[1])
        for name, make in {
            "linked-folder": lambda to: to.parent.symlink_to(first.parent),
            "linked-notebook": lambda to: (to.parent.mkdir(), to.symlink_to(course.out / "source/T1/T1_tiny.ipynb")),
            "dangling": lambda to: (to.parent.mkdir(), to.symlink_to(course.folder / "nothing")),
            "second-name": lambda to: (to.parent.mkdir(), os.link(lender, to)),
            "pipe": lambda to: (to.parent.mkdir(), os.mkfifo(to)),
            "folder": lambda to: (to.parent.mkdir(), to.mkdir()),
            "large": lambda to: (
                to.parent.mkdir(),
                to.write_text('{"cells": [], "metadata": {"a": "' + "x" * 11 * 2**20 + '"}}'),
            ),
            "deep": lambda to: (to.parent.mkdir(), to.write_text("[" * 200_000)),
            "many": lambda to: (to.parent.mkdir(), to.write_text(json.dumps({"cells": [{}] * 100_000, "nbformat": 4}))),
            "half": lambda to: (to.parent.mkdir(), to.write_text(first.read_text().replace("I think so", "\\ud800"))),
            "odd-marks": lambda to: (
                to.parent.mkdir(),
                to.write_text(first.read_text().replace('"grade_id": "t1-q1"', '"grade_id": [1]')),
            ),
        }.items():
            (course.folder / name).mkdir()
            make(course.folder / name / "T1" / first.name)
        shutil.copy(first, course.folder / "not a student.ipynb")
        (course.folder / ".ipynb_checkpoints").mkdir()
        yield course, course.grade()


@needs_nbgrader
@pytest.mark.parametrize(
    "student, points, words",
    [
        ("honest", "2", ""),
        ("forger", "2", ""),
        ("adder", "5", ""),
        ("writer", "2", ""),
        (
            "looker",
            "2",
            "It tried to read T1/T1_tiny.ipynb; to read course/gradebook.db; to write T1/T1_tiny.ipynb; to write course/",
        ),
        ("printer", "2", "1 cell printed too much and was stopped."),
        ("quitter", "2", "Its process ended before the last cell. STUDENT_ID is '=1+1\\u202e', not the folder's name."),
    ],
)
def test_points_are_those_of_the_answers(graded, student, points, words):
    row = graded[1][student]
    assert row["points"] == row["auto"] == points and row["of"] == "10" and row["to_read"] == 1, row
    assert row["remark"].startswith(words) if words else row["remark"] == ""


@needs_nbgrader
@pytest.mark.parametrize(
    "student, words",
    [
        *(
            (name, "no student id")
            for name in ("--help", "-x", ".hidden", "=1+1", "+1", "@me", "a\tb", "a\rb", "\u202eabc", "two words")
        ),
        ("end.", "no student id"),
        ("a" * 101, "at most 100"),
        ("Anna", "differs from anna"),
        ("anna", "differs from Anna"),
        ("stra\u00dfe", "differs from STRASSE"),
        ("linked", "is a link"),
        ("linked-folder", "T1 is a link"),
        ("linked-notebook", "T1_tiny.ipynb is a link"),
        ("dangling", "is a link"),
        ("second-name", "hard link"),
        ("lender", "hard link"),
        ("pipe", "is no file"),
        ("folder", "T1_tiny.ipynb"),
        ("large", "more than 10 MiB"),
        ("deep", "not a notebook"),
        ("many", "more than 500 cells"),
        ("half", "not a notebook"),
        ("odd-marks", "t1-q1 are gone"),
    ],
)
def test_what_cannot_be_graded_gets_its_sentence(graded, student, words):
    row = graded[1][student]
    assert words in row["remark"] and "points" not in row and "\n" not in row["remark"], row


@needs_nbgrader
def test_a_submission_sees_its_own_folder_and_nothing_of_the_lecturer(graded):
    course, _ = graded
    cells = read(course.out / "autograded/looker/T1" / course.release.name).cells
    text = "".join(
        output.text for cell in cells for output in cell.get("outputs", []) if output.output_type == "stream"
    )
    assert "[] False 0 False True" in text and "as released" in text and "bytes of" not in text
    assert re.search(r"in the folder: \['.ipython', 'T1_tiny.ipynb', 'matplotlib', 'tmp'\]", text), text
    assert text.count("a submission is not allowed to") == 6


@needs_nbgrader
def test_no_cell_of_the_table_is_a_formula(graded):
    with open(graded[0].out / "grades.csv", newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert {"'=1+1", "'--help", "'+1", "'@me", "a\\tb", "a\\rb", "\\u202eabc"} <= {row["student"] for row in table}
    assert len(table) == len(graded[1])
    for cell in (cell for row in table for cell in row.values()):
        assert not cell.startswith(("=", "+", "-", "@")) and (cell.isprintable() or not cell)
    for wide in ("\uff1d1+1", "\uff0b1", "\uff0d1", "\uff20SUM(A1)", "\ufe661"):  # as some spreadsheets read them
        assert grading._cell(wide) == f"'{wide}"


class Page(html.parser.HTMLParser):
    """What in a page could run, or ask somebody."""

    def __init__(self, text):
        super().__init__()
        self.found, self.open = set(), None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.open = tag
        for name, value in attributes:
            if name.startswith("on") or name in ("srcdoc", "action", "formaction", "style"):
                self.found.add((tag, name, value))
            if name in ("href", "src") and not re.match(
                "#|https://cdnjs|data:image/png;base64,[\\w+/=]*$", value or ""
            ):
                self.found.add((tag, name, value))
        if tag in ("iframe", "svg", "form", "input", "object", "embed", "base", "meta", "link", "math"):
            self.found.add((tag, str(attributes)))

    def handle_data(self, data):
        if self.open in ("script", "style"):
            self.found.add((self.open, data))
        self.open = None


def formgrader(course, student):
    """The page on which a lecturer gives points, as nbgrader's own exporter makes it."""
    from nbconvert import HTMLExporter
    from nbgrader.server_extensions.formgrader.handlers import template_path
    from traitlets.config import Config, PyFileConfigLoader

    config = PyFileConfigLoader("nbgrader_config.py", path=str(course.out)).load_config()
    config.merge(Config({"HTMLExporter": {"template_name": "formgrade", "extra_template_basedirs": [template_path]}}))
    named = dict.fromkeys(
        ("assignment_id", "notebook_id", "submission_id", "student", "last_name", "first_name", "base_url"), "s"
    )
    path = course.out / "autograded" / student / "T1" / course.release.name
    return HTMLExporter(config=config).from_filename(
        str(path), resources=named | {"index": 0, "total": 1, "notebook_path": ""}
    )[0]


@needs_nbgrader
@pytest.mark.parametrize("view", ["feedback", "formgrader"])
def test_nothing_of_a_submission_runs_where_it_is_read(graded, view):
    course, _ = graded

    def page(student):
        if view == "formgrader":
            return formgrader(course, student)
        return (course.out / "feedback" / student / "T1/T1_tiny.html").read_text(encoding="utf-8")

    text = page("writer")
    more = Page(text).found - Page(page("honest")).found
    assert more == {("a", "href", "https://good.example")}, more
    assert "<b>bold</b>" in text and "<b>table</b>" in text and "$a &lt; b$" in text and "<code>x &lt; y</code>" in text
    assert "\\href" not in Page(text).get_starttag_text() and "\\href{" not in text.partition("I think")[2]
    assert "alert(21)" in text and "<script>alert" not in text


@pytest.mark.parametrize(
    "long", ["<div>" * 200_000, "<p " + "a=b " * 200_000, "\\\\(" * 200_000, "\\begin{a}" * 100_000]
)
def test_what_takes_hours_to_parse_is_cut_where_it_is_read(long):
    """The parsers of Markdown and HTML need a time that grows with the square of a text's length."""
    from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

    from mini_lib.course.feedback import ALL, LENGTH, Harmless

    answer = "I think $a < b$, for the experts differ. " * 100
    kinds = ("text/html", "text/markdown", "text/latex", "text/plain")
    output = new_output("display_data", {kind: long for kind in kinds})
    texts = [new_markdown_cell(answer), *(new_markdown_cell(long) for _ in range(9))]
    shown = Harmless().preprocess(new_notebook(cells=[texts[0], new_code_cell("", outputs=[output]), *texts[1:]]), {})[
        0
    ]
    assert shown.cells[0].source == answer
    texts = [cell.source for cell in shown.cells[2:]]
    assert all(text.endswith(f" … (cut here: {len(long):,} characters)") for text in texts)
    assert all(len(text) < LENGTH + 50 for text in texts) and len(texts[-1]) < 50
    assert sum(map(len, texts)) < ALL and set(shown.cells[1].outputs[0].data) == {*kinds}
    assert len(shown.cells[1].outputs[0].data["text/html"]) < 5 * LENGTH  # with the ends of its tags


@needs_nbgrader
def test_what_a_submission_changes_is_put_back_and_told(course, monkeypatch):
    """As if it had found a way around everything else."""
    for student in ("cheat", "other"):
        course.hand_in(student)
    course.grade()
    before = sqlite3.connect(course.out / "gradebook.db").execute("select * from grade").fetchall()

    def examine(job, *_):
        report = isolation.Report(passed={3: True}, ended=True)
        if job["student_id"] == "cheat":
            with sqlite3.connect(course.out / "gradebook.db") as database:
                database.execute("update grade set auto_score = 1000, manual_score = 1000")
            (course.out / "source/T1/T1_tiny.ipynb").write_text("{}")
            (course.out / "release/T1/new.ipynb").write_text("{}")
            (course.folder / "other/T1/T1_tiny.ipynb").write_text("{}")
            (course.folder / "third").mkdir()
            (course.folder / "third/new.ipynb").write_text("{}")
        return report

    monkeypatch.setattr(isolation, "examine", examine)
    rows = course.grade()
    assert "points" not in rows["cheat"] and rows["other"]["points"] == "2"
    assert all(
        name in rows["cheat"]["remark"] for name in ("gradebook.db", "T1_tiny.ipynb", "new.ipynb", "was put back")
    )
    assert sqlite3.connect(course.out / "gradebook.db").execute("select * from grade").fetchall() == before
    assert (course.out / "gradebook.db.changed").exists() and not (course.out / "release/T1/new.ipynb").exists()
    assert len(read(course.out / "source/T1/T1_tiny.ipynb").cells) == 7


@needs_nbgrader
@pytest.mark.parametrize("score", [1000, -1, 3])
def test_points_that_no_test_gave_are_refused(course, monkeypatch, score):
    course.hand_in("cheat")
    monkeypatch.setattr(isolation, "examine", lambda *_: isolation.Report(passed={3: True}, ended=True))
    step = gradebook.take_step

    def tampered(name, *arguments, out):
        step(name, *arguments, out=out)
        if name == "Autograde":
            with sqlite3.connect(out / "gradebook.db") as database:
                database.execute("update grade set auto_score = ? where auto_score = 0", [score])

    monkeypatch.setattr(gradebook, "take_step", tampered)
    (row,) = course.grade().values()
    assert "points that no test gave, for t1-q2-test" in row["remark"] and "points" not in row


@needs_nbgrader
def test_points_by_hand_stay_and_nothing_is_run_twice(course, monkeypatch):
    course.hand_in("honest")
    monkeypatch.setattr(isolation, "examine", lambda *_: isolation.Report(passed={3: True}, ended=True))
    course.grade()
    with sqlite3.connect(course.out / "gradebook.db") as database:
        database.execute("update grade set manual_score = 4, needs_manual_grade = 0 where auto_score is null")
    (row,) = course.grade().values()
    assert (row["points"], row["written"], row["to_read"]) == ("6", "4", 1)


@needs_nbgrader
def test_a_loop_is_stopped(course):
    course.hand_in("loops", q2=ZERO + "\nwhile True:\n    pass")
    (row,) = course.grade(cell_seconds=4).values()
    assert row["points"] == "2" and row["remark"] == "1 cell ran too long and was stopped."


@needs_nbgrader
def test_a_loop_that_cannot_be_interrupted_ends_its_submission(course):
    deaf = "\nimport signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True:\n    time.sleep(1)"
    course.hand_in("stubborn", q2=ZERO + deaf)
    (row,) = course.grade(cell_seconds=1, submission_seconds=10).values()
    assert "stopped after 10 seconds" in row["remark"] and "points" not in row


@needs_nbgrader
def test_submissions_do_not_lie_where_grading_writes(course):
    target = course.out / "submitted/honest/T1"
    target.mkdir(parents=True)
    shutil.copy(course.release, target)
    contents = (target / course.release.name).read_bytes()
    with pytest.raises(ValueError, match="where grading writes"):
        grading.grade(course.out / "submitted", course.out)
    assert (target / course.release.name).read_bytes() == contents


def test_whatever_a_submission_starts_is_ended(tmp_path, monkeypatch):
    """Children, their children, and those that have left their family."""
    code = """
import os, subprocess, sys, time
stay = [sys.executable, "-c", f"import time; time.sleep(99)  # {sys.argv[1]}"]
for own in (False, True):
    subprocess.Popen(stay, start_new_session=own, stdin=subprocess.DEVNULL)
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0: os.execve(stay[0], stay, {})
        os._exit(0)
print("started", flush=True)
time.sleep(float(sys.argv[2]))
"""
    (tmp_path / "work").mkdir()
    monkeypatch.setattr(isolation, "PROCESSES", 20)
    for seconds, why in ((1.5, None), (99, "stopped after 2 seconds")):
        label = f"left-{tmp_path.name}-{seconds}"
        command = [sys.executable, "-c", code, label, str(seconds)]
        try:
            told, _ = isolation._run(command, b"", tmp_path, 2, None)
            assert why is None and told == b"started\n"
        except ValueError as error:
            assert why and why in str(error)
        time.sleep(0.1)
        assert not [one for one in psutil.process_iter(["cmdline"]) if label in " ".join(one.info["cmdline"] or [])]


def test_leftovers_of_a_kill_are_swept(tmp_path, monkeypatch):
    ended = psutil.Popen([sys.executable, "-c", ""])
    ended.wait()
    names = {
        "old": f"{os.getpid()}-a",
        "killed": f"{ended.pid}-b",
        "new": f"{os.getpid()}-c",
        "another": f"{os.getppid()}-d",
    }
    old, killed, new, another = (tmp_path / f"{isolation.PREFIX}{name}" for name in names.values())
    for folder in (old, killed, new, another):
        (folder / "work").mkdir(parents=True)
    os.utime(old, (0, 0))
    monkeypatch.setattr(isolation.tempfile, "gettempdir", lambda: str(tmp_path))
    with isolation._folder() as place:
        assert (
            place.parent == tmp_path and new.exists() and another.exists() and not old.exists() and not killed.exists()
        )
    assert not place.exists()


@pytest.mark.parametrize(
    "code, words",
    [
        ("import sys\nwhile True: sys.stdout.write('x' * 10**6)", "more than 50 MiB of output"),
        ("x = bytes(300 * 2**20)\nx = bytearray(x)\nimport time\ntime.sleep(9)", "of memory"),
        ("for i in range(9): open(str(i), 'wb').write(bytes(2**20))\nimport time\ntime.sleep(9)", "MiB of files"),
        (
            "import subprocess, sys, time\nfor i in range(9): subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(9)'])\ntime.sleep(9)",
            "processes",
        ),
    ],
)
def test_what_takes_too_much_is_ended(tmp_path, monkeypatch, code, words):
    (tmp_path / "work").mkdir()
    monkeypatch.setattr(isolation, "MEMORY", 200 * 2**20)
    monkeypatch.setattr(isolation, "DISK", 5 * 2**20)
    start = time.monotonic()
    with pytest.raises(ValueError, match=words):
        isolation._run([sys.executable, "-c", code], b"", tmp_path, 20, None)
    assert time.monotonic() - start < 9


# The sandbox


def test_a_sandbox_that_is_not_there_is_refused_in_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OSError, match="no sandbox 'bwrap' here: on Linux bwrap"):
        isolation.check("bwrap")


@pytest.mark.skipif(not shutil.which("bwrap"), reason="bubblewrap is not installed")
def test_bubblewrap_hides_what_it_should(place):
    """Also from code that asks the system itself."""
    ask = "import torch\ndef twice(x, other):\n    torch.from_file({secret!r}, size=4, dtype=torch.uint8)"
    report = isolation.examine(job([HONEST, ask], place), {}, [], 60, "bwrap")
    assert report.passed == {2: True, 4: False}
    assert "No such file" in str(report.outputs[4])


def test_docker_gets_no_network_and_no_more_folders(tmp_path, monkeypatch):
    """The command only: the tests have no docker."""
    (tmp_path / "docker").write_text("#!/bin/sh\n")
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    (place := tmp_path / "mini_lib-x").mkdir()
    text = " ".join(isolation._command(place, "docker"))
    assert "--network none --read-only" in text and f"source={place},target={place},readonly" in text
    assert str(ROOT / "notebooks") not in text and f"source={place}/work,target={place}/work " in text
