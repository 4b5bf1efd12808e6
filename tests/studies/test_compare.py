"""The comparison: every run once, nothing lost, nothing mixed."""

import json
from types import SimpleNamespace

import nbformat
import pandas as pd
import pytest
import torch
from helpers import ROOT, silent

from mini_lib import AccuracyMatrix, make_method, run
from mini_lib.__main__ import main
from mini_lib.benchmarks.mini import ORDERS, mini_mtil
from mini_lib.benchmarks.twelve import MORE, twelve_tasks
from mini_lib.methods import METHODS, Method
from mini_lib.methods.base import TrainedMethod
from mini_lib.studies import compare as module
from mini_lib.studies import contestants
from mini_lib.studies.compare import COLUMNS, Judge, compare, compete, load_results, matrices, scores
from mini_lib.studies.contestants import ABLATIONS, CHOICES, LATER, LENGTH, PAPER, Study, rivals, tuned, tuning


def small_mtil(seed, order):
    return mini_mtil(seed, order, train_per_class=5, test_per_class=10)


CHEAP = Study(
    {"zero-shot": ("zero-shot", {}), "odd": ("zero-shot", {"odd": 1})},
    (1, 2),
    (0,),
    "x.csv",
    judges={},
    benchmark=small_mtil,
)


def lines(**values):
    """One line of a table."""
    base = {"method": "zero-shot", "order": 1, "seed": 0, "after": "digits", "task": "digits", "accuracy": 50.0,
            "settings": "{}"}  # fmt: skip
    return pd.DataFrame([base | values]).reindex(columns=COLUMNS)


@pytest.mark.slow
def test_runs_what_is_due_keeps_it_and_names_what_failed(tmp_path):
    kept, said = [], []
    before = lines()  # order 1 of zero-shot was done before
    with pytest.raises(RuntimeError, match=r"(?s)2 runs failed; the others are kept.*odd, order 1.*has no setting"):
        compare(CHEAP, tmp_path, table=before, keep=kept.append, log=said.append, workers=2)
    assert said[0] == "1 of 4 runs are done already" and any("minutes left" in line for line in said)
    assert len(kept) == 1 and list(kept[0].columns) == COLUMNS
    new = kept[0][kept[0].order == 2]
    assert (
        len(kept[0]) == 50
        and len(new) == 49
        and (new.peak_memory_mb > 100).all()
        and (new.trained_parameters == 0).all()
    )
    assert matrices(new)["zero-shot", 2, 0].transfer > 40
    compare(CHEAP, tmp_path, names=["zero-shot"], table=kept[0], keep=pytest.fail, log=said.append)
    assert said[-1] == "2 of 2 runs are done already"


def test_results_of_other_settings_are_refused(tmp_path):
    study = Study({"lwf": ("lwf", {"learning_rate": 1e-4})}, (1,), (0,), "x.csv", judges={})
    file = tmp_path / "x.csv"
    assert load_results(study, file) is None
    lines(method="lwf", settings=json.dumps({"learning_rate": 0.0001})).to_csv(file, index=False)
    assert len(load_results(study, file)) == 1
    lines(method="lwf", settings=json.dumps({"learning_rate": 0.001})).to_csv(file, index=False)
    with pytest.raises(ValueError, match=r"results of 'lwf' with the settings .*0.001.*, now they are .*0.0001"):
        load_results(study, file)
    lines(method="zscl").to_csv(file, index=False)
    with pytest.raises(
        ValueError, match=r"results of 'zscl', which does not take part in this study: delete these lines"
    ):
        load_results(study, file)
    lines().drop(columns=["settings", "routed"]).to_csv(file, index=False)
    with pytest.raises(ValueError, match=r"has no column routed, settings: an older version made it. Move it away"):
        load_results(study, file)


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table.iloc[:-1], lambda table: pd.concat([table, table.iloc[:1]]), lambda table: table.assign(task="a"),
        lambda table: table.replace({"accuracy": {50.0: 150.0}}), lambda table: table.replace({"accuracy": {50.0: -7.0}}),
        lambda table: table.replace({"accuracy": {50.0: float("inf")}}), lambda table: table.assign(accuracy=None),
        lambda table: table.assign(routed=101.0),
    ],
)  # fmt: skip
def test_half_a_run_and_numbers_that_are_no_percentages_are_refused(tmp_path, change):
    """A run that lacks lines would count as done, and its means would be NaN."""
    study, file = Study({"zero-shot": ("zero-shot", {})}, (1,), (0,), "x.csv", judges={}), tmp_path / "x.csv"
    table = pd.concat([lines(after=a, task=b) for a in "ab" for b in "ab"])
    table.to_csv(file, index=False)
    assert len(load_results(study, file)) == 4
    change(table).to_csv(file, index=False)
    with pytest.raises(
        ValueError, match="of 'zero-shot', order 1, seed 0, lines are missing.*Delete all lines of that run"
    ):
        load_results(study, file)


def test_saved_tables_are_whole():
    for make in contestants.STUDIES.values():
        assert load_results(make(), contestants.RESULTS / make().file) is not None


