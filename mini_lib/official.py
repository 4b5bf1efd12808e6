"""Checkpoints of the official repository (JiazuoYu/MoE-Adapters4CL), read into this library's modules.

Only the names of the parameters differ. No notebook needs this; the tests compare it with the official code's values, and
notebook 13 lists what else is different there. `convert(load_tensors(FILE))` reads a file, and nothing in it is run.
"""

import re
from typing import Any

import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from torch import nn

from .ddas import DDAS
from .embedded.checkpoints import named_tensors
from .moe import MoEClip

TOWERS = {"visual.transformer": "image_layers", "transformer": "text_layers"}
PARTS = {"adaptmlp_list": "experts", "router_list": "routers", "w_noise_list": "routers"}
NAME = re.compile(
    r"(visual\.transformer|transformer)\.resblocks\.(\d+)\.(adaptmlp_list|router_list|w_noise_list)\.(\d+)\.?(.*)"
)
UNUSED = re.compile(r"\.(ln_3|adaptmlp)\.")  # never called; an alias of the last expert


def own_name(name: str) -> str | None:
    """The name of an official expert or router parameter in `MoEClip`; None for a parameter of CLIP itself."""
    match = NAME.fullmatch(name)
    if not match:
        return None
    tower, block, part, index, rest = match.groups()
    rest = {"router_list": "w_gate", "w_noise_list": "w_noise"}.get(part, rest)
    return f"{TOWERS[tower]}.{block}.{PARTS[part]}.{index}.{rest}"


def convert(state_dict: dict, top_k: int = 2) -> MoEClip:
    """A MoEClip with the weights of an official checkpoint; sizes, experts and tasks are read from the tensors.

    state_dict: tensors under the official names, plain or as the checkpoint file's {"state_dict": ...}, with or
    without the prefix "module.". Tasks are named "task0", "task1", ... in the order of their routers.
    Raises ValueError where it holds no adapters, lacks a part of CLIP, or has parts of sizes that do not fit together.
    """
    state = {k: v for k, v in _tensors(state_dict).items() if not UNUSED.search(k)}
    adapters = {own: v.float() for k, v in state.items() if (own := own_name(k))}
    base = {k: v.float() for k, v in state.items() if not own_name(k)}
    if not adapters or "visual.conv1.weight" not in base:
        raise ValueError("this is no checkpoint of MoE-Adapters: it holds no experts or no image tower of a ViT CLIP.")
    count = {
        part: max((1 + int(k.split(".")[3]) for k in adapters if k.split(".")[2] == part), default=0)
        for part in ("experts", "routers")
    }
    bottleneck: Any = next((len(v) for k, v in adapters.items() if k.endswith("down_proj.bias")), None)
    absent = [name for name in SIZES if name not in base] + ["down_proj.bias"] * (bottleneck is None)
    if absent or not count["routers"]:
        raise ValueError(
            f"the checkpoint does not fit together: it {f'lacks {absent}' if absent else 'has no routers'}."
        )
    model = MoEClip(_clip_for(base), count["experts"], top_k, bottleneck)
    for task in range(count["routers"]):
        model.add_task(f"task{task}")
    _load(model.clip, {k: v for k, v in base.items() if k in model.clip.state_dict()})
    result = _load(model, adapters, strict=False)
    missing = [k for k in result.missing_keys if not k.startswith("clip.") and not k.endswith(("counts", "frozen"))]
    if missing or result.unexpected_keys:
        raise ValueError(
            f"the checkpoint does not fit together: it lacks {missing[:3]}, has {result.unexpected_keys[:3]}."
        )
    return model.eval()


SIZES = (  # those tensors of CLIP that tell its shape
    "visual.conv1.weight",
    "visual.positional_embedding",
    "positional_embedding",
    "token_embedding.weight",
    "ln_final.weight",
    "text_projection",
)


def _tensors(state_dict):
    tensors = named_tensors(state_dict)
    if not tensors:
        raise ValueError(
            f"this {type(state_dict).__name__} holds no tensors by name: pass a state dict, as load_tensors of "
            "mini_lib.clip reads it from a file."
        )
    return tensors


def _load(module, state, **options):
    try:
        return module.load_state_dict(state, **options)
    except RuntimeError as error:
        what = " ".join(str(error).split())[:300]
        raise ValueError(f"the checkpoint does not fit together: {what}") from error


AUTOENCODER = re.compile(r"(?:.*\.)?(\d+)\.((?:en|de)coder\.0\.(?:weight|bias))")


class GivenFeatures(nn.Module):
    """Stands where images would be turned into features: the features are given. (B, dim) -> (B, dim)"""

    def __init__(self, squash: bool = True, code: int = 100):
        super().__init__()
        self.squash, self.code = squash, code

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features


def convert_ddas(
    state_dict: dict, features: nn.Module | None = None, threshold: float | None = 0.0655, granularity: str = "sample"
) -> DDAS:
    """A DDAS with the autoencoders of an official checkpoint, the first of them that of the reference images.

    features: `AlexNetFeatures()` for images; by default the DDAS takes features (B, dim) as they come from there.
    threshold: 0.0655 is the official one for the full data sets, 0.06 for few shots. Raises ValueError where the
    checkpoint holds no autoencoders or not all of their parts.
    """
    state = _tensors(state_dict)
    own = {f"autoencoders.{m[1]}.{m[2]}": v.float() for k, v in state.items() if (m := AUTOENCODER.fullmatch(k))}
    count = sum(name.endswith("encoder.0.weight") for name in own)
    if not own or len(own) != 4 * count or {int(k.split(".")[1]) for k in own} != set(range(count)):
        raise ValueError("this is no checkpoint of DDAS: it must hold encoder and decoder of autoencoders 0, 1, 2, ...")
    ddas = DDAS(None, features or GivenFeatures(), threshold=threshold, granularity=granularity)
    try:
        ddas.load_selector_state_dict(own)
    except RuntimeError as error:
        raise ValueError(f"the checkpoint does not fit together: {' '.join(str(error).split())[:300]}") from error
    if len({autoencoder.encoder[0].in_features for autoencoder in ddas.autoencoders}) > 1:
        raise ValueError(
            "the checkpoint does not fit together: its autoencoders are for features of different lengths."
        )
    return ddas


def _clip_for(base):
    """An open_clip model of the shapes that OpenAI's parameter names and sizes tell; OpenAI's CLIP uses QuickGELU."""

    def depth(prefix):
        return max((1 + int(k.removeprefix(prefix).split(".")[0]) for k in base if k.startswith(prefix)), default=0)

    conv, width = base["visual.conv1.weight"], base["ln_final.weight"].shape[0]
    grid = round((base["visual.positional_embedding"].shape[0] - 1) ** 0.5)
    vision = CLIPVisionCfg(
        layers=depth("visual.transformer.resblocks."),
        width=conv.shape[0],
        head_width=64,
        patch_size=conv.shape[-1],
        image_size=grid * conv.shape[-1],
    )
    text = CLIPTextCfg(
        context_length=base["positional_embedding"].shape[0],
        vocab_size=base["token_embedding.weight"].shape[0],
        width=width,
        heads=max(width // 64, 1),
        layers=depth("transformer.resblocks."),
    )
    return CLIP(base["text_projection"].shape[1], vision, text, quick_gelu=True).eval()
