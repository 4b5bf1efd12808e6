"""What all notebooks share: `python -m mini_lib notebooks` writes it into each of them, and the minutes into README.md.

This is the first code cell, the line for Colab, and the minutes that the notebook takes. The version and the repository's
address come from pyproject.toml, the minutes from notebooks/seconds.json: `python -m mini_lib notebooks time [NN ...]`
measures notebooks anew (all, or those with these numbers), and the command without `time` writes the result.
"""

import json
import math
import re
import tomllib
from collections.abc import Sequence
from functools import partial
from pathlib import Path, PurePosixPath

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from ..embedded.storage import replace_file
from ..studies import ROOT
from .execute import PATIENCE, WIDGETS, kernel_environment, run_with_papermill

SECONDS = "notebooks/seconds.json"
GITHUB, COLAB = "https://github.com/", "https://colab.research.google.com/github/"  # Colab opens what lies at GitHub
BY_HAND = "**In Colab** this notebook is opened by hand: README.md says under *In Colab* how."
FETCHED = "**In Colab**, upload this file; its first cell fetches the rest."
LINE = re.compile(r"\n\n(?:\*\*In Colab\*\*|\[!\[Open in Colab\]).*")  # whichever of the three stands there now
TIME = re.compile(r"(?<=\n\| )[\d.]+ minutes?(?= \|)")  # in a header's table
TIME_OF_ASSIGNMENT = re.compile(r"(?<=\bruns in )(?:about [\d.a]+ minutes?|less than a minute)(?=\s)")
ROW = re.compile(r"^(\| \d\d \| \[.+?\]\(notebooks/(\w+)\.ipynb\) \|.*\| )[\d.]+(?= \|.*\|$)", re.MULTILINE)
CELL = """\
import importlib.util
import sys

if "google.colab" in sys.modules and importlib.util.find_spec("mini_lib") is None:
    import subprocess
    from pathlib import Path

    course = Path.cwd() / "course"
    if not course.is_dir():
        {get}
    subprocess.run([sys.executable, course / "mini_lib/course/colab.py"], check=True)  # pip, for what Colab lacks
    sys.path.insert(0, str(course))

import mini_lib  # elsewhere installed by `make run`, `make lab` or `pip install -e .` in the repository's folder
"""
CLONE = """\
subprocess.run(["git", "-c", "advice.detachedHead=false", "clone", "--quiet", "--depth=1", "--branch=v{version}",
                        "{address}", course], check=True)"""
REFUSE = """raise FileNotFoundError("course is missing: README.md says under 'In Colab' how to get it here")"""


def project(root: Path = ROOT) -> tuple[str, str]:
    """The version and the repository's address, "" where pyproject.toml has none."""
    settings = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return settings["version"], settings.get("urls", {}).get("Repository", "").removesuffix(".git")


def notebooks(root: Path = ROOT) -> list[Path]:
    folders = (root / "notebooks", root / "notebooks/assignments")
    return [path for folder in folders for path in sorted(folder.glob("*.ipynb"))]


def minutes(seconds: float) -> str:
    """In words, rounded up: to tenths of a minute up to one, to halves above."""
    number = math.ceil(seconds / 6) / 10 if seconds <= 60 else math.ceil(seconds / 30) / 2
    return f"{number:g} minute{'s' * (number != 1)}"


def first_cell(version: str, address: str) -> str:
    get = CLONE.format(version=version, address=address) if address else REFUSE
    return CELL.format(get=get).rstrip()


def line_for_colab(place: str, version: str, address: str) -> str:
    """How to open the notebook in Colab. An assignment has no link, because the file that lies there has the solutions."""
    if not address:
        return BY_HAND
    if PurePosixPath(place).parent.name == "assignments" or not address.startswith(GITHUB):
        return FETCHED
    return f"[![Open in Colab](_config/colab.svg)]({address.replace(GITHUB, COLAB)}/blob/v{version}/{place})"


