"""The site of all notebooks: complete, readable without a network, without a solution of an assignment."""

import html
import json
import re
from importlib.util import find_spec

import nbformat
import pytest
from helpers import ROOT

from mini_lib.course import book, grading

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
NEEDED = ("sphinx", "myst_nb", "furo", "sphinx-mathjax-offline", "nbgrader")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not all(map(find_spec, NEEDED)), reason="Sphinx and the rest are not installed (extras: book, course)"
    ),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return book.build(tmp_path_factory.mktemp("book") / "site").parent


def pages(site):
    return sorted(site.rglob("*.html"))


def text(page):
    """What a reader sees, without tags, in one line."""
    body = re.sub(r"<(script|style)\b.*?</\1>", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", "", body)).split())


def test_every_notebook_and_assignment_has_a_page_in_the_table_of_contents(site):
    names = [path.stem for path in NOTEBOOKS]
    names += [f"assignments/{path.stem}" for path in grading.sources().values()]
    contents = (site / "index.html").read_text(encoding="utf-8")
    for name in names:
        assert f'href="{name}.html"' in contents and (site / f"{name}.html").is_file()
    title = nbformat.read(NOTEBOOKS[0], 4).cells[0].source.splitlines()[0].strip("# ")
    assert title in text(site / "index.html") and title in text(site / f"{NOTEBOOKS[0].stem}.html")


def test_the_search_knows_all_pages(site):
    index = json.loads((site / "searchindex.js").read_text(encoding="utf-8")[len("Search.setIndex(") :].rstrip(")"))
    assert {path.stem for path in NOTEBOOKS} | {"index"} <= set(index["docnames"])
    assert "router" in index["terms"] and (site / "search.html").is_file()


def test_nothing_is_loaded_from_the_network(site):
    loaded = re.compile(r"<(?:script|link|img|iframe|source)\b[^>]*?\b(?:src|href)=\"([^\"]+)\"")
    for page in pages(site):
        for address in loaded.findall(page.read_text(encoding="utf-8")):
            assert not re.match(r"(?:\w+:)?//", address), f"{page.name} loads {address}"
            if not address.startswith(("data:", "#")):
                assert (page.parent / address.split("?")[0].split("#")[0]).exists(), (
                    f"{page.name}: {address} is missing"
                )
    for sheet in site.rglob("*.css"):
        assert not re.search(r"@import\s+(?:url\()?[\"']?(?:https?:)?//|url\([\"']?(?:https?:)?//", sheet.read_text())
    assert any("mathjax" in address for address in loaded.findall((site / "03_adapters.html").read_text()))


def test_links_inside_the_site_lead_somewhere(site):
    for page in pages(site):
        for address in re.findall(r"<a\b[^>]*?\bhref=\"([^\"#?]+)", page.read_text(encoding="utf-8")):
            if not re.match(r"\w+:", address):
                assert (page.parent / address).exists(), f"{page.name}: {address}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_saved_outputs_and_figures_are_on_the_page_with_their_texts(site, path):
    page = site / f"{path.stem}.html"
    found = re.findall(r'<img alt="([^"]+)"[^>]*src="_images/', page.read_text(encoding="utf-8"))
    cells, figures = nbformat.read(path, 4).cells, []
    outputs = [o for c in cells if c.cell_type == "code" for o in c.outputs]
    for cell in cells:  # drawings stand in the text, figures are outputs
        figures += re.findall(r"!\[([^]]+)\]\(figures/", cell.source) if cell.cell_type == "markdown" else []
        shown = [o for o in cell.get("outputs", ()) if "image/png" in o.get("data", {})]
        figures += [o.metadata["image/png"]["alt"] for o in shown]
    assert [" ".join(html.unescape(alt).split()) for alt in found] == [" ".join(alt.split()) for alt in figures]
    printed = [line for o in outputs if o.output_type == "stream" for line in o.text.splitlines() if len(line) > 20]
    seen = text(page)
    assert printed and all(" ".join(line.split()) in seen for line in printed)


def test_no_solution_of_an_assignment_is_in_the_site(site):
    assert not list(site.rglob("*.ipynb"))
    for path in grading.sources().values():
        seen = text(site / f"assignments/{path.stem}.html")
        assert "YOUR CODE HERE" in seen or "YOUR ANSWER HERE" in seen
        for word in ("BEGIN SOLUTION", "BEGIN HIDDEN", "Mark scheme", "MARK SCHEME", "passes the visible check"):
            assert word not in seen
        for cell in nbformat.read(path, 4).cells:
            mark = cell.metadata.get("nbgrader", {})
            secret = re.findall(
                r"BEGIN (?:SOLUTION|HIDDEN TESTS|MARK SCHEME)[ =]*\n(.*?)(?:###|===) END", cell.source, re.DOTALL
            )
            secret += [cell.source] if mark.get("solution") and cell.cell_type == "markdown" else []
            for line in (" ".join(line.split()) for part in secret for line in part.splitlines()):
                assert len(line) < 25 or line not in seen, line
