"""The papermill command: unknown names, broken files, errors of a cell, interruption."""

import subprocess
import sys

import nbformat
import pandas as pd
import pytest
from helpers import ROOT, code, read

from mini_lib.__main__ import main
from mini_lib.course import execute
from mini_lib.course.parameters import annotations, from_file, load_parameters

PIPELINE = ROOT / "notebooks" / "07_the_full_pipeline.ipynb"


@pytest.fixture
def notebook(tmp_path):
    """A notebook with two parameters that writes a summary, or fails when told to."""
    code = nbformat.v4.new_code_cell
    cells = [
        code('OUT: str = "x"  # folder\nFAIL: bool = False', metadata={"tags": ["parameters"]}),
        code("if FAIL:\n    raise ValueError(\"task folder cats has no folder 'train'\")"),
        code('from pathlib import Path\nPath(OUT, "result").write_text("88.8")\nprint("last 88.8")'),
        code(
            'import matplotlib.pyplot as plt\nfrom mini_lib import plots\nplots.show(plt.figure(), "an empty figure")'
        ),
    ]
    path = tmp_path / "small.ipynb"
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), path)
    return path


def parameters(tmp_path, text):
    file = tmp_path / "p.yaml"
    file.write_text(text)
    return file


def test_runs_and_reports(notebook, tmp_path, capsys):
    main(["execute", str(notebook), str(parameters(tmp_path, "OUT: elsewhere")), f"OUT={tmp_path / 'out'}"])
    assert "last 88.8" in capsys.readouterr().out
    assert 'alt="an empty figure"' in (tmp_path / "out/small.html").read_text()
    assert "widgets" not in nbformat.read(tmp_path / "out/small.ipynb", 4).metadata


def test_a_failing_cell_is_one_sentence(notebook, tmp_path):
    with pytest.raises(SystemExit, match="^ValueError: task folder cats has no folder 'train'$"):
        main(["execute", str(notebook), str(parameters(tmp_path, f"OUT: {tmp_path / 'out'}\nFAIL: true"))])


@pytest.mark.parametrize(
    "text, words",
    [
        ("LERNING_RATE: 1.0", r"unknown parameters \['LERNING_RATE'\].*knows \['FAIL', 'OUT'\]"),
        ("- a\n- b", "must map parameter names"),
        ("A: [1", "is no YAML file"),
        ("A: !!python/object/apply:os.getcwd []", "is no YAML file"),
    ],
)
def test_bad_parameter_files_run_nothing(notebook, tmp_path, text, words, monkeypatch):
    monkeypatch.setattr(execute.papermill, "execute_notebook", lambda *a, **k: pytest.fail("it ran"))
    with pytest.raises(SystemExit, match=words):
        main(["execute", str(notebook), str(parameters(tmp_path, text))])


def test_bad_changes(notebook, tmp_path):
    for change, words in (("FAIL", "write NAME=VALUE"), ("FIAL=true", "unknown parameters")):
        with pytest.raises(SystemExit, match=words):
            main(["execute", str(notebook), str(parameters(tmp_path, "FAIL: false")), change])


def test_missing_files(notebook, tmp_path):
    with pytest.raises(SystemExit, match="No such file"):
        main(["execute", str(notebook), str(tmp_path / "none.yaml")])


def test_interruption_says_how_to_go_on(notebook, tmp_path, monkeypatch, capsys):
    def interrupted(*a, **k):
        raise KeyboardInterrupt

    monkeypatch.setattr(execute.papermill, "execute_notebook", interrupted)
    assert main(["execute", str(notebook), str(parameters(tmp_path, f"OUT: {tmp_path / 'out'}"))]) == 130
    assert "goes on after it" in capsys.readouterr().err


@pytest.mark.slow
def test_the_pipeline_refuses_in_one_sentence(tmp_path):
    preset = ROOT / "notebooks/params/mini.yaml"
    with pytest.raises(SystemExit, match=r"(?s)^ValueError: .*aircraft.*sun397.*python -m mini_lib data --root"):
        main(["execute", str(PIPELINE), str(preset), f"OUT={tmp_path}", "BENCHMARK=mtil"])


def test_the_pipeline_refuses_a_benchmark_that_it_does_not_know():
    (cell,) = [cell for cell in code(read(PIPELINE)) if "BENCHMARK ==" in cell.source]
    with pytest.raises(ValueError, match="^BENCHMARK is 'mini', 'mtil', 'xtail' or 'folders', not 'cifar'.$"):
        exec(cell.source, {"BENCHMARK": "cifar"})


