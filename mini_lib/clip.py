"""The pre-trained CLIP: loading it, prompting it, and its text classifier. Built in notebook 01."""

from collections.abc import Callable
from typing import Any

import open_clip
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import transforms

from .embedded import photo, tiny
from .embedded.open_clip_models import model_of, tokenizer_of

EMBEDDED = {"tiny": tiny, "photo": photo}  # the CLIPs that ship with the package

# What is an open_clip model, or comes from one, is hinted Any: its parts are known only when it runs.
NO_BLOCKS = "the {} tower is no open_clip transformer with residual blocks: take a ViT CLIP, such as ViT-B-16."


def load_clip(name: str = "tiny", pretrained: str | None = "embedded") -> tuple[Any, transforms.Compose, Any]:
    """A frozen CLIP in eval mode, the preprocessing of its images, and its tokenizer.

    name: "tiny" (knows drawings) or "photo" (knows photographs) for a CLIP that ships with the package, or any ViT model
    that open_clip lists. pretrained: for the latter, a tag of open_clip ("openai"), a file of weights, or None for random
    weights. A tag brings the activation (QuickGELU for OpenAI's) and the preprocessing that its weights were trained with,
    and so does a file that is named after one, such as openai.safetensors. Any other file does not say so, hence a warning
    where it matters. The CLIP notes in `source` how it was loaded, for `load_run`.
    Raises ValueError for a name, a tag or a file that does not fit, OSError where the weights cannot be had.
    """
    if name in EMBEDDED:
        if pretrained not in ("embedded", None):
            raise ValueError(f"the {name} CLIP has the weights 'embedded' or None (random), not {pretrained!r}.")
        ours, file = EMBEDDED[name], None
        clip: Any = ours.load() if pretrained else ours.build()
        mean, std = (ours.MEAN,) * 3, (ours.STD,) * 3
        preprocess: Any = open_clip.image_transform(ours.SIZE, is_train=False, mean=mean, std=std)
        tokenizer = open_clip.get_tokenizer("ViT-B-32")
    else:
        if name not in open_clip.list_models():
            raise ValueError(f"model {name!r} is unknown: take 'tiny', 'photo' or one of open_clip.list_models().")
        if pretrained == "embedded":
            raise ValueError(f"say which weights {name} should have: pretrained='openai', a file, or None for random.")
        config: Any = open_clip.get_model_config(name)  # towers of other libraries are refused before they are built
        if "timm_model_name" in config["vision_cfg"] or not isinstance(config["vision_cfg"].get("layers", 12), int):
            raise ValueError(NO_BLOCKS.format("image"))
        if "hf_model_name" in config["text_cfg"]:
            raise ValueError(NO_BLOCKS.format("text"))
        tokenizer = tokenizer_of(name)
        clip, preprocess, file = model_of(name, pretrained)
    clip.source = {"name": name, "pretrained": file or pretrained}
    for parameter in clip.parameters():
        parameter.requires_grad_(False)
    return clip.eval(), preprocess, tokenizer


def openai_transform() -> transforms.Compose:
    """The preprocessing of OpenAI's CLIP at 224 pixels, for benchmarks that are made without a model at hand."""
    mean, std = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
    transform: Any = open_clip.image_transform(224, is_train=False, mean=mean, std=std)
    return transform


def train_transform(preprocess: transforms.Compose, scale: tuple[float, float] = (0.9, 1.0)) -> transforms.Compose:
    """The training version of CLIP's preprocessing: a random crop of 90 to 100 % of the area instead of a fixed one.

    Everything else (size, interpolation, normalisation) is taken over from `preprocess`; there is no flip, as in the
    official code. Raises ValueError for a preprocessing of another form.
    """
    all_steps = getattr(preprocess, "transforms", [])
    fit: Any = [t for t in all_steps if isinstance(t, (transforms.Resize, transforms.CenterCrop))]
    if not fit or not isinstance(fit[0], transforms.Resize):
        raise ValueError(
            "preprocess must be torchvision's Compose with a Resize, and a CenterCrop behind it if any, as `load_clip` gives it."
        )
    steps = [t for t in all_steps if t not in fit]
    crop = transforms.RandomResizedCrop(fit[-1].size, scale=scale, interpolation=fit[0].interpolation)
    return transforms.Compose([crop, *steps])


def text_tower(clip: Any) -> Any:
    """The module that holds the text tower's parts: in OpenAI's form that is the CLIP itself."""
    return clip.text if hasattr(clip, "text") else clip


def vision_blocks(clip: Any) -> nn.ModuleList:
    """The residual attention blocks of the image tower."""
    return _blocks(clip.visual, "image")


def text_blocks(clip: Any) -> nn.ModuleList:
    """The residual attention blocks of the text tower."""
    return _blocks(text_tower(clip), "text")


def _blocks(tower, which):
    blocks = getattr(getattr(tower, "transformer", None), "resblocks", None)
    if blocks is None:
        raise ValueError(NO_BLOCKS.format(which))
    return blocks


def with_parts(module: nn.Module, **parts: Any) -> Any:
    """The module with some of its parts exchanged: everything else is shared, and the module itself stays as it is.

    parts: names of parameters, buffers or modules in it -> what takes their place. (Built in notebook 03.)
    """
    other = type(module).__new__(type(module))
    vars(other).update(vars(module))
    for kind in ("_parameters", "_buffers", "_modules"):
        vars(other)[kind] = {name: part for name, part in vars(module)[kind].items() if name not in parts}
    for name, part in parts.items():
        setattr(other, name, part)
    return other


