"""Tensors from files that come from outside: nothing in such a file is ever run. Used by load_clip and DDAS."""

from pathlib import Path

import torch
from safetensors.torch import load_file


def load_tensors(file):
    """The tensors in a .safetensors file or in a PyTorch checkpoint, by name.

    A checkpoint may hold them under "state_dict", and with the prefix "module.". Raises OSError where there is no
    file, ValueError for one that holds no tensors, is damaged, or would run code when it is read, as a TorchScript
    archive does.
    """
    file = Path(file).expanduser()
    if not file.is_file():
        raise OSError(f"there is no file {file}.")
    try:
        found = load_file(file) if file.suffix == ".safetensors" else torch.load(file, "cpu", weights_only=True)
    except Exception as error:  # on bytes that are no checkpoint the safe readers fail in many ways
        raise ValueError(
            f"{file} cannot be read as plain tensors (nothing in it was run): it is damaged, no checkpoint, or holds "
            "code, as OpenAI's own TorchScript archives do. Take a .safetensors file, or a state dict saved by torch.save."
        ) from error
    found = found.get("state_dict", found) if isinstance(found, dict) else found
    if not isinstance(found, dict) or not found or not all(isinstance(v, torch.Tensor) for v in found.values()):
        raise ValueError(f"{file} holds no state dict of tensors: save model.state_dict() in it.")
    return {name.removeprefix("module."): tensor for name, tensor in found.items()}
