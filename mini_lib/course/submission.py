"""What a student hands in: whose it is, whether it can be graded at all, and what of it goes into the notebook to grade.

Nothing is taken but the notebook, and of it nothing but the contents of its cells: what is locked, and every mark, comes
from the assignment, in its order.
"""

import json
import os
import re
import stat
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_raw_cell

BYTES, CELLS = 10 * 2**20, 500  # of a notebook, at most
STUDENT = r"\w(?:[\w.@-]*[\w@-])?"  # no option, no formula, no path, no hidden or control character
NO_ID = (
    "the folder's name is no student id: at most 100 letters, digits and . _ @ -, "
    "a letter, a digit or _ first, no point last."
)
TOOLS = {".ipynb_checkpoints", ".git", ".idea", ".vscode"}  # folders that programs leave
IMAGES = {"image/png", "image/jpeg", "image/gif", "image/webp"}


@dataclass
class HandedIn:
    """A folder SUBMISSIONS/<student>/<assignment>, or what stands in its place, and why it cannot be graded."""

    student: str
    assignment: str
    path: Path
    fault: str | None = None


def _is_link(path: Path) -> bool:
    # Windows has another kind of link, and Python a name for it since 3.12
    return path.is_symlink() or getattr(os.path, "isjunction", lambda path: False)(path)


def handed_in(folder: Path) -> Iterator[HandedIn]:
    """Everything in the folder of submissions, in order. Files beside the folders are passed over, as are tools' folders."""
    students = _places(folder)
    alike = Counter(_same(path.name) for path in students)
    for place in students:
        if fault := _kind_fault(place):
            yield HandedIn(place.name, "", place, fault)
            continue
        fault = None if re.fullmatch(STUDENT, place.name) and len(place.name.encode()) <= 100 else NO_ID
        if alike[_same(place.name)] > 1:
            others = ", ".join(p.name for p in students if _same(p.name) == _same(place.name) and p != place)
            fault = fault or f"the folder's name differs from {others} only in the case or form of its letters."
        inside = _places(place)
        if not inside:
            yield HandedIn(place.name, "", place, fault or "no folder of an assignment in this student's folder.")
        for path in inside:
            yield HandedIn(place.name, path.name, path, fault or _kind_fault(path))


def _places(folder: Path) -> list[Path]:
    """What lies in a folder, but for files and what tools leave."""
    return [path for path in sorted(folder.iterdir()) if path.name not in TOOLS and not _is_file(path)]


def _is_file(path):
    return not _is_link(path) and path.is_file()


def _same(name: str) -> str:
    """One text for names that are the same on some disks."""
    return unicodedata.normalize("NFKC", name).casefold()


def _kind_fault(path: Path) -> str | None:
    if _is_link(path):
        return f"{path.name} is a link: hand in the folder itself."
    return None if path.is_dir() else f"{path.name} is no folder."


def read(path: Path) -> NotebookNode:
    """The notebook, of the newest format. Raises ValueError with a sentence where it cannot be graded."""
    if _is_link(path):
        raise ValueError(f"{path.name} is a link: hand in the file itself.")
    try:
        # not through a link that has come since, and without waiting where it is a pipe
        ways = (getattr(os, way, 0) for way in ("O_RDONLY", "O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"))
        file = os.open(path, sum(ways))
    except FileNotFoundError:
        raise ValueError(f"the notebook {path.name} is missing; it must keep the name under which it was handed out.")
    except OSError as error:
        raise ValueError(f"{path.name} cannot be opened ({error.strerror}).") from error
    try:
        state = os.fstat(file)
        if not stat.S_ISREG(state.st_mode):
            raise ValueError(f"{path.name} is no file.")
        if state.st_nlink > 1:
            raise ValueError(f"{path.name} is the same file as another one (a hard link): hand in a copy.")
        with open(file, "rb", closefd=False) as opened:
            contents = opened.read(BYTES + 1)
    finally:
        os.close(file)
    if len(contents) > BYTES:
        raise ValueError(f"{path.name} has more than {BYTES // 2**20} MiB: clear the outputs that are not asked for.")
    try:
        raw = json.loads(contents)
        json.dumps(raw, ensure_ascii=False).encode()  # half a character cannot be written again
        notebook = None  # too many cells would take minutes to validate
        if len(raw["cells"]) <= CELLS:
            notebook = nbformat.reads(contents.decode(), as_version=4)
            nbformat.validate(notebook)
    except Exception as error:  # whatever is in the file
        raise ValueError(f"{path.name} is not a notebook that can be read ({type(error).__name__}).") from error
    if notebook is None:
        raise ValueError(f"{path.name} has more than {CELLS} cells.")
    return notebook