@pytest.fixture
def judged(small, tmp_path, monkeypatch):
    """judged(key): a judge's table after two tasks of the run with this key, read anew; the file in which it lies."""

    def again(key="one"):
        (tmp_path / "digests.json").write_text(json.dumps({"settings": key}))
        judge = Judge(", asked", SimpleNamespace(select=None), small, tmp_path, {"granularity": "batch"})
        monkeypatch.setattr(judge, "_judge", lambda learned: [(50.0, torch.tensor([0, -1]))] * 3)
        for learned in (1, 2):
            judge.after_task(learned)
        return judge

    again()
    return again


def test_what_another_selector_found_is_read_again(judged):
    assert judged().matrix.done == judged().routing.done == 2


@pytest.mark.parametrize("name", ["asked-accuracy.csv", "asked-routing.csv"])
def test_what_another_selector_found_is_not_taken_from_others(judged, tmp_path, name):
    file, notes = tmp_path / name, tmp_path / "asked-digests.json"
    with pytest.raises(
        ValueError, match="asked-digests.json belongs to other settings.* away, and the run is made anew"
    ):
        judged("other")
    kept = file.read_bytes()
    file.write_bytes(kept.replace(b"0.0", b"1.0", 1))
    with pytest.raises(ValueError, match=f"{name} is damaged, or was changed"):
        assert judged().routing
    file.write_bytes(kept)
    notes.unlink()
    with pytest.raises(ValueError, match="has lost its asked-digests.json"):
        judged()


def test_results_of_another_selector_that_are_lost_are_told(tmp_path, small, monkeypatch):
    """The run is done, so nobody would measure them again."""
    study = Study({"a": ("zero-shot", {})}, (1,), (0,), "x.csv", judges={"a": {", asked": {"granularity": "batch"}}})
    monkeypatch.setattr(module, "run", lambda *a, **k: AccuracyMatrix("abc", [[50.0] * 3] * 3))
    monkeypatch.setattr(module, "seconds_learned", lambda folder: 1)
    folder = tmp_path / "x" / "a" / "order1-seed0"
    folder.mkdir(parents=True)
    (folder / "digests.json").write_text('{"settings": "one"}')
    study.benchmark = lambda seed, order: small
    with pytest.raises(ValueError, match="has lost the results of 'a, asked': move it away, and the run is made anew"):
        compete(study, "a", 1, 0, tmp_path)


def test_the_command_refuses_in_one_sentence(monkeypatch, capsys):
    with pytest.raises(SystemExit, match="^'gpt' does not take part: this study has as here, text"):
        main(["ablations", "choices", "--names", "gpt"])
    with pytest.raises(SystemExit, match="^--out is the CSV of one study: say which of choices, parts, length"):
        main(["ablations", "--out", "all.csv"])
    with pytest.raises(SystemExit, match="^orders .1, 3.: a stream has the orders 1 and 2"):
        main(["compare", "--orders", "1", "3"])
    with pytest.raises(SystemExit, match="^seeds .-1.: a seed is a whole number, at least 0"):
        main(["compare", "--seeds", "-1"])
    with pytest.raises(SystemExit):
        main(["compare", "everything"])
    assert "invalid choice: 'everything'" in capsys.readouterr().err

    def interrupted(*a, **k):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "compare", interrupted)
    assert main(["ablations", "parts", "--out", str(ROOT / "runs" / "none.csv")]) == 130
    assert "goes on after it" in capsys.readouterr().err


def test_every_method_has_the_same_budget_and_gets_its_best(tmp_path, monkeypatch):
    tried = tuning()
    budget = pd.Series([method for method, _ in tried.contestants.values()]).value_counts()
    trained = {name for name, method in METHODS.items() if issubclass(method, TrainedMethod)}
    assert set(budget.index) == trained - set(LATER) and (budget == 4).all() and tried.split == "val"
    monkeypatch.setattr(contestants, "RESULTS", tmp_path)
    with pytest.raises(ValueError, match="has no results of .*'zscl 1e-05'.*run `python -m mini_lib compare tuning`"):
        tuned("zscl")
    scores = {name: 50 + i % 4 for i, name in enumerate(tried.contestants)}  # the last of four is best
    pd.concat([lines(method=n, accuracy=a) for n, a in scores.items()]).to_csv(tmp_path / "tuning.csv", index=False)
    assert tuned("zscl") == {"learning_rate": 3e-4}
    assert tuned("moe-adapters") == {"learning_rate": 2e-2, "selector": "ddas"}  # the paper's
    assert tuned("zero-shot") == tuned("analytic") == {}


def test_a_new_method_takes_part_by_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(contestants, "RESULTS", tmp_path)
    table = pd.concat([lines(method=n, accuracy=50 - i % 4) for i, n in enumerate(tuning().contestants)])
    table.to_csv(tmp_path / "tuning.csv", index=False)
    monkeypatch.setattr(contestants, "METHODS", METHODS | {"new": Method})
    found = rivals().contestants
    assert {method for method, _ in found.values()} == {*METHODS, "new"} - {*LATER}
    assert found["fine-tuning, tuned"] == ("fine-tuning", {"learning_rate": 1e-5})
    assert found["fine-tuning"] == ("fine-tuning", {"learning_rate": 3e-4})


