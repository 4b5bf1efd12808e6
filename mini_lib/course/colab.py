"""What the first cell of every notebook runs in Colab: pip, for what Colab does not have.

Colab's torch, torchvision and numpy fit its GPU and one another, and it has a page of its own for notebooks. pip is asked
for none of these that is there, and nothing that it brings along may exchange them. Run as a file, for the library is not
on the path yet.
"""

import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.requirements import Requirement

KEPT = ("torch", "torchvision", "numpy")
PAGE = ("jupyterlab", "ipywidgets", "ipython", "ipykernel")


def dependencies(*extras: str) -> list[str]:
    """What mini_lib needs, with these extras, as pyproject.toml says it: ["pandas>=2.2", ...]"""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project["dependencies"] + sum((project["optional-dependencies"][extra] for extra in extras), [])


def installed(name: str) -> str | None:
    """The version of a package that is here; None where there is none."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def missing(requirements: Iterable[str]) -> list[str]:
    """Those of the requirements ("pandas>=2.1") that pip must be asked for: too old here, or not here at all.

    Of what is kept only what is not here at all, and nothing that belongs to Colab's page.
    """
    asked = []
    for text in requirements:
        wanted = Requirement(text)
        here = installed(wanted.name)
        fits = here is not None and wanted.specifier.contains(here, prereleases=True)
        if not fits and wanted.name not in PAGE and not (here and wanted.name in KEPT):
            asked.append(text)
        elif not fits and here and wanted.name in KEPT:
            print(f"Colab has {wanted.name} {here}, and {text} is needed: choose a newer runtime.")
    return asked


def main() -> None:
    wanted = missing(dependencies("notebooks"))
    if not wanted:
        return
    print("Installing", ", ".join(wanted))
    with tempfile.TemporaryDirectory() as folder:
        pins = Path(folder, "constraints.txt")
        here = [f"{name}=={found}\n" for name in (*KEPT, *PAGE) if (found := installed(name))]
        pins.write_text("".join(here), encoding="utf-8")
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--constraint", pins, *wanted]
        sys.exit(subprocess.run(command, check=False).returncode)


if __name__ == "__main__":
    main()