@pytest.mark.parametrize("preset", sorted(p.stem for p in (ROOT / "notebooks" / "params").glob("*.yaml")))
def test_presets_fit_a_notebook(preset):
    file = ROOT / "notebooks" / "params" / f"{preset}.yaml"
    names = from_file(file).keys()
    notebooks = [p for p in (ROOT / "notebooks").glob("*.ipynb") if names <= annotations(p).keys()]
    assert notebooks
    for notebook in notebooks:
        assert load_parameters(notebook, file).keys() == names


@pytest.mark.slow
def test_dry_run_of_the_paper_s_experiment(tmp_path, capfd):
    """Random ViT-B/16, drawn stand-ins for two of the data sets, every line of the way to the table."""
    file = ROOT / "notebooks" / "params" / "mtil_order1.yaml"
    execute.execute(
        PIPELINE,
        file,
        [f"OUT={tmp_path}", "DRY_RUN=true", "TASKS=[mnist, sun397]", "METHODS=[zero-shot, moe-adapters]"],
    )
    summary = pd.read_csv(tmp_path / "dry_run" / "summary.csv").set_index("method")
    assert list(summary.index) == ["zero-shot", "moe-adapters"]
    assert summary.drop(columns="worse_than_zero_shot").notna().all(axis=None)  # two steps may well end below zero-shot
    experts, routers, autoencoders = 26_171_904 + 17_453_568, 2 * 2 * 12 * 22 * (768 + 512), 3 * 8_696_164
    assert summary.trained_parameters.tolist() == [0, experts + routers + autoencoders]
    assert "Report:" in capfd.readouterr().out and (tmp_path / "07_the_full_pipeline.html").exists()


@pytest.mark.slow
def test_dry_run_of_the_few_shot_experiment(tmp_path):
    """Drawn stand-ins for two of the data sets, every line of the way to the tables; a small model, to be quick."""
    file = ROOT / "notebooks" / "params" / "mtil_few_shot.yaml"
    notebook = ROOT / "notebooks" / "10_few_shot.ipynb"
    execute.execute(notebook, file, [f"OUT={tmp_path}", "DRY_RUN=true", "TASKS=[aircraft, mnist]", "MODEL=tiny"])
    summary = pd.read_csv(tmp_path / "dry_run" / "summary.csv")
    assert list(summary.method) == ["zero-shot", "fine-tuning", "moe-adapters"] and summary.notna().all().all()
    drawn = pd.read_csv(tmp_path / "dry_run" / "drawn_2_shots.csv")
    assert drawn[drawn.part == "train"].groupby(["task", "class"]).image.nunique().tolist() == [2] * 4


RUN_MANY = """\
import sys
from pathlib import Path
from mini_lib.course import execute, notebooks
path = Path(sys.argv[1])
executed = execute.run_with_papermill(path, None)
assert "Output" in str(executed.cells[0].outputs), "the widget is not there"
(path.parent / "notebooks").mkdir()
path.rename(path.parent / "notebooks" / "00_small.ipynb")
notebooks.rerun(["00"], path.parent)
"""


def test_output_widgets_do_not_hang_the_run(tmp_path):
    """What nbclient tells an Output widget's kernel made it miss the kernel's answer, once in about fifty cells."""
    code = nbformat.v4.new_code_cell
    cells = [code("from ipywidgets import Output\nout = Output()\nout")]
    cells += [code("with out:\n    print(1)") for _ in range(250)]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), tmp_path / "many.ipynb")
    subprocess.run([sys.executable, "-c", RUN_MANY, tmp_path / "many.ipynb"], cwd=ROOT, check=True, timeout=120)


def test_nothing_that_the_command_did_not_make_is_replaced(notebook, tmp_path, monkeypatch):
    file = parameters(tmp_path, "FAIL: false")
    before = notebook.read_bytes()
    with pytest.raises(SystemExit, match="holds files that no notebook of this version put there"):
        main(["execute", str(notebook), str(file), f"OUT={tmp_path}"])
    assert notebook.read_bytes() == before
    main(["execute", str(notebook), str(file), f"OUT={tmp_path / 'out'}"])
    executed = tmp_path / "out" / "small.ipynb"
    other = executed.read_text(encoding="utf-8")
    executed.write_bytes(before)
    with pytest.raises(SystemExit, match="small.ipynb would be replaced, and was not made by this command: say OUT="):
        main(["execute", str(notebook), str(file), f"OUT={tmp_path / 'out'}"])
    executed.write_text(other, encoding="utf-8")

    def runs(*a, **k):
        raise RuntimeError("it runs")

    monkeypatch.setattr(execute, "run_with_papermill", runs)
    for length in (None, 1000, 0):  # a finished run, and what kills leave
        executed.write_text(executed.read_text(encoding="utf-8")[:length], encoding="utf-8")
        with pytest.raises(SystemExit, match="it runs"):
            main(["execute", str(notebook), str(file), f"OUT={tmp_path / 'out'}"])
