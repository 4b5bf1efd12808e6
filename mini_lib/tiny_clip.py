"""The embedded CLIP: a real `open_clip.CLIP`, small enough to live in the repository.

It is pretrained from scratch, with CLIP's contrastive loss and CLIP's own tokenizer, on image–caption pairs that
this module draws: shapes, colours, patterns, digits and letters in plain looks. It knows these concepts, not the
styles of MiniMTIL's tasks. `python -m mini_lib.tiny_clip` makes the weights again (seeded, resumable).
Notebook 01 pretrains a still smaller one.
"""

import argparse
import hashlib
import json
import math
import time
from pathlib import Path

import numpy as np
import open_clip
import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F
from tqdm.auto import tqdm

from .benchmarks.drawing import (
    COLOURS,
    LETTERS,
    NUMBERS,
    PATTERNS,
    SHAPES,
    SIZE,
    glyph_mask,
    pattern_mask,
    shape_mask,
)  # fmt: skip
from .clip import encode_text_trimmed
from .progress import progress

DATA = Path(__file__).resolve().parent.parent / "data"
WEIGHTS = DATA / "tiny_clip.safetensors"
CARD = DATA / "tiny_clip.json"

MEAN = STD = 0.5  # pixels in [0, 1] are shifted and scaled to [-1, 1]


