"""What all notebooks share: the first cell, the line for Colab, the minutes; and that a notebook starts alone."""

import json
import os
import re
import shutil
import subprocess
import sys

import nbformat
import pytest
from helpers import ROOT, code, read

import mini_lib
from mini_lib.course import colab
from mini_lib.course import notebooks as course

ADDRESS = "https://github.com/somebody/course"


@pytest.fixture(params=course.notebooks(), ids=lambda p: p.stem)
def path(request):
    return request.param


def place(path):
    return path.relative_to(ROOT).as_posix()


# As the command leaves them


def test_every_notebook_and_the_readme_are_as_the_command_leaves_them():
    differing = [path.name for path, text in course.filled().items() if path.read_text(encoding="utf-8") != text]
    assert not differing, f"{differing}: run `python -m mini_lib notebooks`"


def test_the_first_code_cell_is_the_same_everywhere(path):
    assert code(read(path))[0].source == course.first_cell(*course.project())
    assert sum("google.colab" in cell.source for cell in code(read(path))) == 1


def test_the_minutes_are_those_that_were_measured(path):
    seconds = json.loads((ROOT / course.SECONDS).read_text())
    assert path.stem in seconds, f"run `python -m mini_lib notebooks time {path.stem.split('_')[0]}`"
    header, words = read(path).cells[0].source, course.minutes(seconds[path.stem])
    assert sum(len(pattern.findall(header)) for pattern in (course.TIME, course.TIME_OF_ASSIGNMENT)) == 1
    assert re.search(rf"\n\| {words} \||\bruns in (about {words}|less than a minute)\s", header)


def test_only_notebooks_that_are_there_have_seconds():
    assert set(json.loads((ROOT / course.SECONDS).read_text())) <= {path.stem for path in course.notebooks()}


def test_no_link_to_colab_without_an_address_and_one_with_it(path):
    notebook = read(path)
    course.fill(notebook, place(path), None, "1.2", "")
    header = notebook.cells[0].source
    assert header.count(course.BY_HAND) == 1 and "colab.research" not in header
    course.fill(notebook, place(path), None, "1.2", ADDRESS)
    assert course.BY_HAND not in notebook.cells[0].source
    if path.parent.name == "assignments":  # what lies there has the solutions
        assert course.FETCHED in notebook.cells[0].source and "colab.research" not in notebook.cells[0].source
    else:
        target = f"https://colab.research.google.com/github/somebody/course/blob/v1.2/{place(path)}"
        (picture,) = re.findall(rf"\[!\[Open in Colab\]\((.*?)\)\]\({re.escape(target)}\)", notebook.cells[0].source)
        assert (path.parent / picture).is_file()
    assert f'"--branch=v1.2",\n                        "{ADDRESS}", course' in code(notebook)[0].source
    course.fill(notebook, place(path), None, "1.2", "")
    assert notebook.cells[0].source == header


def test_colab_opens_only_what_lies_at_github():
    elsewhere = "https://example.org/somebody/course"
    assert course.line_for_colab("notebooks/03_three.ipynb", "1.2", elsewhere) == course.FETCHED
    assert elsewhere in course.first_cell("1.2", elsewhere)


def test_filling_in_twice_is_filling_in_once_and_leaves_the_rest(path):
    before, once = read(path), read(path)
    course.fill(once, place(path), 100, *course.project())
    twice = nbformat.from_dict(once.copy())
    course.fill(twice, place(path), 100, *course.project())
    assert nbformat.writes(once) == nbformat.writes(twice)
    nbformat.validate(once)
    assert once.cells[-len(before.cells) + 2 :] == before.cells[2:]  # with their outputs and execution counts
    assert len(once.cells) - len(before.cells) in (0, 1) and max(map(len, code(once)[0].source.splitlines())) <= 120


def test_a_notebook_without_the_cell_gets_it_first():
    answer = nbformat.v4.new_code_cell("STUDENT_ID = 'ada'", execution_count=1)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# A7\n\nText."), answer])
    course.fill(notebook, "notebooks/A7_new.ipynb", None, "1.2", ADDRESS)
    assert [cell.cell_type for cell in notebook.cells] == ["markdown", "code", "code"]
    assert notebook.cells[1].source == course.first_cell("1.2", ADDRESS) and notebook.cells[2] == answer
    assert notebook.cells[0].source.startswith("# A7\n\nText.\n\n[![Open in Colab](_config/colab.svg)]")


def test_minutes_in_words():
    numbers = {3: "0.1", 12: "0.2", 31: "0.6", 60: "1", 61: "1.5", 120: "2", 301: "5.5"}
    assert {seconds: course.minutes(seconds).split()[0] for seconds in numbers} == numbers
    assert course.minutes(60) == "1 minute" and course.minutes(61) == "1.5 minutes"


def test_the_repository_stands_in_pyproject(tmp_path):
    file = tmp_path / "pyproject.toml"
    file.write_text('[project]\nversion = "2.0"\n')
    assert course.project(tmp_path) == ("2.0", "")
    file.write_text(f'[project]\nversion = "2.0"\n[project.urls]\nRepository = "{ADDRESS}.git"\n')
    assert course.project(tmp_path) == ("2.0", ADDRESS)
    assert course.project()[0] == mini_lib.__version__


