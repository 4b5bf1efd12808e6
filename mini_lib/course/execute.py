"""Run a notebook unattended: `python -m mini_lib execute NOTEBOOK PARAMETERS.yaml [NAME=VALUE ...]`.

A thin layer over papermill, which only warns of a misspelt parameter and then computes for hours with the default:
here unknown names are refused before anything runs. Shown in notebook 07.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat
import papermill
import yaml
from nbconvert import HTMLExporter

from ..studies import ROOT


def load_parameters(notebook: str | Path, file: str | Path, changes: Sequence[str] = ()) -> dict[str, Any]:
    """The parameters in a YAML file and in `changes` ("NAME=VALUE", VALUE as in YAML), all known to the notebook.

    Raises ValueError with the known names where one is unknown, or where the file is no mapping of names to values.
    """
    known = papermill.inspect_notebook(str(notebook))
    try:
        parameters = yaml.safe_load(Path(file).read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is no YAML file: {' '.join(str(error).split())}") from error
    if not isinstance(parameters, dict):
        raise ValueError(f"{file} must map parameter names to values, one a line: NAME: value.")
    parameters = {name: _number(value) for name, value in parameters.items()}
    for change in changes:
        name, sign, value = change.partition("=")
        if not sign:
            raise ValueError(f"{change!r} is no change of a parameter: write NAME=VALUE.")
        try:
            parameters[name] = _number(yaml.safe_load(value))
        except yaml.YAMLError as error:
            raise ValueError(f"{change!r} is no change of a parameter: its value is no YAML.") from error
    unknown = sorted(set(map(str, parameters)) - set(known))
    if unknown:
        raise ValueError(f"{file}: unknown parameters {unknown}. {Path(notebook).name} knows {sorted(known)}.")
    return parameters


def _number(value):
    """A number where YAML 1.1 sees a text because it has no point, such as 1e-3."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


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


def run_with_papermill(notebook: str | Path, executed: Path | None, **options) -> nbformat.NotebookNode:
    """papermill, without bars, in a kernel that finds this library also where it is not installed.

    Returns the executed notebook. Raises RuntimeError with the sentence of a cell's error.
    """
    os.environ.update(kernel_environment())
    try:
        return papermill.execute_notebook(
            str(notebook),
            executed and str(executed),
            kernel_name="python3",
            progress_bar=False,
            extra_arguments=["--log-level=CRITICAL"],  # or Ctrl-C would log a traceback; a cell's errors come anyway
            **options,
        )
    except papermill.PapermillExecutionError as error:
        if error.ename == "KeyboardInterrupt":
            raise KeyboardInterrupt from error
        raise RuntimeError(f"{error.ename}: {error.evalue}") from error


def execute(notebook: str | Path, file: str | Path, changes: Sequence[str] = ()) -> None:
    """Run the notebook with these parameters; it, an HTML report and its results lie in the folder OUT."""
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
    run_with_papermill(notebook, executed, parameters=parameters, cwd=str(ROOT / "notebooks"), stdout_file=sys.stdout)
    contents = nbformat.read(executed, as_version=4)
    contents.metadata.pop("widgets", None)
    nbformat.write(contents, executed)
    report = executed.with_suffix(".html")
    report.write_text(HTMLExporter(template_name="classic").from_notebook_node(contents)[0], encoding="utf-8")
    print(f"\nReport: {report}")
