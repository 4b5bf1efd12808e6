"""Models that open_clip lists, with the weights of a tag or a file. Used by `load_clip`."""

import logging
import warnings
from pathlib import Path
from typing import Any

import open_clip

from .checkpoints import check_digest, load_tensors

LOOKS = ("mean", "std", "interpolation", "resize_mode")  # what a tag says of the preprocessing


def tokenizer_of(name: str) -> Any:
    """The tokenizer of a model. Raises OSError where it cannot be had."""
    try:
        return open_clip.get_tokenizer(name)
    except Exception as error:  # of Hugging Face's libraries, or of the network
        raise OSError(
            f"the tokenizer of {name} cannot be had ({_first_line(error)}): Hugging Face has it. Install the package "
            "transformers and run this where there is a network, or take a model with CLIP's own, such as ViT-B-16."
        ) from error


def _first_line(error):
    return next(iter(str(error).splitlines()), type(error).__name__)


def model_of(name: str, pretrained: str | None) -> tuple[Any, Any, str | None]:
    """The model, its preprocessing, and its file of weights, if any; weights, activation and preprocessing belong together.

    Raises ValueError for weights that do not fit, OSError where they cannot be had; warns of a file that does not say whose
    weights it holds.
    """
    tags = {tag: open_clip.get_pretrained_cfg(name, tag) for tag in open_clip.list_pretrained_tags_by_model(name)}
    config: Any = open_clip.get_model_config(name)
    tag, file = pretrained, None
    if pretrained and pretrained not in tags:
        file = Path(pretrained).expanduser()
        if not file.is_file():
            raise ValueError(f"{name} has no weights {pretrained!r}: no file of that name, and no tag among {[*tags]}.")
        tag = file.stem.lower().replace("-", "_")
    facts: Any = tags.get(tag) or (_without_a_tag(name, config, tags, file) if file else {})
    downloaded = None if file or not tag else _download(name, tag, facts)
    quick = facts.get("quick_gelu", config.get("quick_gelu", False))
    looks: Any = {f"image_{look}": facts.get(look) for look in LOOKS}
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)  # it would be told that the weights are random: they are, until they are loaded
    try:
        clip, _, preprocess = open_clip.create_model_and_transforms(name, None, force_quick_gelu=quick, **looks)
    finally:
        logging.disable(disabled)
    if file:
        _load_weights(clip, name, file, tag in tags)
    if downloaded:
        check_digest(downloaded)
        try:
            _load_weights(clip, name, downloaded, True)
        except ValueError as error:
            raise OSError(f"{error} It was downloaded: delete {downloaded.resolve()} and try again.") from error
    return clip, preprocess, file and str(file.resolve())


def _without_a_tag(name, config, tags, file):
    """What is to be taken for weights in a file that says nothing of itself, with a warning where that may be wrong."""
    looks = {tag: tuple(facts.get(look) for look in LOOKS) for tag, facts in tags.items()}
    usual = (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD, "bicubic", "shortest")
    others = [tag for tag, look in looks.items() if look != usual]
    if len(set(looks.values())) > 1:
        warnings.warn(
            f"images for {file} are prepared as for OpenAI's CLIP; the weights {', '.join(others)} of {name} need it "
            f"otherwise. If they are these, name the file so: {others[0]}{file.suffix}.",
            stacklevel=4,
        )
    elif others:  # all tags agree
        usual = looks[others[0]]
    if not config.get("quick_gelu", False):
        warnings.warn(
            f"{name} uses GELU. If the weights in {file} were trained with QuickGELU, as OpenAI's were, they "
            f"need the model {name + '-quickgelu'!r}: with the wrong one it runs, and is worse.",
            stacklevel=4,
        )
    return dict(zip(LOOKS, usual))


def _download(name, tag, facts):
    """The file with the weights of a tag, which open_clip keeps."""
    try:
        return Path(open_clip.download_pretrained(facts))
    except Exception as error:  # of the network, the hub or the disk: open_clip passes on many kinds
        hub, _, file = facts.get("hf_hub", "").rpartition("/")
        file = (
            f"{file or 'open_clip_model.safetensors (or open_clip_pytorch_model.bin)'} of {hub}"
            if hub
            else facts["url"]
        )
        raise OSError(
            f"the weights {tag!r} of {name} cannot be downloaded ({_first_line(error)}). Fetch {file} where there is a "
            f"network, name it {tag}.safetensors (or {tag}.bin), put it anywhere, and pass its path as pretrained: by this "
            "name they get the activation and the preprocessing that they need."
        ) from error


def _load_weights(clip, name, file, tagged):
    sizes = ("input_resolution", "context_length", "vocab_size")  # OpenAI's, among the weights
    state = {name: tensor for name, tensor in load_tensors(file).items() if name not in sizes}
    try:
        try:
            clip.load_state_dict(state)
        except RuntimeError:
            if not tagged:
                raise
            open_clip.load_checkpoint(clip, str(file))  # it knows the other forms in which some tags are saved
    except RuntimeError as error:
        what = " ".join(str(error).split())[:200]
        raise ValueError(f"the weights in {file} do not fit the model {name}: {what} ...") from error
