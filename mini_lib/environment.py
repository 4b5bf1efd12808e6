"""Is everything there? `python -m mini_lib.environment` prints a line a package, for support questions."""

import importlib.metadata
import platform
import sys

from packaging.requirements import Requirement

from .colab import dependencies


def check():
    """Print [OK] or [FAIL] for Python, every package that mini_lib needs, and the embedded CLIP; True if all are OK."""
    lines = [
        (sys.version_info >= (3, 11), f"Python {platform.python_version()} (3.11 or newer) on {platform.platform()}")
    ]
    for requirement in map(Requirement, dependencies()):
        try:
            version = importlib.metadata.version(requirement.name)
            lines.append(
                (requirement.specifier.contains(version, prereleases=True), f"{requirement} (found {version})")
            )
        except importlib.metadata.PackageNotFoundError:
            lines.append((False, f"{requirement} (not installed)"))
    try:
        from .clip import load_clip

        load_clip("tiny")
        lines.append((True, "the embedded CLIP loads"))
    except Exception as error:  # whatever it is, it belongs into the support question
        lines.append((False, f"the embedded CLIP does not load: {error}"))
    for good, line in lines:
        print("[OK]  " if good else "[FAIL]", line)
    return all(good for good, _ in lines)


if __name__ == "__main__":
    sys.exit(not check())
