"""The tiny CLIP: a real `open_clip.CLIP`, small enough to ship with the package. It knows drawings; see its card.

Its pretraining is `pretrain.py`, the pairs it saw are `pairs.py`.
"""

from pathlib import Path

import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

from . import files

WEIGHTS = Path(__file__).with_name("tiny.safetensors")
CARD = WEIGHTS.with_suffix(".json")

SIZE = 32  # pixels a side
MEAN = STD = 0.5  # pixels in [0, 1] are shifted and scaled to [-1, 1]


def build(seed: int = 0, width: int = 128, vision_layers: int = 4, text_layers: int = 3) -> CLIP:
    """The untrained model: ViT of 32 x 32 pixels in 16 patches, a causal text tower, CLIP's 49,408 tokens."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vision = CLIPVisionCfg(layers=vision_layers, width=width, head_width=64, patch_size=8, image_size=SIZE)
        text = CLIPTextCfg(context_length=77, vocab_size=49408, width=width, heads=width // 64, layers=text_layers)
        return CLIP(embed_dim=width, vision_cfg=vision, text_cfg=text)


def load(weights: Path = WEIGHTS, card: Path = CARD) -> CLIP:
    """The pretrained tiny CLIP, in eval mode; `files.load` says what it checks."""
    return files.load(build, weights, card)
