"""Loading CLIP, prompts, the text classifier, text cut after its end."""

import hashlib
import json
import pickle
import warnings
import zipfile
from pathlib import Path

import open_clip
import pytest
import torch
from helpers import ROOT
from PIL import Image
from safetensors.torch import save_file
from torch.nn import functional as F
from torchvision import transforms

from mini_lib import MoEClip, load_clip
from mini_lib.clip import class_embeddings, encode_text_trimmed, prompts, train_transform
from mini_lib.ddas import AlexNetFeatures


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
    torch.save(clip.state_dict(), tmp_path / "openai.pt")
    facts = {"url": "", "hf_hub": "someone/clip/", "quick_gelu": True}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, plain, {"openai": facts})
    monkeypatch.setattr(open_clip, "download_pretrained", lambda facts: str(tmp_path / "openai.pt"))
    images = torch.randn(2, 3, 32, 32)
    for pretrained in ("openai", tmp_path / "openai.pt"):  # by the name of the file, too
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            again = load_clip(plain, pretrained)[0]
        assert torch.equal(again.encode_image(images), clip.encode_image(images))

    def offline(facts):
        raise RuntimeError("no route to host\nmore")

    monkeypatch.setattr(open_clip, "download_pretrained", offline)
    with pytest.raises(OSError, match=r"'openai' of ViT-test cannot be downloaded .no route to host\)") as caught:
        load_clip(plain, "openai")
    assert "Fetch open_clip_model.safetensors (or open_clip_pytorch_model.bin) of someone/clip " in str(caught.value)
    assert "name it openai.safetensors (or openai.bin), put it anywhere, and pass its path" in str(caught.value)


@pytest.fixture
def small(monkeypatch, tmp_path):
    """open_clip's own names and tags, for a small model whose weights the one file is that is ever downloaded."""
    text = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1}
    vision = {"image_size": 56, "patch_size": 14, "width": 64, "head_width": 64, "layers": 1}
    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    monkeypatch.setattr("open_clip.get_tokenizer", lambda name: tokenizer)
    file = tmp_path / "download.safetensors"

    def small(name):
        config = open_clip.get_model_config(name) | {"embed_dim": 32, "vision_cfg": vision, "text_cfg": text}
        monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, name, config)
        save_file(load_clip(name, None)[0].state_dict(), file)
        for place in (open_clip, open_clip.factory):
            monkeypatch.setattr(place, "download_pretrained", lambda facts, **_: str(file))
        return file

    return small


TAGS = [
    ("ViT-L-14", "laion2b_s32b_b82k"),  # mean and deviation 0.5
    ("ViT-L-14", "openai"),
    ("ViT-L-14", "datacomp_xl_s13b_b90k"),
    ("ViT-H-14", "dfn5b"),  # squashed
    ("ViT-H-14-378", "dfn5b"),
    ("ViT-H-14-CLIPA-336", "laion2b"),  # squashed, bilinear
    ("ViT-B-32", "laion400m_e32"),  # QuickGELU
]


@pytest.mark.parametrize("name, tag", TAGS)
def test_what_the_download_error_advises_is_the_same_as_the_download(small, tmp_path, name, tag):
    file = small(name)
    clip, _, preprocess = open_clip.create_model_and_transforms(
        name, tag, force_quick_gelu=open_clip.get_pretrained_cfg(name, tag).get("quick_gelu", False)
    )
    clip.eval()
    named = file.with_name(f"{tag}.safetensors")
    named.write_bytes(file.read_bytes())
    torch.save({"state_dict": {f"module.{k}": v for k, v in clip.state_dict().items()}}, tmp_path / f"{tag}.bin")
    image = Image.linear_gradient("L").resize((80, 60))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for pretrained in (tag, str(named), tmp_path / f"{tag}.bin"):
            ours, same, _ = load_clip(name, pretrained)
            pixels = same(image)
            assert torch.equal(pixels, preprocess(image))
            assert torch.equal(ours.encode_image(pixels[None]), clip.encode_image(pixels[None]))
    assert train_transform(same)(image).shape == pixels.shape


