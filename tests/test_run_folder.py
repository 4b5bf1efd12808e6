"""What a run's folder promises: nobody's work is lost, no two runs are mixed, and what is there is what was written."""

import copy
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import Flat, silent
from open_clip.transformer import QuickGELU
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from torch.utils.data import Dataset, TensorDataset

from mini_lib import AccuracyMatrix, Method, evaluate, make_method, run
from mini_lib.embedded import storage
from mini_lib.methods import needs

LOOP = sys.modules["mini_lib.run"]
QUICK = {"iterations": 2, "batch_size": 8, "bottleneck": 4}


def made(clip, tokenizer, benchmark, name="adapter-per-task", **settings):
    quick = {} if name == "zero-shot" else QUICK | {"num_experts": 4} if name == "moe-adapters" else QUICK
    if name == "moe-adapters":
        quick = quick | {"ddas": {"block": 1, "iterations": 5}}
    return make_method(name, clip, tokenizer, **needs(name, benchmark), **{**quick, **settings})


@pytest.fixture
def go(clip, tokenizer, small, tmp_path):
    """go(...): a quick run in tmp_path / "out"."""

    def again(benchmark=small, out=tmp_path / "out", clip=clip, resume=True, log=silent, after_task=None, **settings):
        method = made(clip, tokenizer, benchmark, **settings)
        return run(method, benchmark, out, log=log, after_task=after_task, resume=resume)

    return again


@pytest.fixture
def out(go, tmp_path):
    go()
    return tmp_path / "out"


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# A. Nothing that somebody else made is ever removed.


def test_a_run_goes_on_beside_files_of_somebody_else(go, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.tex").write_text("ten years")
    for seed, resume in ((0, True), (0, False), (1, False)):
        go(resume=resume, seed=seed)
        found = list(tmp_path.rglob("thesis.tex"))
        assert [path.read_text() for path in found] == ["ten years"]


def test_starting_anew_sets_the_earlier_run_aside(go, out, monkeypatch):
    before, lines = files(out), []
    go(resume=False, seed=1, log=lines.append)
    assert files(out.with_name("out.1")) == before
    assert f"{out} held an earlier run, which is {out.with_name('out.1')} now" in lines[0]
    monkeypatch.setattr(LOOP, "_begun", {})  # as in a new process
    go(resume=False, seed=1)
    assert files(out.with_name("out.1")) == before and out.with_name("out.2").is_dir()


@pytest.mark.parametrize("name", ["lock", "running.json", "settings.json"])
@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_files_of_somebody_else_with_our_names_are_refused_and_stay(go, tmp_path, name, kind):
    out, diary = tmp_path / "out", tmp_path / "diary"
    out.mkdir()
    diary.write_text('{"my": "diary"}')
    if kind == "folder":
        (out / name).mkdir()
    elif kind == "link":
        (out / name).symlink_to(diary)
    else:
        (out / name).write_text(diary.read_text())
    for resume in (True, False):
        with pytest.raises(ValueError, match=f"{name} is somebody else's, and a run needs this name: take"):
            go(resume=resume)
    assert diary.read_text() == '{"my": "diary"}' and list(tmp_path.iterdir()) in ([out, diary], [diary, out])
    assert (out / name).is_dir() if kind == "folder" else (out / name).read_text() == diary.read_text()


def test_a_folder_that_holds_more_than_a_run_is_not_set_aside(go, out, tmp_path, monkeypatch):
    """Its advice leads on: another folder."""
    go(out=out / "inner")
    before = files(out)
    monkeypatch.setattr(LOOP, "_begun", {})
    with pytest.raises(ValueError, match="holds the run inner, too: it is not set aside. Take another folder"):
        go(resume=False)
    monkeypatch.chdir(out / "inner")
    for place in (".", out / "inner"):
        with pytest.raises(ValueError, match="holds more than a run, for you work in it: it is not set aside"):
            go(out=place, resume=False)
    monkeypatch.chdir(tmp_path)
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(out / "inner"))
    with pytest.raises(ValueError, match="holds more than a run"):
        go(out=out / "inner", resume=False)
    assert files(out) == before


