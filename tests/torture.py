"""Kills at any moment, and what is there afterwards: `make torture`. A small form of it is test_torture.py.

A process is killed (SIGKILL, as by a power cut) at a moment drawn from a seed: after some time, or just before or after it
flushes or renames a file, or with half of a checkpoint written. It is started again until it ends. What it leaves must be,
byte for byte, what an undisturbed process leaves. Linux and macOS: it needs fork.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, redirect_stdout
from functools import cache, partial
from itertools import cycle, islice
from multiprocessing import get_context
from pathlib import Path

import nbformat
import open_clip
import pandas as pd
import torch
from helpers import silent
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from safetensors import safe_open

from mini_lib import METHODS, cil, make_method, mini_mtil, run
from mini_lib.embedded import files, pretrain, storage, tiny
from mini_lib.methods import needs
from mini_lib.studies import compare
from mini_lib.studies.contestants import Study

LOOP = sys.modules["mini_lib.run"]
FOLDER = sys.modules["mini_lib.embedded.run_folder"]
QUICK = {"iterations": 2, "batch_size": 4}
SETTINGS = {
    "zero-shot": {}, "analytic": {"hidden": 10}, "icarl": QUICK | {"memory": 6}, "zscl": QUICK | {"average_every": 1},
    "adapter-per-task": QUICK | {"bottleneck": 2}, "nearest-mean": {}, "codyra": QUICK | {"rank": 2},
    "diki": QUICK | {"length": 2, "gaussian": {"blocks": [0]}}, "lada": QUICK | {"memories": 2, "prototypes": 1},
    "moe-adapters++": QUICK | {"bottleneck": 2, "max_experts": 4},
    "moe-adapters": QUICK | {"bottleneck": 2, "num_experts": 4, "ddas": {"block": 0, "iterations": 2}},
}  # fmt: skip
CIL = {"moe-adapters": {"shared_router": True, "selector": "none"}}  # as in notebook 09


def in_a_child(work):
    """Run work() in a forked process; returns its pid."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            with open(os.devnull, "w") as nothing, redirect_stdout(nothing):
                work()
            status = 0
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        finally:
            os._exit(status)
    return pid


def in_a_group(work):
    """As in_a_child, and the head of a group of its own, with the processes that it starts."""
    pid = in_a_child(work)
    os.setpgid(pid, pid)
    return pid


def count_or_kill(at, log):
    """Have os.fsync, os.replace and save_file of the loop counted; at number `at` the process dies. log: all their names."""
    done = 0

    def watched(name, function):
        def call(*arguments, **named):
            nonlocal done
            done += 1
            if log:
                with open(log, "a") as file:
                    file.write(f"{name}\n")
            if done == at and name == "save_file":
                function(*arguments, **named)
                os.truncate(arguments[1], os.path.getsize(arguments[1]) // 2)
            if done == at:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **named)

        return call

    os.fsync, os.replace = watched("fsync", os.fsync), watched("replace", os.replace)
    FOLDER.save_file = watched("save_file", FOLDER.save_file)


def contents(folder):
    """What a run left, but for the seconds that it took: file -> bytes, or tensors."""
    found = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = str(path.relative_to(folder))
        if path.suffix == ".safetensors":
            with safe_open(path, "pt") as saved:
                facts = {k: v for k, v in saved.metadata().items() if k not in ("seconds", "digest")}
                state = {k: saved.get_tensor(k) for k in saved.keys()}
            found[name] = json.dumps(facts, sort_keys=True), {k: v.tolist() for k, v in state.items()}
        elif path.name != storage.LOCK:
            found[name] = path.read_bytes()
    return found


@cache
def stream(seed=0, order=1):
    """A stream of three tasks; drawn once, also for the processes that are forked."""
    mtil = mini_mtil(train_per_class=5, test_per_class=1)
    mtil.tasks = mtil.tasks[:3]
    return mtil


def streams():
    """Both kinds of stream, small: name -> benchmark."""
    steps = cil("mini", steps=10)
    steps.tasks = steps.tasks[:3]
    return {"mini": stream(), "cil": steps}


