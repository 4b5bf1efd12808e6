"""Pretraining of the photo CLIP on Tiny ImageNet, from scratch: photographs and the words that hold for them.

`python -m mini_lib pretrain photo --root FOLDER` makes the weights that ship with the package again (seeded, resumable).
"""

import io
import json
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from open_clip.transformer import PatchDropout
from PIL import Image
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..clip import class_embeddings, encode_text_trimmed, prompts
from ..training import progress, rows_in_use
from .drawing import NUMBERS, PATTERNS, SHAPES
from .files import save
from .kinds import KINDS
from .pairs import article, draw_concept
from .photo import CARD, MEAN, SIZE, STD, WEIGHTS, build
from .pretrain import train_from_scratch
from .reference import STATISTICS, write_statistics
from .storage import digest_of_checkpoint, one_writer, sweep

TEMPLATES = (
    "a photo of {}.", "a photo of {}", "{}", "a picture of {}.", "an image of {}", "a small photo of {}.",
    "a blurry photo of {}.", "a dark photo of {}.", "a bright photo of {}.", "a close-up photo of {}.",
    "a photo of something: {}.", "this is {}.", "a good photo of {}.", "a bad photo of {}.",
)  # fmt: skip
HELD_OUT = 20  # every 20th image of a kind is kept apart: all choices were made on these, none on Tiny ImageNet's val
NAME, WIDER, LIKE = 0.7, 0.25, 0.05  # what the names, the wider words and the comparisons of a kind weigh together
VECTOR_SCALE = 16  # of the similarities between images and the words' vectors
DRAWN = {"number": 0.5, "shape": 0.3, "pattern": 0.2}  # a few of the tiny CLIP's drawings, so that it knows digits
LOOKS = (
    "a dark photo.", "a bright photo.", "a black and white photo.", "a colourful photo.", "a blurry photo.",
    "a photo of something red.", "a photo of something orange.", "a photo of something yellow.",
    "a photo of something green.", "a photo of something turquoise.", "a photo of something blue.",
    "a photo of something purple.", "a photo of something pink.",
)  # fmt: skip
HUES = (0, 30, 55, 115, 175, 225, 280, 325)  # degrees on the colour wheel, in the order of LOOKS


def read_photographs(root: str | Path, split: str = "train") -> tuple[np.ndarray, np.ndarray]:
    """Tiny ImageNet's images, uint8 (N, 48, 48, 3), and their kinds, indices into `KINDS`, ordered by kind and name.

    root: the folder tiny-imagenet-200, the folder that holds it, or one of zips (WNID.zip and val.zip with WNID/ in it).
    Raises ValueError where a kind has no images there, OSError for an image that cannot be read.
    """
    root = Path(root)
    root = root / "tiny-imagenet-200" if (root / "tiny-imagenet-200").is_dir() else root
    files = _in_zips(root, split) if any(root.glob("*.zip")) else _in_folders(root, split)
    found = {number: [] for number in KINDS}
    for number, name, open_file in files:
        if number in found:
            found[number].append((name, open_file))
    if missing := [number for number in KINDS if not found[number]]:
        raise ValueError(
            f"{root} holds no {split} images of {len(missing)} of Tiny ImageNet's kinds, {missing[0]} the first: unpack "
            "cs231n.stanford.edu/tiny-imagenet-200.zip there, and give that folder as --root."
        )
    labels = np.repeat(np.arange(len(KINDS)), [len(of) for of in found.values()])
    images = np.empty((len(labels), SIZE, SIZE, 3), np.uint8)
    due = [one for of in found.values() for one in sorted(of, key=lambda one: (len(one[0]), one[0]))]  # _9 before _10
    for i, (name, open_file) in enumerate(progress(due, f"reading {split} images")):
        try:
            image = Image.open(io.BytesIO(open_file())).convert("RGB")
        except OSError as error:
            raise OSError(f"{root}: the image {name} cannot be read ({error}): unpack the archive again.") from error
        image = image if image.size == (SIZE, SIZE) else image.resize((SIZE, SIZE), Image.Resampling.BOX)
        images[i] = np.asarray(image)
    return images, labels


