"""Loading CLIP, prompts, the text classifier, text cut after its end."""

import json

import open_clip
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from mini_lib import load_clip, tiny_clip
from mini_lib.clip import class_embeddings, encode_text_trimmed, prompts, train_transform


def test_embedded_clip_names_what_it_was_taught():
    clip, preprocess, tokenizer = load_clip("tiny")
    assert isinstance(clip, open_clip.model.CLIP) and not any(p.requires_grad for p in clip.parameters())
    assert tiny_clip.zero_shot_accuracies(clip) == json.loads(tiny_clip.CARD.read_text())["zero_shot"]
    assert min(tiny_clip.zero_shot_accuracies(clip).values()) > 80
    assert preprocess(Image.new("L", (50, 40), 255)).shape == (3, 32, 32)
    assert torch.equal(preprocess(Image.new("RGB", (32, 32), (255, 0, 0)))[:, 0, 0], torch.tensor([1.0, -1.0, -1.0]))


def test_damaged_weights_are_refused(tmp_path):
    damaged = tmp_path / "tiny_clip.safetensors"
    damaged.write_bytes(tiny_clip.WEIGHTS.read_bytes()[:-1])
    with pytest.raises(ValueError, match="wrong SHA-256.*git checkout data/"):
        tiny_clip.load(damaged)


@pytest.mark.parametrize(
    "name, pretrained, words",
    [("ViT-B-61", None, "model 'ViT-B-61' is unknown"), ("tiny", "openai", "not 'openai'"), ("ViT-B-32", "embedded", "say which")],
)
def test_unknown_models(name, pretrained, words):
    with pytest.raises(ValueError, match=words):
        load_clip(name, pretrained)


def test_cutting_the_padding_changes_nothing(clip, tokenizer):
    tokens = tokenizer(["a", "a photo of a red star on a blue background.", "word " * 100])
    for batch in (tokens[:2], tokens):
        torch.testing.assert_close(encode_text_trimmed(clip, batch), clip.encode_text(batch), atol=1e-5, rtol=1e-5)


def test_other_text_towers_are_left_whole(tokenizer):
    vision = dict(layers=1, width=64, head_width=64, patch_size=16, image_size=32)
    text = dict(layers=1, width=64, heads=1, context_length=77, vocab_size=49408)
    clip = open_clip.model.CustomTextCLIP(32, vision, text).eval()
    tokens = tokenizer(["a star", "the number three in red"])
    torch.testing.assert_close(encode_text_trimmed(clip, tokens), clip.encode_text(tokens), atol=1e-5, rtol=1e-5)


def test_classifier_is_the_mean_of_unit_prompts(clip, tokenizer):
    tokens = prompts(tokenizer, ["red_star", "key"], ["a {}.", "the {} in a box."])
    assert torch.equal(tokens[0, 1], tokenizer(["the red star in a box."])[0])
    rows = class_embeddings(clip.encode_text, tokens)
    by_hand = F.normalize(F.normalize(clip.encode_text(tokens[1]), dim=-1).mean(0), dim=0)
    torch.testing.assert_close(rows[1], by_hand)


def test_training_crops_keep_nearly_all(clip):
    _, preprocess, _ = load_clip("tiny", pretrained=None)
    image = Image.linear_gradient("L")
    torch.manual_seed(0)
    first, second = train_transform(preprocess)(image), train_transform(preprocess)(image)
    assert first.shape == (3, 32, 32) and not torch.equal(first, second)
    assert (first - preprocess(image)).abs().mean() < 0.1


def test_interrupted_pretraining_ends_in_the_same_weights(tmp_path, monkeypatch):
    build = tiny_clip.build
    monkeypatch.setattr(tiny_clip, "build", lambda seed: build(seed, width=64, vision_layers=1, text_layers=1))
    settings = dict(batch=16, pairs=64, warmup=2, save_every=3)
    whole, _, _ = tiny_clip.pretrain(6, **settings)

    class Stop(Exception):
        pass

    real, calls = tiny_clip.contrastive_loss, []

    def failing(*arguments):
        calls.append(1)
        if len(calls) == 5:
            raise Stop
        return real(*arguments)

    monkeypatch.setattr(tiny_clip, "contrastive_loss", failing)
    with pytest.raises(Stop):
        tiny_clip.pretrain(6, work=tmp_path, **settings)
    monkeypatch.setattr(tiny_clip, "contrastive_loss", real)
    resumed, _, facts = tiny_clip.pretrain(6, work=tmp_path, **settings)
    assert facts["steps"] == 6
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name