def campaign(kills, seed, folder, log=print):
    """`kills` kills, spread over all methods and both kinds of stream; returns {what: number of kills}. Asserts the promise."""
    torch.set_num_threads(1)
    clip = tiny.build(width=64, vision_layers=1, text_layers=1).requires_grad_(False).eval()
    tokenizer, draw = open_clip.get_tokenizer("ViT-B-32"), random.Random(seed)
    benchmarks = streams()
    jobs = [(name, kind) for name in METHODS for kind in benchmarks if possible(name, kind)]
    draw.shuffle(jobs)
    whole, counts, seconds, killed = {}, {}, {}, dict.fromkeys(jobs, 0)

    def work(name, kind, out):
        settings = SETTINGS.get(name, QUICK) | (CIL.get(name, {}) if kind == "cil" else {})
        method = make_method(name, clip, tokenizer, **needs(name, benchmarks[kind]), **settings)
        run(method, benchmarks[kind], out, log=silent)

    def start(name, kind, out, at=None, counted=None):
        def child():
            count_or_kill(at, counted)
            work(name, kind, out)

        return in_a_child(child)

    for number, job in enumerate(islice(cycle(jobs), kills)):
        what = "{} on {}".format(*job)
        if job not in whole:
            out, counted, began = folder / f"whole-{job[0]}-{job[1]}", folder / "counted", time.monotonic()
            counted.unlink(missing_ok=True)
            assert os.waitpid(start(*job, out, counted=counted), 0)[1] == 0, what
            whole[job], seconds[job] = contents(out), time.monotonic() - began
            counts[job] = len(counted.read_text().split())
        out = folder / f"{number}-{job[0]}-{job[1]}"
        for _ in range(draw.choice((1, 1, 2))):  # some are killed again while they go on
            if draw.random() < 0.3:
                pid = start(*job, out)
                time.sleep(draw.random() * seconds[job])
                os.kill(pid, signal.SIGKILL)
            else:
                pid = start(*job, out, at=draw.randint(1, counts[job]))
            status = os.waitpid(pid, 0)[1]
            killed[job] += os.WIFSIGNALED(status)
        assert os.waitpid(start(*job, out), 0)[1] == 0, f"{what}: kill {number} of seed {seed} left what cannot go on"
        assert contents(out) == whole[job], f"{what}: kill {number} of seed {seed} ends in other files"
        log(f"{number + 1} of {kills}: {what}, the same to the byte")
    return killed


def possible(name, kind):
    """Class-incremental streams refuse methods that are told the task; they have no captions, reference or validation images."""
    lacks = ("zscl", "diki", "moe-adapters++")
    return kind == "mini" or name == "moe-adapters" or not (METHODS[name].knows_tasks or name in lacks)


def pretraining(kills, seed, folder, log=print):
    """The command `pretrain tiny`, much shortened."""
    draw = random.Random(seed)

    def work(out):
        with storage.one_writer(out):
            storage.sweep(out)
            model, rows, facts = pretrain.pretrain(12, batch=8, pairs=64, work=out, save_every=2)
        (out / "weights").mkdir(exist_ok=True)
        files.save(model, rows, {"seed": 0}, out / "weights" / "tiny.safetensors", out / "weights" / "tiny.json")

    def weights(out):
        return {path.name: path.read_bytes() for path in sorted((out / "weights").iterdir())}

    began = time.monotonic()
    assert os.waitpid(in_a_child(partial(work, folder / "whole")), 0)[1] == 0
    seconds, done = time.monotonic() - began, 0
    for number in range(kills):
        out = folder / str(number)
        for _ in range(2):
            pid = in_a_child(partial(work, out))
            time.sleep(draw.random() * seconds)
            os.kill(pid, signal.SIGKILL)
            done += os.WIFSIGNALED(os.waitpid(pid, 0)[1])
        assert os.waitpid(in_a_child(partial(work, out)), 0)[1] == 0
        assert weights(out) == weights(folder / "whole"), f"pretraining: kill {number} of seed {seed}"
        log(f"{number + 1} of {kills}: pretraining, the same to the byte")
    return {"pretraining": done}