def _in_zips(root, split) -> Iterator:
    for path in sorted(root.glob("val.zip" if split == "val" else "n*.zip")):
        try:
            with zipfile.ZipFile(path) as opened:
                for name in opened.namelist():
                    if name.lower().endswith((".jpg", ".jpeg")):
                        number = name.split("/")[0] if split == "val" else path.stem
                        yield number, name, partial(bytes, opened.read(name))
        except zipfile.BadZipFile as error:
            raise OSError(f"{path} is damaged or no zip archive ({error}): fetch it again.") from error


def _in_folders(root, split) -> Iterator:
    if split == "val" and (root / "val" / "val_annotations.txt").is_file():
        for line in (root / "val" / "val_annotations.txt").read_text(encoding="utf-8").splitlines():
            name, number = line.split("\t")[:2]
            yield number, name, (root / "val" / "images" / name).read_bytes
    else:
        for path in (root / split).glob("n*/**/*.JPEG"):
            yield path.relative_to(root / split).parts[0], path.name, path.read_bytes


def concepts() -> tuple[list[str], torch.Tensor]:
    """All words V, and how true each is of each concept (C, V): the 200 kinds, then the drawn ones of `DRAWN`.

    A concept's words share a weight of 1; 0 is for words that do not hold for it.
    """
    drawn = {
        "number": lambda n: ((n, f"the number {n}", f"the digit {n}"), ("number", "digit"), ()),
        "shape": lambda n: ((n,), ("shape", "drawing"), ()),
        "pattern": lambda n: ((n,), ("pattern", "drawing"), ()),
    }
    known = list(KINDS.values()) + [drawn[kind](name) for kind, name in drawn_concepts()]
    words = list(dict.fromkeys(word for concept in known for part in concept for word in part))
    place = {word: i for i, word in enumerate(words)}
    truth = torch.zeros(len(known), len(words))
    for i, concept in enumerate(known):
        for part, weight in zip(concept, (NAME, WIDER, LIKE)):
            for word in part:
                truth[i, place[word]] += weight / len(part)
    return words, truth / truth.sum(dim=1, keepdim=True)


def drawn_concepts() -> list[tuple[str, str]]:
    """(kind, name) of each drawn concept."""
    names = {"number": NUMBERS, "shape": tuple(SHAPES), "pattern": tuple(PATTERNS)}
    return [(kind, name) for kind in DRAWN for name in names[kind]]