@pytest.mark.parametrize("preprocess", [
    transforms.Compose([transforms.CenterCrop(32), transforms.ToTensor()]),
    transforms.Compose([transforms.CenterCrop(32), transforms.Resize(32), transforms.ToTensor()]),
    transforms.ToTensor(),
    lambda image: image,
])  # fmt: skip
def test_a_preprocessing_without_a_training_version(preprocess):
    with pytest.raises(ValueError, match="preprocess must be torchvision's Compose with a Resize"):
        train_transform(preprocess)


def test_a_file_that_does_not_say_whose_weights_it_holds(small):
    file = small("ViT-L-14-quickgelu")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # all tags of QuickGELU want the same
        load_clip("ViT-L-14-quickgelu", file)
    file = small("ViT-L-14")
    with pytest.warns(
        UserWarning, match="as for OpenAI's CLIP; the weights laion2b_s32b_b82k of ViT-L-14 need it otherwise"
    ) as caught:
        _, preprocess, _ = load_clip("ViT-L-14", file)
    assert "If they are these, name the file so: laion2b_s32b_b82k.safetensors." in str(caught[0].message)
    assert [warning.filename for warning in caught] == [__file__, __file__] and "uses GELU" in str(caught[1].message)
    assert preprocess.transforms[-1].mean == open_clip.OPENAI_DATASET_MEAN
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the one tag squashes
        _, preprocess, _ = load_clip("ViT-H-14-378-quickgelu", small("ViT-H-14-378-quickgelu"))
    assert preprocess.transforms[0].size == (56, 56)


@pytest.mark.parametrize("content", ["page", "cut", "other", "flipped"])
def test_what_was_downloaded_and_is_damaged_is_named(small, monkeypatch, content):
    file = small("ViT-B-32")
    whole = file.read_bytes()
    if content == "flipped":  # as Hugging Face keeps it
        file = file.rename(file.with_name(hashlib.sha256(whole).hexdigest()))
        monkeypatch.setattr(open_clip, "download_pretrained", lambda facts: str(file))
    changed = {
        "page": b"<!DOCTYPE html>\n<html>Please log in",
        "cut": whole[:-9],
        "flipped": whole[:-9] + b"\0" + whole[-8:],
    }
    if content == "other":
        save_file({"a": torch.ones(1)}, file)
    else:
        file.write_bytes(changed[content])
    words = {
        "page": "it is a web page",
        "other": "do not fit the model ViT-B-32",
        "flipped": "SHA-256 is not the one in its name",
    }
    with pytest.raises(OSError, match=words.get(content, "it is damaged")) as caught:
        load_clip("ViT-B-32", "laion2b_e16")
    what = "Delete it" if content == "flipped" else f"delete {file.resolve()}"
    assert str(file.resolve()) in str(caught.value) and str(caught.value).endswith(f"{what} and try again.")


class Dangerous:
    def __reduce__(self):
        return (Path.touch, (Path("touched-by-a-pickle"),))


