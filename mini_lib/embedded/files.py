"""The files of the CLIPs that ship: weights in fp16, and a card that says how they were made and their SHA-256."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from open_clip.model import CLIP
from safetensors.torch import load_file, save_file

from .storage import replace_file, sweep


def save(model: Any, rows: torch.Tensor, facts: dict[str, Any], weights: Path, card: Path) -> None:
    """Write fp16 weights and the card. Of the token table only the rows that captions use are stored."""
    for file in (weights, card):
        sweep(file.parent, f"{file.name}-")  # of a kill while it was written
    tensors = {k: v.half().contiguous() for k, v in model.state_dict().items() if k != "token_embedding.weight"}
    tensors["token_embedding.weight"] = model.token_embedding.weight[rows].detach().half()
    tensors["token_embedding.rows"] = rows.int()
    replace_file(weights, lambda path: save_file(tensors, path))
    facts = {**facts, "sha256": hashlib.sha256(weights.read_bytes()).hexdigest()}
    text = json.dumps(facts, indent=2) + "\n"
    replace_file(card, lambda path: path.write_text(text, encoding="utf-8"))


def load(build: Callable[[int], CLIP], weights: Path, card: Path) -> CLIP:
    """The pretrained CLIP of the card's seed, in eval mode.

    Token rows that no caption of the pretraining used keep their seeded random start values, so that words it never
    saw are different from each other, though without meaning.
    Raises ValueError where the file is not the one that the card describes.
    """
    expected = json.loads(card.read_text(encoding="utf-8"))
    if not weights.exists() or hashlib.sha256(weights.read_bytes()).hexdigest() != expected["sha256"]:
        raise ValueError(
            f"{weights} is missing or not the file that {card.name} describes (wrong SHA-256). Restore it with 'git "
            f"checkout mini_lib/embedded', install the package again, or make it with 'python -m mini_lib pretrain {card.stem}'."
        )
    model: Any = build(expected["seed"])
    state = {k: v.float() for k, v in load_file(weights).items()}
    table = model.token_embedding.weight.detach().clone()
    table[state.pop("token_embedding.rows").long()] = state["token_embedding.weight"]
    model.load_state_dict({**state, "token_embedding.weight": table})
    return model.eval()
