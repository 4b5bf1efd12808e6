"""Submissions as HTML that may be opened: nbconvert's Markdown and outputs, without anything that could run.

nbgrader shows a submission in two places, in feedback/*.html and in the Formgrader. Both take this filter and this
preprocessor from nbgrader_config.py.
"""

import re
from functools import cache
from typing import Any

from bleach import clean
from jinja2 import pass_context
from nbconvert import HTMLExporter
from nbconvert.preprocessors import Preprocessor
from nbformat import NotebookNode

TAGS = set(
    "a abbr b blockquote br caption code dd del details div dl dt em h1 h2 h3 h4 h5 h6 hr i img ins kbd li mark ol p pre q s "
    "samp small span strong sub summary sup table tbody td tfoot th thead tr u ul var".split()
)
LENGTH, ALL = 20_000, 100_000  # characters shown of a text, and of a notebook: parsers' time grows with the square
WHOLE = re.compile(r"<(script|style)\b.*?(</\1\s*>|\Z)", re.DOTALL | re.IGNORECASE)  # goes with what is in it
PICTURE = re.compile(r"data:image/(png|jpe?g|gif|webp);base64,[A-Za-z0-9+/=\s]*")
BASE64 = re.compile(r"[A-Za-z0-9+/=\s]*")
PARSED = {"text/html", "text/latex", "text/markdown"}
COMMANDS = re.compile(r"\\(href|url|require|class|cssId|style|unicode|data)(?![A-Za-z])")  # of MathJax, beyond formulas


def _allowed(tag: str, name: str, value: str) -> bool:
    """Whether a tag may keep an attribute: links that are links, pictures that are in the page themselves."""
    if name == "src":
        return tag == "img" and bool(PICTURE.fullmatch(value))
    if name == "href":
        return tag == "a" and bool(re.match(r"(https?://|mailto:|#)", value))
    return name in ("alt", "title", "colspan", "rowspan", "align") or (
        name == "class" and tag in ("div", "pre", "span")
    )


def harmless(html: str) -> str:
    """HTML with the tags of a text, and no others."""
    protocols = {"http", "https", "mailto", "data"}
    text = clean(WHOLE.sub("", html), tags=TAGS, attributes=_allowed, protocols=protocols, strip=True)
    return COMMANDS.sub(r"\1", text)


@pass_context
def markdown(context: Any, source: str) -> str:
    """The filter `markdown2html` of nbconvert, made harmless."""
    return harmless(_exporter().markdown2html(context, source))


@cache
def _exporter():
    return HTMLExporter()


class Harmless(Preprocessor):
    """Takes out of outputs what is no text, number, formula, table or picture, and cuts what is too long to be parsed."""

    def preprocess(self, nb: NotebookNode, resources: dict[str, Any]) -> tuple[NotebookNode, dict[str, Any]]:
        nb.metadata.pop("widgets", None)
        left = ALL
        for cell in nb.cells:
            if cell.cell_type == "markdown":
                cell.source, left = _cut(cell.source, left)
            for output in cell.get("outputs", []):
                if "data" in output:
                    for kind in PARSED & output.data.keys():
                        output.data[kind], left = _cut(output.data[kind], left)
                    output.data = {kind: value for kind, value in map(_safe, output.data.items()) if value is not None}
                    output.metadata = {kind: _described(output.metadata.get(kind)) for kind in output.data}
        return nb, resources


def _cut(text, left):
    """The beginning of a text, of which `left` characters may be shown, and how many are left of those."""
    if not isinstance(text, str) or len(text) <= min(LENGTH, left):
        return text, left - len(text) * isinstance(text, str)
    shown = min(LENGTH, left)
    return f"{text[:shown]} … (cut here: {len(text):,} characters)", left - shown


def _safe(item):
    """Kind and value of an output, as they may be shown; the value is None where they may not."""
    kind, value = item
    if not isinstance(value, str):
        return kind, None
    if kind in ("image/png", "image/jpeg"):
        return kind, value if BASE64.fullmatch(value) else None
    if kind == "text/html":
        return kind, harmless(value)
    if kind == "text/latex":
        return kind, COMMANDS.sub(r"\1", value)
    return kind, value if kind in ("text/plain", "text/markdown") else None


def _described(metadata):
    """Of a picture: what it shows, and how large it is."""
    given = metadata if isinstance(metadata, dict) else {}
    return {
        k: v
        for k, v in given.items()
        if (k == "alt" and isinstance(v, str)) or (k in ("width", "height") and type(v) is int)
    }
