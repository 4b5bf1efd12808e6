"""The photo CLIP: its file, the words that it was told, the photographs that it reads, its pretraining."""

import io
import json
import shutil
import zipfile

import numpy as np
import open_clip
import pytest
import torch
from helpers import SHARED
from PIL import Image

from mini_lib import GaussianSelector, MoEClip, load_clip
from mini_lib.__main__ import main
from mini_lib.clip import class_embeddings, prompts
from mini_lib.embedded import photo, photographs
from mini_lib.embedded.kinds import KINDS
from mini_lib.embedded.reference import STATISTICS
from mini_lib.embedded.reference import photographs as photographs_as_reference

ZIPS = SHARED / "data" / "tiny_imagenet_48"
needs_zips = pytest.mark.skipif(not ZIPS.is_dir(), reason="the photographs are not here (see MOE_SHARED)")


def test_it_loads_like_the_tiny_one():
    clip, preprocess, tokenizer = load_clip("photo")
    assert isinstance(clip, open_clip.model.CLIP) and not clip.training
    assert not any(p.requires_grad for p in clip.parameters())
    assert photo.WEIGHTS.stat().st_size <= 8_000_000
    image = preprocess(Image.new("RGB", (90, 60), (255, 0, 0)))
    assert image.shape == (3, 48, 48) and torch.allclose(image[:, 0, 0], torch.tensor([1.0, -1.0, -1.0]))
    model = MoEClip(clip, num_experts=2)
    model.add_task("a")
    images = torch.linspace(-1, 1, 2 * 3 * 48 * 48).view(2, 3, 48, 48)
    torch.testing.assert_close(model.encode_image(images), clip.encode_image(images), atol=1e-5, rtol=0)
    random, _, _ = load_clip("photo", pretrained=None)
    assert not torch.equal(random.visual.proj, clip.visual.proj)
    with pytest.raises(ValueError, match="the photo CLIP has the weights 'embedded' or None"):
        load_clip("photo", pretrained="openai")