def fill(notebook: nbformat.NotebookNode, place: str, seconds: float | None, version: str, address: str) -> None:
    """Write first cell, line for Colab and minutes into a notebook, in place.

    place: its path in the repository, with slashes; seconds: measured, None where they were not, and the minutes stay.
    """
    header, *rest = notebook.cells
    text = LINE.sub("", header.source)
    if seconds is not None:
        short = "less than a minute" if seconds < 60 else f"about {minutes(seconds)}"
        text = TIME_OF_ASSIGNMENT.sub(short, TIME.sub(minutes(seconds), text))
    table = re.search(rf"{TIME.pattern}.*", text)  # the line stands below the table, or else at the end
    end = table.end() if table else len(text)
    header.source = f"{text[:end]}\n\n{line_for_colab(place, version, address)}{text[end:]}"
    if not re.search(r"^import mini_lib\b", rest[0].source, re.MULTILINE):
        notebook.cells.insert(1, nbformat.v4.new_code_cell())
    notebook.cells[1].source = first_cell(version, address)


def filled(root: Path = ROOT) -> dict[Path, str]:
    """Path of each notebook and of README.md -> the text that it ought to have."""
    seconds = json.loads((root / SECONDS).read_text(encoding="utf-8"))
    texts = {}
    for path in notebooks(root):
        notebook = nbformat.read(path, as_version=4)
        fill(notebook, path.relative_to(root).as_posix(), seconds.get(path.stem), *project(root))
        texts[path] = nbformat.writes(notebook) + "\n"
    readme = root / "README.md"
    texts[readme] = ROW.sub(
        lambda row: row[1] + minutes(seconds[row[2]]).split()[0] if row[2] in seconds else row[0],
        readme.read_text(encoding="utf-8"),
    )
    return texts


def _numbered(numbers: Sequence[str], root: Path) -> list[Path]:
    paths = {path.stem.split("_")[0]: path for path in notebooks(root)}
    if unknown := [number for number in numbers if number not in paths]:
        raise ValueError(f"there is no notebook {', '.join(unknown)}, only {', '.join(paths)}.")
    return [paths[number] for number in numbers or paths]


def measure(numbers: Sequence[str], root: Path = ROOT) -> None:
    """Run the notebooks with these numbers ("03", "A1"; all if there are none) and note the seconds of each.

    With default parameters, as papermill runs them; nothing is written but the seconds. Raises ValueError where a number
    has no notebook.
    """
    for path in _numbered(numbers, root):
        print(f"{path.stem}: ", end="", flush=True)
        notebook = run_with_papermill(path, None, cwd=str(path.parent))
        seconds = json.loads((root / SECONDS).read_text(encoding="utf-8"))
        seconds[path.stem] = math.ceil(notebook.metadata.papermill["duration"])
        seconds = {other.stem: seconds[other.stem] for other in notebooks(root) if other.stem in seconds}
        (root / SECONDS).write_text(json.dumps(seconds, indent=1) + "\n", encoding="utf-8")
        print(seconds[path.stem], "seconds")


def rerun(numbers: Sequence[str], root: Path = ROOT) -> None:
    """The command `notebooks run`: execute these notebooks ("03", "A1") with their defaults, and save what they give.

    What a test refuses is not saved: widgets' states, which no kernel stands behind, and times. Raises RuntimeError where a
    cell fails, and where somebody saved the notebook meanwhile.
    """
    for path in _numbered(numbers, root):
        print(path.stem, flush=True)
        before = path.read_bytes()
        notebook = nbformat.reads(before.decode(), as_version=4)
        place = {"metadata": {"path": path.parent}}
        client = NotebookClient(notebook, timeout=None, record_timing=False, resources=place, **PATIENCE)
        client.widget_registry = WIDGETS
        try:
            client.execute(env=kernel_environment())
        except CellExecutionError as error:
            raise RuntimeError(f"{path.name}: {error.ename}: {error.evalue}") from error
        notebook.metadata.pop("widgets", None)
        if path.read_bytes() != before:
            raise RuntimeError(f"{path.name} was changed while it ran, and stays as it is: run it again.")
        replace_file(path, partial(nbformat.write, notebook))


def write(root: Path = ROOT) -> None:
    """The command `notebooks`: write what all notebooks share into each of them, and the minutes into README.md."""
    for path, text in filled(root).items():
        if path.read_text(encoding="utf-8") != text:
            replace_file(path, lambda part: part.write_text(text, encoding="utf-8"))
            print(f"{path.relative_to(root)}: filled in")
