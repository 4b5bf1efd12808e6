"""A run that is killed at any moment ends in the same files: the small form of `make torture`."""

import os
import subprocess
import sys

import pytest
from helpers import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(os, "fork"), reason="it needs fork")]


def test_kills_at_any_moment_leave_the_same_files():
    """In a process of its own: one that has trained before can no longer be forked."""
    command = [sys.executable, str(ROOT / "tests" / "torture.py"), "run", "--kills", "10"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-2000:]
    assert "kills in" in done.stdout and "no byte changed" in done.stdout