def test_the_reference_statistics_are_those_of_this_clip():
    stored, (clip, _, _) = photographs_as_reference(), load_clip("photo")
    selector = GaussianSelector(clip)
    selector.learn_reference(stored)
    assert stored.mean.shape == stored.std.shape == (384,) and (stored.std > 0).all()
    assert torch.equal(stored.within, stored.within.T) and stored.background.shape == (2, 384)
    assert stored.background[0].abs().max() < 1e-3  # photographs, standardised; drawings lie elsewhere
    assert stored.background[1].abs().mean() > 0.5
    assert photo.WEIGHTS.stat().st_size + STATISTICS.stat().st_size <= 8_000_000
    drawn = selector.distances(torch.rand(8, 3, 48, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1)
    assert drawn.min() > 384  # noise is no photograph: a photograph's distance is about the number of features
    with pytest.raises(ValueError, match="of another CLIP"):
        GaussianSelector(load_clip("tiny")[0]).learn_reference(stored)


def test_damaged_weights_are_refused(tmp_path):
    damaged = tmp_path / "photo.safetensors"
    damaged.write_bytes(photo.WEIGHTS.read_bytes()[:-1])
    with pytest.raises(ValueError, match="wrong SHA-256.*git checkout mini_lib/embedded.*pretrain photo'"):
        photo.load(damaged)
    with pytest.raises(ValueError, match="missing or not the file"):
        photo.load(tmp_path / "nothing.safetensors")


def test_untrained_weights_depend_on_the_seed_alone():
    a, b, other = photo.build(0), photo.build(0), photo.build(1)
    for name, value in a.state_dict().items():
        assert torch.equal(value, b.state_dict()[name]), name
    assert not torch.equal(a.visual.conv1[0].weight, other.visual.conv1[0].weight)


# Words


def test_every_kind_has_names_and_wider_words():
    assert len(KINDS) == 200 and all(number[0] == "n" and len(number) == 9 for number in KINDS)
    firsts = [names[0] for names, _, _ in KINDS.values()]
    assert len(set(firsts)) == 200
    for number, parts in KINDS.items():
        told = [word for part in parts for word in part]
        assert parts[0] and parts[1] and all(told) and len(set(told)) == len(told), number


@needs_zips
def test_the_names_are_wordnets():
    theirs = dict(line.split("\t", 1) for line in (ZIPS / "words.txt").read_text(encoding="utf-8").splitlines())
    assert set(theirs) == set(KINDS)

    def plain(words):
        return {word.strip().lower().replace("-", "").replace(" ", "") for word in words.split(",")}

    for number, (names, _, _) in KINDS.items():
        known, ours = plain(theirs[number]), plain(",".join(names))
        assert known & ours or any(k in o for k in known for o in ours), number


def test_a_word_holds_for_the_right_concepts():
    words, truth = photographs.concepts()
    assert truth.shape == (200 + len(photographs.drawn_concepts()), len(words)) and len(set(words)) == len(words)
    torch.testing.assert_close(truth.sum(dim=1), torch.ones(len(truth)))

    def holds(word):
        column = truth[:, words.index(word)]
        return {names[0] for (names, _, _), weight in zip(KINDS.values(), column) if weight > 0}

    assert holds("frog") == {"bullfrog", "tailed frog"} and holds("big cat") == {"cougar", "lion"}
    assert holds("cat") == {"tabby", "Persian cat", "Egyptian cat"} and holds("truck") == {"moving van"}
    assert {"goose", "king penguin"} < holds("bird") < holds("animal") and "teddy bear" not in holds("animal")
    assert not {"deer", "horse", "airplane", "ship"} & set(words), "no kind is one: only comparisons name them"
    three = 200 + photographs.drawn_concepts().index(("number", "three"))
    assert truth[three, words.index("three")] > 0 == truth[three, words.index("animal")]


def test_the_file_holds_the_tokens_of_all_words():
    words, _ = photographs.concepts()
    tokens = prompts(open_clip.get_tokenizer("ViT-B-32"), words, ["a photo of a {}."])
    trained, start = photo.load().token_embedding.weight, photo.build().token_embedding.weight
    assert not torch.isclose(trained, start)[tokens.unique()].all(dim=1).any()
    unknown = prompts(open_clip.get_tokenizer("ViT-B-32"), ["xylophone"], ["{}"])[0, 0, 1]
    assert torch.equal(trained[unknown], start[unknown])


def test_words_compete_with_those_that_do_not_hold():
    logits = torch.tensor([[1.0, 2.0, 0.5, -1.0]])
    one = torch.tensor([[0.0, 1.0, 0.0, 0.0]])
    torch.testing.assert_close(
        photographs.word_loss(logits, one), torch.nn.functional.cross_entropy(logits, torch.tensor([1]))
    )
    two = torch.tensor([[0.25, 0.75, 0.0, 0.0]])  # each against the last two: ln(1 + (e^0.5 + e^-1) / e^s)
    others = np.exp(0.5) + np.exp(-1)
    by_hand = 0.25 * np.log1p(others / np.exp(1)) + 0.75 * np.log1p(others / np.exp(2))
    assert photographs.word_loss(logits, two).item() == pytest.approx(by_hand, rel=1e-5)
    assert photographs.word_loss(logits, torch.zeros(1, 4)).item() == 0


def test_looks_are_seen():
    def seen(*rgb, blurred=False):
        image = (torch.tensor(rgb).view(1, 3, 1, 1).expand(1, 3, 48, 48) - photo.MEAN) / photo.STD
        found = photographs.looks(image, torch.tensor([blurred]))[0]
        return {look for look, there in zip(photographs.LOOKS, found) if there}

    assert seen(0.8, 0.0, 0.0) == {"a colourful photo.", "a photo of something red."}
    assert "a photo of something blue." in seen(0.1, 0.2, 0.9) and "a photo of something green." in seen(0.1, 0.7, 0.1)
    assert seen(0.1, 0.1, 0.1) == {"a dark photo.", "a black and white photo."}
    assert seen(0.9, 0.9, 0.9, blurred=True) == {"a bright photo.", "a black and white photo.", "a blurry photo."}


def test_only_what_may_be_is_mirrored():
    ramp = torch.linspace(0, 255, 48).to(torch.uint8).view(1, 1, 48, 1).expand(200, 48, 48, 3)
    torch.manual_seed(0)
    for may, least, most in ((False, 200, 200), (True, 70, 130)):
        images, blurred = photographs.augment(ramp, torch.full((200,), may))
        assert images.shape == (200, 3, 48, 48) and 15 < blurred.sum() < 70
        upright = (images[..., 24:].mean((1, 2, 3)) > images[..., :24].mean((1, 2, 3))).sum()
        assert least <= upright <= most


# Reading


def picture(value, side):
    file = io.BytesIO()
    Image.new("RGB", (side, side), (value, value, value)).save(file, "JPEG")
    return file.getvalue()


@pytest.fixture
def unpacked(tmp_path):
    """The public layout: 200 kinds, two training images and one of val each; what they show tells them apart."""
    root = tmp_path / "tiny-imagenet-200"
    lines = []
    (root / "val" / "images").mkdir(parents=True)
    for i, number in enumerate(KINDS):
        (root / "train" / number / "images").mkdir(parents=True)
        for j in (2, 10):
            (root / "train" / number / "images" / f"{number}_{j}.JPEG").write_bytes(picture(i + j, 64))
        (root / "val" / "images" / f"val_{999 - i}.JPEG").write_bytes(picture(i, 64))
        lines.append(f"val_{999 - i}.JPEG\t{number}\t0\t0\t63\t63\n")
    (root / "val" / "val_annotations.txt").write_text("".join(reversed(lines)))
    return root


@pytest.fixture
def zipped(tmp_path):
    root = tmp_path / "zips"
    root.mkdir()
    for i, number in enumerate(KINDS):
        with zipfile.ZipFile(root / f"{number}.zip", "w") as made:
            for j in (10, 2):
                made.writestr(f"{number}_{j}.jpg", picture(i + j, 48))
    with zipfile.ZipFile(root / "val.zip", "w") as made:
        for i, number in reversed(list(enumerate(KINDS))):
            made.writestr(f"{number}/val_{999 - i}.jpg", picture(i, 48))
    (root / "words.txt").write_text("not needed")
    return root


def test_both_layouts_are_read_alike(unpacked, zipped):
    for root in (unpacked, unpacked.parent, zipped):
        images, labels = photographs.read_photographs(root)
        assert images.shape == (400, 48, 48, 3) and images.dtype == np.uint8
        assert labels.tolist() == [i for i in range(200) for _ in range(2)]
        shown = images.mean((1, 2, 3))
        assert np.abs(shown - [i + j for i in range(200) for j in (2, 10)]).max() <= 1, "by kind, then by number"
        images, labels = photographs.read_photographs(root, "val")
        assert labels.tolist() == list(range(200)) and np.abs(images.mean((1, 2, 3)) - range(200)).max() <= 1


def test_what_is_missing_or_broken_is_named(unpacked, zipped, tmp_path):
    with pytest.raises(ValueError, match="no train images of 200 of .*n01443537 the first: unpack .* --root"):
        photographs.read_photographs(tmp_path / "nowhere")
    (zipped / "n01768244.zip").unlink()
    with pytest.raises(ValueError, match="no train images of 1 of .*n01768244 the first"):
        photographs.read_photographs(zipped)
    broken = unpacked / "train" / "n01443537" / "images" / "n01443537_10.JPEG"
    broken.write_bytes(broken.read_bytes()[:100])
    with pytest.raises(OSError, match="the image n01443537_10.JPEG cannot be read"):
        photographs.read_photographs(unpacked)
    (zipped / "val.zip").write_bytes((zipped / "val.zip").read_bytes()[:-30])
    with pytest.raises(OSError, match="val.zip is damaged or no zip archive"):
        photographs.read_photographs(zipped, "val")
    shutil.rmtree(unpacked / "val")
    with pytest.raises(ValueError, match="no val images of 200"):
        photographs.read_photographs(unpacked, "val")


# Pretraining


@pytest.fixture
def miniature(monkeypatch):
    """A pretraining of seconds: pretrain_on with a small model, four kinds and few prompts."""
    build = photo.build
    monkeypatch.setattr(photographs, "build", lambda seed: build(seed, width=64, vision_layers=1, text_layers=1))
    monkeypatch.setattr(photographs, "TEMPLATES", ("{}", "this is {}."))
    monkeypatch.setattr(photographs, "KINDS", dict(list(KINDS.items())[:4]))
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 40)  # kinds that differ in brightness, under noise
    images = (rng.integers(0, 56, (40, 48, 48, 3)) + 60 * labels[:, None, None, None]).clip(0, 255).astype(np.uint8)

    def pretrain(work=None, steps=6, **more):
        settings = {"batch": 8, "drawn": 2, "words_a_step": 16, "warmup": 2, "save_every": 2} | more
        return photographs.pretrain_on(images, labels, steps, work=work, **settings)

    return pretrain


