"""One list of packages, and only names that the design knows at the top level."""

import json
import re
import shutil
import subprocess
import sys
import tomllib

import pytest
import yaml
from helpers import ROOT

import mini_lib

ALLOWED = {
    "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE", "CITATION.cff", "pyproject.toml", "environment.yml",
    "Makefile", ".ci", ".github", ".gitignore", ".pre-commit-config.yaml", "notebooks", "mini_lib", "data", "tests",
}  # fmt: skip
PAGES = (
    "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "data/README.md", "mini_lib/embedded/tiny.md",
    "mini_lib/embedded/photo.md", "notebooks/assignments/README.md", "notebooks/GLOSSARY.md", "tests/golden/README.md",
)  # fmt: skip


def test_environment_says_the_same_as_pyproject():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = {*project["dependencies"], *(p for name in extras if name != "scale" for p in extras[name])}
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert {p for p in conda[-1]["pip"] if p != "-e ."} == wanted
    assert f"python{project['requires-python']}" in conda
    assert not any("==" in package or "<" in package for package in wanted)


def test_nothing_unexpected_at_the_top():
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert {name.split("/")[0] for name in files} <= ALLOWED
    assert all((ROOT / name).stat().st_size <= 10_000_000 for name in files if (ROOT / name).exists())


def test_model_card_says_what_was_measured():
    facts = json.loads((ROOT / "mini_lib/embedded/tiny.json").read_text())
    card = (ROOT / "mini_lib/embedded/tiny.md").read_text()
    numbers = [f"{facts[k]:,}" for k in ("pairs", "steps", "seconds")] + [str(facts["final_loss"])]
    assert all(number in card for number in [*numbers, *map(str, facts["zero_shot"].values())])


def test_links_in_the_text_lead_somewhere():
    for page in (ROOT / name for name in PAGES):
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert target.startswith("https://") or (page.parent / target).exists(), target


def test_one_version_everywhere():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert version == mini_lib.__version__
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert (
        f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text()
        or f"## {version}" in (ROOT / "CHANGELOG.md").read_text()
    )


def test_no_file_names_a_place_on_a_machine():
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    for path in (
        ROOT / name for name in names if name.endswith((".py", ".md", ".yml", ".yaml", ".toml", "Makefile", "run"))
    ):
        found = (
            re.search(r"(?<![\w.])/(?:home|root|work|Users)/\w", path.read_text(encoding="utf-8"))
            if path.exists()
            else None
        )
        assert not found or path.name.startswith("test_"), f"{path}: {found[0]}"


def test_environment_check():
    result = subprocess.run([sys.executable, "-m", "mini_lib", "check"], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stdout
    assert "[OK]   the embedded CLIP loads" in result.stdout and "[FAIL]" not in result.stdout


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_clean_keeps_what_people_made(tmp_path):
    """Runs, and the gradebook: points that a lecturer gave by hand are nowhere else."""
    kept, made = (
        ("runs/mini/matrix.csv", "build/assignments/gradebook.db"),
        (".venv/installed", "build/book/index.html"),
    )
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in (*kept, *made):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("x")
    subprocess.run(["make", "clean"], cwd=tmp_path, check=True, capture_output=True)
    assert [(tmp_path / name).exists() for name in (*kept, *made)] == [True, True, False, False]
    assert not (tmp_path / ".venv").exists() and not (tmp_path / "build/book").exists()
