"""Tensors from files that come from outside: nothing in such a file is ever run. Used by load_clip and DDAS."""

import io
import pickle
import zipfile
from pathlib import Path

import torch
from safetensors.torch import load_file


def load_tensors(file):
    """The tensors in a .safetensors file, in a PyTorch checkpoint or in a TorchScript archive, by name.

    A checkpoint may hold them under "state_dict", and with the prefix "module.". A TorchScript archive is the form in
    which OpenAI gives CLIP away; its tensors are read and its code is not. Raises OSError where there is no file,
    ValueError for one that holds no tensors, is damaged, or would run code when it is read.
    """
    file = Path(file).expanduser()
    if not file.is_file():
        raise OSError(f"there is no file {file}.")
    try:
        if file.suffix == ".safetensors":
            found = load_file(file)
        else:
            found = _script_tensors(file) or torch.load(file, "cpu", weights_only=True)
    except Exception as error:  # on bytes that are no checkpoint the safe readers fail in many ways
        raise ValueError(
            f"{file} cannot be read as plain tensors (nothing in it was run): it is damaged, no checkpoint, or holds "
            "code. Take a .safetensors file, or a state dict saved by torch.save."
        ) from error
    found = found.get("state_dict", found) if isinstance(found, dict) else found
    if not isinstance(found, dict) or not found or not all(isinstance(v, torch.Tensor) for v in found.values()):
        raise ValueError(f"{file} holds no state dict of tensors: save model.state_dict() in it.")
    return {name.removeprefix("module."): tensor for name, tensor in found.items()}


KNOWN = {  # all that the archive may ask for beside its modules
    "torch.HalfStorage": torch.float16, "torch.FloatStorage": torch.float32, "torch.DoubleStorage": torch.float64,
    "torch.LongStorage": torch.int64, "torch.IntStorage": torch.int32, "torch.BoolStorage": torch.bool,
    "torch._utils._rebuild_tensor_v2": lambda data, offset, size, stride, *_: data.as_strided(size, stride, offset),
    "collections.OrderedDict": dict,
}  # fmt: skip


class _Part:
    """A module of a TorchScript archive, as the bare holder of its tensors and parts."""


class _ScriptReader(pickle.Unpickler):
    """Reads data.pkl of a TorchScript archive; what is neither a tensor nor a module's place in the tree is refused."""

    def __init__(self, archive, folder):
        super().__init__(io.BytesIO(archive.read(f"{folder}data.pkl")))
        self.archive, self.folder = archive, folder

    def find_class(self, module, name):
        if module.split(".")[0] == "__torch__":
            return _Part
        return KNOWN[f"{module}.{name}"]

    def persistent_load(self, saved):
        _, dtype, key, _, _ = saved  # the device it was saved on does not matter
        return torch.frombuffer(bytearray(self.archive.read(f"{self.folder}data/{key}")), dtype=dtype)


def _script_tensors(file):
    """The tensors of a TorchScript archive by the names that its modules give them; None where `file` is none."""
    if not zipfile.is_zipfile(file):
        return None
    with zipfile.ZipFile(file) as archive:
        folders = [name.removesuffix("constants.pkl") for name in archive.namelist() if name.endswith("/constants.pkl")]
        return _named(_ScriptReader(archive, folders[0]).load()) if folders else None


def _named(part, prefix=""):
    found = {}
    for name, value in vars(part).items():
        if isinstance(value, torch.Tensor):
            found[prefix + name] = value
        elif isinstance(value, _Part):
            found |= _named(value, f"{prefix}{name}.")
    return found
