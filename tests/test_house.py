"""The rule for the doors: what stands where, who may import whom, how fast a door opens."""

import ast
import os
import re
import subprocess
import sys
from importlib import import_module

import pytest
from helpers import ROOT

import mini_lib

PACKAGE = ROOT / "mini_lib"
GROUND = {
    "__init__", "__main__", "clip", "adapter", "router", "moe", "ddas", "selectors", "training", "run", "metrics", "plots",
    "official",
}  # fmt: skip
FLOORS = {"ground": 0, "embedded": 0, "benchmarks": 1, "methods": 2, "studies": 3, "course": 4}
FILES = sorted(PACKAGE.rglob("*.py"))
COMMANDS = (
    "execute", "predict", "assignments", "grade", "book", "check", "notebooks", "compare", "ablations", "selectors", "photographs",
    "cost", "data", "pretrain",
)  # fmt: skip


def module(path):
    """mini_lib/moe.py -> "mini_lib.moe"; a package is named by its folder."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module(path): path for path in FILES}


def floor(name):
    room = name.split(".")[1] if name.count(".") else "ground"
    return FLOORS[room if room in FLOORS else "ground"]


def imports(path):
    """The modules of mini_lib that a file imports, at its top or in a function."""
    package = module(path).split(".") if path.name == "__init__.py" else module(path).split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "mini_lib")
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            name = ".".join([*base, *filter(None, [node.module])])
            if name.split(".")[0] == "mini_lib":
                whole = [f"{name}.{alias.name}" for alias in node.names]
                yield from (one if one in MODULES else name for one in whole)


def test_no_two_test_files_share_a_name():
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert len(names) == len(set(names))  # pytest would import the one and refuse the other, late in the run


def test_every_import_is_found():
    found = {one for path in FILES for one in imports(path)}
    assert {"mini_lib.clip", "mini_lib.embedded.tiny", "mini_lib.course.checks.base"} <= found <= set(MODULES)


def test_only_what_the_design_names_is_on_the_ground_floor():
    assert {path.stem for path in PACKAGE.glob("*.py")} <= GROUND
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert rooms == set(FLOORS) - {"ground"}


def test_doors_open_downwards_only():
    for path in FILES:
        if path.parent == PACKAGE and path.stem in ("__init__", "__main__"):
            continue  # the front door offers all rooms
        for other in imports(path):
            assert other == "mini_lib" or floor(other) <= floor(module(path)), f"{module(path)} imports {other}"


def test_no_module_imports_its_importer():
    reached = {name: {one for one in imports(path) if one != "mini_lib"} for name, path in MODULES.items()}
    del reached["mini_lib"]
    for name in reached:
        seen, due = set(), set(reached[name])
        while due:
            one = due.pop()
            assert one != name, f"{name} imports itself, by way of {sorted(seen)}"
            seen.add(one)
            due |= reached.get(one, set()) - seen


def test_every_text_file_is_read_and_written_in_utf8():
    """The machine's own encoding, which Python takes otherwise, is another on Windows and in an ASCII locale."""
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            said = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            binary = name == "open" and (
                isinstance(node.func, ast.Attribute) or "b" in "".join(map(ast.unparse, node.args[1:]))
            )
            if name in ("read_text", "write_text", "open") and not binary:
                assert said.get("encoding", "").startswith("'utf-8"), f"{path.name}, line {node.lineno}"


def test_the_method_is_small():
    lines = [line for path in PACKAGE.glob("*.py") for line in path.read_text(encoding="utf-8").splitlines()]
    assert sum(bool(line.strip()) for line in lines) <= 2100


# What it offers


def test_all_that_is_offered_is_there_and_listed():
    assert set(mini_lib.__all__) <= set(dir(mini_lib)) and {
        name for name in mini_lib.__all__ if getattr(mini_lib, name)
    }
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    (checked,) = [node for node in tree.body if isinstance(node, ast.If)]  # what a type checker sees
    assert {alias.name for node in checked.body for alias in node.names} == set(mini_lib.__all__)
    with pytest.raises(AttributeError, match="'mini_lib' has no attribute 'nothing'"):
        mini_lib.nothing


def test_a_function_is_not_hidden_by_its_module():
    from mini_lib import benchmarks, cil, run

    assert import_module("mini_lib.run").run is run is mini_lib.run
    assert import_module("mini_lib.benchmarks.cil").cil is cil is mini_lib.cil is benchmarks.cil


def python(code):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    return done.stdout.strip()


def test_the_import_is_light():
    heavy = "torch", "open_clip", "pandas", "matplotlib", "sklearn", "IPython", "seaborn"
    assert python(f"import sys, mini_lib; print([m for m in {heavy} if m in sys.modules])") == "[]"


def test_the_method_needs_torch_and_open_clip_alone():
    heavy = "pandas", "matplotlib", "sklearn", "IPython", "seaborn"
    code = "import sys; from mini_lib import adapter, clip, ddas, moe, router, training"
    assert python(f"{code}; print([m for m in {heavy} if m in sys.modules])") == "[]"


# The front door


@pytest.mark.parametrize("command", [(), *((name,) for name in COMMANDS)], ids=lambda c: " ".join(c) or "itself")
def test_help_comes_at_once(command):
    """Nothing heavy is imported for it: that takes seconds."""
    code = (
        "import sys; from mini_lib.__main__ import main\n"
        f"try: main([*{command!r}, '--help'])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'numpy', 'pandas', 'nbformat', 'papermill') if m in sys.modules])"
    )
    text = python(code)
    assert text.startswith("usage: python -m mini_lib") and text.endswith("[]")
    if not command:
        assert all(re.search(rf"\n    {name}\s", text) for name in COMMANDS)


def test_a_mistake_is_one_sentence(tmp_path):
    command = [sys.executable, "-m", "mini_lib", "execute", "none.ipynb", "none.yaml"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and "none" in done.stderr and len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "command, package, extra",
    [
        (("execute", "a.ipynb", "a.yaml"), "nbformat", "notebooks"),
        (("grade", "nowhere"), "nbformat", "notebooks"),
        (("book",), "nbformat", "notebooks"),
        (("compare",), "seaborn", "notebooks"),
        (("grade", "nowhere"), "psutil", "course"),
    ],
)
def test_a_package_that_is_not_installed_is_one_sentence(tmp_path, command, package, extra):
    """As after a plain `pip install` of the wheel: the extras are not there."""
    if extra == "course":
        pytest.importorskip("nbgrader")  # else it is the one that is missed first
    (tmp_path / "nowhere/ada/A1").mkdir(parents=True)
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"
        f"from mini_lib.__main__ import main; import os; os.chdir({str(tmp_path)!r}); main({[*command]!r})"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    words = f"{package} is not installed: it comes with the extra {extra}, in a clone by pip install -e '.[{extra}]'.\n"
    assert (done.returncode, done.stderr) == (1, words)
