"""The check for support questions: a line for each package, whatever is broken."""

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
from helpers import ROOT

from mini_lib.course import environment


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine where the packages with these versions and sources are all there is: machine(torch=("2.6", "import os"))"""

    def machine(needed, **packages):
        for name, (version, source) in packages.items():
            (tmp_path / f"{environment.module(name)}.py").write_text(source)
            (tmp_path / f"{name}-{version}.dist-info").mkdir()
            (tmp_path / f"{name}-{version}.dist-info" / "METADATA").write_text(f"Name: {name}\nVersion: {version}\n")
        monkeypatch.setattr(environment, "requirements", lambda: needed)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    return machine


TORCH = """\
class cuda: is_available = staticmethod(lambda: True); get_device_name = staticmethod(lambda: "a GPU")
class backends:
    class mps: is_available = staticmethod(lambda: False)
def get_num_threads(): return 3
"""
NUMPY = """\
try:
    raise ImportError("libopenblas.so: cannot open shared object file")
except ImportError as error:
    raise ImportError("\\n\\nIMPORTANT: PLEASE READ THIS FOR ADVICE\\n...") from error
"""


def test_a_broken_package_costs_its_line_and_no_other(machine, capsys):
    nms = 'raise RuntimeError("operator torchvision::nms does not exist\\nmore")'
    needed = [
        *(("torch", "2.6", ""), ("torchvision", "0.21", ""), ("open_clip_torch", "2.29", ""), ("numpy", "2.0", "")),
        *(("pandas", "2.2.2", ""), ("scipy", "1.13.1", ""), ("seaborn", "0.13", "notebooks"), ("nowhere", "1", "")),
        ("nowhere-else", "", "scale"),
    ]
    machine(
        needed,
        torch=("2.13.0+cpu", TORCH),
        torchvision=("0.29.1", nms),
        open_clip_torch=("3.3.0", "import torchvision"),
        numpy=("2.4.6", NUMPY),
        pandas=("2.2.1", ""),
        scipy=("1.14.0rc1", "print('hello', end='')"),
        seaborn=("0.13.2", ""),
    )
    assert not environment.check()
    said = capsys.readouterr().out.splitlines()
    broken = "but it cannot be imported: "
    assert said[2:11] == [
        "[OK]   torch>=2.6 (found 2.13.0+cpu, 3 threads, a GPU, no MPS)",
        f"[FAIL] torchvision>=0.21 (found 0.29.1, {broken}RuntimeError: operator torchvision::nms does not exist. "
        "It must be the one for torch 2.13.0: pip install torch==2.13.0 torchvision)",
        f"[FAIL] open_clip_torch>=2.29 (found 3.3.0, {broken}RuntimeError: operator torchvision::nms does not exist)",
        f"[FAIL] numpy>=2.0 (found 2.4.6, {broken}ImportError: libopenblas.so: cannot open shared object file)",
        "[FAIL] pandas>=2.2.2 (found 2.2.1)",
        "[OK]   scipy>=1.13.1 (found 1.14.0rc1)",
        "[OK]   seaborn>=0.13 [notebooks] (found 0.13.2)",
        "[FAIL] nowhere>=1 (not installed)",
        "[--]   nowhere-else [scale] (not installed)",
    ]
    assert said[0].startswith("[OK]   Python 3.") and said[1].endswith(f" in {ROOT / 'mini_lib'}")
    assert said[11].startswith("[FAIL] the embedded CLIP does not load: ")


@pytest.mark.parametrize(
    "source, words",
    [
        ("import os\nos._exit(7)", "Python itself ended with code 7"),
        ("import os\nos.abort()", "Python itself ended with code "),
        ("import time\ntime.sleep(60)", "that takes more than 3 seconds"),
        ("raise SystemExit('no')", "SystemExit: no"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt: "),
        ("def f(:", "SyntaxError: "),
        ("import nothing_of_this_name", "ModuleNotFoundError: No module named 'nothing_of_this_name'"),
    ],
)
def test_whatever_an_import_does(machine, monkeypatch, source, words):
    monkeypatch.setattr(environment, "SECONDS", 3)
    machine([], bad=("1", source), good=("1", "print('hello')"))
    answers = environment.import_all(["good", "bad", "json"])
    assert answers["bad"][0] is False and answers["bad"][1].startswith(words)
    assert answers["json"] == (True, "")


def test_what_is_needed_is_known_from_the_clone_or_from_what_is_installed(monkeypatch, tmp_path, capsys):
    here = environment.requirements()
    assert ("torch", here[0][1], "") == here[0] and any(extra == "notebooks" for _, _, extra in here)
    for name, _, _ in here:
        if environment._version(name):
            assert find_spec(environment.module(name)), f"what is {name} imported as?"
    monkeypatch.setattr(environment, "FOLDER", tmp_path)
    texts = ["torch>=2.6", 'seaborn>=0.13; extra == "notebooks"', "pip"]
    monkeypatch.setattr(environment.importlib.metadata, "requires", lambda name: texts)
    assert environment.requirements() == [("torch", "2.6", ""), ("seaborn", "0.13", "notebooks"), ("pip", "", "")]

    def absent(name):
        raise environment.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(environment.importlib.metadata, "requires", absent)
    monkeypatch.setattr(environment, "import_all", lambda modules: {"mini_lib": (True, "the embedded CLIP loads")})
    assert not environment.check()
    assert (
        f"[FAIL] what mini_lib needs is not known: it is not installed. pip install -e {tmp_path}"
        in capsys.readouterr().out
    )


@pytest.mark.parametrize("broken", ["torch", "numpy"])
def test_the_command_with_a_broken_package(tmp_path, broken):
    """The whole way, on this machine: a line for each package, and exit code 1."""
    (tmp_path / f"{broken}.py").write_text(f"raise ImportError('{broken} is broken')")
    command = [sys.executable, "-m", "mini_lib", "check"]
    environ = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    done = subprocess.run(command, capture_output=True, encoding="utf-8", cwd=tmp_path, env=environ, check=False)
    assert done.returncode == 1 and not done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 3 + len(environment.requirements())
    assert [line for line in lines if line.startswith(f"[FAIL] {broken}>=")][0].count(f"{broken} is broken") == 1