def test_the_advice_after_an_interrupt_leads_on(clip, tokenizer, small, tmp_path, monkeypatch):
    """As in notebook 07 with RESUME = False: the second method is interrupted, and its cell is run again."""
    first = run(made(clip, tokenizer, small), small, tmp_path / "first", log=silent, resume=False)
    method = made(clip, tokenizer, small, seed=1)
    learn = method.learn
    monkeypatch.setattr(method, "learn", lambda task: learn(task) if task is small.tasks[0] else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(method, small, tmp_path / "second", log=silent, resume=False)
    with pytest.raises(ValueError, match="make the method anew, and run it again; what is finished lies in"):
        run(method, small, tmp_path / "second", log=silent, resume=False)
    lines = []
    again = run(made(clip, tokenizer, small), small, tmp_path / "first", log=lines.append, resume=False)
    assert (again.values == first.values).all() and "all 3 tasks are done already" in lines[0]
    run(made(clip, tokenizer, small, seed=1), small, tmp_path / "second", log=lines.append, resume=False)
    assert sum("task 1 of 3" in line for line in lines) == 0  # the finished task was not learned again
    assert not list(tmp_path.glob("*.1"))


@pytest.mark.parametrize("change", ["link", "working folder"])
def test_what_is_turned_while_a_run_goes_on_does_not_divide_it(go, out, tmp_path, monkeypatch, change):
    for name in ("other", "new"):
        (tmp_path / name).mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "new")

    def turn(learned):
        if learned == 1 and change == "link":
            link.unlink()
            link.symlink_to(tmp_path / "other")
        elif learned == 1:
            monkeypatch.chdir(tmp_path / "other")

    monkeypatch.chdir(tmp_path)
    go(out="link" if change == "link" else "new", after_task=turn)
    assert not list((tmp_path / "other").iterdir())
    assert (tmp_path / "new/matrix.csv").read_bytes() == (out / "matrix.csv").read_bytes()


