"""`python -m mini_lib pretrain`: the weights of the CLIPs that ship, made again."""

from pathlib import Path
from typing import Any

STEPS = {"tiny": 4500, "photo": 20000}  # of the weights that ship


def add(commands: Any) -> None:
    """Add this room's command to the front door's."""
    text = "pretrain an embedded CLIP from scratch; seeded, and goes on after a stop"
    pretrain = commands.add_parser("pretrain", help=text, description=text)
    pretrain.add_argument("name", choices=list(STEPS), help="which of the CLIPs that ship with the package")
    pretrain.add_argument("--root", type=Path, help="photo: the folder that holds Tiny ImageNet, unpacked")
    pretrain.add_argument("--steps", type=int, help=f"default: {STEPS['tiny']} for tiny, {STEPS['photo']} for photo")
    pretrain.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    pretrain.add_argument("--work", help="folder of the state that goes on (default: runs/NAME)")
    out = Path(__file__).parent
    pretrain.add_argument("--out", type=Path, default=out, help="folder for weights and card, by default the package's")
    pretrain.set_defaults(run=_pretrain)


def _pretrain(options):
    steps = STEPS[options.name] if options.steps is None else options.steps
    work = options.work or f"runs/{options.name}"
    if options.name == "tiny":
        from .pretrain import pretrain_tiny

        pretrain_tiny(steps, options.seed, work, options.out)
    elif options.root is None:
        raise ValueError("the photo CLIP is pretrained on Tiny ImageNet: say with --root which folder holds it.")
    else:
        from .photographs import pretrain_photo

        pretrain_photo(options.root, steps, options.seed, work, options.out)
