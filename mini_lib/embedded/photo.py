"""The photo CLIP: a real `open_clip.CLIP`, small enough to ship with the package. It knows photographs; see its card.

Its pretraining is `photographs.py`, the words that it was told are `kinds.py`.
"""

from pathlib import Path
from typing import Any

import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from torch import nn

from . import files

WEIGHTS = Path(__file__).with_name("photo.safetensors")
CARD = WEIGHTS.with_suffix(".json")

SIZE = 48  # pixels a side
MEAN = STD = 0.5  # pixels in [0, 1] are shifted and scaled to [-1, 1]


def build(seed: int = 0, width: int = 128, vision_layers: int = 4, text_layers: int = 2) -> CLIP:
    """The untrained model: ViT of 48 x 48 pixels in 36 patches, a causal text tower, CLIP's 49,408 tokens.

    Three small convolutions make the patches' vectors in the place of one: that learns faster (Xiao et al. 2021, "Early
    convolutions help transformers see better").
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vision = CLIPVisionCfg(layers=vision_layers, width=width, head_width=64, patch_size=8, image_size=SIZE)
        text = CLIPTextCfg(context_length=77, vocab_size=49408, width=width, heads=width // 64, layers=text_layers)
        clip: Any = CLIP(embed_dim=width, vision_cfg=vision, text_cfg=text)
        first, second = nn.Conv2d(3, 32, 3, 2, 1), nn.Conv2d(32, 64, 3, 2, 1)
        third = nn.Conv2d(64, width, 3, 2, 1)
        nn.init.kaiming_normal_(first.weight, nonlinearity="relu")
        nn.init.kaiming_normal_(second.weight, nonlinearity="relu")
        nn.init.kaiming_normal_(third.weight, nonlinearity="linear")
        clip.visual.conv1 = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), third)
        return clip


def load(weights: Path = WEIGHTS, card: Path = CARD) -> CLIP:
    """The pretrained photo CLIP, in eval mode; `files.load` says what it checks."""
    return files.load(build, weights, card)
