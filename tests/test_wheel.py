"""What pip installs: a wheel that holds the embedded CLIPs, and works in an empty folder without the repository."""

import os
import subprocess
import sys
import zipfile

import pytest
from helpers import ROOT

TRY = """
import sys
sys.meta_path = [f for f in sys.meta_path if "editable" not in str(f)]  # the library of the wheel, not the repository's
import mini_lib
assert mini_lib.__file__.startswith(sys.argv[1]), mini_lib.__file__
from mini_lib import evaluate, load_clip, make_method, mini_mtil, run
clip, preprocess, tokenizer = load_clip("tiny")
benchmark = mini_mtil(train_per_class=5, test_per_class=1)
benchmark.tasks = benchmark.tasks[:2]
method = make_method("moe-adapters", clip, tokenizer, reference=benchmark.reference, iterations=2, ddas={"iterations": 2})
matrix = run(method, benchmark, out="run")
assert matrix.done == 2 and 0 <= matrix.last <= 100
from mini_lib.__main__ import main
assert main(["data", "--root", "nowhere", "--only", "mnist"]) == 1
"""
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built without a network: the environment's own setuptools, from a copy of the files that git knows."""
    source = tmp_path_factory.mktemp("source")
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        if name.startswith("mini_lib/") or name in ("pyproject.toml", "README.md", "LICENSE"):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (path,) = out.glob("*.whl")
    return path


def test_it_holds_code_weights_and_cards_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as opened:
        names = opened.namelist()
    for name in ("tiny", "photo"):
        assert {f"mini_lib/embedded/{name}.{kind}" for kind in ("safetensors", "json", "md")} <= set(names)
    kinds = {name.rsplit(".", 1)[-1] for name in names if name.startswith("mini_lib/")}
    assert kinds == {"py", "safetensors", "json", "md"} and not any(
        name.startswith(("tests", "data")) for name in names
    )
    assert wheel.stat().st_size < 15_000_000


def test_a_method_learns_in_an_empty_folder(wheel, tmp_path):
    installed, empty = tmp_path / "installed", tmp_path / "empty"
    empty.mkdir()
    with zipfile.ZipFile(wheel) as opened:  # what pip does with a wheel of Python files
        opened.extractall(installed)
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"PYTHONPATH": str(installed)}
    command = [sys.executable, "-c", TRY, str(installed)]
    done = subprocess.run(command, cwd=empty, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (empty / "run" / "checkpoint.safetensors").is_file()
