"""`python -m mini_lib pretrain`: the weights of the CLIPs that ship, made again."""

from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    """Add this room's command to the front door's."""
    text = "pretrain an embedded CLIP from scratch; seeded, and goes on after a stop"
    pretrain = commands.add_parser("pretrain", help=text, description=text)
    pretrain.add_argument("name", choices=["tiny"], help="which of the CLIPs that ship with the package")
    pretrain.add_argument("--steps", type=int, default=4500, help="default: %(default)s")
    pretrain.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    pretrain.add_argument("--work", default="runs/tiny", help="folder of the state that goes on (default: %(default)s)")
    out = Path(__file__).parent
    pretrain.add_argument("--out", type=Path, default=out, help="folder for weights and card, by default the package's")
    pretrain.set_defaults(run=_pretrain)


def _pretrain(options):
    from .pretrain import pretrain_tiny

    pretrain_tiny(options.steps, options.seed, options.work, options.out)
