"""The guard alone, without an examiner: whatever Python code changes of Python, it judges paths as before."""

import subprocess
import sys

import pytest
from helpers import ROOT

START = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("guard", sys.argv[1])
guard = importlib.util.module_from_spec(spec)
spec.loader.exec_module(guard)
work, hidden = sys.argv[2:]
guard.Guard(work, [hidden], [], [], 2).on()
del guard
import builtins, genericpath, os, re, stat, types
allowed = os.path.join(work, "own.txt")
"""
THEN = """
failed = []
for what in (lambda: open(secret).read(), lambda: os.listdir(hidden), lambda: os.open(hidden, os.O_RDONLY), lambda: open(new, "w")):
    try:
        what()
    except PermissionError as error:
        failed.append("not allowed" in str(error))
os.write(1, str(failed).encode())
os._exit(0)
"""
CHANGES = {
    "nothing": "",
    "a part of realpath": "os.path._joinrealpath = lambda *a, **k: (allowed, True)",
    "abspath": "os.path.abspath = lambda path: allowed",
    "functions of os": "os.fspath = os.fsdecode = os.readlink = lambda path: allowed\nos.lstat = os.stat = lambda *a, **k: 1 / 0",
    "os itself": "os.path.os = genericpath.os = types.SimpleNamespace(**vars(os) | {'fspath': lambda path: allowed})",
    "what a folder is": "genericpath.stat = types.SimpleNamespace(S_ISDIR=lambda mode: False)\nstat.S_ISDIR = stat.S_ISLNK = lambda mode: False",
    "isdir": "genericpath.isdir = os.path.isdir = lambda path: False",
    "regular expressions": "old = re._compile\nre._compile = lambda *a: old('x', 0)",
    "builtins": "builtins.type = lambda x: int\nbuiltins.isinstance = builtins.any = lambda *a: True\nbuiltins.len = lambda x: 0",
    "all of os.path": "os.path.__dict__.update({name: lambda *a, **k: allowed for name in dir(os.path) if not name.startswith('__')})",
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_is_changed_of_python_is_not_asked(tmp_path, name):
    """Once it was: with another realpath every file was one of the submission's own."""
    work, hidden = tmp_path / "work", tmp_path / "hidden"
    work.mkdir(), hidden.mkdir()
    (hidden / "secret.txt").write_text("the solution")
    paths = f"secret, new = {str(hidden / 'secret.txt')!r}, {str(tmp_path / 'new.txt')!r}\n"
    code = START + paths + CHANGES[name] + THEN
    guard = str(ROOT / "mini_lib/course/exam/guard.py")
    command = [sys.executable, "-I", "-S", "-c", code, guard, str(work), str(hidden)]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
    assert done.stdout == "[True, True, True, True]", done.stdout + done.stderr
    assert not (tmp_path / "new.txt").exists()