@pytest.mark.parametrize(
    "content", ["pickle", "raw pickle", "text", "empty", "blank", "page", "cut", "list", "other sizes", "nothing"]
)
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_files_that_are_no_weights(small_models, tmp_path, content, suffix, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / f"weights{suffix}"
    clip, _, _ = load_clip(small_models[1], None)
    states = {"pickle": {"a": Dangerous()}, "list": [1, 2]}
    states["other sizes"] = {k: v[..., :-1].clone() if v.ndim else v for k, v in clip.state_dict().items()}
    if suffix == ".safetensors" and content == "other sizes":
        save_file(states[content], file)
    elif content in states:
        torch.save(states[content], file)
    elif content == "cut":
        torch.save(clip.state_dict(), file)
        file.write_bytes(file.read_bytes()[:-1000])
    elif content != "nothing":
        texts = {
            "text": b"these are no weights",
            "blank": b" \n",
            "page": b"\n<HTML><head>",
            "raw pickle": pickle.dumps(Dangerous()),
        }
        file.write_bytes(texts.get(content, b""))
    words = {
        "list": "holds no state dict" if suffix == ".pt" else "it is damaged",
        "other sizes": "do not fit the model ViT-test-quickgelu",
        "nothing": "no file of that name, and no tag among",
        "empty": "cannot be read as plain tensors .nothing in it was run.: it is empty. Take a",
        "blank": "it is empty",
        "page": "it is a web page, as a proxy gives in the place of a file. Take a",
    }
    with pytest.raises(
        ValueError, match=words.get(content, "cannot be read as plain tensors .nothing in it was run.: it is damaged")
    ) as error:
        load_clip(small_models[1], str(file))
    assert "\n" not in str(error.value) and not (tmp_path / "touched-by-a-pickle").exists()


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning", "ignore:.torch.jit:DeprecationWarning")
def test_openai_s_own_archives_are_refused_unopened_and_their_state_dicts_taken(small_models, tmp_path, monkeypatch):
    """OpenAI gives CLIP away as TorchScript, which is code; its state dict has three sizes among the weights."""
    clip, _, _ = load_clip(small_models[1], None)
    torch.jit.trace(torch.nn.Linear(1, 1), torch.ones(1)).save(str(tmp_path / "openai.pt"))
    for i, part in enumerate(("x/constants.pkl", "x/code/__torch__.py", "code/a.txt")):  # what betrays it, alone
        with zipfile.ZipFile(tmp_path / f"part{i}.bin", "w") as other:
            other.writestr("x/data.pkl", b"")
            other.writestr(part, b"")
    with monkeypatch.context() as patch:
        for reader in ("torch.load", "torch.jit.load"):
            patch.setattr(reader, lambda *a, **k: pytest.fail("it was opened"))
        for name in ("openai.pt", "part0.bin", "part1.bin", "part2.bin"):
            with pytest.raises(
                ValueError, match="nothing in it was run.*TorchScript archives.*Take a .safetensors file"
            ):
                load_clip(small_models[1], tmp_path / name)
            with pytest.raises(ValueError, match="TorchScript archives"):
                AlexNetFeatures(tmp_path / name)
    sizes = {name: torch.tensor(3) for name in ("input_resolution", "context_length", "vocab_size")}
    torch.save({k: v.half() for k, v in clip.state_dict().items()} | sizes, tmp_path / "state.pt")
    again, _, _ = load_clip(small_models[1], tmp_path / "state.pt")
    for name, tensor in again.state_dict().items():
        assert tensor.dtype == torch.float32 and torch.equal(tensor, clip.state_dict()[name].half().float()), name


def test_nothing_else_reads_pickles():
    """torch.load stands once, behind the look at what is in the archive, and never without weights_only."""
    found = [
        (path.name, line.strip())
        for path in sorted((ROOT / "mini_lib").rglob("*.py"))
        for line in path.read_text(encoding="utf-8").splitlines()
        if "torch.load(" in line or "pickle.load" in line or "allow_pickle=True" in line or "torch.jit.load" in line
    ]
    assert [name for name, _ in found] == ["checkpoints.py"] and "weights_only=True" in found[0][1]


@pytest.mark.parametrize("name, tower", [
    ("RN50", "image"), ("ViT-B-16-SigLIP", "image"), ("EVA02-B-16", "image"), ("roberta-ViT-B-32", "text"),
])  # fmt: skip
def test_towers_without_blocks_are_refused(name, tower):
    with pytest.raises(ValueError, match=f"the {tower} tower is no open_clip transformer.*take a ViT CLIP"):
        load_clip(name, None)


def test_a_tokenizer_that_cannot_be_had(small_models, monkeypatch):
    def absent(name):
        raise ModuleNotFoundError("No module named 'transformers'")

    monkeypatch.setattr("open_clip.get_tokenizer", absent)
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
