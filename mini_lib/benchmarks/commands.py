"""`python -m mini_lib data`: which data sets are there, and how to get the others."""

from typing import Any


def add(commands: Any) -> None:
    """Add this room's command to the front door's."""
    text = "say which of the paper's data sets are there and how to get the others; exit code 0 if all are complete"
    data = commands.add_parser("data", help="say which of the paper's data sets are there", description=text)
    data.add_argument("--root", default="data/mtil", help="the folder that holds them all (default: %(default)s)")
    data.add_argument("--only", nargs="+", metavar="NAME", help="only these, such as aircraft or tinyimagenet")
    data.add_argument(
        "--download",
        action="store_true",
        help="fetch and unpack those that can be downloaded, each compared with its SHA-256",
    )
    data.set_defaults(run=_data)


def _data(options):
    from .data import check

    return 0 if check(options.root, options.only, options.download) else 1
