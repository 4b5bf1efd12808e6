"""Checkpoints under the official names, of any size, whole or damaged; their values are compared in test_golden."""

import re

import pytest
import torch

from mini_lib import MoEClip
from mini_lib.official import convert, convert_ddas

PARTS = {"w_gate": "router_list", "w_noise": "w_noise_list"}


def official_names(model):
    """A MoEClip's tensors as the official code would save them."""
    state = dict(model.clip.state_dict())
    for name, tensor in model.state_dict().items():
        if match := re.fullmatch(r"(image|text)_layers\.(\d+)\.(experts|routers)\.(\d+)\.(.+)", name):
            tower, block, part, index, rest = match.groups()
            prefix = ("visual." if tower == "image" else "") + f"transformer.resblocks.{block}."
            last = f"adaptmlp_list.{index}.{rest}" if part == "experts" else f"{PARTS[rest]}.{index}"
            state[prefix + last] = tensor
    return state


@pytest.fixture
def model(clip):
    model = MoEClip(clip, num_experts=3, top_k=1, bottleneck=8)
    for task in range(2):
        model.add_task(f"task{task}")
    torch.manual_seed(0)
    for parameter in (p for layer in model.layers for p in layer.parameters()):
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


@pytest.mark.parametrize("form", ["plain", "nested", "prefixed", "with more"])
def test_sizes_are_read_from_the_tensors(model, tokenizer, form):
    state = official_names(model)
    if form == "prefixed":
        state = {f"module.{k}": v for k, v in state.items()}
    if form == "with more":  # OpenAI's sizes, the unused layer, the alias of the last expert, and what is no tensor
        alias = {k.replace("adaptmlp_list.2", "adaptmlp"): v for k, v in state.items() if "adaptmlp_list.2." in k}
        state |= alias | {
            "transformer.resblocks.0.ln_3.bias": torch.ones(64),
            "context_length": torch.tensor(77),
            "n": 3,
        }
    again = convert({"epoch": 3, "state_dict": state} if form in ("nested", "prefixed") else state, top_k=1)
    assert again.tasks == ["task0", "task1"] and len(again.layers[0].experts) == 3
    assert again.layers[0].experts[0].up_proj.in_features == 8
    ours, theirs = again.adapter_state_dict(), model.adapter_state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in theirs)
    for name, tensor in model.clip.state_dict().items():
        assert torch.equal(again.clip.state_dict()[name], tensor), name


@pytest.mark.parametrize("without, words", [
    (r"(?!visual).*", "lacks .'positional_embedding', 'token_embedding.weight', 'ln_final.weight', 'text_proj"),
    (r"visual\.positional_embedding", "lacks .'visual.positional_embedding'"),
    (r"visual\.transformer\.resblocks\.0\.(adapt|router|w_noise).*", "lacks .'image_layers.0.experts.0"),
    (r".*down_proj\.bias", "lacks .'down_proj.bias'"), (r".*router_list\.1", "lacks .'image_layers.0.routers.1.w_gate'"),
    (r".*(router|w_noise)_list.*", "it has no routers"), (r".*mlp\.c_fc\.weight", "Missing key.*c_fc.weight"),
])  # fmt: skip
def test_parts_that_are_missing(model, without, words):
    state = {k: v for k, v in official_names(model).items() if not re.fullmatch(without, k)}
    with pytest.raises(ValueError, match=f"the checkpoint does not fit together: .*{words}"):
        convert(state, top_k=1)


@pytest.mark.parametrize("name, size", [
    ("transformer.resblocks.0.adaptmlp_list.1.down_proj.weight", (9, 64)), ("text_projection", (64, 21)),
    ("transformer.resblocks.1.router_list.1", (64, 4)), ("visual.positional_embedding", (9, 64)),
])  # fmt: skip
def test_sizes_that_do_not_fit_together(model, name, size):
    with pytest.raises(ValueError, match="the checkpoint does not fit together: .*size mismatch") as caught:
        convert({**official_names(model), name: torch.zeros(size)}, top_k=1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("what", ["model.pth", [1], {}, {"state_dict": 3}, torch.nn.Linear(2, 2)])
def test_what_is_no_state_dict(what):
    for read in (convert, convert_ddas):
        with pytest.raises(ValueError, match="holds no tensors by name: pass a state dict"):
            read(what)


def test_autoencoders_that_do_not_fit_together():
    def one(number, dim, code):
        parts = {"encoder": (code, dim), "decoder": (dim, code)}
        weights = {f"{number}.{part}.0.weight": torch.rand(size) for part, size in parts.items()}
        return weights | {f"{number}.{part}.0.bias": torch.rand(size[0]) for part, size in parts.items()}

    state = one(0, 20, 5) | one(1, 20, 5)
    assert convert_ddas(state).errors(torch.rand(3, 20)).shape == (3, 2)
    with pytest.raises(ValueError, match="does not fit together: .*size mismatch for autoencoders.1.decoder"):
        convert_ddas({**state, "1.decoder.0.weight": torch.rand(21, 5)})
    with pytest.raises(ValueError, match="features of different lengths"):
        convert_ddas(state | one(2, 30, 5))
