"""The one front door: `python -m mini_lib COMMAND`. Each command lives in its room, in commands.py, which loads at once."""

import argparse
import os
import sys
from importlib import import_module
from io import TextIOWrapper

ROOMS = ("course", "studies", "benchmarks", "embedded")


def main(arguments: list[str] | None = None) -> int:
    """Run a command; what goes wrong is one sentence."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(
            stream, TextIOWrapper
        ):  # letters that a terminal does not have are shown as \xe4, and stop nothing
            stream.reconfigure(errors="backslashreplace")
    parser = argparse.ArgumentParser(
        prog="python -m mini_lib",
        description="MoE-Adapters for continual learning of CLIP: notebooks, studies, data and graded assignments.",
        epilog="python -m mini_lib COMMAND --help says what a command takes.",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for room in ROOMS:
        import_module(f"mini_lib.{room}.commands").add(commands)
    options = parser.parse_args(arguments)
    try:
        return options.run(options) or 0
    except KeyboardInterrupt:
        print("Stopped. What is finished is kept: the same command goes on after it.", file=sys.stderr)
        return 130
    except ModuleNotFoundError as error:
        sys.exit(_not_installed(error))
    except (ValueError, OSError, RuntimeError) as error:
        sys.exit(str(error))


def _not_installed(error):
    """In words, for a package of an extra; what else cannot be found is raised again."""
    from .course.environment import module, requirements

    package = (error.name or "").partition(".")[0]
    extra = next((extra for name, _, extra in requirements() if extra and module(name) == package), None)
    if extra is None:
        raise error
    return f"{package} is not installed: it comes with the extra {extra}, in a clone by pip install -e '.[{extra}]'."


if __name__ == "__main__":
    if sys.getfilesystemencoding() == "ascii" and os.environ.get("PYTHONUTF8") != "1":
        os.environ["PYTHONUTF8"] = "1"  # a folder "Übung" could not even be named: begin again, with UTF-8
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    sys.exit(main())
