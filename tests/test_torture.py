"""A run that is killed at any moment ends in the same files: the small form of `make torture`."""

import os

import pytest

torture = pytest.importorskip("torture", reason="its modules") if hasattr(os, "fork") else None
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(os, "fork"), reason="it needs fork")]


def test_kills_at_any_moment_leave_the_same_files(tmp_path):
    killed = torture.campaign(10, 0, tmp_path, log=lambda line: None)
    assert sum(killed.values()) >= 8
