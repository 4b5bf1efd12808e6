"""Fixtures of the tests that draw."""

import pytest

from mini_lib import plots


@pytest.fixture
def shown(monkeypatch):
    """What was shown so far: (what was drawn, alternative text)."""
    found = []
    monkeypatch.setattr(plots, "show", lambda figure, alt: found.append((figure, alt)))
    return found
