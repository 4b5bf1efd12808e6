"""One list of packages, and only names that the design knows at the top level."""

import subprocess
import sys
import tomllib

import yaml
from conftest import ROOT

ALLOWED = {
    "README.md", "pyproject.toml", "environment.yml", "Makefile", "LICENSE", "CITATION.cff", ".gitignore", ".ci",
    "notebooks", "mini_lib", "data", "tests",
}  # fmt: skip


def test_environment_says_the_same_as_pyproject():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {*project["dependencies"], *project["optional-dependencies"]["dev"]}
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert {p for p in conda[-1]["pip"] if p != "-e ."} == wanted
    assert f"python{project['requires-python']}" in conda
    assert not any("==" in package or "<" in package for package in wanted)


def test_nothing_unexpected_at_the_top():
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert {name.split("/")[0] for name in files} <= ALLOWED
    assert all((ROOT / name).stat().st_size <= 10_000_000 for name in files if (ROOT / name).exists())


def test_environment_check():
    result = subprocess.run([sys.executable, "-m", "mini_lib.environment"], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stdout
    assert "[OK]   the embedded CLIP loads" in result.stdout and "[FAIL]" not in result.stdout