def mark(cell: NotebookNode) -> dict[str, Any]:
    """What nbgrader notes of a cell; empty where there is nothing, or no mark."""
    found = cell.metadata.get("nbgrader")
    return found if isinstance(found, dict) and isinstance(found.get("grade_id"), str) else {}


def is_answer(cell: NotebookNode) -> bool:
    return bool(mark(cell).get("solution"))


def is_test(cell: NotebookNode) -> bool:
    return cell.cell_type == "code" and bool(mark(cell).get("grade")) and not is_answer(cell)


def merge(submitted: NotebookNode, release: NotebookNode, source: NotebookNode | None, outputs: bool) -> NotebookNode:
    """The released notebook with a submission's answers, and between its cells those that the submission has added.

    Test cells are those of the source, with what is hidden; or as they were released where there is none. outputs: keep
    those that were handed in. Raises ValueError with a sentence where a cell of the assignment is gone or doubled.
    """
    wanted = [mark(cell)["grade_id"] for cell in release.cells if mark(cell)]
    kinds = ("grade", "solution", "task")
    needed = [mark(cell)["grade_id"] for cell in release.cells if any(mark(cell).get(kind) for kind in kinds)]
    tests = {mark(cell)["grade_id"]: cell.source for cell in source.cells if is_test(cell)} if source else {}
    found, added, last = {}, {"": []}, ""
    for cell in submitted.cells:
        name = mark(cell).get("grade_id", "")
        if name not in wanted:
            added[last].append(_added(cell, outputs))
        elif name in found and name in needed:
            raise ValueError(f"the cells {name} are there twice: cells of the assignment must not be copied.")
        else:
            last, found[name] = name, cell
            added.setdefault(name, [])
    if lost := [name for name in needed if name not in found]:
        text = "are gone or have lost their metadata: hand in the file that was handed out."
        raise ValueError(f"the cells {', '.join(lost)} {text}")
    merged = NotebookNode({**release, "cells": [*added[""]]})
    for cell in release.cells:
        if name := mark(cell).get("grade_id"):
            given = found.get(name, cell)
            contents = {"source": given.source if is_answer(cell) else tests.get(name, cell.source)}
            if outputs and cell.cell_type == given.cell_type == "code":
                contents |= {"outputs": given.outputs, "execution_count": given.execution_count}
            if is_answer(cell) and cell.cell_type == "markdown":
                contents["attachments"] = _images(given)
            merged.cells += [NotebookNode({**cell, **contents}), *added.get(name, [])]
    return merged


def _added(cell, outputs):
    """A cell without a mark: its contents, and nothing of its metadata."""
    if cell.cell_type == "code":
        kept = {"outputs": cell.outputs, "execution_count": cell.execution_count} if outputs else {}
        return new_code_cell(cell.source, **kept)
    if cell.cell_type == "markdown":
        return new_markdown_cell(cell.source, attachments=_images(cell))
    return new_raw_cell(cell.source)


def _images(cell):
    """Pictures that were put into a text."""
    every = cell.get("attachments", {}).items()
    return {name: {kind: data for kind, data in one.items() if kind in IMAGES} for name, one in every}


def student_id(notebook: NotebookNode) -> str | None:
    """What the notebook says who its author is, if it says it in so many letters."""
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    said = re.search(r"^STUDENT_ID\b.*?=\s*[\"'](.*?)[\"']", text, re.MULTILINE)
    return said[1] if said else None