SMALL = Study(
    {name: (name, SETTINGS.get(name, QUICK)) for name in ("moe-adapters", "analytic", "zero-shot")},
    orders=(1,), seeds=(0,), file="small.csv", benchmark=stream,
    judges={"moe-adapters": {", known": {"selector": "known"}, ", other": {"block": 0, "iterations": 2}}},
)  # fmt: skip


def comparing(kills, seed, folder, log=print):
    """The command `compare`, with a small study: it alone is killed, or all its processes are."""
    draw = random.Random(seed)

    def pool(workers, context, initializer, max_tasks_per_child):
        return ProcessPoolExecutor(workers, get_context("fork"), initializer)  # importing torch anew takes all the time

    def work(out):
        compare.STUDIES["small"], compare.ProcessPoolExecutor = lambda: SMALL, pool
        compare.run_study("small", work=out / "runs", out=out / "table.csv")

    def result(out):
        table = pd.read_csv(out / "table.csv")
        runs = {name: kept for name, kept in contents(out / "runs").items() if not name.endswith("digests.json")}
        return table.drop(columns=["seconds", "peak_memory_mb"]).to_csv(), runs, names(out)

    def names(out):
        return sorted(str(path.relative_to(out)) for path in out.rglob("*"))

    def emptied(group):
        until = time.monotonic() + 20
        while time.monotonic() < until:
            try:
                os.killpg(group, 0)
            except ProcessLookupError:
                return True
            time.sleep(0.1)
        return False

    stream(0, 1)  # as `compete` asks for it
    began = time.monotonic()
    assert os.waitpid(in_a_child(partial(work, folder / "whole")), 0)[1] == 0
    whole, seconds, done = result(folder / "whole"), time.monotonic() - began, 0
    for number in range(kills):
        out = folder / str(number)
        for _ in range(draw.choice((1, 1, 2))):
            pid, kind = in_a_group(partial(work, out)), draw.choice(("alone", "all", "all"))
            time.sleep(draw.random() * seconds)
            (os.kill if kind == "alone" else os.killpg)(pid, signal.SIGKILL)
            done += os.WIFSIGNALED(os.waitpid(pid, 0)[1])
            assert emptied(pid), f"comparing: kill {number} of seed {seed}, {kind}, left processes"
        assert os.waitpid(in_a_child(partial(work, out)), 0)[1] == 0, f"comparing: kill {number} of seed {seed}"
        assert result(out) == whole, f"comparing: kill {number} of seed {seed} ends in other files"
        log(f"{number + 1} of {kills}: comparing, the same to the byte, but for seconds and megabytes")
    return {"comparing": done}


def assignment(path):
    """The source of a small assignment: 2 points by machine, 5 for a text."""
    base = {"schema_version": 3, "task": False, "locked": False, "grade": False, "solution": False}
    cells = [
        new_code_cell("import math", metadata={"nbgrader": base | {"locked": True, "grade_id": "setup"}}),
        new_code_cell("def twice(x):\n    ### BEGIN SOLUTION\n    return 2 * x\n    ### END SOLUTION"),
        new_code_cell("### BEGIN HIDDEN TESTS\nassert twice(1) == 2\n### END HIDDEN TESTS"),
        new_markdown_cell("A model answer."),
    ]
    marks = {"q1": {"solution": True}, "q1-test": {"grade": True, "locked": True, "points": 2},
             "q2": {"grade": True, "solution": True, "points": 5}}  # fmt: skip
    for cell, (name, one) in zip(cells[1:], marks.items()):
        cell.metadata["nbgrader"] = base | one | {"grade_id": name}
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    nbformat.write(new_notebook(cells=cells, metadata=kernel), path)


def examine(job, files, hidden, seconds, sandbox=None):
    """As isolation.examine, with a process that starts at once in the place of Python with torch; what it finds is known."""
    from mini_lib.course import isolation

    code = "import ctypes, time; ctypes.CDLL(None).prctl(1, 9); time.sleep(0.5)"
    with isolation._folder() as place:
        isolation._run([sys.executable, "-I", "-S", "-c", code], b"", place, seconds, sandbox)
    return isolation.Report(passed={2: "2 * x" in job["cells"][1]["source"]}, ended=True)


