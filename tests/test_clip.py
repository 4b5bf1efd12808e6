"""Loading CLIP, prompts, the text classifier, text cut after its end."""

import json
from pathlib import Path

import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.nn import functional as F

from mini_lib import MoEClip, load_clip
from mini_lib.clip import class_embeddings, encode_text_trimmed, prompts, train_transform


@pytest.fixture
def small_models(tmp_path):
    """A small ViT in open_clip's list, as itself and with QuickGELU."""
    text = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 2}
    vision = {"image_size": 32, "patch_size": 8, "width": 64, "head_width": 64, "layers": 2}
    for name, quick in (("ViT-test", False), ("ViT-test-quickgelu", True)):
        facts = {"embed_dim": 32, "quick_gelu": quick, "vision_cfg": vision, "text_cfg": text}
        (tmp_path / f"{name}.json").write_text(json.dumps(facts))
        open_clip.add_model_config(tmp_path / f"{name}.json")
    return "ViT-test", "ViT-test-quickgelu"


def test_weights_from_a_file(small_models, tmp_path, recwarn):
    plain, quick = small_models
    clip, preprocess, tokenizer = load_clip(quick, None)
    torch.manual_seed(0)
    images, tokens = torch.randn(3, 3, 32, 32), tokenizer(["a star", "the number three"])
    save_file(clip.state_dict(), tmp_path / "a.safetensors")
    torch.save({"state_dict": {f"module.{k}": v for k, v in clip.state_dict().items()}}, tmp_path / "b.pt")
    for name in ("a.safetensors", "b.pt"):
        again, _, _ = load_clip(quick, str(tmp_path / name))
        assert torch.equal(again.encode_image(images), clip.encode_image(images))
        model = MoEClip(again, num_experts=2)
        model.add_task("a")
        torch.testing.assert_close(model.encode_image(images), clip.encode_image(images), atol=1e-6, rtol=0)
        torch.testing.assert_close(model.encode_text(tokens), clip.encode_text(tokens), atol=1e-6, rtol=0)
    assert not recwarn.list
    with pytest.warns(UserWarning, match="QuickGELU.*'ViT-test-quickgelu'.*it runs, and is worse"):
        wrong, _, _ = load_clip(plain, str(tmp_path / "a.safetensors"))
    assert not torch.allclose(wrong.encode_image(images), clip.encode_image(images))


def test_a_tag_brings_its_activation(small_models, tmp_path, monkeypatch):
    plain, quick = small_models
    clip, _, _ = load_clip(quick, None)
    torch.save(clip.state_dict(), tmp_path / "weights.pt")
    tags = {"openai": {"url": "", "hf_hub": "someone/clip/", "quick_gelu": True}}
    monkeypatch.setattr("mini_lib.clip.open_clip.list_pretrained_tags_by_model", lambda name: list(tags))
    monkeypatch.setattr("mini_lib.clip.open_clip.get_pretrained_cfg", lambda name, tag: tags[tag])
    create = open_clip.create_model_and_transforms

    def cached(name, tag, **more):
        model, *transforms = create(name, None, **more)
        model.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
        return model, *transforms

    monkeypatch.setattr("mini_lib.clip.open_clip.create_model_and_transforms", cached)
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(load_clip(plain, "openai")[0].encode_image(images), clip.encode_image(images))

    def offline(*args, **more):
        raise RuntimeError("no route to host\nmore")

    monkeypatch.setattr("mini_lib.clip.open_clip.create_model_and_transforms", offline)
    with pytest.raises(
        OSError, match=r"'openai' of ViT-test.*no route to host\).*open_clip_model.safetensors of s"
    ) as caught:
        load_clip(plain, "openai")
    assert "pass its path as pretrained, with the model 'ViT-test-quickgelu'" in str(caught.value)


class Dangerous:
    def __reduce__(self):
        return (Path.touch, (Path("touched-by-a-pickle"),))