def test_interrupted_pretraining_ends_in_the_same_weights(miniature, tmp_path, monkeypatch):
    whole, rows, facts = miniature()
    assert facts["steps"] == 6 and facts["seed"] == 0 and len(rows) < 1000
    assert isinstance(whole.visual.patch_dropout, torch.nn.Identity), "what ships sees every patch"
    real, calls = photographs.word_loss, []

    def failing(*arguments):
        calls.append(1)
        if len(calls) == 10:  # two calls a step: in the fifth, after the state of the fourth
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(photographs, "word_loss", failing)
    with pytest.raises(KeyboardInterrupt):
        miniature(tmp_path)
    monkeypatch.setattr(photographs, "word_loss", real)
    torch.manual_seed(99)  # whatever was drawn in between
    resumed, _, _ = miniature(tmp_path)
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name


def test_the_state_of_another_pretraining_is_refused(miniature, tmp_path, monkeypatch):
    drawn = photographs.draw
    miniature(tmp_path)
    for changed, words in (({"seed": 1}, "seed: 0 there, 1 now"), ({"dropped": 0.1}, "dropped: 0.4 there, 0.1 now")):
        with pytest.raises(ValueError, match=f"another pretraining .*{words}"):
            miniature(tmp_path, **changed)
    monkeypatch.setattr(photographs, "draw", lambda count, seed: (drawn(count, seed)[0] ^ 1, drawn(count, seed)[1]))
    with pytest.raises(ValueError, match="another pretraining .data: '.*' there, '.*' now"):
        miniature(tmp_path)