def test_a_run_in_the_home_folder(go, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    go(out="~/run")
    assert (tmp_path / "home/run/matrix.csv").exists() and not (tmp_path / "~").exists()


def test_a_folder_that_is_moved_while_a_run_goes_on(go, out, tmp_path):
    new, aside = tmp_path / "new", tmp_path / "aside"
    with pytest.raises(OSError, match="was moved or removed while it was written to: put it back, and the same call"):
        go(out=new, after_task=lambda learned: new.rename(aside))
    assert not new.exists()
    aside.rename(new)
    go(out=new)
    assert (new / "matrix.csv").read_bytes() == (out / "matrix.csv").read_bytes()


@pytest.mark.parametrize("name", ["settings.json", "digests.json", "matrix.csv", "checkpoint.safetensors"])
@pytest.mark.parametrize("kind", ["pipe", "folder", "brackets"])
def test_what_cannot_be_read_in_the_place_of_a_file(go, out, name, kind):
    """A pipe would be waited for, for ever; brackets nested deeply are a RecursionError of their own."""
    (out / name).unlink()
    if kind == "pipe" and not hasattr(os, "mkfifo"):
        pytest.skip("no pipes here")
    {"pipe": getattr(os, "mkfifo", None), "folder": os.mkdir, "brackets": lambda p: p.write_text("[" * 10**5)}[kind](
        out / name
    )
    with pytest.raises(ValueError, match="is damaged|is somebody else's"):
        go()


# B. What counts as the same run.


def other_labels(task):
    images, labels = task.train.tensors
    return replace(task, train=TensorDataset(images, labels.roll(1)))


def other_pixels(task):
    images, labels = task.test.tensors
    images = images.clone()
    images[0, 0, 0, 0] += 0.5
    return replace(task, test=TensorDataset(images, labels))


@pytest.mark.parametrize("change, words", [
    (lambda t: replace(t, classnames=[*t.classnames[1:], t.classnames[0]]), "'digits' have changed"),
    (lambda t: replace(t, templates=["an image of {}."]), "'digits' have changed"),
    (other_labels, "'digits' have changed"),
    (other_pixels, "'digits' have changed"),
])  # fmt: skip
def test_other_data_is_refused(go, out, small, change, words):
    before = files(out)
    with pytest.raises(ValueError, match=f"holds a run of other settings.*{words}.*Take another folder"):
        go(replace(small, tasks=[change(small.tasks[0]), *small.tasks[1:]]))
    assert files(out) == before


def test_another_architecture_with_the_same_weights_is_refused(go, out, clip):
    other = copy.deepcopy(clip)
    for block in other.visual.transformer.resblocks:
        block.mlp.gelu = nn.GELU() if isinstance(block.mlp.gelu, QuickGELU) else QuickGELU()
    with pytest.raises(ValueError, match="the model computes other features than then"):
        go(clip=other)


@pytest.mark.parametrize("name", ["moe-adapters", "zscl", "joint"])
def test_other_data_given_to_the_method_are_refused(clip, tokenizer, small, tmp_path, name):
    def learner(benchmark):
        quick = {"iterations": 2, "batch_size": 8}
        quick |= (
            {"bottleneck": 2, "num_experts": 4, "ddas": {"block": 1, "iterations": 2}} if name == "moe-adapters" else {}
        )
        return make_method(name, clip, tokenizer, **needs(name, benchmark), **quick)

    run(learner(small), small, tmp_path, log=silent)
    images = small.reference.tensors[0] + 0.1
    other = replace(small, reference=TensorDataset(images, torch.zeros(len(images)).long()), tasks=small.tasks[::-1])
    with pytest.raises(ValueError, match=f"the method was given other {'tasks' if name == 'joint' else 'reference'}"):
        run(learner(other), small, tmp_path, log=silent)


def test_a_refusal_says_with_what_the_run_was_begun(go, out, small):
    """Another Pillow draws other images: without its name nobody would think of it."""
    go()
    held = json.loads((out / "settings.json").read_text())
    held["made_with"]["PIL"] = "9.9"
    (out / "settings.json").write_text(json.dumps(held))
    changed = replace(small, tasks=[other_pixels(small.tasks[0]), *small.tasks[1:]])
    with pytest.raises(ValueError, match=r"'digits' have changed\), begun with PIL 9.9 then, \d+.* now. Take another"):
        go(changed)


def test_a_module_among_the_settings_and_what_cannot_be_stored(clip, tokenizer, small, tmp_path):
    def learner(**ddas):
        return made(clip, tokenizer, small, "moe-adapters", ddas={"iterations": 2, **ddas})

    run(learner(features=Flat(1.0)), small, tmp_path / "a", log=silent)
    with pytest.raises(ValueError, match="other settings"):
        run(learner(features=Flat(2.0)), small, tmp_path / "a", log=silent)
    with pytest.raises(ValueError, match="a setting is a complex: take numbers"):
        run(learner(alexnet=1j), small, tmp_path / "b", log=silent)


def test_another_preprocessing_is_refused(go, out, small):
    tasks = [replace(t, test=TensorDataset(t.test.tensors[0] * 1.1, t.test.tensors[1])) for t in small.tasks]
    with pytest.raises(ValueError, match="their preprocessing"):
        go(replace(small, tasks=tasks))


def test_the_same_data_elsewhere_is_the_same_run(go, out, small):
    here, there = (replace(small, settings={**small.settings, "root": str(Path(p).absolute())}) for p in ("a", "b"))
    go(here, out.with_name("moved"))
    lines = []
    go(there, out.with_name("moved"), log=lines.append)
    assert "all 3 tasks are done already" in lines[0]


@pytest.mark.parametrize("settings, words", [
    ({"seed": 1}, "method_settings.seed: 0 there, 1 now"), ({"learning_rate": 0.5}, "method_settings.learning_rate"),
    ({"name": "zero-shot"}, "method: 'adapter-per-task' there, 'zero-shot' now"),
])  # fmt: skip
def test_other_settings_are_named(go, out, settings, words):
    with pytest.raises(ValueError, match=words):
        go(**settings)


@pytest.mark.parametrize(
    "file, change, words",
    [
        ("settings.json", {"outputs": "abc"}, "other features than then"),
        ("settings.json", {"outputs": {"a": 1}}, "other features than then"),
        ("settings.json", {"method_settings": 3}, "method_settings: 3 there"),
        ("settings.json", {"data": None}, "labels, class names or prompts of .digits. have changed"),
        ("digests.json", {"matrix.csv": "abc"}, "digests.json is damaged, or was changed"),
        ("digests.json", {"matrix.csv": ["abc"]}, "digests.json is damaged, or was changed"),
        ("digests.json", {"validation.csv": {"abc": "1"}}, "digests.json is damaged, or was changed"),
    ],
)
def test_notes_edited_by_hand_get_a_sentence(go, out, file, change, words):
    content = json.loads((out / file).read_text(encoding="utf-8"))
    (out / file).write_text(json.dumps(content | change), encoding="utf-8")
    with pytest.raises(ValueError, match=words):
        go()


@pytest.mark.parametrize(
    "name", ["checkpoint.safetensors", "matrix.csv", "validation.csv", "settings.json", "digests.json"]
)
def test_a_folder_in_the_place_of_a_file_gets_a_sentence(go, out, name):
    (out / name).unlink()
    (out / name).mkdir()
    with pytest.raises(ValueError, match=f"{name} is damaged"):
        go()


def test_an_earlier_validation_table_is_too_short(go, out):
    """It is one of this run's own, but lacks the last task: nobody would be told that the task is worse than zero-shot."""
    digests = json.loads((out / "digests.json").read_text(encoding="utf-8"))["validation.csv"]
    assert sorted(digests.values()) == [0, 1, 2, 3]
    table = pd.read_csv(out / "validation.csv", index_col=0)
    table.iloc[2, 1] = float("nan")
    content = table.to_csv(lineterminator="\n").encode()
    assert digests[storage.digest_of(content)] == 2
    (out / "validation.csv").write_bytes(content)
    with pytest.raises(ValueError, match="validation.csv is too short"):
        go()


def test_lost_settings_are_not_made_up(go, out):
    (out / "settings.json").unlink()
    before = files(out)
    for resume in (True, False):
        with pytest.raises(ValueError, match="holds checkpoint.safetensors, matrix.csv.* but no settings.json"):
            go(seed=1, resume=resume)
        assert files(out) == before


def test_settings_edited_to_fit_are_refused(go, out):
    settings = json.loads((out / "settings.json").read_text())
    settings["method_settings"]["seed"] = 1
    (out / "settings.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match="belongs to other settings"):
        go(seed=1)


@pytest.mark.parametrize("name", ["matrix.csv", "validation.csv", "digests.json", "checkpoint.safetensors"])
def test_lost_files_are_named(go, out, name):
    (out / name).unlink()
    with pytest.raises(ValueError, match=rf"{name}|holds results of 3 tasks but a checkpoint of|a checkpoint of 3"):
        go()


def edited(text, place):
    table = pd.read_csv(text, index_col=0, float_precision="round_trip")
    kinds = {
        "a number above 100": lambda t: t.mask(np.eye(len(t), dtype=bool), 150.0),
        "a number below 0": lambda t: t * -1,
        "infinity": lambda t: t.mask(np.eye(len(t), dtype=bool), np.inf),
        "rows exchanged": lambda t: t.iloc[::-1],
        "one digit": lambda t: t + 1e-3,
    }
    return kinds[place](table).to_csv(lineterminator="\n")


@pytest.mark.parametrize("place", ["a number above 100", "a number below 0", "infinity", "rows exchanged", "one digit"])
def test_an_edited_matrix_is_refused(go, out, place):
    (out / "matrix.csv").write_text(edited(out / "matrix.csv", place))
    with pytest.raises(ValueError, match="matrix.csv is damaged, or was changed"):
        go()


def test_a_cut_matrix_is_refused(go, out):
    (out / "matrix.csv").write_bytes((out / "matrix.csv").read_bytes()[:-3])
    with pytest.raises(ValueError, match="matrix.csv is damaged"):
        go()


def test_every_flipped_byte_of_a_checkpoint_is_found(go, out):
    file = out / "checkpoint.safetensors"
    content = file.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    places = np.random.default_rng(0).integers(0, len(content), 20).tolist()
    for place in [*places, 3, 20, header - 5, header, len(content) - 1]:
        damaged = bytearray(content)
        damaged[place] ^= 4
        file.write_bytes(bytes(damaged))
        with pytest.raises(ValueError, match="checkpoint.safetensors is (damaged|no checkpoint of this run)"):
            go()


def test_the_checkpoint_of_another_seed_is_refused(go, out, tmp_path):
    go(out=tmp_path / "other", seed=1)
    (out / "checkpoint.safetensors").write_bytes((tmp_path / "other/checkpoint.safetensors").read_bytes())
    with pytest.raises(ValueError, match="is no checkpoint of this run: it was exchanged"):
        go()


def test_notes_of_a_checkpoint_cannot_be_changed_alone(go, out):
    file = out / "checkpoint.safetensors"
    with safe_open(file, "pt") as saved:
        facts, state = saved.metadata(), {name: saved.get_tensor(name) for name in saved.keys()}
    save_file(state, file, metadata=facts | {"tasks": "2"})
    with pytest.raises(ValueError, match="is damaged: it is not what was written there"):
        go()


def test_a_folder_of_the_first_version_is_refused_with_a_way_on(go, out, monkeypatch):
    settings = json.loads((out / "settings.json").read_text())
    del settings["format"], settings["data"], settings["outputs"]
    (out / "settings.json").write_text(json.dumps(settings))
    (out / "digests.json").unlink()
    with pytest.raises(ValueError, match=r"is no run of this version.*resume=False"):
        go()
    monkeypatch.setattr(LOOP, "_begun", {})
    assert go(resume=False).done == 3 and out.with_name("out.1").is_dir()  # the advice works


def test_other_versions_and_threads_are_told_and_not_refused(go, out):
    settings = json.loads((out / "settings.json").read_text())
    settings["made_with"] |= {"torch": "2.6.0", "threads": 64}
    (out / "settings.json").write_text(json.dumps(settings))
    lines = []
    assert go(log=lines.append).done == 3
    assert "threads 64 then" in lines[0] and "torch 2.6.0 then" in lines[0] and "may differ" in lines[0]


def test_the_code_of_a_method_of_ones_own_is_part_of_the_run(clip, tokenizer, small, tmp_path):
    def own(favourite):
        source = (
            "class Own(Method):\n    name = 'own'\n    learns = False\n    def learn(self, task): pass\n"
            f"    def scores(self, images, task): return torch.eye(len(task.classnames))[[{favourite}] * len(images)]\n"
        )
        names = {"Method": Method, "torch": torch, "__name__": "__main__"}
        exec(source, names)
        return names["Own"](clip, tokenizer)

    run(own(0), small, tmp_path, log=silent)
    run(own(0), small, tmp_path, log=silent)
    with pytest.raises(ValueError, match="method_code"):
        run(own(1), small, tmp_path, log=silent)


# One writer at a time.

WRITER = """
import sys, time
sys.path.insert(0, {tests!r})
from helpers import Flat, silent
from mini_lib import load_clip, make_method, mini_mtil, run
clip, _, tokenizer = load_clip("tiny", None)
benchmark = mini_mtil(train_per_class=5, test_per_class=1)
method = make_method("zero-shot", clip, tokenizer)
def wait(learned):
    print("writing", flush=True)
    time.sleep(60)
run(method, benchmark, {out!r}, log=silent, after_task=wait)
"""


def test_a_second_writer_is_refused_and_a_dead_one_is_no_hindrance(go, tmp_path):
    out = tmp_path / "shared"
    code = WRITER.format(tests=str(Path(__file__).parent), out=str(out))
    first = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert first.stdout.readline() == "writing\n"
        before = files(out)
        for resume in (True, False):
            with pytest.raises(ValueError, match=f"is being written to by process {first.pid} on .*, since"):
                go(out=out, resume=resume)
        assert files(out) == before
    finally:
        first.kill()
        first.wait()
    with pytest.raises(ValueError, match="holds a run of other settings"):  # no longer: is being written to
        go(out=out)
    assert go(out=tmp_path / "elsewhere").done == 3


def test_two_runs_of_one_process_do_not_share_a_folder(clip, tokenizer, small, tmp_path):
    def second(learned):
        run(made(clip, tokenizer, small), small, tmp_path, log=silent)

    with pytest.raises(ValueError, match=f"by process {os.getpid()} on"):
        run(made(clip, tokenizer, small), small, tmp_path, log=silent, after_task=second)


# C. Durability.


def test_files_are_flushed_before_they_take_their_names(go, tmp_path, monkeypatch):
    done, fsync, rename = [], os.fsync, os.replace

    def note_fsync(handle):
        done.append("folder" if os.path.isdir(f"/proc/self/fd/{handle}") else "file")
        fsync(handle)

    def note_rename(a, b):
        done.append("rename")
        rename(a, b)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", note_rename)
    go()
    assert len(done) % 3 == 0 and len(done) >= 3 * 10
    kinds = {tuple(done[i : i + 3]) for i in range(0, len(done), 3)}
    assert kinds == {("file", "rename", "folder")} if sys.platform == "linux" else kinds


def test_what_a_kill_left_is_swept(go, out):
    for name in (f"{storage.PART}checkpoint.safetensors-abc", f"{storage.PART}matrix.csv-def"):
        (out / name).mkdir()
        (out / name / "checkpoint.safetensors").write_bytes(b"half")
    (out / ".part-two").mkdir()
    (out / ".part-two/of_my_thesis.tex").write_text("ten years")
    go()
    assert not list(out.glob(f"{storage.PART}*")) and (out / ".part-two/of_my_thesis.tex").read_text() == "ten years"
    left = [out / f"{storage.PART}{name}-abc" for name in ("a[1].csv", "b.csv")]
    for folder in left:
        folder.mkdir()
    storage.sweep(out, "a[1].csv")
    assert [folder.exists() for folder in left] == [False, True]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
def test_modes_follow_the_umask(go, tmp_path):
    before = os.umask(0o027)
    try:
        go()
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "out").iterdir() if path.name != "lock"}
    assert set(modes.values()) == {0o640} and "checkpoint.safetensors" in modes


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="a folder that cannot be written to")
def test_a_read_only_folder_gets_a_sentence(go, out):
    out.chmod(0o500)
    try:
        with pytest.raises(OSError, match=r"cannot be written.*[Tt]ake another folder"):
            go(seed=1)
    finally:
        out.chmod(0o700)