@pytest.mark.slow
def test_the_command_measures_with_papermill_and_writes_headers_and_readme(tmp_path, capsys):
    """A repository of two notebooks that take no time."""
    (tmp_path / "notebooks/assignments").mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "2.0"\n')
    (tmp_path / course.SECONDS).write_text("{}\n")
    row = "| 03 | [Three](notebooks/03_three.ipynb) | Why? | {} | not measured |\n"
    (tmp_path / "README.md").write_text(row.format(7))
    table = (
        "# 03 · Three\n\n| on 2 CPU cores | on a T4 |\n|---|---|\n| 7 minutes | not measured |\n\n**You need** little."
    )
    prose = "# A1 · One\n\n**Hardware**: any; the whole notebook runs in about a minute on two CPU cores, no GPU."
    for name, header in (("03_three", table), ("assignments/A1_one", prose)):
        cells = [nbformat.v4.new_markdown_cell(header), nbformat.v4.new_code_cell("1 + 1")]
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), tmp_path / f"notebooks/{name}.ipynb")
    course.measure(["03"], tmp_path)
    course.measure(["A1"], tmp_path)
    capsys.readouterr()
    seconds = json.loads((tmp_path / course.SECONDS).read_text())
    assert list(seconds) == ["03_three", "A1_one"] and all(0 < value < 60 for value in seconds.values())
    assert not code(read(tmp_path / "notebooks/03_three.ipynb"))[0].outputs
    (tmp_path / course.SECONDS).write_text('{"03_three": 100, "A1_one": 20}\n')
    course.write(tmp_path)
    assert capsys.readouterr().out.count("filled in") == 3
    course.write(tmp_path)
    assert capsys.readouterr().out == ""
    assert (tmp_path / "README.md").read_text() == row.format(2)
    three, one = (read(path).cells[0].source for path in course.notebooks(tmp_path))
    assert "| 2 minutes | not measured |\n\n**In Colab**" in three and "**You need** little." in three
    assert "runs in less than a minute on two CPU cores," in one and one.endswith(course.BY_HAND)


def test_what_cannot_be_measured_is_one_sentence(tmp_path):
    (tmp_path / "notebooks").mkdir()
    cells = [nbformat.v4.new_code_cell("raise OSError('the disk is full')")]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), tmp_path / "notebooks/03_three.ipynb")
    with pytest.raises(ValueError, match="^there is no notebook 99, only 03.$"):
        course.measure(["99"], tmp_path)
    with pytest.raises(RuntimeError, match="^OSError: the disk is full$"):
        course.measure(["03"], tmp_path)


def test_what_somebody_saves_while_a_notebook_runs_is_not_overwritten(tmp_path, monkeypatch):
    (tmp_path / "notebooks").mkdir()
    path, new = tmp_path / "notebooks/03_three.ipynb", nbformat.v4.new_notebook
    nbformat.write(new(cells=[nbformat.v4.new_code_cell("1")]), path)
    before = path.read_bytes()

    class Client:
        saved = None

        def __init__(self, notebook, **options):
            self.notebook = notebook

        def execute(self, env):
            self.notebook.cells[0].execution_count = 1
            if self.saved:
                path.write_bytes(self.saved)

    monkeypatch.setattr(course, "NotebookClient", Client)
    course.rerun(["03"], tmp_path)
    assert path.read_bytes() != before and read(path).cells[0].execution_count == 1
    Client.saved = before + b" "
    with pytest.raises(RuntimeError, match="03_three.ipynb was changed while it ran, and stays as it is: run it again"):
        course.rerun(["03"], tmp_path)
    assert path.read_bytes() == before + b" " and [p.name for p in path.parent.iterdir()] == [path.name]


# In Colab


ALONE = """
import json, os, sys
from pathlib import Path
sys.meta_path = [f for f in sys.meta_path if "editable" not in str(f)]  # in Colab the library is not installed
import google.colab
work = json.load(open(os.environ["WORK"]))
exec(work["first"], {})
assert os.listdir() == ["course"]
import mini_lib
assert Path(mini_lib.__file__).is_relative_to(Path("course").resolve()), mini_lib.__file__
for name, cells in work["notebooks"].items():
    space = {}
    for source in (work["first"], *cells):
        exec(source, space)
    assert space["mini_lib"] is mini_lib
    print("ready:", name)
"""


def opening(path):
    """The code cells of a notebook after the first, up to and with the one that imports from mini_lib."""
    cells = [cell for cell in code(read(path)) if not re.search(r"^import mini_lib\b", cell.source, re.MULTILINE)]
    sources = [cell.source for cell in cells]
    last = next(i for i, source in enumerate(sources) if re.search(r"^from mini_lib\b", source, re.MULTILINE))
    return sources[: last + 1]


