"""Run a notebook unattended: `python -m mini_lib execute NOTEBOOK PARAMETERS.yaml [NAME=VALUE ...]`.

A thin layer over papermill, which only warns of a misspelt parameter and then computes for hours with the default:
here `parameters` refuses unknown names and values of another type before anything runs. Shown in notebook 07.
"""

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import nbformat
import papermill
from nbclient.output_widget import OutputWidget
from nbconvert import HTMLExporter

from ..studies import ROOT
from .parameters import load_parameters


def kernel_environment() -> dict[str, str]:
    """What a kernel that nobody watches needs in its environment."""
    path = [str(ROOT), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(path)),  # it finds this library also where it is not installed
        "TQDM_DISABLE": "1",  # it prints a line for each task instead of bars
        "GOMP_SPINCOUNT": os.environ.get(
            "GOMP_SPINCOUNT", "1000"
        ),  # on a busy machine, threads that spin hold each other up
    }


class Unanswered(OutputWidget):
    """What an Output widget shows, kept where nobody watches; the kernel is not told of it.

    nbclient tells it past its own event loop, on the socket where it waits for the kernel's answer: that answer, if it came
    just then, is never noticed, and client and kernel wait for each other (nbclient issue 312).
    """

    def sync_state(self) -> None:
        pass


CLIENT = {  # of nbclient, also where papermill uses it
    "widget_registry": {"@jupyter-widgets/output": {"OutputModel": Unanswered}},
    "iopub_timeout": 60,  # seconds; of a busy machine's output 4 would lose the end
    "raise_on_iopub_timeout": True,
}


def run_with_papermill(notebook: str | Path, executed: Path | None, **options) -> nbformat.NotebookNode:
    """papermill, without bars, in a kernel that finds this library also where it is not installed.

    Returns the executed notebook. Raises RuntimeError with the sentence of a cell's error.
    """
    os.environ.update(kernel_environment())
    logging.getLogger("papermill").setLevel(logging.ERROR)  # it warns of parameters whose annotations it cannot read
    try:
        return papermill.execute_notebook(
            _literally(notebook),
            executed and _literally(executed),
            kernel_name="python3",
            progress_bar=False,
            extra_arguments=["--log-level=CRITICAL"],  # or Ctrl-C would log a traceback; a cell's errors come anyway
            **CLIENT,
            **options,
        )
    except papermill.PapermillExecutionError as error:
        if error.ename == "KeyboardInterrupt":
            raise KeyboardInterrupt from error
        raise RuntimeError(f"{error.ename}: {error.evalue}") from error


def _literally(path):
    """A path in which papermill finds no names of parameters to fill in."""
    return str(path).replace("{", "{{").replace("}", "}}")


def execute(notebook: str | Path, file: str | Path, changes: Sequence[str] = ()) -> None:
    """Run the notebook with these parameters; it, an HTML report and its results lie in the folder OUT.

    OUT is a path inside the repository, or an absolute one. Raises ValueError where a notebook of the same name lies there
    that was not run by this command: it would be replaced.
    """
    parameters = load_parameters(notebook, file, changes)
    out = parameters.get("OUT", f"runs/{Path(file).stem}")
    if not isinstance(out, str) or not out:
        raise ValueError(f"OUT is the path of a folder, not {out!r}.")
    out = ROOT / out
    parameters["OUT"] = str(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"the folder OUT, {out}, cannot be made ({error}): say OUT=another/folder.") from error
    executed = out / Path(notebook).name
    there = executed.read_text(encoding="utf-8", errors="replace") if executed.exists() else ""  # a kill can cut it
    if there and '"papermill": {' not in there:
        raise ValueError(f"{executed} would be replaced, and was not made by this command: say OUT=another/folder.")
    run_with_papermill(notebook, executed, parameters=parameters, cwd=str(ROOT / "notebooks"), stdout_file=sys.stdout)
    contents = nbformat.read(executed, as_version=4)
    contents.metadata.pop("widgets", None)
    nbformat.write(contents, executed)
    report = executed.with_suffix(".html")
    report.write_text(HTMLExporter(template_name="classic").from_notebook_node(contents)[0], encoding="utf-8")
    print(f"\nReport: {report}")