def test_an_unwritable_place_gets_the_sentence_and_not_the_cleaning_s_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="cannot be written .*finished tasks are kept"):
        storage.replace_file(tmp_path / "file" / "matrix.csv", lambda path: path.write_text("x"))


def test_a_disk_that_becomes_read_only_does_not_hide_the_sentence(tmp_path, monkeypatch):
    def refused(*a, **k):
        raise OSError(30, "Read-only file system")

    with pytest.raises(ValueError, match="the sentence"), storage.one_writer(tmp_path):
        monkeypatch.setattr(Path, "unlink", refused)
        raise ValueError("the sentence")
    monkeypatch.undo()
    with storage.one_writer(tmp_path):  # the lock is free again
        pass
    assert not (tmp_path / "running.json").exists()


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real/a.csv").write_text("old")
    (tmp_path / "a.csv").symlink_to(tmp_path / "real/a.csv")
    storage.replace_file(tmp_path / "a.csv", lambda path: path.write_text("new"))
    assert (tmp_path / "a.csv").is_symlink() and (tmp_path / "real/a.csv").read_text() == "new"


def test_the_csv_gives_back_every_bit_and_every_name(tmp_path):
    values = np.random.default_rng(0).random((6, 6)) * 100
    names = ["after", "01", "NA", "2019-01-02", 'a "b", c', "Ä"]
    AccuracyMatrix(names, values).frame().to_csv(tmp_path / "a.csv", encoding="utf-8")
    read = AccuracyMatrix.from_csv(tmp_path / "a.csv")
    assert (read.values == values).all() and read.tasks == names
    for text in ("", "after,a\na,1,2\n", "after,a\na,x\n"):
        (tmp_path / "a.csv").write_text(text)
        with pytest.raises(ValueError):
            AccuracyMatrix.from_csv(tmp_path / "a.csv")


