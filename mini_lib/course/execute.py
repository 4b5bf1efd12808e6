"""Run a notebook unattended: `python -m mini_lib execute NOTEBOOK PARAMETERS.yaml [NAME=VALUE ...]`.

A thin layer over papermill, which only warns of a misspelt parameter and then computes for hours with the default:
here `parameters` refuses unknown names and values of another type before anything runs. Shown in notebook 07.
"""

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat
import papermill.engines
from nbclient.output_widget import OutputWidget
from nbconvert import HTMLExporter
from papermill.clientwrap import PapermillNotebookClient

from ..studies import ROOT
from .parameters import load_parameters
from .results import results_folder


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


class Silent(OutputWidget):
    """What an Output widget shows, kept where nobody watches; the kernel is not told of it.

    nbclient would tell it on the socket where it waits for the kernel's answer, past its own event loop: an answer that
    comes just then is never noticed, and client and kernel wait for each other (nbclient, issue 312).
    """

    def sync_state(self) -> None:
        pass


WIDGETS = {"@jupyter-widgets/output": {"OutputModel": Silent}}
PATIENCE = {
    "iopub_timeout": 60,
    "raise_on_iopub_timeout": True,
}  # after 4 seconds a busy machine's output would be lost


class Client(PapermillNotebookClient):
    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self.widget_registry = WIDGETS


class Engine(papermill.engines.Engine):
    """papermill's own way to run a notebook, with our client."""

    @classmethod
    def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, stdout_file: Any = None, **others: Any) -> None:
        quiet = ["--log-level=CRITICAL"]  # or Ctrl-C would log a traceback; a cell's errors come anyway
        Client(nb_man, kernel_name=kernel_name, stdout_file=stdout_file, extra_arguments=quiet, **PATIENCE).execute()


papermill.engines.papermill_engines.register("mini_lib", Engine)


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
            engine_name="mini_lib",
            kernel_name="python3",
            progress_bar=False,
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

    OUT is a path inside the repository, or an absolute one. Raises ValueError where it holds files of somebody else, or a
    notebook of the same name that was not run by this command: it would be replaced.
    """
    parameters = load_parameters(notebook, file, changes)
    out = parameters.get("OUT", f"runs/{Path(file).stem}")
    if not isinstance(out, str) or not out:
        raise ValueError(f"OUT is the path of a folder, not {out!r}.")
    out = results_folder(ROOT / out)
    parameters["OUT"] = str(out)
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