class Noting(nn.Module):
    """A module that notes what it was given first, and what it gave, until that is taken. (Built in notebook 03.)"""

    noted: Any

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module
        self.noted = None

    def forward(self, x: Tensor, *others, **named) -> Any:
        output = self.module(x, *others, **named)
        self.noted = x, output
        return output

    def take(self) -> tuple[Tensor, Tensor]:
        """(input, output) of the last call; they are not kept any longer."""
        noted, self.noted = self.noted, None
        return noted


def with_vision_blocks(clip: Any, blocks: list[nn.Module]) -> Any:
    """The CLIP with other blocks in its image tower; the original stays as it is."""
    transformer = with_parts(clip.visual.transformer, resblocks=nn.ModuleList(blocks))
    return with_parts(clip, visual=with_parts(clip.visual, transformer=transformer))


def with_text_blocks(clip: Any, blocks: list[nn.Module]) -> Any:
    """The CLIP with other blocks in its text tower; the original stays as it is."""
    return _with_text_parts(clip, transformer=with_parts(text_tower(clip).transformer, resblocks=nn.ModuleList(blocks)))


def _with_text_parts(clip, **parts):
    tower = with_parts(text_tower(clip), **parts)
    return with_parts(clip, text=tower) if hasattr(clip, "text") else tower


def batch_first(block: Any, x: Tensor) -> Tensor:
    """A block's tensor as (B, L, D): older open_clip versions keep the sequence first. Undoes itself."""
    return x if block.attn.batch_first else x.transpose(0, 1)


def encode_text_trimmed(clip: Any, tokens: Tensor) -> Tensor:
    """clip.encode_text, on the tokens up to the last end-of-text token of the batch.

    tokens (B, 77) -> features (B, D). Under the causal mask the feature at the end-of-text token cannot depend on
    the padding behind it, so cutting the padding off changes nothing but the time. A text tower of another kind
    (no causal mask, or an extra class token) gets the whole of the tokens.
    """
    tower = text_tower(clip)
    pool = getattr(tower, "text_pool_type", None) or getattr(tower, "pool_type", "argmax")
    mask = getattr(tower, "attn_mask", None)
    if pool != "argmax" or mask is None or getattr(tower, "cls_emb", None) is not None:
        return clip.encode_text(tokens)
    length = int(tokens.argmax(dim=-1).max()) + 1
    positions, mask = tower.positional_embedding[:length], mask[:length, :length]
    return _with_text_parts(clip, positional_embedding=positions, attn_mask=mask).encode_text(tokens[:, :length])


def prompts(tokenizer: Callable, classnames: list[str], templates: list[str]) -> Tensor:
    """Tokens (C, K, L) of every class name in every template; underscores in names become spaces.

    Raises ValueError for a prompt that fills all L tokens: the tokenizer cuts off in silence what is too long.
    """
    texts = [t.format(name.replace("_", " ")) for name in classnames for t in templates]
    tokens = tokenizer(texts)
    for text, row in zip(texts, tokens):
        if row[-1] == row.max():  # the end-of-text token, the largest, stands where only padding should be
            raise ValueError(f"the prompt {text[:60]!r}... is longer than CLIP can read: shorten the class name.")
    return tokens.unflatten(0, (len(classnames), len(templates)))


def class_embeddings(encode_text: Callable[[Tensor], Tensor], tokens: Tensor) -> Tensor:
    """The text classifier (C, D): per class the mean of its prompts' unit features, made unit again.

    encode_text: tokens (N, L) -> features (N, D). tokens (C, K, L) as `prompts` makes them. All prompts are encoded
    in one batch. (Radford et al. 2021, section 3.1.4, "prompt ensembling".)
    """
    features = F.normalize(encode_text(tokens.flatten(0, 1)), dim=-1)
    return F.normalize(features.unflatten(0, tokens.shape[:2]).mean(dim=1), dim=-1)


def class_logits(clip: Any, image_features: Tensor, embeddings: Tensor) -> Tensor:
    """Scaled cosine similarities (B, C) between images (B, D) and the text classifier (C, D)."""
    return clip.logit_scale.exp() * F.normalize(image_features, dim=-1) @ embeddings.T


def at_least_float32(x: Tensor) -> Tensor:
    """Half precision becomes float32; float32 and float64 stay."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def check_images(clip: Any, images: Tensor, whose: str = "the images") -> None:
    """Raises ValueError unless images are (B, 3, H, W) as this CLIP takes them, and floating-point numbers."""
    side = getattr(getattr(clip, "visual", None), "image_size", None)
    size = (side, side) if isinstance(side, int) else side
    wanted = tuple(images.shape[2:]) if size is None else tuple(size)
    if images.shape[1:] != (3, *wanted) or not images.is_floating_point():
        raise ValueError(
            f"{whose} are {images.dtype} of shape {tuple(images.shape)}; this CLIP takes floating-point numbers, "
            f"(images, 3, {', '.join(map(str, wanted))}): prepare them with the `preprocess` that load_clip returned with it."
        )


def count_parameters(module: nn.Module, trainable: bool = False) -> int:
    """Number of parameters, or of those that training may change."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad or not trainable)


def device_of(module: nn.Module) -> torch.device:
    """The device of a module's parameters."""
    return next(module.parameters()).device
