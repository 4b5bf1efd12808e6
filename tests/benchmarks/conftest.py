"""Tests leave the user's cache folder alone."""

import pytest


@pytest.fixture(autouse=True, scope="module")
def cache_apart(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
            patch.setenv(name, str(tmp_path_factory.mktemp("cache")))
        yield