def test_the_method_of_notebook_08_is_one_short_file(clip, tokenizer, small, monkeypatch):
    """Its cell, with the imports that it uses, takes part in the comparison, learns, and comes back from a checkpoint."""
    notebook = nbformat.read(ROOT / "notebooks" / "08_comparing_methods.ipynb", as_version=4)
    (cell,) = [cell for cell in notebook.cells if "new-method" in cell.metadata.get("tags", [])]
    imports = (
        "import torch\nfrom torch.nn import functional as F\nfrom mini_lib.training import loader\n"
        "from mini_lib.clip import class_logits\nfrom mini_lib.methods.base import Method, register\n"
    )
    assert len((imports + cell.source).splitlines()) < 60
    exec(imports + cell.source, {"__name__": "new"})
    monkeypatch.setitem(METHODS, "class-means", METHODS.pop("class-means"))  # taken out again after the test
    assert rivals().contestants["class-means"] == ("class-means", {})
    learner, again = (METHODS["class-means"](clip, tokenizer) for _ in range(2))
    first, later = small.tasks[:2]
    learner.learn(first)
    again.load_state_dict(learner.state_dict())
    images, labels = first.train[:]
    features = torch.nn.functional.normalize(clip.encode_image(images), dim=-1)
    means = torch.nn.functional.normalize(torch.stack([features[labels == c].mean(0) for c in range(10)]), dim=-1)
    torch.testing.assert_close(again.scores(images, first), clip.logit_scale.exp() * features @ means.T)
    zero_shot = METHODS["zero-shot"](clip, tokenizer)
    assert torch.equal(learner.scores(images, later), zero_shot.scores(images, later))
    assert learner.trained_parameters == means.numel()


def test_scores_are_those_of_each_run():
    tasks = ["digits", "fabric"]
    runs = [(1, 0, (90.0, 50.0, 70.0, 80.0)), (2, 1, (60.0, 40.0, 60.0, 60.0))]
    cells = [(after, task) for after in tasks for task in tasks]
    table = pd.concat([
        lines(order=order, seed=seed, after=after, task=task, accuracy=accuracy, trained_parameters=7, seconds=1.5)
        for order, seed, accuracies in runs for (after, task), accuracy in zip(cells, accuracies)
    ])  # fmt: skip
    found = scores(table)
    assert found.index.names == ["method", "order", "seed"]
    assert found.loc["zero-shot", 1, 0].tolist() == [50, 72.5, 75, 20, 7, 1.5]
    assert found.loc["zero-shot", 2, 1].tolist() == [40, 55, 60, 0, 7, 1.5]


def test_twelve_tasks_are_read_from_the_table_in_their_order():
    tasks = [*ORDERS[1], *MORE]  # a test of the benchmark says that these are its tasks
    assert LENGTH.benchmark is twelve_tasks and len(set(tasks)) == 12
    table = pd.concat([lines(after=a, task=t, accuracy=float(a == t)) for a in tasks for t in reversed(tasks)])
    matrix = matrices(table)["zero-shot", 1, 0]
    assert (
        list(matrix.tasks) == tasks
        and (matrix.values == 1.0 * (matrix.values > 0)).all()
        and matrix.values.trace() == 12
    )


def test_ablations_change_one_part_of_what_choices_start_from():
    for name, (method, settings) in ABLATIONS.contestants.items():
        assert method == "moe-adapters" and len(settings) > len(PAPER) and name not in CHOICES.contestants
    assert CHOICES.contestants["as here"] == ("moe-adapters", PAPER) and ABLATIONS.seeds == CHOICES.seeds


def test_the_same_learner_is_judged_among_all_names(clip, tokenizer, small, tmp_path):
    """As a run of its own with these candidates, and with or without the names of the task that was chosen."""

    def made():
        return make_method("analytic", clip, tokenizer, reference=small.reference, hidden=20, selector="gaussian")

    learner = made()
    hows = {
        "all": {"candidates": "all"},
        "any": {"candidates": "all", "names_of_chosen": False},
        "told": {"selector": "known"},
    }
    judges = {label: Judge(label, learner, small, tmp_path / "own", how) for label, how in hows.items()}
    own = run(
        learner,
        small,
        tmp_path / "own",
        log=silent,
        after_task=lambda learned: [judge.after_task(learned) for judge in judges.values()],
    )
    asked = run(made(), small, tmp_path / "all", log=silent, candidates="all")
    assert (judges["all"].matrix.values == asked.values).all()
    assert own.done == judges["told"].matrix.done == judges["any"].matrix.done == 3
    assert learner.settings.names_of_chosen and learner.selector.granularity == "sample"
    plain = make_method("zero-shot", clip, tokenizer)
    run(plain, small, tmp_path / "plain", log=silent)
    judge = Judge("all", plain, small, tmp_path / "plain", {"candidates": "all"})  # a learner that selects nothing
    judge.after_task(1)
    assert judge.routing is None and judge.matrix.done == 1