@pytest.mark.parametrize("content", ["pickle", "text", "empty", "list", "other sizes", "nothing"])
def test_files_that_are_no_weights(small_models, tmp_path, content, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / ("weights.safetensors" if content == "empty" else "weights.pt")
    clip, _, _ = load_clip(small_models[1], None)
    states = {"pickle": {"a": Dangerous()}, "list": [1, 2]}
    states["other sizes"] = {k: v[..., :-1] if v.ndim else v for k, v in clip.state_dict().items()}
    if content in states:
        torch.save(states[content], file)
    elif content != "nothing":
        file.write_text("" if content == "empty" else "these are no weights")
    words = {
        "list": "holds no state dict", "other sizes": "do not fit the model ViT-test-quickgelu",
        "nothing": "no file of that name, and no tag among",
    }  # fmt: skip
    with pytest.raises(
        ValueError, match=words.get(content, "cannot be read as plain tensors .nothing in it was run")
    ) as error:
        load_clip(small_models[1], str(file))
    assert "\n" not in str(error.value) and not (tmp_path / "touched-by-a-pickle").exists()


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning", "ignore:.torch.jit:DeprecationWarning")
def test_openai_s_own_archives_are_refused_and_their_state_dicts_taken(small_models, tmp_path):
    """OpenAI gives CLIP away as TorchScript, which is code; its state dict has three sizes among the weights."""
    clip, _, _ = load_clip(small_models[1], None)
    torch.jit.trace(torch.nn.Linear(1, 1), torch.ones(1)).save(str(tmp_path / "openai.pt"))
    with pytest.raises(ValueError, match="nothing in it was run.*TorchScript archives.*Take a .safetensors file"):
        load_clip(small_models[1], tmp_path / "openai.pt")
    sizes = {name: torch.tensor(3) for name in ("input_resolution", "context_length", "vocab_size")}
    torch.save({k: v.half() for k, v in clip.state_dict().items()} | sizes, tmp_path / "state.pt")
    again, _, _ = load_clip(small_models[1], tmp_path / "state.pt")
    for name, tensor in again.state_dict().items():
        assert tensor.dtype == torch.float32 and torch.equal(tensor, clip.state_dict()[name].half().float()), name


@pytest.mark.parametrize("name, tower", [
    ("RN50", "image"), ("ViT-B-16-SigLIP", "image"), ("EVA02-B-16", "image"), ("roberta-ViT-B-32", "text"),
])  # fmt: skip
def test_towers_without_blocks_are_refused(name, tower):
    with pytest.raises(ValueError, match=f"the {tower} tower is no open_clip transformer.*take a ViT CLIP"):
        load_clip(name, None)


def test_a_tokenizer_that_cannot_be_had(small_models, monkeypatch):
    def absent(name):
        raise ModuleNotFoundError("No module named 'transformers'")

    monkeypatch.setattr("mini_lib.clip.open_clip.get_tokenizer", absent)
    with pytest.raises(OSError, match="tokenizer of ViT-test cannot be had .No module named 'transformers'.*ViT-B-16"):
        load_clip(small_models[0], None)


@pytest.mark.parametrize(
    "name, pretrained, words",
    [
        ("ViT-B-61", None, "model 'ViT-B-61' is unknown"),
        ("tiny", "openai", "not 'openai'"),
        ("ViT-B-32", "embedded", "say which"),
    ],
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


def test_class_names_longer_than_the_context(clip, tokenizer):
    with pytest.raises(
        ValueError, match="the prompt 'a photo of very very .* is longer than CLIP can read: shorten the class"
    ):
        prompts(tokenizer, ["cat", "very_" * 80 + "long"], ["a photo of {}."])
    assert prompts(tokenizer, ["cat", "very_" * 60 + "long"], ["a photo of {}."]).shape == (2, 1, 77)


def test_training_crops_keep_nearly_all(clip):
    _, preprocess, _ = load_clip("tiny", pretrained=None)
    image = Image.linear_gradient("L")
    torch.manual_seed(0)
    first, second = train_transform(preprocess)(image), train_transform(preprocess)(image)
    assert first.shape == (3, 32, 32) and not torch.equal(first, second)
    assert (first - preprocess(image)).abs().mean() < 0.1
