"""A clone may lie in a folder of any name, and a machine may know no letter but ASCII."""

import os
import shutil
import subprocess
import sys

import nbformat
import pytest
from helpers import ROOT

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}


@pytest.fixture(params=["My Kurs ä [1]", "a%20b {x}#;"])
def clone(request, tmp_path):
    """What the commands need of the repository, with one small notebook."""
    root = tmp_path / request.param
    shutil.copytree(ROOT / "mini_lib", root / "mini_lib", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "notebooks" / "assignments").mkdir(parents=True)
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, root)
    (root / "notebooks" / "seconds.json").write_text("{}")
    code = nbformat.v4.new_code_cell
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    cells = [
        code('OUT: str = "x"\nNAME: str = ""', metadata={"tags": ["parameters"]}),
        code("import mini_lib\nfrom pathlib import Path"),
        code("Path(OUT, NAME).write_text(mini_lib.__file__, encoding='utf-8')\nprint('Ergebnis für', NAME)"),
    ]
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=kernel)
    nbformat.write(notebook, root / "notebooks" / "00_small.ipynb")
    (root / "p.yaml").write_text("# für alle\nNAME: Übung [1] {x}%20.txt\n", encoding="utf-8")
    return root


def run(clone, *arguments, **environment):
    """The output of a command in that clone, as it stands in a pipe, and what went wrong."""
    command = [sys.executable, "-m", "mini_lib", *arguments]
    done = subprocess.run(command, cwd=clone, env=os.environ | environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout


@pytest.mark.parametrize("environment", [{}, ASCII], ids=["as it is", "ASCII"])
def test_a_notebook_runs(clone, environment):
    shown = run(clone, "execute", "notebooks/00_small.ipynb", "p.yaml", "OUT=runs/Läufe [1]", **environment)
    out = clone / "runs" / "Läufe [1]"
    assert (out / "Übung [1] {x}%20.txt").read_text(encoding="utf-8") == str(clone / "mini_lib" / "__init__.py")
    assert (out / "00_small.ipynb").is_file() and (out / "00_small.html").is_file()
    if environment:
        assert rb"Ergebnis f\xfcr \xdcbung" in shown


def test_the_other_commands_find_their_files(clone):
    assert run(clone, "notebooks", "time", "00").endswith(b"seconds\r\n" if os.name == "nt" else b"seconds\n")
    notebook = clone / "notebooks" / "00_small.ipynb"
    changed = nbformat.read(notebook, 4)
    changed.cells = [nbformat.v4.new_markdown_cell("# 00"), nbformat.v4.new_code_cell("print('ä')")]
    nbformat.write(changed, notebook)
    run(clone, "notebooks", "run", "00")
    assert nbformat.read(notebook, 4).cells[1].outputs[0].text == "ä\n"
    run(clone, "notebooks")
    assert "import mini_lib" in nbformat.read(notebook, 4).cells[1].source
