"""The tiny CLIP: a real `open_clip.CLIP`, small enough to ship with the package. It knows drawings; see its card.

Its pretraining is `pretrain.py`, the pairs it saw are `pairs.py`.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from safetensors.torch import load_file, save_file

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


def save(model: Any, rows: torch.Tensor, facts: dict[str, Any], weights: Path = WEIGHTS, card: Path = CARD) -> None:
    """Write fp16 weights and the card. Of the token table only the rows that captions use are stored."""
    tensors = {k: v.half().contiguous() for k, v in model.state_dict().items() if k != "token_embedding.weight"}
    tensors["token_embedding.weight"] = model.token_embedding.weight[rows].detach().half()
    tensors["token_embedding.rows"] = rows.int()
    save_file(tensors, weights)
    facts = {**facts, "sha256": hashlib.sha256(weights.read_bytes()).hexdigest()}
    card.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def load(weights: Path = WEIGHTS, card: Path = CARD) -> CLIP:
    """The pretrained embedded CLIP, in eval mode.

    Token rows that no caption of the pretraining used keep their seeded random start values, so that words it never
    saw are different from each other, though without meaning.
    Raises ValueError where the file is not the one that the card describes.
    """
    expected = json.loads(card.read_text(encoding="utf-8"))
    if not weights.exists() or hashlib.sha256(weights.read_bytes()).hexdigest() != expected["sha256"]:
        raise ValueError(
            f"{weights} is missing or not the file that {card.name} describes (wrong SHA-256). Restore it with "
            "'git checkout mini_lib/embedded', install the package again, or make it with 'python -m mini_lib pretrain tiny'."
        )
    model: Any = build(expected["seed"])
    state = {k: v.float() for k, v in load_file(weights).items()}
    table = model.token_embedding.weight.detach().clone()
    table[state.pop("token_embedding.rows").long()] = state["token_embedding.weight"]
    model.load_state_dict({**state, "token_embedding.weight": table})
    return model.eval()