def build(seed=0, width=128, vision_layers=4, text_layers=3):
    """The untrained model: ViT of 32 x 32 pixels in 16 patches, a causal text tower, CLIP's 49,408 tokens."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vision = CLIPVisionCfg(layers=vision_layers, width=width, head_width=64, patch_size=8, image_size=SIZE)
        text = CLIPTextCfg(context_length=77, vocab_size=49408, width=width, heads=width // 64, layers=text_layers)
        return CLIP(embed_dim=width, vision_cfg=vision, text_cfg=text)


# ---------------------------------------------------------------------------------------------------------------
# Image–caption pairs

TEMPLATES = (
    "{}", "a photo of {}", "a picture of {}", "a drawing of {}", "an image of {}", "a painting of {}",
    "a small photo of {}", "a bright picture of {}", "a dark picture of {}", "this is {}", "here you see {}",
)  # fmt: skip
KINDS = {"shape": 0.28, "letter": 0.27, "number": 0.2, "pattern": 0.15, "colour": 0.1}


def _colour(rng, name):
    return np.clip(np.array(COLOURS[name]) + rng.normal(0, 0.06, 3), 0, 1)


def _two_colours(rng):
    """Two colour names whose RGB values differ enough to tell ink from paper."""
    names = list(COLOURS)
    while True:
        ink, paper = rng.choice(names, 2, replace=False)
        if np.abs(np.subtract(COLOURS[ink], COLOURS[paper])).sum() > 0.8:
            return ink, paper


def paint(mask, ink, paper, rng):
    """A mask in two colours, with a slight gradient and noise: the plain look of pretraining. uint8 (32, 32, 3)."""
    image = mask[..., None] * ink + (1 - mask[..., None]) * paper
    ramp = np.linspace(-1, 1, SIZE)[:, None, None] * rng.uniform(-0.12, 0.12)
    image = image + (ramp if rng.random() < 0.5 else ramp.transpose(1, 0, 2))
    image = image + rng.normal(0, rng.uniform(0, 0.08), image.shape)
    return (np.clip(image, 0, 1) * 255).astype(np.uint8)


def draw_concept(kind, name, rng):
    """One image of a concept in the plain look; returns it with the names of its two colours."""
    if kind == "colour":
        ink, paper = name, rng.choice(["white", "black", "grey"])
        if ink == paper:
            paper = "white" if ink == "black" else "black"
        mask = np.ones((SIZE, SIZE), np.float32)
        if rng.random() < 0.6:
            mask = shape_mask(rng.choice(["circle", "square", "hexagon", "diamond"]), rng, scale=(0.7, 1.0))
        return paint(mask, _colour(rng, ink), _colour(rng, paper), rng), ink, paper
    ink, paper = _two_colours(rng)
    if kind == "shape":
        mask = shape_mask(name, rng, outline=3 if rng.random() < 0.25 else None)
    elif kind == "pattern":
        mask = pattern_mask(name, rng)
    else:
        mask = glyph_mask(str(NUMBERS.index(name)) if kind == "number" else name, rng)
    return paint(mask, _colour(rng, ink), _colour(rng, paper), rng), ink, paper


def article(noun):
    """The noun with its article: a star, an arrow."""
    return f"an {noun}" if noun[0].lower() in "aeiou" else f"a {noun}"


def phrase(kind, name, ink, paper, rng):
    """A short description of the concept, often with its colours."""
    choice = {
        "shape": [article(name), article(f"{ink} {name}"), f"{article(name)} in {ink}",
                  f"{article(f'{ink} {name}')} on {paper}", f"{article(name)} on {article(paper)} background"],
        "number": [f"the number {name}", f"the digit {name}", f"the number {name} in {ink}",
                   f"{article(f'{ink} {name}')} on {paper}", name],
        "letter": [f"the letter {name}", f"the letter {name} in {ink}", f"the {ink} letter {name}",
                   f"{article(ink)} letter {name} on {paper}", f"the letter {name} on {paper}"],
        "pattern": [name, f"a pattern of {name}", f"{name} in {ink} and {paper}", f"{ink} and {paper} {name}"],
        "colour": [name, f"the colour {name}", f"something {name}", f"{article(name)} thing", f"{article(name)} surface"],
    }[kind]  # fmt: skip
    return choice[rng.integers(len(choice))]


CONCEPTS = {
    "shape": tuple(SHAPES), "letter": LETTERS, "number": NUMBERS, "pattern": tuple(PATTERNS),
    "colour": tuple(COLOURS),
}  # fmt: skip


def draw_pairs(count, seed):
    """Draw image–caption pairs: uint8 images (count, 32, 32, 3) and a list of captions."""
    rng = np.random.default_rng(seed)
    images = np.empty((count, SIZE, SIZE, 3), np.uint8)
    captions = []
    kinds = rng.choice(list(KINDS), size=count, p=list(KINDS.values()))
    for i, kind in enumerate(progress(kinds, "drawing pairs")):
        name = rng.choice(CONCEPTS[kind])
        images[i], ink, paper = draw_concept(kind, name, rng)
        caption = TEMPLATES[rng.integers(len(TEMPLATES))].format(phrase(kind, name, ink, paper, rng))
        captions.append(caption + "." if rng.random() < 0.5 else caption)
    return images, captions


def to_tensor(images):
    """uint8 images (N, 32, 32, 3) as float32 (N, 3, 32, 32) in [-1, 1], what the embedded CLIP reads."""
    pixels = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 255
    return ((pixels - MEAN) / STD).contiguous()


# ---------------------------------------------------------------------------------------------------------------
# Pretraining


def contrastive_loss(image_features, text_features, scale):
    """CLIP's loss: cross-entropy over the similarities of a batch, in both directions (Radford et al. 2021)."""
    image_features = F.normalize(image_features, dim=-1)
    text_features = F.normalize(text_features, dim=-1)
    logits = scale * image_features @ text_features.T
    labels = torch.arange(len(logits))
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2