def test_tasks_with_names_like_numbers(clip, tokenizer, small, tmp_path):
    tasks = [replace(task, name=name) for task, name in zip(small.tasks, ("01", "2019", "NA"))]
    benchmark = replace(small, tasks=tasks)
    run(made(clip, tokenizer, benchmark), benchmark, tmp_path, log=silent)
    table = LOOP.read_table(tmp_path / "validation.csv")
    assert list(table.index) == ["01", "2019", "NA"] and table.notna().all(axis=None)
    lines = []
    run(made(clip, tokenizer, benchmark), benchmark, tmp_path, log=lines.append)
    assert "all 3 tasks are done already" in lines[0]


# D. Wrong numbers.


@pytest.mark.parametrize("change, words", [
    (lambda y: y[:, None], r"one whole number an image.*\(40, 1\)"), (lambda y: y + 1, "labels from 1 to 10"),
    (lambda y: y - 1, "labels from -1"), (lambda y: y.float(), "torch.float32"), (lambda y: y > 3, "torch.bool"),
    (lambda y: nn.functional.one_hot(y), r"\(40, 10\)"),
])  # fmt: skip
def test_labels_that_cannot_be_compared_are_refused(clip, tokenizer, small, change, words):
    images, labels = small.tasks[0].test.tensors
    with pytest.raises(ValueError, match=f"task 'digits'.*{words}|{words}"):
        evaluate(made(clip, tokenizer, small, "zero-shot"), small.tasks[0], TensorDataset(images, change(labels)))