def draw(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Drawings uint8 (count, 48, 48, 3), and their places among `drawn_concepts`."""
    rng = np.random.default_rng([seed, 48])
    known = drawn_concepts()
    kinds = [kind for kind, _ in known]
    chance = np.array([DRAWN[kind] / kinds.count(kind) for kind in kinds])
    labels = rng.choice(len(known), size=count, p=chance)
    images = np.empty((count, SIZE, SIZE, 3), np.uint8)
    for i, label in enumerate(progress(labels, "drawing")):
        kind, name = known[label]
        drawing = Image.fromarray(draw_concept(kind, name, rng)[0])
        images[i] = np.asarray(drawing.resize((SIZE, SIZE), Image.Resampling.BICUBIC))
    return images, labels


def augment(images: torch.Tensor, mirrored: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A random crop, brightness and tint of each image, a mirror image of half of those that may be; some blurred.

    images: uint8 (B, 48, 48, 3); mirrored: bool (B,), whether the image may be. Returns float32 (B, 3, 48, 48) in about
    [-1, 1], and whether each was blurred, bool (B,). Draws from torch's global generator.
    """
    b = len(images)
    x = images.permute(0, 3, 1, 2).float().div_(255 * STD).sub_(MEAN / STD)
    area, shape = torch.empty(b).uniform_(0.5, 1), torch.empty(b).uniform_(-0.2, 0.2).exp()
    width, height = (area.sqrt() * shape).clamp(max=1), (area.sqrt() / shape).clamp(max=1)
    crop = torch.zeros(b, 2, 3)
    crop[:, 0, 0] = torch.where(mirrored & (torch.rand(b) < 0.5), -width, width)
    crop[:, 1, 1] = height
    crop[:, 0, 2], crop[:, 1, 2] = (2 * torch.rand(b) - 1) * (1 - width), (2 * torch.rand(b) - 1) * (1 - height)
    x = F.grid_sample(
        x, F.affine_grid(crop, list(x.shape), align_corners=False), align_corners=False, padding_mode="reflection"
    )
    blurred = torch.rand(b) < 0.15
    small = F.interpolate(x[blurred], SIZE // 2, mode="area")
    x[blurred] = F.interpolate(small, SIZE, mode="bicubic", align_corners=False)
    return x * torch.empty(b, 1, 1, 1).uniform_(0.7, 1.3) + torch.empty(b, 3, 1, 1).uniform_(-0.15, 0.15), blurred


def looks(images: torch.Tensor, blurred: torch.Tensor) -> torch.Tensor:
    """Which of `LOOKS` hold for images (B, 3, 48, 48): bool (B, 13). A photo shows a colour where a quarter of it does."""
    x = F.avg_pool2d(images * STD + MEAN, 4).clamp(0, 1)
    high, low = x.amax(dim=1), x.amin(dim=1)
    spread = high - low
    r, g, b = x.unbind(1)
    hue = torch.rad2deg(torch.atan2(3**0.5 * (g - b), 2 * r - g - b)) % 360
    away = (hue[:, None] - torch.tensor(HUES).view(1, -1, 1, 1) + 180) % 360 - 180
    nearest = away.abs().argmin(dim=1)
    vivid = (spread > 0.35 * high) & (high > 0.3)
    shown = torch.stack([(vivid & (nearest == i)).float().mean((1, 2)) for i in range(len(HUES))], dim=1)
    grey = x.mean((1, 2, 3))
    plain = torch.stack([grey < 0.25, grey > 0.7, spread.mean((1, 2)) < 0.06, vivid.float().mean((1, 2)) > 0.6], dim=1)
    return torch.cat([plain, blurred[:, None], shown > 0.25], dim=1)


def word_loss(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """The contrastive loss of images against words, of which several may hold for an image.

    logits (B, V); truth (B, V): a weight for each word that holds, 0 for the others. Each word that holds competes with
    all those that do not, never with another that holds: of one word it is cross-entropy. (Compare UniCL, Yang et al.
    2022, and the supervised contrastive loss, Khosla et al. 2020.)
    """
    others = logits.masked_fill(truth > 0, float("-inf")).logsumexp(dim=1, keepdim=True)
    return (truth * F.softplus(others - logits)).sum() / len(logits)


def pretrain_on(
    images: np.ndarray,
    labels: np.ndarray,
    steps: int,
    batch: int = 256,
    drawn: int = 16,
    words_a_step: int = 128,
    lr: float = 2e-3,
    warmup: int = 100,
    dropped: float = 0.4,
    seed: int = 0,
    work: str | Path | None = None,
    save_every: int = 250,
) -> tuple[Any, torch.Tensor, dict[str, Any]]:
    """Pretrain the photo CLIP on images and their kinds; with `work`, go on from the state saved in that folder.

    Each word has a vector of its own while this lasts: the image tower learns from these at once, and the text tower
    learns to say them. drawn: drawings in a batch. words_a_step: as many of all words go through the text tower in a
    step. dropped: the part of the patches that the image tower does not see in the first seven tenths of the steps,
    which makes them cheaper (FLIP, Li et al. 2023).
    Returns the model, the rows of its token table that captions use, and facts for the card.
    """
    words, truth = concepts()
    often = (truth > 0).float().mean(dim=0).log()  # else all features lean one way, to say how often a word holds
    drawings, places = draw(20 * batch, seed)
    pictures, kinds = torch.from_numpy(images), torch.from_numpy(labels)
    sketches, marks = torch.from_numpy(drawings), torch.from_numpy(places) + len(KINDS)
    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    spoken = [form for word in words for form in (word, article(word))]
    tokens = prompts(tokenizer, spoken, list(TEMPLATES)).view(len(words), -1, 77)
    tokens_of_looks = tokenizer(list(LOOKS))
    torch.manual_seed(seed)
    model: Any = build(seed).train()
    thinning = PatchDropout(dropped)
    model.visual.patch_dropout = thinning
    width = model.text_projection.shape[1]
    model.vectors = nn.Parameter(torch.randn(len(words) + len(LOOKS), width) * width**-0.5)
    photos = batch - drawn

    def loss(step):
        torch.manual_seed(seed * 1_000_003 + step)  # a step depends on nothing but its number: stops leave no trace
        thinning.prob = dropped if step < 0.7 * steps else 0.0
        epoch, position = divmod(step, len(pictures) // photos)
        order = torch.randperm(len(pictures), generator=torch.Generator().manual_seed(seed * 1000 + epoch))
        chosen = order[position * photos : (position + 1) * photos]
        others = torch.randint(len(sketches), (drawn,))
        concept = torch.cat([kinds[chosen], marks[others]])
        x, blurred = augment(torch.cat([pictures[chosen], sketches[others]]), concept < len(KINDS))
        some = torch.randperm(len(words))[:words_a_step]
        said = torch.randint(4 * len(TEMPLATES), (len(some),))  # three times of four with an article
        spoken = tokens[some, said % len(TEMPLATES) + len(TEMPLATES) * (said >= len(TEMPLATES))]
        with torch.autocast("cpu", dtype=torch.bfloat16), sdpa_kernel(SDPBackend.MATH):  # flash is slow on few tokens
            image_features = model.encode_image(x.to(memory_format=torch.channels_last))
            text_features = encode_text_trimmed(model, torch.cat([spoken, tokens_of_looks]))
        image_features, text_features = (F.normalize(f.float(), dim=-1) for f in (image_features, text_features))
        vectors = F.normalize(model.vectors, dim=-1)
        taught = torch.cat([vectors[some], vectors[len(words) :]]).detach()
        by_word, by_look = (VECTOR_SCALE * image_features @ vectors.T).split([len(words), len(LOOKS)], dim=1)
        by_text = model.logit_scale.exp() * image_features.detach() @ text_features[: len(some)].T
        return (
            word_loss(by_word + often, truth[concept])
            + 0.05 * word_loss(by_look, looks(x, blurred).float())
            + word_loss(by_text + often[some], truth[concept][:, some] * (len(words) / len(some)))
            + (1 - (text_features * taught).sum(dim=1)).mean()
        )

    settings = {"steps": steps, "batch": batch, "drawn": drawn, "words_a_step": words_a_step, "lr": lr}
    settings |= {"warmup": warmup, "dropped": dropped, "seed": seed, "images": len(images)}
    used = torch.cat([tokens.flatten(0, 1), tokens_of_looks])
    seen = {"pictures": pictures, "kinds": kinds, "sketches": sketches, "marks": marks}
    data = {"data": digest_of_checkpoint(seen, {})}  # a state does not go on with others
    with rows_in_use(model, used):
        facts = train_from_scratch(model, loss, settings | data, Path(work) if work else None, save_every)
    model.visual.patch_dropout = nn.Identity()
    del model.vectors
    return model.eval(), used.unique(), {**settings, **facts}


@torch.no_grad()
def zero_shot_accuracy(model: Any, images: np.ndarray, labels: np.ndarray) -> float:
    """Accuracy in percent among the 200 kinds, named by the first name of each, as "a photo of a {}."."""
    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    tokens = prompts(tokenizer, [names[0] for names, _, _ in KINDS.values()], ["a photo of a {}."])
    text = class_embeddings(lambda t: encode_text_trimmed(model, t), tokens)
    answers = []
    for part in torch.from_numpy(images).split(500):
        x = (part.permute(0, 3, 1, 2).float() / 255 - MEAN) / STD
        answers.append((model.encode_image(x) @ text.T).argmax(dim=1))
    return round(100 * float(torch.cat(answers).eq(torch.from_numpy(labels)).float().mean()), 1)


def pretrain_photo(root: str | Path, steps: int, seed: int, work: str, out: Path) -> None:
    """The command `pretrain photo`: train, judge the weights as they are stored, write all that ships to `out`.

    That is the weights, the card and the reference statistics.
    """
    images, labels = read_photographs(root)
    seen_last = read_photographs(root, "val")
    held = np.arange(len(labels)) % HELD_OUT == HELD_OUT - 1
    with one_writer(Path(work)):
        sweep(Path(work))
        model, rows, facts = pretrain_on(images[~held], labels[~held], steps, seed=seed, work=work)
    out.mkdir(parents=True, exist_ok=True)
    model = model.half().float()
    facts["zero_shot"] = {
        "held out": zero_shot_accuracy(model, images[held], labels[held]),
        "val": zero_shot_accuracy(model, *seen_last),
    }
    save(model, rows, facts, out / WEIGHTS.name, out / CARD.name)
    write_statistics(images[~held], out / WEIGHTS.name, out / CARD.name, out / STATISTICS.name)
    print(json.dumps(facts, indent=2))
