"""The form of the saved notebooks. Their cells are run by nbval."""

import ast
import re
from itertools import pairwise

import nbformat
import pytest
import torch
import yaml
from helpers import ROOT, code

from mini_lib.course import parameters

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
OWN_PLACE = re.escape(str(ROOT)) + r"|(?<![\w.])/(?:home|root|tmp|content|Users)/"  # on somebody's machine
FORBIDDEN = rf"\.cuda\(|[!%]pip\b|import \*|TODO|time\.sleep|savefig|{OWN_PLACE}"


@pytest.fixture(params=NOTEBOOKS, ids=lambda p: p.stem)
def notebook(request):
    return nbformat.read(request.param, as_version=4)


def test_there_are_notebooks():
    assert NOTEBOOKS


def test_saved_as_run_from_top_to_bottom(notebook):
    assert [cell.execution_count for cell in code(notebook)] == list(range(1, len(code(notebook)) + 1))
    for cell in code(notebook):
        for output in cell.outputs:
            assert output.output_type != "error" and output.get("name") != "stderr", cell.source
            texts = [text for kind, text in output.get("data", {}).items() if kind.startswith("text/")]
            shown = "\n".join([output.get("text", ""), *texts])
            # a place; a progress bar
            assert not re.search(OWN_PLACE, shown) and not re.search(r"\d%\|", shown), cell.source
    assert "widgets" not in notebook.metadata
    nbformat.validate(notebook)


def test_cells_are_short_and_files_small(notebook):
    assert len(nbformat.writes(notebook)) < 1_000_000
    for cell in code(notebook):
        assert len(cell.source.splitlines()) <= 40, cell.source
        assert max(map(len, cell.source.splitlines() or [""])) <= 120, cell.source
        assert not re.search(FORBIDDEN, cell.source), cell.source


def test_text_and_code_take_turns(notebook):
    texts = len(notebook.cells) - len(code(notebook))
    assert len(notebook.cells) <= 120 and 0.4 <= texts / len(notebook.cells) <= 0.65
    for cells in pairwise(notebook.cells):
        if all(cell.cell_type == "code" and len(cell.source.splitlines()) > 15 for cell in cells):
            assert "parameters" in cells[0].metadata.get("tags", []), f"a sentence is missing before {cells[1].source}"


def test_figures_are_png_and_have_alternative_text(notebook):
    for cell in code(notebook):
        for output in cell.outputs:
            images = {kind for kind in output.get("data", {}) if kind.startswith("image/")}
            assert images <= {"image/png"}, cell.source
            if images:
                assert len(output.metadata["image/png"]["alt"]) > 30, cell.source


def test_parameters_are_annotated_literals_that_the_notebook_uses(notebook, request, tmp_path):
    cells = [cell for cell in code(notebook) if "parameters" in cell.metadata.get("tags", [])]
    assert len(cells) == 1
    defaults = {s.target.id: ast.literal_eval(s.value) for s in ast.parse(cells[0].source).body}
    path = next(p for p in NOTEBOOKS if p.stem in request.node.name)
    known = parameters.annotations(path)
    assert known.keys() == defaults.keys()
    for name, annotation in known.items():
        assert annotation is not None and ast.unparse(annotation) != "list", f"{name}: what does it hold?"
    file = tmp_path / "defaults.yaml"
    file.write_text(yaml.safe_dump(defaults, allow_unicode=True), encoding="utf-8")
    assert repr(parameters.load_parameters(path, file)) == repr(dict(sorted(defaults.items())))
    rest = "\n".join(cell.source for cell in code(notebook) if cell is not cells[0])
    for name in defaults:
        assert re.search(rf"\b{name}\b", rest), f"{name} is never read"