def test_text_labels_are_refused(clip, tokenizer, small):
    dataset = [(image, "zero") for image in small.tasks[0].test.tensors[0]]
    with pytest.raises(ValueError, match="one whole number an image"):
        evaluate(made(clip, tokenizer, small, "zero-shot"), small.tasks[0], dataset)


def test_a_task_below_zero_shot_is_told_on_screen_and_in_the_folder(clip, tokenizer, small, tmp_path):
    class Backwards(Method):
        name = "backwards"

        def learn(self, task):
            pass

        def scores(self, images, task):
            return -(self.clip.encode_image(images) @ self.embeddings(task, self.clip.encode_text).T)

    lines = []
    run(Backwards(clip, tokenizer), small, tmp_path, log=lines.append)
    table = pd.read_csv(tmp_path / "validation.csv", index_col="task")
    below = table[table["learned"] < table["zero-shot"]]
    warned = [line for line in lines if "WARNING" in line]
    assert len(below) > 0 and len(warned) == sum(
        row["learned"] < row["zero-shot"] or row["learned"] <= 100 / len(task.classnames)
        for task, (_, row) in zip(small.tasks, table.iterrows())
    )
    warned_below = [line for line in warned if "by zero-shot" in line]
    assert len(warned_below) == len(below)
    task, row = next(below.iterrows())
    assert (
        f"{task}: after it was learned, {row['learned']:.1f} %" in warned_below[0]
        and f"{row['zero-shot']:.1f} %" in warned_below[0]
    )
    assert LOOP.worse_than_zero_shot(tmp_path) == [line.removeprefix("backwards: WARNING: ") for line in warned]
    again = []
    run(Backwards(clip, tokenizer), small, tmp_path, log=again.append)
    assert again[1:] == warned


