"""predict: who answers, among which names, how surely; and the command on files, folders and what cannot be read."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import silent
from PIL import Image
from test_loading import fewer, made

from mini_lib import load_clip, load_run, run
from mini_lib.__main__ import main
from mini_lib.clip import class_embeddings, class_logits, prompts
from mini_lib.methods.predict import Answer, predict, predict_files


@pytest.fixture(autouse=True)
def no_bars(monkeypatch):
    monkeypatch.setenv("TQDM_DISABLE", "1")


@pytest.fixture(scope="module")
def three(drawn):
    """Three tasks, two of which have the same ten class names, and a few reference images."""
    tasks = {task.name: task for task in drawn.tasks}
    chosen = [tasks[name] for name in ("digits", "chalk", "plates")]
    assert chosen[0].classnames == chosen[2].classnames
    return fewer(replace(drawn, tasks=chosen), test=8)


@pytest.fixture(scope="module")
def out(three, tokenizer, tmp_path_factory):
    """A finished run whose CLIP can be loaded again."""
    folder = tmp_path_factory.mktemp("run")
    run(made("analytic", load_clip("tiny")[0], tokenizer, three, selector="gaussian"), three, folder, log=silent)
    return folder


@pytest.fixture
def learned(out):
    return load_run(out)


def loaded(name, clip, tokenizer, benchmark, folder, **settings):
    """A run of a small CLIP, loaded."""
    with torch.enable_grad():
        run(made(name, clip, tokenizer, benchmark, **settings), benchmark, folder, log=silent)
    return load_run(folder, clip, tokenizer)


def some(three, task, count=2):
    return three.tasks[task].test.tensors[0][:count]


def best(scores, names):
    sure, place = scores.softmax(dim=1).max(dim=1)
    return [names[i] for i in place.tolist()], (100 * sure).tolist()


def told(answers):
    return [answer.name for answer in answers], pytest.approx([answer.percent for answer in answers], abs=1e-3)


def by_clip(clip, tokenizer, images, names, templates):
    embeddings = class_embeddings(clip.encode_text, prompts(tokenizer, names, templates))
    return class_logits(clip, clip.encode_image(images), embeddings)


# Who answers, and among which names


@torch.no_grad()
def test_each_picture_is_judged_by_its_task_and_what_is_unknown_among_all_names(
    clip, tokenizer, three, tmp_path, monkeypatch
):
    learned = loaded("adapter-per-task", clip, tokenizer, three, tmp_path, selector="gaussian")
    digits, chalk, plates = learned.tasks
    images = torch.cat([some(three, 0), some(three, 1), some(three, 2)])
    chosen = torch.tensor([0, -1, 1, 1, -1, 0])
    monkeypatch.setattr(learned.method, "select", lambda images, task: chosen)
    answers = predict(learned, images)
    assert [answer.task for answer in answers] == [
        "digits",
        "original CLIP",
        "chalk",
        "chalk",
        "original CLIP",
        "digits",
    ]
    for part, task in ((0, digits), (1, chalk)):
        rows = chosen == part
        scores = learned.method.scores_of(part, images[rows], task)
        assert best(scores, task.classnames) == told([a for a, row in zip(answers, rows) if row])
    rows, logits = chosen == -1, []
    for task in learned.tasks:  # each name in its own task's templates
        logits.append(by_clip(clip, tokenizer, images[rows], task.classnames, task.templates))
    shares = torch.cat(logits, dim=1).softmax(dim=1)
    shares = torch.cat([shares[:, :10] + shares[:, 20:], shares[:, 10:20]], dim=1)  # a name of two tasks counts once
    found = best(shares.log(), [*digits.classnames, *chalk.classnames])
    assert found == told([a for a, row in zip(answers, rows) if row])


@torch.no_grad()
def test_names_that_are_given_take_the_templates_of_who_answers(clip, tokenizer, three, tmp_path, monkeypatch):
    learned = loaded("adapter-per-task", clip, tokenizer, three, tmp_path, selector="gaussian")
    images, names = some(three, 0), ["a dog", "a star"]
    monkeypatch.setattr(learned.method, "select", lambda images, task: torch.tensor([1, -1]))
    answers = predict(learned, images, names=names)
    task = replace(learned.tasks[1], name="two", classnames=names)
    assert best(learned.method.scores_of(1, images[:1], task), names) == told(answers[:1])
    templates = list(dict.fromkeys(t for task in three.tasks for t in task.templates))
    assert best(by_clip(clip, tokenizer, images[1:], names, templates), names) == told(answers[1:])
    assert predict(learned, images, names=names) == answers  # other templates, the same names: nothing is mixed up
    with pytest.raises(ValueError, match="'names given': to CLIP the class names 'a dog' and 'a_dog' are the same"):
        predict(learned, images, names=["a dog", "a_dog"])


@torch.no_grad()
def test_methods_that_are_told_the_task(clip, tokenizer, three, tmp_path):
    learned = loaded("adapter-per-task", clip, tokenizer, three, tmp_path)
    images, chalk = some(three, 1), learned.tasks[1]
    with pytest.raises(ValueError, match=r"must be told the task.*--task NAME.*digits, chalk, plates"):
        predict(learned, images)
    with pytest.raises(ValueError, match="'pets' is not learned: take one of digits, chalk, plates"):
        predict(learned, images, task="pets")
    answers = predict(learned, images, task="chalk")
    assert {answer.task for answer in answers} == {"chalk"}
    assert best(learned.method.scores_of(1, images, chalk), chalk.classnames) == told(answers)


@torch.no_grad()
@pytest.mark.parametrize("name, by, settings", [
    ("fine-tuning", "", {}), ("zero-shot", "original CLIP", {}), ("adapter-per-task", "", {"selector": "none"}),
])  # fmt: skip
def test_methods_that_choose_no_task_judge_among_all_names(clip, tokenizer, three, tmp_path, name, by, settings):
    two = replace(three, tasks=three.tasks[:2])
    learned = loaded(name, clip, tokenizer, two, tmp_path, **settings)
    images = some(two, 0)
    answers = predict(learned, images)
    assert [answer.task for answer in answers] == [by, by]
    scores = torch.cat([learned.method.scores(images, task) for task in two.tasks], dim=1)
    assert best(scores, [name for task in two.tasks for name in task.classnames]) == told(answers)
    (answer, _) = predict(learned, images, task="digits")
    assert answer.task == "digits" and answer.name in two.tasks[0].classnames


def test_a_selector_that_decides_for_a_batch_is_asked_picture_by_picture(learned, three):
    """Else a picture's answer would depend on those beside it."""
    images = torch.cat([some(three, 0, 4), some(three, 1, 4)])
    alone = predict(learned, images)
    assert {answer.task for answer in alone} >= {"digits", "chalk"}
    learned.method.selector.granularity = "batch"
    again = predict(learned, images)
    assert [(answer.task, answer.name) for answer in again] == [(answer.task, answer.name) for answer in alone]


