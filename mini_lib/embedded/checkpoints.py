"""Files of weights that others made: read as plain tensors, and nothing in them is ever run. Used by `load_clip`."""

import hashlib
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor


def check_digest(file: Path) -> None:
    """Raise OSError for a downloaded file that is not what its name promises, by the start of its SHA-256.

    torch's cache has it in names such as alexnet-owt-7be5be79.pth, Hugging Face's in those of its blobs; others say nothing.
    """
    real = file.resolve()
    promised = re.search(r"-([0-9a-f]{8})\.\w+$|^([0-9a-f]{64})$", real.name)
    if promised and real.is_file():
        with open(real, "rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
        if not digest.startswith(promised[1] or promised[2]):
            raise OSError(
                f"{real} is damaged, or another file in its place, such as a proxy's page: its SHA-256 is not the one in "
                "its name. Delete it and try again."
            )


def read_checkpoint(file: str | Path) -> Any:
    """What is in a .safetensors file or a PyTorch checkpoint; nothing in it is ever run.

    Raises OSError where there is no file, ValueError for one that is no checkpoint, is damaged, or would run code when it
    is read. A TorchScript archive, which is code, is not even opened.
    """
    file = Path(file).expanduser()
    if not file.is_file():
        raise OSError(f"there is no file {file}.")
    error = None
    with open(file, "rb") as opened:
        start = opened.read(64).lstrip().lower()
    if not start:
        why = "it is empty"
    elif start.startswith((b"<!doctype", b"<html", b"<?xml")):
        why = "it is a web page, as a proxy gives in the place of a file"
    else:
        try:
            if not _is_script(file):
                with warnings.catch_warnings(action="ignore"):  # torch muses on pickles that are none of its own
                    return (
                        load_file(file) if file.suffix == ".safetensors" else torch.load(file, "cpu", weights_only=True)
                    )
            why = "it holds code, as OpenAI's own TorchScript archives do"
        except Exception as caught:  # on bytes that are no checkpoint the safe readers fail in many ways
            why, error = "it is damaged, no checkpoint, or holds more than tensors", caught
    raise ValueError(
        f"{file} cannot be read as plain tensors (nothing in it was run): {why}. Take a .safetensors file, or a state dict "
        "saved by torch.save."
    ) from error


def _is_script(file):
    """Whether a file is a zip archive with TorchScript's code or constants in it."""
    if not zipfile.is_zipfile(file):
        return False
    with zipfile.ZipFile(file) as archive:
        parts = [Path(name).parts for name in archive.namelist()]
    return any("code" in part or part[-1:] == ("constants.pkl",) for part in parts)


def load_tensors(file: str | Path) -> dict[str, Tensor]:
    """The tensors in a .safetensors file or in a PyTorch checkpoint, by name, as `named_tensors` finds them.

    Raises as `read_checkpoint`, and ValueError where there are no tensors.
    """
    found = named_tensors(read_checkpoint(file))
    if not found:
        raise ValueError(f"{file} holds no state dict of tensors: save model.state_dict() in it.")
    return found


def named_tensors(state: Any) -> dict[str, Tensor]:
    """The tensors in a state dict, plain or under "state_dict", without the prefix "module."; none in anything else."""
    state = state.get("state_dict", state) if isinstance(state, dict) else {}
    named = state.items() if isinstance(state, dict) else ()
    return {str(name).removeprefix("module."): tensor for name, tensor in named if isinstance(tensor, Tensor)}
