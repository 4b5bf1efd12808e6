"""The course as a site: `python -m mini_lib book` writes build/book/, to be read in a browser without a network.

A thin layer over Sphinx, MyST-NB and furo (pip install -e '.[book,course]'). Nothing is run: the pages show the outputs
that are saved. The assignments are there as students get them, made by `grading`, without their solutions.
"""

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat

from ..studies import ROOT
from . import grading

OUT = ROOT / "build" / "book"
NEEDED = ("sphinx", "myst_nb", "furo", "sphinx-mathjax-offline", "nbgrader")
CONFIG = """project = "Continual learning for CLIP with mixture-of-experts adapters"
html_title = "MoE-Adapters, a notebook course"
extensions = ["myst_nb", "sphinx-mathjax-offline"]
html_theme = "furo"
html_copy_source = False
html_show_copyright = False
html_show_search_summary = False  # a page that is opened as a file may not fetch the others
myst_enable_extensions = ["dollarmath", "amsmath"]
nb_execution_mode = "off"
nb_merge_streams = True
"""
INDEX = """# Continual learning for CLIP with mixture-of-experts adapters

A notebook course that builds, step by step, the method of *Boosting Continual Learning of Vision-Language Models via
Mixture-of-Experts Adapters* (CVPR 2024). These pages show the notebooks as they were run. To run them yourself, to
change a line and to do the exercises, take the repository: its README says how.

```{{toctree}}
:caption: Notebooks
:maxdepth: 1
{}
```

```{{toctree}}
:caption: Assignments
:maxdepth: 1
{}
```
"""
WIDGET = "application/vnd.jupyter.widget-view+json"


def build(out: Path = OUT) -> Path:
    """Write the site of all notebooks to the folder `out`; returns the path of its index.html.

    Raises ValueError with Sphinx's words where it has something to complain of, such as a link that leads nowhere.
    """
    with TemporaryDirectory() as folder:
        source = Path(folder, "source")
        shutil.copytree(ROOT / "notebooks", source, ignore=shutil.ignore_patterns("assignments", "params", ".*"))
        pages = sorted(source.glob("*.ipynb"))
        for path in pages:
            nbformat.write(as_page(nbformat.read(path, as_version=4)), path)
        (source / "assignments").mkdir()
        students = grading.make(Path(folder, "course"))
        for path in students:
            shutil.copy(path, source / "assignments")
        (source / "conf.py").write_text(CONFIG, encoding="utf-8")
        chapters = [*(path.stem for path in pages), "GLOSSARY"]
        contents = ("\n".join(chapters), "\n".join(f"assignments/{path.stem}" for path in students))
        (source / "index.md").write_text(INDEX.format(*contents), encoding="utf-8")
        options = ["--quiet", "--fail-on-warning", "--doctree-dir", Path(folder, "doctrees")]
        command = [sys.executable, "-m", "sphinx", *options, source, out]
        utf8 = {**os.environ, "PYTHONUTF8": "1"}  # also where the machine's own encoding is another
        done = subprocess.run(command, capture_output=True, encoding="utf-8", env=utf8, check=False)
        if done.returncode:
            raise ValueError(f"Sphinx is not content with the notebooks:\n{done.stderr.strip()}")
    return Path(out) / "index.html"


def as_page(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook as MyST-NB needs it: alternative texts with the cells, and no widget, as no kernel would answer it."""
    for cell in notebook.cells:
        for i, output in enumerate(cell.get("outputs", [])):
            if "image/png" in output.get("data", {}):  # a cell shows one figure at most
                cell.metadata["mystnb"] = {"image": {"alt": output.metadata["image/png"]["alt"]}}
            if WIDGET in output.get("data", {}):
                text = "(Run the notebook to use the explorer that stands here.)\n"
                cell.outputs[i] = nbformat.v4.new_output("stream", name="stdout", text=text)
    return notebook


def write() -> None:
    """The command `book`."""
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise OSError(f"{', '.join(missing)}: not installed. pip install -e '.[book,course]'")
    shutil.rmtree(OUT, ignore_errors=True)  # pages and figures of an earlier book
    print(f"Open {build().relative_to(ROOT)} in a browser.")