@torch.no_grad()
def test_scores_that_estimate_probabilities_are_taken_so(learned, three):
    task = learned.tasks[1]
    selected = torch.ones(2, dtype=torch.long)
    scores = learned.method.scores(some(three, 1), task, selected).clamp(min=0)
    (first, _) = predict(learned, some(three, 1), task="chalk")
    assert first.percent == pytest.approx(100 * (scores / scores.sum(dim=1, keepdim=True))[0].max().item(), abs=1e-3)
    assert first.percent > 100 * scores.softmax(dim=1)[0].max().item()


# Files


def array(image):
    return ((image.permute(1, 2, 0) + 1) * 127.5).round().byte().numpy()


@pytest.fixture
def pictures(three, tmp_path):
    """Files of one chalk letter: as it is, turned by a note of the camera, with 16 bits; below them one of digits."""
    picture, folder = array(some(three, 1)[0]), tmp_path / "pictures"
    (folder / "below").mkdir(parents=True)
    Image.fromarray(picture).save(folder / "a.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(picture)).save(folder / "b.png", exif=exif)
    Image.fromarray(array(some(three, 0)[0])).save(folder / "below" / "d.png")
    grey = picture[..., 0].astype(np.uint16) * 257
    Image.fromarray(grey).save(folder / "below" / "grey16.png")
    Image.fromarray(picture[..., 0]).save(folder / "below" / "grey8.png")
    return folder


def test_files_are_opened_as_those_of_a_benchmark(learned, three, pictures):
    found = dict(predict_files(learned, [pictures]))
    right = predict(learned, torch.cat([some(three, 1, 1), some(three, 0, 1)]))
    a, b, d, grey16, grey8 = found.values()
    assert [path.name for path in found] == ["a.png", "b.png", "d.png", "grey16.png", "grey8.png"]
    assert a == b and grey8 == grey16
    for one, two in zip((a, d), right):
        assert (one.task, one.name) == (two.task, two.name) and one.percent == pytest.approx(two.percent, abs=1e-3)


def test_what_is_read_in_several_batches_stays_in_order(learned, pictures, monkeypatch):
    whole = list(predict_files(learned, [pictures / "a.png", pictures]))
    assert len(whole) == 5  # a.png once
    monkeypatch.setattr("mini_lib.methods.predict.BATCH", 2)
    for (file, one), (other, two) in zip(predict_files(learned, [pictures]), whole, strict=True):
        assert (file, one.task, one.name) == (other, two.task, two.name)
        assert one.percent == pytest.approx(two.percent, abs=1e-3)


def test_the_command_answers_the_rest_and_names_what_is_bad_at_the_end(out, learned, pictures, capsys, tmp_path):
    (pictures / "below" / "cut.png").write_bytes((pictures / "a.png").read_bytes()[:80])
    (pictures / "notes.txt").write_text("no picture")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "one.heic").write_bytes(b"?")
    asked = [str(pictures), "nowhere.jpg", str(pictures / "notes.txt"), str(tmp_path / "empty")]
    assert main(["predict", str(out), *asked, "--csv", str(tmp_path / "answers.csv")]) == 1
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert [line.split(": ")[0] for line in lines] == [
        str(pictures / name) for name in ("a.png", "b.png", "below/d.png", "below/grey16.png", "below/grey8.png")
    ]
    answer = predict(learned, torch.stack([learned.preprocess(Image.open(pictures / "a.png"))]))[0]
    assert lines[0].endswith(f": {answer.name}, {answer.percent:.1f} % ({answer.task})")
    first, *bad = printed.err.splitlines()
    assert first == "4 of what was asked about cannot be read:" and len(bad) == 4
    text = "\n".join(bad)
    for words in ("cut.png (", "nowhere.jpg (No such file", "notes.txt (it is no kind of image", "empty (it holds no"):
        assert words in text
    assert "1 .heic. Convert .heic to .jpg" in text
    with (tmp_path / "answers.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0] == {
        "file": str(pictures / "a.png"), "task": answer.task, "name": answer.name, "percent": f"{answer.percent:.2f}"
    }  # fmt: skip
    assert len(rows) == 5
    assert main(["predict", str(out), str(pictures / "a.png"), "--csv", str(tmp_path / "answers.csv")]) == 0
    assert len((tmp_path / "answers.csv").read_text(encoding="utf-8").splitlines()) == 2  # earlier answers are replaced