def grading_course(kills, seed, folder, log=print):
    """The command `grade`, alone or with its processes; every other time on top of points that were given by hand."""
    from mini_lib.course import grading, isolation, marking  # noqa: F401  (they need the extra `course`, and time to load)

    draw, temporary = random.Random(seed), folder / "tmp"
    temporary.mkdir()
    tempfile.tempdir = str(temporary)
    assignment(folder / "T1_small.ipynb")
    grading.sources = lambda: {"T1": folder / "T1_small.ipynb"}
    isolation.examine = examine
    with isolation._folder():  # loads matplotlib
        pass

    def work(out):
        grading.grade(folder / "submissions", out)

    def graded(out):
        return os.waitpid(in_a_child(partial(work, out)), 0)[1] == 0

    def result(out):
        """All files, and all points."""
        found = {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}
        with closing(sqlite3.connect(out / "gradebook.db")) as database:
            found["gradebook.db"] = database.execute(
                "select student_id, auto_score, manual_score, needs_manual_grade from grade "
                "join submitted_notebook on grade.notebook_id = submitted_notebook.id "
                "join submitted_assignment on submitted_notebook.assignment_id = submitted_assignment.id order by 1, 2, 3"
            ).fetchall()
        ours = sorted(p.name for p in temporary.glob(f"{isolation.PREFIX}*"))  # Jupyter leaves folders of its own there
        return found, ours

    (release,) = grading.make(folder / "release")
    for student, answer in {"ada": "return 2 * x", "bob": "return 3 * x"}.items():
        notebook = nbformat.read(release, 4)
        notebook.cells[1].source = f"def twice(x):\n    {answer}"
        for cell in notebook.cells:  # what is left as it was handed out gets no points without being read
            if cell.cell_type == "markdown" and cell.metadata.get("nbgrader", {}).get("solution"):
                cell.source = "Because it is so."
        place = folder / "submissions" / student / "T1"
        place.mkdir(parents=True)
        nbformat.write(notebook, place / release.name)
    began = time.monotonic()
    assert graded(folder / "whole")
    seconds, done = time.monotonic() - began, 0
    shutil.copytree(folder / "whole", folder / "read")
    with closing(sqlite3.connect(folder / "read/gradebook.db")) as database:
        database.execute("update grade set manual_score = 4, needs_manual_grade = 0 where auto_score is null")
        database.commit()
    shutil.copytree(folder / "read", folder / "whole-read")
    assert graded(folder / "whole-read")
    wholes = result(folder / "whole"), result(folder / "whole-read")
    assert [points for _, points, *_ in wholes[1][0]["gradebook.db"]].count(2) == 1
    assert [hand for *_, hand, _ in wholes[1][0]["gradebook.db"]].count(4) == 2 and not wholes[0][1]
    for number in range(kills):
        out = folder / str(number)
        if number % 2:
            shutil.copytree(folder / "read", out)
        for _ in range(draw.choice((1, 1, 2))):
            pid, kind = in_a_group(partial(work, out)), draw.choice(("alone", "all"))
            time.sleep(draw.random() * seconds)
            (os.kill if kind == "alone" else os.killpg)(pid, signal.SIGKILL)
            done += os.WIFSIGNALED(os.waitpid(pid, 0)[1])
        assert graded(out), f"grading: kill {number} of seed {seed}"
        assert result(out) == wholes[number % 2], f"grading: kill {number} of seed {seed} ends in other files or points"
        log(f"{number + 1} of {kills}: grading, the same to the byte")
    tempfile.tempdir = None
    return {"grading": done}


CAMPAIGNS = {
    "run": (campaign, 48),
    "pretrain": (pretraining, 6),
    "compare": (comparing, 20),
    "grade": (grading_course, 20),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*CAMPAIGNS, []], help="which; all if there are none")
    parser.add_argument("--kills", type=int, help="instead of the usual number of each")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for name in options.names or CAMPAIGNS:
        function, usual = CAMPAIGNS[name]
        with tempfile.TemporaryDirectory() as folder:
            began = time.monotonic()
            killed = function(options.kills or usual, options.seed, Path(folder))
            print(f"{name}: {sum(killed.values())} kills in {time.monotonic() - began:.0f} seconds, no byte changed")


if __name__ == "__main__":
    main()
