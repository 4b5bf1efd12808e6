"""Pretraining of the tiny CLIP, from scratch, with CLIP's contrastive loss. Built in notebook 01, on a still smaller one.

`python -m mini_lib pretrain tiny` makes the weights that ship with the package again (seeded, resumable).
"""

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch.nn import functional as F
from tqdm.auto import tqdm

from ..clip import encode_text_trimmed
from ..training import rows_in_use
from .files import save
from .pairs import CONCEPTS, article, draw_concept, draw_pairs, to_tensor
from .storage import digest_of_checkpoint, one_writer, replace_file, sweep
from .tiny import CARD, WEIGHTS, build


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
    settings = {"steps": steps, "batch": batch, "lr": lr, "warmup": warmup, "pairs": len(images), "seed": seed}
    drawn = {"images": torch.from_numpy(images), "tokens": tokens}
    settings["data"] = digest_of_checkpoint(drawn, {})  # another Pillow or NumPy draws others

    def loss(step):
        epoch, position = divmod(step, len(images) // batch)
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed * 1000 + epoch))
        chosen = order[position * batch : (position + 1) * batch]
        return contrastive_loss(
            model.encode_image(to_tensor(images[chosen.numpy()])),
            encode_text_trimmed(model, tokens[chosen]),
            model.logit_scale.exp(),
        )

    with rows_in_use(model, tokens):
        facts = train_from_scratch(model, loss, settings, Path(work) if work else None, save_every)
    facts = {"pairs": pairs, "steps": steps, "batch": batch, "learning_rate": lr, "seed": seed, **facts}
    return model.eval(), tokens.unique(), facts


def train_from_scratch(
    model: Any, loss: Callable[[int], torch.Tensor], settings: dict[str, Any], work: Path | None, save_every: int
) -> dict[str, Any]:
    """Minimise `loss(step)` with AdamW, warm-up and cosine; with `work`, go on from the state saved there.

    settings: "steps", "lr", "warmup", and all else that a state must agree in. Returns seconds and the last losses' mean.
    """
    decay, rest = [], []
    for name, parameter in model.named_parameters():
        (decay if parameter.ndim >= 2 and not name.startswith("token_embedding") else rest).append(parameter)
    groups = [{"params": decay, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}]
    steps, lr, warmup = (settings[name] for name in ("steps", "lr", "warmup"))
    optimiser = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98))
    file = work and work / "pretraining.safetensors"
    first, seconds, losses = _load_state(file, settings, model, optimiser) if file and file.exists() else (0, 0.0, [])
    began = time.perf_counter()
    bar = tqdm(range(first, steps), desc="pretraining", initial=first, total=steps, mininterval=20)
    for step in bar:
        for group in optimiser.param_groups:
            group["lr"] = lr * min((step + 1) / warmup, 0.5 * (1 + math.cos(math.pi * step / steps)))
        value = loss(step)
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        with torch.no_grad():
            model.logit_scale.clamp_(max=math.log(100))
        losses.append(value.item())
        bar.set_postfix(loss=f"{np.mean(losses[-50:]):.3f}", refresh=False)
        if file and (step + 1) % save_every == 0 and step + 1 < steps:
            facts = {"settings": json.dumps(settings), "step": str(step + 1)}
            facts["seconds"] = str(seconds + time.perf_counter() - began)
            _save_state(file, facts, model, optimiser, losses)
    seconds = round(seconds + time.perf_counter() - began)
    return {"seconds": seconds, "final_loss": round(float(np.mean(losses[-100:])), 3)}


def _save_state(file, facts, model, optimiser, losses):
    state = {f"model.{name}": tensor.contiguous() for name, tensor in model.state_dict().items()}
    moments = optimiser.state_dict()["state"]
    state |= {f"optimiser.{i}.{name}": tensor.contiguous() for i, of in moments.items() for name, tensor in of.items()}
    state["losses"] = torch.tensor(losses, dtype=torch.float64)
    metadata = facts | {"digest": digest_of_checkpoint(state, facts)}
    replace_file(file, lambda path: save_file(state, path, metadata=metadata))


def _load_state(file, settings, model, optimiser):
    """Take over a saved state; returns its steps, seconds and losses. Raises ValueError where it is of another pretraining."""
    try:
        with safe_open(file, framework="pt") as saved:
            facts, state = dict(saved.metadata()), {name: saved.get_tensor(name) for name in saved.keys()}
        held, digest = json.loads(facts["settings"]), facts.pop("digest", None)  # none: of an older version
        if digest not in (None, digest_of_checkpoint(state, facts)):
            raise ValueError("it is not what was written there")
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file} is damaged ({error}): move it away, or take another --work.") from error
    if other := [f"{k}: {held.get(k)!r} there, {v!r} now" for k, v in settings.items() if held.get(k) != v]:
        raise ValueError(
            f"{file} holds another pretraining ({'; '.join(other)}): move it away, or take another --work."
        )
    model.load_state_dict({k.removeprefix("model."): v for k, v in state.items() if k.startswith("model.")})
    moments = {}
    for name, tensor in state.items():
        if name.startswith("optimiser."):
            _, place, moment = name.split(".")
            moments.setdefault(int(place), {})[moment] = tensor
    optimiser.load_state_dict({"state": moments, "param_groups": optimiser.state_dict()["param_groups"]})
    return int(facts["step"]), float(facts["seconds"]), state["losses"].tolist()


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
    with one_writer(Path(work)):
        sweep(Path(work))
        model, rows, facts = pretrain(steps, seed=seed, work=work)
    out.mkdir(parents=True, exist_ok=True)
    model = model.half().float()
    facts["zero_shot"] = zero_shot_accuracies(model)
    save(model, rows, facts, out / WEIGHTS.name, out / CARD.name)
    print(json.dumps(facts, indent=2))
