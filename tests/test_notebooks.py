"""The form of the saved notebooks. Their cells are run by nbval."""

import ast
import re

import nbformat
import papermill
import pytest
import torch
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
    """name -> function or class of a module or notebook, methods by their own name, as comparable texts."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and ast.get_docstring(node):
            node.body[0].value = ast.Constant(ast.get_docstring(node))  # without indentation: methods shown as functions
    found = {}
    for node in tree.body + [member for c in tree.body if isinstance(c, ast.ClassDef) for member in c.body]:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.setdefault(node.name, []).append(ast.dump(node))
    return found


def test_what_a_notebook_builds_is_what_the_library_has(notebook):
    """A cell with the tag mini_lib/FILE.py holds definitions of that file, letter for letter but for comments."""
    for cell in code(notebook):
        for module in (tag for tag in cell.metadata.get("tags", []) if tag.startswith("mini_lib/")):
            library = definitions((ROOT / module).read_text())
            built = definitions(cell.source)
            names = [n.name for n in ast.parse(cell.source).body if isinstance(n, (ast.FunctionDef, ast.ClassDef))]
            assert names, cell.source
            for name in names:
                assert built[name][0] in library.get(name, []), f"{name} differs from {module}"


def test_what_the_library_says_a_notebook_builds_is_built_there():
    """A module's docstring says "Built in notebook NN": that notebook has a cell with the module's tag."""
    for module in sorted((ROOT / "mini_lib").rglob("*.py")):
        promise = re.search(r"Built in notebooks? (\d\d)(?: \(\w+\))?(?:(?:,| and) (\d\d))?", module.read_text())
        for number in filter(None, promise.groups() if promise else ()):
            if notebooks := [path for path in NOTEBOOKS if path.stem.startswith(number)]:
                tags = {tag for cell in code(nbformat.read(notebooks[0], 4)) for tag in cell.metadata.get("tags", [])}
                assert module.relative_to(ROOT).as_posix() in tags, f"{notebooks[0].name} does not build {module.name}"


def imports(notebook):
    """The import statements of a notebook, as one text."""
    nodes = [node for cell in code(notebook) for node in ast.parse(cell.source).body]
    return "\n".join(ast.unparse(node) for node in nodes if isinstance(node, (ast.Import, ast.ImportFrom)))


def test_exercises_refuse_the_stub_and_accept_the_folded_solution(notebook, capsys):
    """The stub is told that it is not written yet; the solution, with the notebook's imports alone, passes its check."""
    cells = notebook.cells
    for i, cell in enumerate(cells):
        if "exercise" not in cell.metadata.get("tags", []):
            continue
        check, folded = cells[i + 1], cells[i + 2]
        solution = re.search(r"<details>.*?```python\n(.*?)```.*?</details>", folded.source, re.DOTALL)
        assert solution, f"no folded solution after {cell.source}"
        names = [node.name for node in ast.parse(cell.source).body]
        assert names == [n.name for n in ast.parse(solution[1]).body if isinstance(n, ast.FunctionDef)][-len(names) :]
        for answer, verdict in ((cell.source, "not written yet"), (solution[1], "✓")):
            torch.manual_seed(0)
            capsys.readouterr()
            exec("\n".join((imports(notebook), answer, check.source)), {})
            assert verdict in capsys.readouterr().out, answer


def test_the_lessons_have_exercises_and_compare_their_numbers_with_the_text(notebook, request):
    if "07" in request.node.name:
        pytest.skip("the main job: its exercises are experiments, and other data have other numbers")
    tags = [cell.metadata.get("tags", []) for cell in code(notebook)]
    if "13" not in request.node.name:  # nothing is built there: it reads saved results
        assert 2 <= sum("exercise" in t for t in tags) <= 4
    summaries = [i for i, cell in enumerate(code(notebook)) if "checks.summary(" in cell.source]
    assert len(summaries) == 1
    verdict = code(notebook)[summaries[0] + 1]
    assert "nbval-check-output" in verdict.metadata["tags"] and verdict.outputs[0].text.strip().endswith("True")


def test_every_notebook_opens_alike(notebook):
    first, second = notebook.cells[:2]
    assert re.match(r"# \d\d · ", first.source)
    table = "| on 2 CPU cores | on a T4 | download | memory |"
    for part in (table, "**You need**", "**Afterwards you can**", "**From the paper**"):
        assert part in first.source
    assert second.source == code(nbformat.read(NOTEBOOKS[0], 4))[0].source
    for title in ("### What is simpler here than in the paper", "### Next", "### References"):
        assert any(title in cell.source for cell in notebook.cells if cell.cell_type == "markdown"), title


def test_links_between_notebooks_lead_somewhere(notebook):
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for target in re.findall(r"\]\(([^)#]+\.ipynb)", cell.source):
                assert (ROOT / "notebooks" / target).exists(), target


def test_the_readme_lists_every_notebook_with_its_minutes():
    readme = (ROOT / "README.md").read_text()
    for path in NOTEBOOKS:
        header = nbformat.read(path, 4).cells[0].source
        number, title = re.match(r"# (\d\d) · ([^:\n]+)", header).groups()
        minutes = re.search(r"\n\| ([\d.]+) minutes? \|", header)[1]
        row = re.search(rf"^\| {number} \| \[(.+?)\]\(notebooks/{path.name}\) \|.*\| ([\d.]+) \|.*$", readme, re.MULTILINE)
        assert row and row[1] == title and row[2] == minutes, f"{path.name}: {title}, {minutes} minutes"