def pretrain(steps, batch=256, lr=1e-3, warmup=200, pairs=80_000, seed=0, work=None, save_every=500):
    """Pretrain the embedded CLIP on drawn pairs; with `work`, go on from the newest state saved in that folder."""
    images, captions = draw_pairs(pairs, seed)
    tokens = open_clip.get_tokenizer("ViT-B-32")(captions)
    rows, tokens = tokens.unique(return_inverse=True)  # in ascending order: the end-of-text token stays the highest
    model = build(seed).train()
    table = model.token_embedding.weight.detach().clone()
    model.token_embedding = nn.Embedding.from_pretrained(table[rows], freeze=False)  # the other rows never change
    decay = [p for p in model.parameters() if p.ndim >= 2 and p is not model.token_embedding.weight]
    rest = [p for p in model.parameters() if p.ndim < 2 or p is model.token_embedding.weight]
    optimiser = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}], lr=lr, betas=(0.9, 0.98)
    )
    state_file = work and Path(work) / "pretraining.pt"
    first, seconds, losses = 0, 0.0, []
    if state_file and state_file.exists():
        state = torch.load(state_file, weights_only=True)
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        first, seconds, losses = state["step"], state["seconds"], state["losses"]
    began = time.perf_counter()
    bar = tqdm(range(first, steps), desc="pretraining", initial=first, total=steps, mininterval=20)
    for step in bar:
        epoch, position = divmod(step, pairs // batch)
        order = torch.randperm(pairs, generator=torch.Generator().manual_seed(seed * 1000 + epoch))
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
                "model": model.state_dict(), "optimiser": optimiser.state_dict(), "step": step + 1,
                "seconds": seconds + time.perf_counter() - began, "losses": losses,
            }  # fmt: skip
            torch.save(state, state_file.with_suffix(".part"))
            state_file.with_suffix(".part").replace(state_file)
    facts = {
        "pairs": pairs, "steps": steps, "batch": batch, "learning_rate": lr, "seed": seed,
        "seconds": round(seconds + time.perf_counter() - began), "final_loss": round(float(np.mean(losses[-100:])), 3),
    }  # fmt: skip
    table[rows] = model.token_embedding.weight.detach()
    model.token_embedding = nn.Embedding.from_pretrained(table, freeze=False)
    return model.eval(), rows, facts


@torch.no_grad()
def zero_shot_accuracies(model, seed=1_000_003, each=20):
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


def save(model, rows, facts, weights=WEIGHTS, card=CARD):
    """Write fp16 weights and the card. Of the token table only the rows that captions use are stored."""
    tensors = {k: v.half().contiguous() for k, v in model.state_dict().items() if k != "token_embedding.weight"}
    tensors["token_embedding.weight"] = model.token_embedding.weight[rows].detach().half()
    tensors["token_embedding.rows"] = rows.int()
    save_file(tensors, weights)
    facts = {**facts, "sha256": hashlib.sha256(weights.read_bytes()).hexdigest()}
    card.write_text(json.dumps(facts, indent=2) + "\n")


def load(weights=WEIGHTS, card=CARD):
    """The pretrained embedded CLIP, in eval mode.

    Token rows that no caption of the pretraining used keep their seeded random start values, so that words it never
    saw are different from each other, though without meaning.
    Raises ValueError where the file is not the one that the card describes.
    """
    expected = json.loads(card.read_text())
    if not weights.exists() or hashlib.sha256(weights.read_bytes()).hexdigest() != expected["sha256"]:
        raise ValueError(
            f"{weights} is missing or not the file that {card.name} describes (wrong SHA-256). Restore it with "
            "'git checkout data/', or make it again with 'python -m mini_lib.tiny_clip'."
        )
    model = build(expected["seed"])
    state = {k: v.float() for k, v in load_file(weights).items()}
    table = model.token_embedding.weight.detach().clone()
    table[state.pop("token_embedding.rows").long()] = state["token_embedding.weight"]
    model.load_state_dict({**state, "token_embedding.weight": table})
    return model.eval()


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m mini_lib.tiny_clip", description="Pretrain the embedded CLIP.")
    parser.add_argument("--steps", type=int, default=4500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", default="runs/tiny_clip", help="folder of the state that an interrupted run resumes")
    parser.add_argument("--out", default=str(DATA), help="folder for tiny_clip.safetensors and tiny_clip.json")
    options = parser.parse_args(arguments)
    model, rows, facts = pretrain(options.steps, seed=options.seed, work=options.work)
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    model = model.half().float()  # judged as it is stored
    facts["zero_shot"] = zero_shot_accuracies(model)
    save(model, rows, facts, out / WEIGHTS.name, out / CARD.name)
    print(json.dumps(facts, indent=2))


if __name__ == "__main__":
    main()
