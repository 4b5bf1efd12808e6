"""Makes notebooks/08_comparing_methods.ipynb: numbers of the prose come from the CSVs, its claims are checked against them.

    python /tmp/nb08/build.py                 check claims, print numbers, write and execute the notebook (in notebooks/)
    python /tmp/nb08/build.py --draft FOLDER  the same with the two CSVs of another folder, into /tmp/nb08/

Every number of the prose goes through q() or n(): it is rounded from the results, and gets its line in the summary cell.
Every sentence that ranks or judges has its claim() beside it; a false one stops the build (not in a draft).
"""

import argparse
import json
import os
import re
import resource
import sys
import textwrap
from itertools import combinations
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

ROOT = Path("/work/main")
sys.path.insert(0, str(ROOT))
options = argparse.ArgumentParser()
options.add_argument("--draft", help="a folder with other CSVs; the notebook goes to /tmp/nb08")
options.add_argument("--no-run", action="store_true")
options.add_argument("--seconds", type=int, default=60, help="for the header; as measured")
options = options.parse_args()
FOLDER = Path(options.draft).resolve() if options.draft else ROOT / "data/results"
TARGET = Path("/tmp/nb08") / "08_comparing_methods.ipynb" if options.draft else ROOT / "notebooks/08_comparing_methods.ipynb"

import mini_lib.studies as studies  # noqa: E402

studies.RESULTS = FOLDER
from mini_lib.compare import matrices, scores  # noqa: E402

# ------------------------------------------------------------------ the numbers
table = pd.read_csv(FOLDER / "mini_mtil.csv")
values = scores(table)
mean, spread = values.groupby("method").mean(), values.groupby("method").std()
BASE = "moe-adapters"
TRAINED = ["fine-tuning", "fine-tuning, tuned", "wise-ft", "lwf", "lwf-vr", "icarl", "zscl"]
summary, claims = {}, []


def n(what, code, value, digits=0):
    """A number of the prose: registered for the summary cell (code gives it in the notebook), and returned as text."""
    text = f"{value:.{digits}f}".replace("-0", "0") if round(value, digits) == 0 else f"{value:.{digits}f}"
    summary[what] = f'    "{what}": ({code}, {text}, {0.5 * 10**-digits:g}),'
    return text.replace("-", "−")


def q(metric, name, digits=0):
    """The mean of a contestant in a metric."""
    return n(f"{metric.capitalize()}, {name}", f'mean["{metric}"]["{name}"]', mean.loc[name, metric], digits)


def d(metric, one, other, digits=0):
    """Mean paired difference."""
    wide = values[metric].unstack("method")
    short = (name.replace("moe-adapters", "moe") for name in (one, other))
    return n("{}, {} − {}".format(metric.capitalize(), *short), f'lead("{metric}", "{one}", "{other}")'.replace('"moe-adapters"', "BASE"),
             (wide[one] - wide[other]).mean(), digits)


def claim(text, true):
    claims.append((text, bool(true)))


def wrapped(block):
    """A paragraph or list of prose in lines of at most 120; tables, headings, equations, HTML and code stay."""
    if block.startswith(("#", "|", "$$", "<", "```")) or "```" in block or "$$" in block:
        return block
    block = re.sub(r"\$[^$]+\$|`[^`]+`", lambda m: " ".join(m[0].split()).replace(" ", "\0"), block)  # not to be broken
    items = re.split(r"\n(?=- |\d\. )", block)
    lines = "\n".join(textwrap.fill(" ".join(item.split()), 120, subsequent_indent="  " if item.startswith("- ") else "",
                                   break_on_hyphens=False, break_long_words=False) for item in items)
    return lines.replace("\0", " ")


def md(text):
    parts = re.split(r"(```.*?```)", text.strip("\n"), flags=re.DOTALL)  # code stays as it is
    for i in range(0, len(parts), 2):
        blocks = parts[i].split("\n\n")
        for j, block in enumerate(blocks):
            lines = block.split("\n")
            head = [lines.pop(0)] if lines[0].startswith("#") else []
            rest = "\n".join(lines)
            blocks[j] = "\n".join(head + ([wrapped(rest)] if rest.strip() else [])) if block.strip() else block
        parts[i] = "\n\n".join(blocks)
    return new_markdown_cell("".join(parts))


def code(text, *tags):
    return new_code_cell(text.strip("\n"), metadata={"tags": list(tags)} if tags else {})


exec((Path(__file__).parent / "cells.py").read_text())

broken = [text for text, true in claims if not true]
print(f"{len(claims) - len(broken)} of {len(claims)} claims hold; {len(summary)} numbers quoted")
for text in broken:
    print("  BROKEN:", text)
print(mean.round(1).to_string())
if broken and not options.draft:
    sys.exit("The prose in cells.py says what the results do not: change it (and its claim).")

for cell in cells:
    if cell.cell_type == "code":
        lines = cell.source.splitlines()
        for line in lines:
            if len(line) > 120:
                print("TOO LONG:", line)
        if len(lines) > 40:
            print("TOO MANY LINES:", lines[0])
notebook = new_notebook(cells=cells, metadata={
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
})
for i, cell in enumerate(notebook.cells):
    cell["id"] = f"cell-{i:03d}"
from mini_lib import course  # noqa: E402

course.fill(notebook, "notebooks/08_comparing_methods.ipynb", options.seconds, *course.project())
if not options.no_run:
    os.environ |= {"TQDM_DISABLE": "1", "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "2")}
    if options.draft:
        patch = f"import pathlib, mini_lib.studies; mini_lib.studies.RESULTS = pathlib.Path({str(FOLDER)!r})"
        notebook.cells.insert(0, new_code_cell(patch))
    import time

    began = time.time()
    NotebookClient(notebook, timeout=1800, kernel_name="python3", store_widget_state=False,
                   resources={"metadata": {"path": str(ROOT / "notebooks")}}).execute()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"executed in {(time.time() - began) / 60:.1f} minutes, of them {(used.ru_utime + used.ru_stime) / 60:.1f} of computing")
    if options.draft:
        notebook.cells.pop(0)
    notebook.metadata.pop("widgets", None)
    count = 0
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            count += 1
            cell.execution_count = count
            for output in cell.outputs:
                if "execution_count" in output:
                    output.execution_count = count
    notebook.metadata["language_info"] = {"name": "python"}
nbformat.validate(notebook)
nbformat.write(notebook, TARGET)
print(TARGET, f"{TARGET.stat().st_size / 1e3:.0f} kB")