def test_it_learns_what_it_is_shown(miniature):
    _, _, first = miniature(steps=1, words_a_step=500)
    _, _, last = miniature(steps=40, words_a_step=500)
    assert 0 < last["final_loss"] < first["final_loss"] - 1


def test_the_command_wants_a_folder_with_all_that_it_needs(unpacked, tmp_path):
    with pytest.raises(SystemExit, match="say with --root which folder holds it"):
        main(["pretrain", "photo", "--work", str(tmp_path / "work")])
    shutil.rmtree(unpacked / "val")  # is missed before the training, not after it
    with pytest.raises(SystemExit, match="no val images of 200"):
        main(["pretrain", "photo", "--root", str(unpacked), "--work", str(tmp_path / "work")])
    assert not (tmp_path / "work").exists()


# What it knows


def test_the_card_says_what_the_file_says():
    facts = json.loads(photo.CARD.read_text(encoding="utf-8"))
    card = photo.CARD.with_suffix(".md").read_text(encoding="utf-8")
    for number in ("steps", "images", "seconds"):
        assert f"{facts[number]:,}" in card, number
    assert str(facts["final_loss"]) in card and all(str(value) in card for value in facts["zero_shot"].values())
    assert facts["zero_shot"]["val"] >= 32


@needs_zips
def test_it_names_photographs():
    clip, preprocess, tokenizer = load_clip("photo")
    images, labels = photographs.read_photographs(ZIPS, "val")
    measured = photographs.zero_shot_accuracy(clip, images, labels)
    assert measured == pytest.approx(json.loads(photo.CARD.read_text(encoding="utf-8"))["zero_shot"]["val"], abs=0.2)
    task = SHARED / "data" / "folders" / "cifar10" / "test"
    names = sorted(path.name for path in task.iterdir())
    files = [(file, i) for i, name in enumerate(names) for file in sorted((task / name).iterdir())]
    batch = torch.stack([preprocess(Image.open(file).convert("RGB")) for file, _ in files])
    text = class_embeddings(clip.encode_text, prompts(tokenizer, names, ["a photo of a {}."]))
    with torch.no_grad():
        right = (clip.encode_image(batch) @ text.T).argmax(1) == torch.tensor([label for _, label in files])
    assert right.float().mean() >= 0.4