def git(*arguments, folder):
    command = ["git", "-c", "user.name=nobody", "-c", "user.email=nobody@example.org", *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def in_colab(tmp_path_factory):
    """A made-up Colab: an empty folder, google.colab, a pip that only writes down what it is asked, and a repository with
    the files of this one at their tag. It asks for a package that nobody has, and for a torch that is not out yet."""
    base = tmp_path_factory.mktemp("colab")
    repository, fakes, empty = base / "repository", base / "fakes", base / "content"
    for name in git("ls-files", "--cached", "--others", "--exclude-standard", "-z", folder=ROOT).split("\0"):
        if name and (ROOT / name).is_file():
            (repository / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, repository / name)
    text = (repository / "pyproject.toml").read_text()
    changed = re.sub(r'"torch>=[\d.]+",', '"torch>=99", "a-package-nobody-has>=3",', text, count=1)
    (repository / "pyproject.toml").write_text(changed)
    version = course.project()[0]
    for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "all"], ["tag", f"v{version}"]):
        git(*arguments, folder=repository)
    empty.mkdir()
    for name, source in {
        "google/colab/__init__.py": "",
        "pip/__init__.py": "",
        "pip/__main__.py": "import os, sys\n"
        "pins = open(sys.argv[sys.argv.index('--constraint') + 1]).read()\n"
        "open(os.environ['ASKED_OF_PIP'], 'a').write(repr(sys.argv[1:]) + '\\n' + pins)\n",
    }.items():
        (fakes / name).parent.mkdir(parents=True, exist_ok=True)
        (fakes / name).write_text(source)
    first = course.first_cell(version, repository.as_uri())
    work = {"first": first, "notebooks": {path.stem: opening(path) for path in course.notebooks()}}
    (base / "work.json").write_text(json.dumps(work))
    log = base / "pip.txt"
    environment = os.environ | {"WORK": str(base / "work.json"), "ASKED_OF_PIP": str(log), "PYTHONPATH": str(fakes)}
    command = [sys.executable, "-c", ALONE]
    result = subprocess.run(command, cwd=empty, env=environment, capture_output=True, text=True, check=False)
    return result, log.read_text() if log.exists() else "", repository


@pytest.mark.slow
def test_each_notebook_starts_alone_in_an_empty_folder_in_colab(in_colab):
    result, _, _ = in_colab
    assert result.returncode == 0, result.stderr[-2000:]
    assert re.findall("ready: (.*)", result.stdout) == [path.stem for path in course.notebooks()]


@pytest.mark.slow
def test_pip_is_asked_once_and_only_for_what_is_missing(in_colab):
    _, asked, _ = in_colab
    line, *pins = asked.splitlines()
    assert line.startswith("['install', '--quiet', '--constraint',") and line.endswith(", 'a-package-nobody-has>=3']")
    assert not re.search(r"'(torch|torchvision|numpy)\b", line)
    assert [pin.split("==")[0] for pin in pins] == [*colab.KEPT, *colab.PAGE]


@pytest.mark.slow
def test_a_run_by_papermill_in_colab_takes_the_same_library(in_colab, tmp_path):
    """Where nothing is installed the kernel that papermill starts must find the library, too."""
    repository = in_colab[2]
    cells = [nbformat.v4.new_code_cell('OUT = ""', metadata={"tags": ["parameters"]})]
    cells.append(nbformat.v4.new_code_cell("import mini_lib\nprint(mini_lib.__file__)"))
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), tmp_path / "small.ipynb")
    (tmp_path / "small.yaml").write_text(f"OUT: {tmp_path / 'out'}\n", encoding="utf-8")
    command = [sys.executable, "-m", "mini_lib", "execute", str(tmp_path / "small.ipynb"), str(tmp_path / "small.yaml")]
    result = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=True)
    assert str(repository / "mini_lib/__init__.py") in result.stdout


def test_by_hand_the_first_cell_takes_the_folder_that_is_there_and_says_where_it_is_missing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "google.colab", sys)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="course is missing: README.md says under 'In Colab'"):
        exec(course.first_cell("1.2", ""), {})
    readme = (ROOT / "README.md").read_text()
    assert "**In Colab.**" in readme and "--prefix=course/" in readme
    (tmp_path / "course").mkdir()
    called = []
    monkeypatch.setattr(subprocess, "run", lambda command, check: called.append(command))
    monkeypatch.setattr(sys, "path", list(sys.path))
    exec(course.first_cell("1.2", ""), {})
    assert called == [[sys.executable, tmp_path / "course/mini_lib/course/colab.py"]]
    assert sys.path[0] == str(tmp_path / "course")


def test_elsewhere_the_first_cell_only_imports(monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("nothing is to be run"))
    space = {}
    exec(course.first_cell("1.2", ADDRESS), space)
    assert space["mini_lib"].__version__ and "course" not in space


def test_what_is_missing():
    assert colab.missing(["torch>=99", "torchvision>=99", "numpy>=99", "jupyterlab>=99", "ipywidgets>=99"]) == []
    assert colab.missing(["pandas>=2", "pandas>=99", "nobody-has-this"]) == ["pandas>=99", "nobody-has-this"]