def test_the_command_takes_names_and_a_task(out, pictures, capsys):
    picture = str(pictures / "a.png")
    assert main(["predict", str(out), picture, "--names", "a dog, a cat,", "--task", "plates"]) == 0
    printed = capsys.readouterr()
    assert printed.out.endswith(" % (plates)\n") and printed.err == ""
    assert any(f": {name}, " in printed.out for name in ("a dog", "a cat"))
    for options, words in (
        (["--names", ","], "one class name at least is needed"),
        (["--task", "pets"], "'pets' is not learned"),
        (["--csv", str(pictures / "none" / "a.csv")], "No such file or directory"),
        (["--csv", picture], "a.png holds something else than answers, and would be replaced: take another --csv"),
    ):
        with pytest.raises(SystemExit, match=words):
            main(["predict", str(out), picture, *options])
    assert Image.open(picture).load()  # it is still there


def test_without_preprocessing_files_are_refused(clip, tokenizer, three, tmp_path):
    learned = loaded("zero-shot", clip, tokenizer, three, tmp_path)
    with pytest.raises(ValueError, match="pass load_run the preprocess="):
        next(predict_files(learned, ["a.png"]))
    given = load_run(tmp_path, clip, tokenizer, load_clip("tiny", pretrained=None)[1])
    assert next(predict_files(given, ["nowhere.png"]))[1] == "No such file or directory"


def test_a_class_incremental_run_is_asked_among_the_classes_of_all_steps(clip, tokenizer, three, tmp_path):
    settings = json.loads(json.dumps(three.settings))
    steps = replace(three, tasks=three.tasks[:2], settings=settings)
    learned = loaded("moe-adapters", clip, tokenizer, steps, tmp_path, selector="none", shared_router=True)
    (answer,) = predict(learned, some(steps, 0, 1))
    assert isinstance(answer, Answer) and answer.task == ""
    assert predict(learned, some(steps, 0, 1), task="chalk")[0].name in steps.tasks[1].classnames