def test_the_warning_names_the_rate_of_the_task(go, out):
    table = pd.read_csv(out / "validation.csv", index_col=0)
    table["zero-shot"], table["learned"] = 50.0, [40.0, 60.0, 50.0]
    table.to_csv(out / "validation.csv")
    assert LOOP.worse_than_zero_shot(out) == [
        "digits: after it was learned, 40.0 % of its validation images are right, 50.0 % by zero-shot: lower learning_rate, "
        "here 0.02."
    ]


def test_one_name_for_all_images_is_told_where_zero_shot_guesses_too(go, out, small):
    """With a far too high rate photographs of four kinds end at 25 %, and zero-shot had 15 %."""
    table, (first, second, _) = pd.read_csv(out / "validation.csv", index_col=0), small.tasks
    guess = 100 / len(first.classnames)
    table["zero-shot"], table["learned"] = 5.0, [guess, 100 / len(second.classnames) + 1, np.nan]
    table.to_csv(out / "validation.csv")
    assert LOOP.worse_than_zero_shot(out) == [
        f"digits: after it was learned, {guess:.1f} % of its validation images are right, {guess:.1f} % by guessing among "
        f"{len(first.classnames)} names: lower learning_rate, here 0.02."
    ]


def test_zero_shot_and_validation_by_hand(clip, tokenizer, small, tmp_path):
    run(made(clip, tokenizer, small), small, tmp_path, log=silent)
    table = pd.read_csv(tmp_path / "validation.csv", index_col="task", float_precision="round_trip")
    judge = made(clip, tokenizer, small, "zero-shot")
    assert table["zero-shot"].tolist() == [evaluate(judge, task, task.val)[0] for task in small.tasks]
    learner = made(clip, tokenizer, small)
    learner.learn(small.tasks[0])
    assert table["learned"].iloc[0] == evaluate(learner, small.tasks[0], small.tasks[0].val)[0]


# D. Numbers that would be wrong, and errors that come before hours of work.


def of_size(task, part, change):
    images, labels = getattr(task, part).tensors
    return replace(task, **{part: TensorDataset(change(images), labels)})


@pytest.mark.parametrize("part", ["train", "val", "test"])
@pytest.mark.parametrize(
    "change", [lambda x: x[..., :24], lambda x: x[:, :1], lambda x: x.permute(0, 2, 3, 1), lambda x: (x * 9).byte()]
)
def test_images_that_the_clip_does_not_take_are_told_before_anything_is_learned(go, tmp_path, small, part, change):
    last = of_size(small.tasks[2], part, change)
    other = replace(small, tasks=[*small.tasks[:2], last])
    with pytest.raises(ValueError, match=f"the {part} images of task '{last.name}' are torch.*this CLIP takes"):
        go(benchmark=other)
    assert not (tmp_path / "out").exists()


