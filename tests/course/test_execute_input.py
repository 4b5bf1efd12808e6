"""What `python -m mini_lib execute` is given wrongly is one sentence, no traceback, and nothing runs."""

import pytest
from helpers import ROOT

from mini_lib.__main__ import main

NOTEBOOK = ROOT / "notebooks" / "07_the_full_pipeline.ipynb"
PRESET = ROOT / "notebooks" / "params" / "mini.yaml"


@pytest.mark.parametrize("file, changes, words", [
    (PRESET, ["TASKS=[digits"], "'TASKS=.digits' is no change of a parameter: its value is no YAML"),
    (PRESET, ["OUT="], "OUT is the path of a folder, not ''"),
    (PRESET, ["OUT=None"], "OUT must be a text .str., not 'None': leave it empty if none is meant"),
    (PRESET, ["SEED=1.0"], "SEED must be a whole number .int., not '1.0'"),
    (ROOT / "README.md", [], "README.md is no YAML file: "),
])  # fmt: skip
def test_one_sentence(file, changes, words, monkeypatch):
    monkeypatch.setattr("papermill.execute_notebook", None)
    with pytest.raises(SystemExit, match=f"^.*{words}") as caught:
        main(["execute", str(NOTEBOOK), str(file), *changes])
    assert "\n" not in str(caught.value)
