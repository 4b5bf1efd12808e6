"""Class-incremental streams: which classes come when, what is tested among what, and how the two means are taken."""

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import ROOT, silent

from mini_lib import AccuracyMatrix, cil, evaluate, load_clip, make_method, run
from mini_lib.benchmarks import fixtures
from mini_lib.benchmarks.cil import TEMPLATE, seen_accuracy
from mini_lib.course import execute
from mini_lib.methods import Method


@pytest.fixture(scope="module")
def mini():
    return cil("mini", steps=5, val_part=0.2)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Stand-ins for the real data, all classes, one or two images of each."""
    root = tmp_path_factory.mktemp("cil")
    rng = np.random.default_rng(0)
    for name in ("cifar100", "tinyimagenet"):
        names = [
            *fixtures.NAMES[name],
            *(fixtures._made_up(name, i) for i in range(3, 100 if name == "cifar100" else 200)),
        ]
        rows = {part: [(i, c) for c in range(len(names)) for i in range(2)] for part in ("train", "test")}
        fixtures.WRITERS[name](root, names, rows, lambda number, size=16: fixtures.draw(number, size, rng))
    return root


@pytest.fixture(scope="module")
def preprocess():
    return load_clip("tiny", pretrained=None)[1]


def varies(dataset):
    """Are the images cropped anew? (Of 32 pixels a crop leaves 30 to 32, so a single image can come out the same.)"""
    one, two = (torch.stack([dataset[i][0] for i in range(10)]) for _ in range(2))
    return not torch.equal(one, two)


def test_mini_has_every_class_once(mini):
    assert [task.name for task in mini.tasks] == [f"step {i}" for i in range(1, 6)]
    names = [name for task in mini.tasks for name in task.classnames]
    assert len(set(names)) == 30 and {"letter A", "star", "red thing"} <= set(names)
    for task in mini.tasks:
        assert task.templates == [TEMPLATE] == ["a bad photo of a {}."]
        assert [len(part) for part in (task.train, task.val, task.test)] == [600, 150, 240]
        assert np.bincount(task.train.labels).tolist() == [100] * 6
        assert task.test[0][0].shape == (3, 32, 32)
        assert varies(task.train) and not varies(task.val) and not varies(task.test)
    assert cil("mini", steps=10).tasks[0].val is None


def test_mini_follows_its_seed(mini):
    again, other = cil("mini", steps=5, val_part=0.2), cil("mini", steps=5, val_part=0.2, seed=1)
    assert again.settings == mini.settings and other.settings["order"] != mini.settings["order"]
    assert torch.equal(again.tasks[2].test[7][0], mini.tasks[2].test[7][0])


def test_labels_stay_with_their_images_whatever_the_order(mini, tmp_path):
    """The images of a class are the same ones under its name in every order."""
    file = tmp_path / "order.txt"
    file.write_text("\n".join(map(str, reversed(range(30)))))
    turned = cil("mini", steps=5, class_order=file)
    assert turned.tasks[0].classnames[0] == "grey thing" and turned.tasks[-1].classnames[-1] == "letter A"

    def by_name(benchmark):
        found = {}
        for task in benchmark.tasks:
            for image, label in zip(task.test.images, task.test.labels):
                found.setdefault(task.classnames[label], []).append(image.tobytes())
        return found

    assert by_name(turned) == by_name(mini)


def test_all_classes_seen_compete_and_no_others(mini):
    first, second, third = mini.tested(3)
    assert len(mini.tested(1)) == 1 and len(mini.tested(5)) == 5
    assert first.name == third.name == "the names of 3 tasks" and first.train is None
    assert first.classnames == [name for task in mini.tasks[:3] for name in task.classnames]
    assert [label for _, label in first.test] == mini.tasks[0].test.labels
    assert {label for _, label in third.test} == set(range(12, 18)) == {label for _, label in third.val}
    for i in (0, 239):
        image, label = third.test[i]
        assert torch.equal(image, mini.tasks[2].test[i][0])
        assert third.classnames[label] == mini.tasks[2].classnames[mini.tasks[2].test[i][1]]


def test_seen_accuracy_counts_every_image_alike():
    matrix = AccuracyMatrix(["base", "step 1", "step 2"], [[90, np.nan, np.nan], [60, 80, np.nan], [50, 40, 70]])
    sizes = [100, 50, 50]
    assert seen_accuracy(matrix, sizes).tolist() == pytest.approx([90, (60 * 100 + 80 * 50) / 150, 52.5])
    assert matrix.forgetting == pytest.approx((40 + 40) / 2)
    matrix = AccuracyMatrix(["a", "b"], [[90, np.nan]])
    assert seen_accuracy(matrix, [1, 1])[0] == 90 and np.isnan(seen_accuracy(matrix, [1, 1])[1])


def test_seen_accuracy_is_the_accuracy_over_all_images(mini, tokenizer, tmp_path):
    clip = load_clip("tiny")[0]
    zero_shot = make_method("zero-shot", clip, tokenizer)
    matrix = run(zero_shot, mini, tmp_path, log=silent)
    assert (np.isnan(matrix.values) == np.triu(np.ones((5, 5), bool), 1)).all()
    everything = mini.tested(5)
    one = torch.utils.data.ConcatDataset([task.test for task in everything])
    sizes = [len(task.test) for task in mini.tasks]
    assert seen_accuracy(matrix, sizes)[-1] == pytest.approx(evaluate(zero_shot, everything[0], one)[0])
    again = AccuracyMatrix.from_csv(tmp_path / "matrix.csv")
    assert np.array_equal(again.values, matrix.values, equal_nan=True) and again.done == 5


@pytest.mark.parametrize("name", ["adapter-per-task", "model-per-task"])
def test_methods_that_are_told_the_task_are_refused(mini, clip, tokenizer, tmp_path, name):
    with pytest.raises(
        ValueError, match="judges an image by the name of its task, which nobody tells where the candidates are 'seen'"
    ):
        run(make_method(name, clip, tokenizer), mini, tmp_path, log=silent)


SHARED = {
    "num_experts": 2, "freeze": 0, "shared_router": True, "selector": "none", "label_smoothing": 0.0, "iterations": 2,
    "batch_size": 8, "bottleneck": 4, "warmup": 30,
}  # fmt: skip


def test_interrupted_run_ends_in_the_same_numbers_even_where_evaluation_is_random(
    clip, tokenizer, tmp_path, monkeypatch
):
    benchmark = cil("mini", steps=5, evaluation_crops=True)
    benchmark.tasks = benchmark.tasks[:3]

    def learner():
        return make_method("moe-adapters", clip, tokenizer, noise_at_evaluation=True, **SHARED)

    whole = run(learner(), benchmark, tmp_path / "whole", log=silent)
    assert run(learner(), benchmark, tmp_path / "twin", log=silent).frame().equals(whole.frame())

    def stop(learned):
        if learned == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(learner(), benchmark, tmp_path / "parts", log=silent, after_task=stop)
    assert run(learner(), benchmark, tmp_path / "parts", log=silent).frame().equals(whole.frame())


def test_each_test_image_is_judged_once_a_step(mini, clip, tokenizer, tmp_path):
    seen = []

    class Counting(Method):
        def learn(self, task):
            seen.append(0)

        def scores(self, images, task):
            seen[-1] += len(images)
            return torch.zeros(len(images), len(task.classnames))

    run(Counting(clip, tokenizer), mini, tmp_path, log=silent)
    assert seen == [tested + 150 for tested in (240, 480, 720, 960, 1200)]  # and the newest step's validation images


def test_evaluation_crops():
    benchmark = cil("mini", steps=5, evaluation_crops=True, val_part=0.2)
    assert varies(benchmark.tested(2)[1].test) and varies(benchmark.tasks[0].val)


@pytest.mark.parametrize("name, steps, sizes", [
    ("cifar100", 10, [10] * 10), ("cifar100", 20, [5] * 20), ("cifar100", 50, [2] * 50),
    ("tinyimagenet", 5, [100] + [20] * 5), ("tinyimagenet", 10, [100] + [10] * 10),
    ("tinyimagenet", 20, [100] + [5] * 20),
])  # fmt: skip
def test_real_formats(drawn, preprocess, name, steps, sizes):
    with fixtures.unverified():
        benchmark = cil(name, steps=steps, root=drawn, preprocess=preprocess)
    assert [len(task.classnames) for task in benchmark.tasks] == sizes
    assert [len(task.test) for task in benchmark.tasks] == [2 * size for size in sizes]
    assert benchmark.tasks[0].name == ("base" if name == "tinyimagenet" else "step 1")
    assert benchmark.tasks[-1].name == f"step {steps}"
    assert sorted(benchmark.settings["order"]) == list(range(sum(sizes)))


def test_real_images_lie_under_their_names(drawn, preprocess):
    """A picture's colour tells its class on disk; the class name must be that of the colour."""
    names = {"n02124075": "Egyptian cat", "n01443537": "goldfish", "n01629819": "European fire salamander"}
    on_disk = [fixtures._made_up("tinyimagenet", i) for i in range(200)]
    on_disk[:3] = fixtures.NAMES["tinyimagenet"]
    with fixtures.unverified():
        tasks = cil("tinyimagenet", steps=5, root=drawn, preprocess=preprocess).tasks
    for task in (tasks[0], tasks[3]):
        for part in (task.train, task.test):
            for path, label in list(zip(part.images, part.labels))[:20]:
                corner = np.asarray(part._open(path))[0, 0].astype(int)
                number = min(range(200), key=lambda c: np.abs(fixtures.colour(c).astype(int) - corner).sum())
                wnid = on_disk[number]
                assert task.classnames[label] == names.get(wnid, f"kind {wnid}")


