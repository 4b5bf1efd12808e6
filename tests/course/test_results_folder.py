"""The folder OUT of a notebook: nobody's files are overwritten."""

import pytest

from mini_lib.course.results import MADE_BY, results_folder


def test_a_new_folder_and_the_same_again(tmp_path):
    out = results_folder(tmp_path / "a" / "b", "07_the_full_pipeline")
    (out / "summary.csv").write_text("x")
    assert results_folder(out, "07_the_full_pipeline") == out == results_folder(out)
    assert (out / MADE_BY).read_text() == "07_the_full_pipeline\n"
    with pytest.raises(ValueError, match="holds the results of notebook 07_the_full_pipeline: name a new folder"):
        results_folder(out, "09_class_incremental")


def test_files_of_somebody_else_are_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("ten years")
    for notebook in ("", "07_the_full_pipeline"):
        with pytest.raises(
            ValueError, match="holds files that no notebook .* put there, such as thesis.tex: name a new"
        ):
            results_folder(tmp_path, notebook)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_runs_below_it_are_somebody_else_s_too(tmp_path):
    results_folder(tmp_path / "runs" / "notebook_07", "07_the_full_pipeline")
    with pytest.raises(ValueError, match="such as notebook_07"):
        results_folder(tmp_path / "runs", "07_the_full_pipeline")


def test_litter_of_systems_and_a_reserved_folder_are_no_hindrance(tmp_path):
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", ".ipynb_checkpoints"):
        (tmp_path / name).write_text("")
    results_folder(tmp_path)
    (tmp_path / "07_the_full_pipeline.ipynb").write_text("executed")  # by papermill, before the notebook speaks
    assert results_folder(tmp_path, "07_the_full_pipeline") == tmp_path
    assert (tmp_path / MADE_BY).read_text() == "07_the_full_pipeline\n"


def test_a_file_in_its_place(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(OSError, match="cannot be made .*say OUT=another/folder"):
        results_folder(tmp_path / "out", "07_the_full_pipeline")


def test_a_home_folder_is_nobody_s_results_folder(tmp_path, monkeypatch):
    """A new one holds hidden files alone, and looks empty."""
    (tmp_path / "me/.ssh").mkdir(parents=True)
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path / "me"))
    for folder in (tmp_path / "me", tmp_path, tmp_path / "me/../me"):
        with pytest.raises(ValueError, match="is your home folder, or holds it: name a new folder"):
            results_folder(folder, "07_x")
    assert [p.name for p in tmp_path.rglob("*")] == ["me", ".ssh"]
    assert results_folder(tmp_path / "me/results", "07_x").is_dir()


def test_a_damaged_marker_is_another_s(tmp_path):
    (tmp_path / ".made_by").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="holds the results of notebook"):
        results_folder(tmp_path, "07_x")
