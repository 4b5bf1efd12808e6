"""The tiny CLIP: what it knows, its file, its pretraining."""

import json

import open_clip
import pytest
import torch
from PIL import Image

from mini_lib import load_clip
from mini_lib.embedded import files, pretrain, storage, tiny
from mini_lib.embedded.pairs import draw_pairs


def test_embedded_clip_names_what_it_was_taught():
    clip, preprocess, tokenizer = load_clip("tiny")
    assert isinstance(clip, open_clip.model.CLIP) and not any(p.requires_grad for p in clip.parameters())
    said = json.loads(tiny.CARD.read_text())["zero_shot"]
    assert pretrain.zero_shot_accuracies(clip) == pytest.approx(
        said, abs=0.5
    )  # older Pillows draw some images otherwise
    assert min(pretrain.zero_shot_accuracies(clip).values()) > 80
    assert preprocess(Image.new("L", (50, 40), 255)).shape == (3, 32, 32)
    assert torch.equal(preprocess(Image.new("RGB", (32, 32), (255, 0, 0)))[:, 0, 0], torch.tensor([1.0, -1.0, -1.0]))


def test_damaged_weights_are_refused(tmp_path):
    damaged = tmp_path / "tiny.safetensors"
    damaged.write_bytes(tiny.WEIGHTS.read_bytes()[:-1])
    with pytest.raises(ValueError, match="wrong SHA-256.*git checkout mini_lib/embedded"):
        tiny.load(damaged)


def test_interrupted_pretraining_ends_in_the_same_weights(tmp_path, monkeypatch):
    build = tiny.build
    monkeypatch.setattr(pretrain, "build", lambda seed: build(seed, width=64, vision_layers=1, text_layers=1))
    settings = dict(batch=16, pairs=64, warmup=2, save_every=3)
    whole, _, _ = pretrain.pretrain(6, **settings)

    class Stop(Exception):
        pass

    real, calls = pretrain.contrastive_loss, []

    def failing(*arguments):
        calls.append(1)
        if len(calls) == 5:
            raise Stop
        return real(*arguments)

    monkeypatch.setattr(pretrain, "contrastive_loss", failing)
    with pytest.raises(Stop):
        pretrain.pretrain(6, work=tmp_path, **settings)
    monkeypatch.setattr(pretrain, "contrastive_loss", real)
    resumed, _, facts = pretrain.pretrain(6, work=tmp_path, **settings)
    assert facts["steps"] == 6
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name


def test_what_a_kill_left_beside_the_weights_is_swept(tmp_path):
    """It would go into the package, where the weights lie."""
    for name in ("tiny.safetensors-a1", "tiny.json-b2", "photo.json-c3"):
        (tmp_path / f"{storage.PART}{name}").mkdir()
        (tmp_path / f"{storage.PART}{name}" / "half").write_bytes(b"half")
    files.save(
        tiny.build(width=64, vision_layers=1, text_layers=1),
        torch.arange(3),
        {"seed": 0},
        tmp_path / "tiny.safetensors",
        tmp_path / "tiny.json",
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"{storage.PART}photo.json-c3",
        "tiny.json",
        "tiny.safetensors",
    ]


def test_the_state_of_another_pretraining_is_refused(tmp_path, monkeypatch):
    build = tiny.build
    monkeypatch.setattr(pretrain, "build", lambda seed: build(seed, width=64, vision_layers=1, text_layers=1))

    def quick(**changed):
        return pretrain.pretrain(**{"steps": 4, "batch": 8, "pairs": 40, "work": tmp_path, "save_every": 2, **changed})

    quick()
    state = tmp_path / "pretraining.safetensors"
    for changed, words in (({"seed": 1}, "seed: 0 there, 1 now"), ({"steps": 6}, "steps: 4 there, 6 now")):
        with pytest.raises(ValueError, match=f"another pretraining .*{words}.*: move it away, or take another --work"):
            quick(**changed)
    with monkeypatch.context() as patch:  # as another Pillow would
        patch.setattr(
            pretrain, "draw_pairs", lambda pairs, seed: (draw_pairs(pairs, seed)[0] ^ 1, draw_pairs(pairs, seed)[1])
        )
        with pytest.raises(ValueError, match="another pretraining .data: '.*' there, '.*' now"):
            quick()
    whole = bytearray(state.read_bytes())
    whole[-5] ^= 1  # a bit of a tensor
    state.write_bytes(whole)
    with pytest.raises(ValueError, match="is damaged .it is not what was written there.: move it away"):
        quick()
    state.write_bytes(whole[:1000])
    with pytest.raises(ValueError, match="is damaged .*move it away"):
        quick()