def test_orders_from_files(tmp_path):
    plain, brackets = tmp_path / "order.txt", tmp_path / "order.yaml"
    order = np.random.default_rng(5).permutation(30).tolist()
    plain.write_text("\n".join(map(str, order)) + "\n")
    brackets.write_text(f"class_order: {order}\n")
    assert cil("mini", class_order=plain).settings["order"] == order
    assert cil("mini", class_order=str(brackets)).settings["order"] == order


@pytest.mark.parametrize("numbers", [range(29), [*range(29), 28], range(1, 31), [*range(30), 0], []])
def test_an_order_that_is_no_permutation(tmp_path, numbers):
    file = tmp_path / "order.txt"
    file.write_text("\n".join(map(str, numbers)))
    with pytest.raises(ValueError, match=r"order.txt has \d+ numbers.*each class index from 0 to 29 once"):
        cil("mini", class_order=file)


@pytest.mark.parametrize("arguments, words", [
    ({"name": "imagenet"}, "data set 'imagenet' is unknown.*mini, cifar100, tinyimagenet"),
    ({"steps": 7}, "7 steps are not possible: mini comes in 5, 10"),
    ({"name": "cifar100", "steps": 5}, "comes in 10, 20, 50"),
    ({"name": "tinyimagenet", "steps": 50}, "comes in 5, 10, 20"),
    ({"val_part": 2}, "val_part is a share of the training images, at least 0 and below 1, not 2"),
    ({"class_order": "nowhere.txt"}, "class order nowhere.txt does not exist: it should be a file"),
    ({"name": "cifar100", "root": "nowhere", "preprocess": 1}, "(?s)not under nowhere:.*- cifar100: .*mini_lib data"),
    ({"name": "tinyimagenet", "root": "nowhere", "preprocess": 1}, "(?s)tiny-imagenet-200 must hold .*wnids.txt"),
])  # fmt: skip
def test_bad_input(arguments, words):
    with pytest.raises(ValueError, match=words):
        cil(**arguments)