class Own(Dataset):
    """Somebody's own data set, whose labels are known only when it is read."""

    def __init__(self, dataset, label):
        self.dataset, self.label = dataset, label

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, place):
        image, label = self.dataset[place]
        return image, self.label(int(label))


@pytest.mark.parametrize("part", ["train", "val", "test"])
@pytest.mark.parametrize("label, words", [
    (lambda y: y + 1, "has labels from 1 to 10, but there are 10 class names"), (lambda y: y - 1, "has labels from -1"),
    (str, "are <U1 of shape"), (lambda y: None, "are object"), (float, "are float64"), (lambda y: [y], r"of shape \(\d+, 1\)"),
    (lambda y: np.eye(10)[y], r"of shape \(\d+, 10\)"), (lambda y: y if y else "0", "are <U1 of shape"), (lambda y: y > 3, "are bool"),
    (lambda y: np.int32(y), "are int32"),
])  # fmt: skip
def test_labels_of_ones_own_data_sets_are_looked_at_before_anything_is_learned(go, tmp_path, small, part, label, words):
    last = replace(small.tasks[2], **{part: Own(getattr(small.tasks[2], part), label)})
    with pytest.raises(ValueError, match=f"task '{last.name}': .*{part}.*{words}"):
        go(benchmark=replace(small, tasks=[*small.tasks[:2], last]))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("label", [int, np.int64, torch.tensor])
def test_labels_of_ones_own_data_sets_that_are_right(go, small, label):
    task = replace(small.tasks[0], train=Own(small.tasks[0].train, label), test=Own(small.tasks[0].test, label))
    assert go(benchmark=replace(small, tasks=[task])).done == 1


@pytest.mark.parametrize("name, settings, change, words", [
    ("moe-adapters", {}, {"val": None}, "DDAS sets a limit .* none of sketch: keep some apart"),
    ("adapter-per-task", {"selector": "gaussian"}, {"val": None}, "GaussianSelector sets a limit .* none of sketch"),
    ("adapter-per-task", {}, {"train": None}, "'sketch' has no train images"),
    ("zero-shot", {}, {"test": None}, "'sketch' has no test images"),
])  # fmt: skip
def test_what_the_last_task_lacks_is_told_before_the_first_is_learned(
    go, tmp_path, small, name, settings, change, words
):
    other = replace(small, tasks=[*small.tasks[:2], replace(small.tasks[2], **change)])
    with pytest.raises(ValueError, match=words):
        go(benchmark=other, name=name, **settings)
    assert not (tmp_path / "out").exists()


def test_a_threshold_needs_no_validation_images(go, small):
    other = replace(small, tasks=[replace(small.tasks[0], val=None)])
    go(benchmark=other, name="moe-adapters", ddas={"threshold": 0.0, "iterations": 2})


def test_reference_images_of_another_size_are_told_before_anything_is_learned(go, tmp_path, small):
    other = replace(small, reference=TensorDataset(torch.zeros(4, 3, 24, 24), torch.zeros(4).long()))
    with pytest.raises(ValueError, match="the reference images are torch.float32 of shape .*this CLIP takes"):
        go(benchmark=other, name="adapter-per-task", selector="gaussian")
    assert not (tmp_path / "out").exists()


def test_evaluation_tells_of_images_that_the_clip_does_not_take(clip, tokenizer, small):
    method = made(clip, tokenizer, small, name="zero-shot")
    with pytest.raises(ValueError, match="images of task 'digits' are torch.float32 of shape .*: prepare them with"):
        evaluate(method, of_size(small.tasks[0], "test", lambda x: x[..., :24]))


@pytest.mark.parametrize("name", ["zero-shot", "moe-adapters", "adapter-per-task"])
def test_a_task_of_the_same_name_with_other_words_is_another_task(clip, tokenizer, small, name):
    """Its prompts are not taken from memory."""
    method, task = made(clip, tokenizer, small, name=name), small.tasks[0]
    method.learn(task)
    images = torch.stack([task.test[i][0] for i in range(8)])
    before = method.scores(images, task)
    turned = method.scores(images, replace(task, classnames=task.classnames[::-1]))
    assert torch.allclose(turned, before.flip(1), atol=1e-5)
    assert not torch.allclose(
        method.scores(images, replace(task, templates=["a bad sketch of the {}, seen twice"])), before
    )
    assert torch.equal(method.scores(images, task), before)
