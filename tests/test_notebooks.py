"""The form of the saved notebooks. Their cells are run by nbval."""

import ast
import re

import nbformat
import papermill
import pytest
from conftest import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture(params=NOTEBOOKS, ids=lambda p: p.stem)
def notebook(request):
    return nbformat.read(request.param, as_version=4)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_there_are_notebooks():
    assert NOTEBOOKS


def test_saved_as_run_from_top_to_bottom(notebook):
    assert [cell.execution_count for cell in code(notebook)] == list(range(1, len(code(notebook)) + 1))
    for cell in code(notebook):
        for output in cell.outputs:
            assert output.output_type != "error" and output.get("name") != "stderr", cell.source
    assert "widgets" not in notebook.metadata
    nbformat.validate(notebook)


def test_cells_are_short_and_files_small(notebook):
    assert len(nbformat.writes(notebook)) < 1_000_000
    for cell in code(notebook):
        assert len(cell.source.splitlines()) <= 40, cell.source
        assert max(map(len, cell.source.splitlines() or [""])) <= 120, cell.source
        assert not re.search(r"\.cuda\(|pip install torch|import \*|TODO|time\.sleep", cell.source)


def test_figures_have_alternative_text(notebook):
    for cell in code(notebook):
        for output in cell.outputs:
            if "image/png" in output.get("data", {}):
                assert len(output.metadata["image/png"]["alt"]) > 30, cell.source


def test_parameters_are_literals_that_papermill_can_read_and_the_notebook_uses(notebook, request):
    cells = [cell for cell in code(notebook) if "parameters" in cell.metadata.get("tags", [])]
    assert len(cells) == 1
    names = []
    for statement in ast.parse(cells[0].source).body:
        ast.literal_eval(statement.value)
        names.append(statement.target.id if isinstance(statement, ast.AnnAssign) else statement.targets[0].id)
    path = next(p for p in NOTEBOOKS if p.stem in request.node.name)
    assert sorted(papermill.inspect_notebook(str(path))) == sorted(names)
    rest = "\n".join(cell.source for cell in code(notebook) if cell is not cells[0])
    for name in names:
        assert re.search(rf"\b{name}\b", rest), f"{name} is never read"


def definitions(source):
    """name -> function or class of a module or notebook, methods by their own name, as a comparable text."""
    found = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.setdefault(node.name, []).append(ast.dump(node))
    return found


@pytest.mark.parametrize(
    "notebook_name, module, names",
    [
        ("07_the_full_pipeline", "methods/base.py", ["train"]),
        ("07_the_full_pipeline", "methods/moe_adapters.py", ["learn", "select", "scores"]),
    ],
)
def test_what_a_notebook_builds_is_what_the_library_has(notebook_name, module, names):
    cells = code(nbformat.read(ROOT / "notebooks" / f"{notebook_name}.ipynb", as_version=4))
    built = definitions("\n".join(cell.source for cell in cells))
    library = definitions((ROOT / "mini_lib" / module).read_text())
    for name in names:
        assert built[name] == library[name], name
