"""Makes this folder's subset from the full set: python tests/golden/make.py FULL (see README.md here)."""

import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
from read import SUBSET, normal, uniform
from safetensors.torch import load_file, save_file

WHOLE = ("gate", "adapter", "ddas")
LENGTH = 1_600_000  # of the stream of random numbers that the full set used
POSITIONS = 16  # of 77 in block_text: under the causal mask, they do not depend on the others
LEARNED = ("clip_grad_clean", "clip_grad_noisy", "train_two_tasks")
# Of the experts' matrices, in gradients and after training: the first in block 0, the second in the text tower's block 1.
MATRIX = re.compile(r"(grad|task\d\.final)\..*_proj\.weight")
KEPT = re.compile(
    r"(grad|task1\.final)\.((visual\.)?transformer\.resblocks\.0.*down_proj|transformer\.resblocks\.1.*up_proj).*"
)
# In one of them, a gradient so near zero that AdamW makes 1e-4 of rounding; that expert's second matrix stands for it.
UNSTABLE = "task1.final.visual.transformer.resblocks.0.adaptmlp_list.3.down_proj.weight"
INSTEAD = UNSTABLE.replace("down", "up")


def keep(file, name, tensor):
    """The part of a tensor that the subset has, or None."""
    if file == "block_text" and "weight" not in name and tensor.ndim == 3:
        tensor = tensor[:POSITIONS].clone()
    looked_at_by_no_test = file.startswith("block") and name in ("mlp_branch", "x_after_attention")
    in_clip_features = file in LEARNED and name in ("images", "tokens")
    kept = name == INSTEAD or (KEPT.fullmatch(name) and name != UNSTABLE)
    left_out = file in LEARNED and MATRIX.fullmatch(name) and not kept
    return None if looked_at_by_no_test or in_clip_features or left_out else tensor


def place(tensor, stream):
    """Where in the stream a tensor was drawn, and its standard deviation; None if it was not drawn, or is small.

    The angle of numbers 0 and 8, of 1 and 9, ... of a draw does not depend on its standard deviation.
    """
    if tensor.numel() < 512 or tensor.numel() % 16 or not tensor.is_floating_point():
        return None
    values = tensor.flatten().double().numpy()
    starts = np.arange(len(stream) - len(values))
    for i, angle in enumerate(np.arctan2(values[8:16], values[:8]) / (2 * np.pi) % 1):
        starts = starts[np.abs(stream[starts + 8 + i] - angle) < 3e-6]
    for start in starts.tolist():
        draw = normal(stream, start, len(values))
        std = float(f"{draw @ values / (draw @ draw):.7g}")
        if np.abs(std * draw - values).max() <= 2e-6 * max(1, std):
            return start, std
    return None


def main(full):
    seed = json.loads((full / "config.json").read_text())["seed"]
    stream = uniform(seed, LENGTH)
    drawn = {}
    for path in sorted(full.glob("*.safetensors")):
        file, stored = path.stem, {}
        for name, tensor in load_file(path).items():
            tensor = keep(file, name, tensor)
            if tensor is None:
                continue
            as_it_is = file in WHOLE or name == "x" or ".final." in name
            at = None if as_it_is else place(tensor, stream)
            if at:
                drawn.setdefault(file, {})[name] = [list(tensor.shape), *at, round(tensor.flatten()[-1].item(), 7)]
            else:
                stored[name] = tensor
        save_file(stored, SUBSET / path.name)
    lines = ",\n".join(
        f'  "{file}": {{\n' + ",\n".join(f'   "{n}": {json.dumps(v)}' for n, v in tensors.items()) + "\n  }"
        for file, tensors in drawn.items()
    )
    text = f'{{\n "seed": {seed},\n "length": {LENGTH},\n "tensors": {{\n{lines}\n }}\n}}\n'
    (SUBSET / "drawn.json").write_text(text)
    for path in full.glob("*.json"):
        shutil.copyfile(path, SUBSET / path.name)
    files = [p for p in SUBSET.iterdir() if p.suffix in (".json", ".safetensors")]
    print(f"{len(files)} files, {sum(p.stat().st_size for p in files):,} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
