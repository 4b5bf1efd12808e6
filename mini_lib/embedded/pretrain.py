"""Pretraining of the tiny CLIP, from scratch, with CLIP's contrastive loss. Built in notebook 01, on a still smaller one.

`python -m mini_lib pretrain tiny` makes the weights that ship with the package again (seeded, resumable).
"""

import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from torch.nn import functional as F
from tqdm.auto import tqdm

from ..clip import encode_text_trimmed, read_checkpoint
from ..training import rows_in_use
from .pairs import CONCEPTS, article, draw_concept, draw_pairs, to_tensor
from .tiny import CARD, WEIGHTS, build, save


def contrastive_loss(image_features: torch.Tensor, text_features: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """CLIP's loss: cross-entropy over the similarities of a batch, in both directions (Radford et al. 2021)."""
    image_features = F.normalize(image_features, dim=-1)
    text_features = F.normalize(text_features, dim=-1)
    logits = scale * image_features @ text_features.T
    labels = torch.arange(len(logits))
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2


def pretrain(
    steps: int,
    batch: int = 256,
    lr: float = 1e-3,
    warmup: int = 200,
    pairs: int = 80_000,
    seed: int = 0,
    work: str | Path | None = None,
    save_every: int = 500,
) -> tuple[Any, torch.Tensor, dict[str, Any]]:
    """Pretrain the tiny CLIP on drawn pairs; with `work`, go on from the newest state saved in that folder.

    Returns the model, the rows of its token table that captions use, and facts for the card.
    """
    images, captions = draw_pairs(pairs, seed)
    tokens = open_clip.get_tokenizer("ViT-B-32")(captions)
    model = build(seed).train()
    with rows_in_use(model, tokens):
        facts = _train(model, images, tokens, steps, batch, lr, warmup, seed, work and Path(work), save_every)
    facts = {"pairs": pairs, "steps": steps, "batch": batch, "learning_rate": lr, "seed": seed, **facts}
    return model.eval(), tokens.unique(), facts


def _train(model, images, tokens, steps, batch, lr, warmup, seed, work, save_every):
    decay, rest = [], []
    for name, parameter in model.named_parameters():
        (decay if parameter.ndim >= 2 and not name.startswith("token_embedding") else rest).append(parameter)
    groups = [{"params": decay, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98))
    state_file = work and work / "pretraining.pt"
    first, seconds, losses = 0, 0.0, []
    if state_file and state_file.exists():
        state = read_checkpoint(state_file)
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        first, seconds, losses = state["step"], state["seconds"], state["losses"]
    began = time.perf_counter()
    bar = tqdm(range(first, steps), desc="pretraining", initial=first, total=steps, mininterval=20)
    for step in bar:
        epoch, position = divmod(step, len(images) // batch)
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed * 1000 + epoch))
        chosen = order[position * batch : (position + 1) * batch]
        for group in optimiser.param_groups:
            group["lr"] = lr * min((step + 1) / warmup, 0.5 * (1 + math.cos(math.pi * step / steps)))
        loss = contrastive_loss(
            model.encode_image(to_tensor(images[chosen.numpy()])),
            encode_text_trimmed(model, tokens[chosen]),
            model.logit_scale.exp(),
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            model.logit_scale.clamp_(max=math.log(100))
        losses.append(loss.item())
        bar.set_postfix(loss=f"{np.mean(losses[-50:]):.3f}", refresh=False)
        if state_file and (step + 1) % save_every == 0 and step + 1 < steps:
            state_file.parent.mkdir(parents=True, exist_ok=True)
            state = {
                "model": model.state_dict(),
                "optimiser": optimiser.state_dict(),
                "step": step + 1,
                "seconds": seconds + time.perf_counter() - began,
                "losses": losses,
            }
            torch.save(state, state_file.with_suffix(".part"))
            state_file.with_suffix(".part").replace(state_file)
    seconds = round(seconds + time.perf_counter() - began)
    return {"seconds": seconds, "final_loss": round(float(np.mean(losses[-100:])), 3)}


@torch.no_grad()
def zero_shot_accuracies(model: Any, seed: int = 1_000_003, each: int = 20) -> dict[str, float]:
    """Accuracy in percent on freshly drawn images of each kind of concept, among that kind's names."""
    rng = np.random.default_rng(seed)
    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    prompt = {"number": "the number {}.", "letter": "the letter {}.", "colour": "the colour {}."}
    result = {}
    for kind, names in CONCEPTS.items():
        images = to_tensor(np.stack([draw_concept(kind, name, rng)[0] for name in names for _ in range(each)]))
        labels = torch.arange(len(names)).repeat_interleave(each)
        prompts = [prompt.get(kind, "a picture of {}.").format(article(n) if kind == "shape" else n) for n in names]
        text = F.normalize(encode_text_trimmed(model, tokenizer(prompts)), dim=-1)
        result[kind] = round(float((model.encode_image(images) @ text.T).argmax(1).eq(labels).float().mean()) * 100, 1)
    return result


def pretrain_tiny(steps: int, seed: int, work: str, out: Path) -> None:
    """The command `pretrain tiny`: train, judge the weights as they are stored, write them and the card to `out`."""
    model, rows, facts = pretrain(steps, seed=seed, work=work)
    out.mkdir(parents=True, exist_ok=True)
    model = model.half().float()
    facts["zero_shot"] = zero_shot_accuracies(model)
    save(model, rows, facts, out / WEIGHTS.name, out / CARD.name)
    print(json.dumps(facts, indent=2))