def test_incomplete_data_are_refused(tmp_path, preprocess):
    fixtures.write(tmp_path / "few", classes=3)
    with pytest.raises(
        ValueError, match="tinyimagenet under .* has train images of 3 classes, not of 200: it is incomplete"
    ):
        cil("tinyimagenet", root=tmp_path / "few", preprocess=preprocess)
    with fixtures.unverified(), pytest.raises(ValueError, match="images of 3 classes, not of 100: it is incomplete"):
        cil("cifar100", root=tmp_path / "few", preprocess=preprocess)


NOTEBOOK = ROOT / "notebooks" / "09_class_incremental.ipynb"
BATCHES = {  # preset -> the official batch size
    "cil_cifar100_10": 128, "cil_cifar100_20": 128, "cil_cifar100_50": 64,
    "cil_tinyimagenet_5": 64, "cil_tinyimagenet_10": 64, "cil_tinyimagenet_20": 64,
}  # fmt: skip


@pytest.mark.parametrize("preset", BATCHES)
def test_presets_hold_the_official_configuration(preset):
    choice = execute.load_parameters(NOTEBOOK, ROOT / "notebooks" / "params" / f"{preset}.yaml")
    assert preset == f"cil_{choice['NAME']}_{choice['STEPS']}"
    official = {"MODEL": "ViT-B-16", "PRETRAINED": "openai", "EPOCHS": 1, "ADAPTER_RATE": 1e-3, "WARMUP": 30}
    assert {name: choice[name] for name in official} == official and choice["BATCH_SIZE"] == BATCHES[preset]
    assert not choice["NOISE_AT_EVALUATION"] and not choice["EVALUATION_CROPS"] and choice["VAL_PART"] == 0


@pytest.mark.slow
def test_dry_run_of_the_paper_s_experiments(tmp_path):
    """Every line of notebook 09 on drawn stand-ins, with a small model and all three of the official code's slips."""
    file = ROOT / "notebooks" / "params" / "cil_tinyimagenet_20.yaml"
    changes = ["MODEL=tiny", "NOISE_AT_EVALUATION=true", "EVALUATION_CROPS=true", "SWITCH_SEEDS=[0]"]
    execute.execute(NOTEBOOK, file, [f"OUT={tmp_path}", "DRY_RUN=true", *changes])
    summary = pd.read_csv(tmp_path / "dry_run" / "summary.csv").set_index("method")
    assert list(summary.index) == ["zero-shot", "moe-adapters"] and summary.notna().all().all()
    assert (tmp_path / "dry_run" / "switches.csv").exists()