def definitions(source):
    """name -> function or class of a module or notebook, methods by their own name, as comparable texts without type hints."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and ast.get_docstring(node):
            # without indentation: methods shown as functions
            node.body[0].value = ast.Constant(ast.get_docstring(node))
        if isinstance(node, ast.FunctionDef):
            node.returns = None
        if isinstance(node, ast.arg):
            node.annotation = None
        if isinstance(node, ast.ClassDef):  # declarations without a value are hints, too
            node.body = [n for n in node.body if not (isinstance(n, ast.AnnAssign) and n.value is None)]
    found = {}
    for node in tree.body + [member for c in tree.body if isinstance(c, ast.ClassDef) for member in c.body]:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.setdefault(node.name, []).append(ast.dump(node))
    return found


def test_what_a_notebook_builds_is_what_the_library_has(notebook):
    """A cell with the tag mini_lib/FILE.py holds definitions of that file, letter for letter but for comments and type hints."""
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


def test_an_exercise_says_how_hard_it_is_and_folds_a_hint(notebook):
    cells = notebook.cells
    places = [i for i, cell in enumerate(cells) if "exercise" in cell.metadata.get("tags", [])]
    for number, i in enumerate(places, 1):
        task = cells[i - 1].source[cells[i - 1].source.rindex("### Exercise") :]
        assert re.match(rf"### Exercise {number} · \S.*\n+\((easy|medium|hard), \d+ minutes\) \S", task), task
        assert re.search(r"\n\n<details><summary>Hint</summary>\n\n\S.*\n\n</details>$", task, re.DOTALL), task


def test_the_lessons_have_exercises_and_compare_their_numbers_with_the_text(notebook, request):
    tags = [cell.metadata.get("tags", []) for cell in code(notebook)]
    if "13" not in request.node.name:  # nothing is built there: it reads saved results
        assert 2 <= sum("exercise" in t for t in tags) <= 4
    if "07" in request.node.name:
        return  # the main job runs on other data, too, which have other numbers
    summaries = [i for i, cell in enumerate(code(notebook)) if "checks.summary(" in cell.source]
    assert len(summaries) == 1
    verdict = code(notebook)[summaries[0] + 1]
    assert "nbval-check-output" in verdict.metadata["tags"] and verdict.outputs[0].text.strip().endswith("True")


def test_every_notebook_opens_alike(notebook):
    first, second = notebook.cells[:2]
    minutes, parts = r"[\d.]+ minutes?", ("**You need** ", "**Afterwards you can**\n", "**From the paper**")
    assert re.match(r"# \d\d · \S.*\n\n\*\*[^*]+\?[ *]", first.source), "its title, and its question in bold"
    table = r"\| on 2 CPU cores \| on a T4 \| download \| memory \|\n\|---\|---\|---\|---\|\n"
    row = rf"\| {minutes} \| (not measured|{minutes}) \| [^|\n]+ \| below [\d.]+ GB \|\n\n"
    assert re.search(table + row, first.source)
    assert re.search(".*".join(re.escape(f"\n\n{part}") for part in parts), first.source, re.DOTALL)
    goals = first.source.split(parts[1])[1].split("\n\n")[0]
    assert 2 <= len(re.findall(r"^- ", goals, re.MULTILINE)) <= 4
    assert second.source == code(nbformat.read(NOTEBOOKS[0], 4))[0].source
    closing = [
        "## Summary in numbers",
        "### What is simpler here than in the paper",
        "## Try it",
        "## Next",
        "## References",
    ]
    if "What we changed" in first.source:  # no exercises
        closing.remove("## Try it")
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    titles = [title.replace("papers", "paper") for title in re.findall("^##+ .*", text, re.MULTILINE)]
    assert [title for title in titles if title in closing] == closing


def test_links_lead_somewhere_and_pictures_are_here(notebook):
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for picture, target in re.findall(r"(!?)\[[^\]]*\]\(([^)\s]+)\)", cell.source):
                here = (ROOT / "notebooks" / target.split("#")[0]).is_file()
                assert here or (target.startswith("https://") and not picture), target
            assert "<img" not in cell.source


def test_the_readme_lists_every_notebook_with_its_minutes():
    readme = (ROOT / "README.md").read_text()
    for path in NOTEBOOKS:
        header = nbformat.read(path, 4).cells[0].source
        number, title = re.match(r"# (\d\d) · ([^:\n]+)", header).groups()
        minutes = re.search(r"\n\| ([\d.]+) minutes? \|", header)[1]
        row = re.search(
            rf"^\| {number} \| \[(.+?)\]\(notebooks/{path.name}\) \|.*\| ([\d.]+) \|.*$", readme, re.MULTILINE
        )
        assert row and row[1] == title and row[2] == minutes, f"{path.name}: {title}, {minutes} minutes"
