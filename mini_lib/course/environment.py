"""Is everything there? `python -m mini_lib check` prints a line for each package, for support questions."""

import importlib.metadata
import platform
import re
import sys

from packaging.requirements import Requirement

EXTRA = re.compile(r"extra == ['\"](\w+)['\"]")


def check() -> bool:
    """Print [OK] or [FAIL] for Python, each package that mini_lib needs, and the embedded CLIP; True if all are OK.

    What belongs to an extra is [OK] or, where it is not installed, [--].
    """
    found = [
        (sys.version_info >= (3, 11), f"Python {platform.python_version()} (3.11 or newer) on {platform.platform()}")
    ]
    found += [_package(Requirement(text)) for text in importlib.metadata.requires("mini_lib") or ()]
    try:
        from ..clip import load_clip

        load_clip("tiny")
        found.append((True, "the embedded CLIP loads"))
    except Exception as error:  # whatever it is, it belongs into the support question
        found.append((False, f"the embedded CLIP does not load: {type(error).__name__}: {error}"))
    for good, line in found:
        print({True: "[OK]  ", False: "[FAIL]", None: "[--]  "}[good], line)
    return all(good is not False for good, _ in found)


def _package(requirement):
    """Whether a package is there and new enough; None for one of an extra that is not installed; and a line."""
    extra = EXTRA.search(str(requirement.marker or ""))
    wanted = f"{requirement.name}{requirement.specifier}{f' [{extra[1]}]' if extra else ''}"
    try:
        version = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return (None if extra else False), f"{wanted} (not installed)"
    return requirement.specifier.contains(version, prereleases=True), f"{wanted} (found {version})"
