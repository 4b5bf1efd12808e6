"""What the first cell of every notebook runs in Colab: pip, for what Colab does not have.

Colab's torch, torchvision and numpy fit its GPU and one another, and it has a page of its own for notebooks. pip is asked
for none of these, and nothing that it brings along may exchange the former. Run as a file, for the library is not on the
path yet.
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
PAGE = ("jupyterlab", "ipywidgets")


def dependencies(*extras: str) -> list[str]:
    """What mini_lib needs, with these extras, as pyproject.toml says it: ["pandas>=2.2", ...]"""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project["dependencies"] + sum((project["optional-dependencies"][extra] for extra in extras), [])


def installed(requirement: Requirement) -> bool:
    try:
        return requirement.specifier.contains(version(requirement.name), prereleases=True)
    except PackageNotFoundError:
        return False


def missing(requirements: Iterable[str]) -> list[str]:
    """Those of the requirements ("pandas>=2.1") that pip must be asked for: too old here, or not here at all."""
    asked = [text for text in requirements if Requirement(text).name not in KEPT + PAGE]
    return [text for text in asked if not installed(Requirement(text))]


def main() -> None:
    wanted = missing(dependencies("notebooks"))
    if not wanted:
        return
    print("Installing", ", ".join(wanted))
    with tempfile.TemporaryDirectory() as folder:
        pins = Path(folder, "constraints.txt")
        pins.write_text("".join(f"{name}=={version(name)}\n" for name in KEPT), encoding="utf-8")
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--constraint", pins, *wanted]
        sys.exit(subprocess.run(command, check=False).returncode)


if __name__ == "__main__":
    main()
