"""Is everything there? `python -m mini_lib check` prints a line for each package, for support questions.

Nothing that may be broken is imported here: this file runs a second time, as a process that imports the packages in turn and
ends at the first that fails. The next process goes on behind it, so a broken package costs its line and no other.
"""

import importlib.metadata
import json
import platform
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2]  # what mini_lib lies in: a clone, or site-packages
SECONDS = 120  # that one process may take
MARK = "mini_lib check: "
REQUIREMENT = re.compile(r"([\w.-]+)(?:>=([\d.]+))?")
EXTRA = re.compile(r"extra == ['\"](\w+)['\"]")
MODULES = {  # where it is not the package's name
    "open_clip_torch": "open_clip",
    "pillow": "PIL",
    "pytest-xdist": "xdist",
    "pyyaml": "yaml",
    "scikit-learn": "sklearn",
    "sphinx-mathjax-offline": "sphinx-mathjax-offline",
}


def check() -> bool:
    """Print [OK] or [FAIL] for Python, each package that mini_lib needs, and the embedded CLIP; True if all are OK.

    What belongs to an extra is [OK] or, where it is not installed, [--].
    """
    from .. import __version__

    python = f"Python {platform.python_version()} (3.11 or newer) on {platform.platform()}"
    good: list[bool | None] = [
        _say(sys.version_info >= (3, 11), python),
        _say(True, f"mini_lib {__version__} in {FOLDER / 'mini_lib'}"),
    ]
    needed = requirements()
    if not needed:
        good.append(_say(False, f"what mini_lib needs is not known: it is not installed. pip install -e {FOLDER}"))
    there = {name: version for name, _, _ in needed if (version := _version(name))}
    answers = import_all([*(module(name) for name in there), "mini_lib"])
    for name, bound, extra in needed:
        wanted = f"{name}{bound and f'>={bound}'}{f' [{extra}]' if extra else ''}"
        if name not in there:
            good.append(_say(None if extra else False, f"{wanted} (not installed)"))
            continue
        works, text = answers[module(name)]
        if not works:
            text = f"but it cannot be imported: {text}"
        if not works and name == "torchvision" and "torchvision" in text and answers.get("torch", [False])[0]:
            torch = there["torch"].split("+")[0]
            text += f". It must be the one for torch {torch}: pip install torch=={torch} torchvision"
        enough = _numbers(there[name]) >= _numbers(bound)
        good.append(_say(works and enough, f"{wanted} (found {there[name]}{text and ', '}{text})"))
    good.append(_say(*answers["mini_lib"]))
    return all(one is not False for one in good)


def _say(good, line):
    print({True: "[OK]  ", False: "[FAIL]", None: "[--]  "}[good], line, flush=True)
    return good


def requirements() -> list[tuple[str, str, str]]:
    """(package, lowest version, extra) of all that mini_lib needs, "" for what there is not: of a clone, or as installed."""
    settings = FOLDER / "pyproject.toml"
    if settings.is_file() and sys.version_info >= (3, 11):
        import tomllib

        project = tomllib.loads(settings.read_text(encoding="utf-8"))["project"]
        found = [(text, "") for text in project["dependencies"]]
        found += [(text, extra) for extra, texts in project["optional-dependencies"].items() for text in texts]
    else:
        try:
            texts = importlib.metadata.requires("mini_lib") or []
        except importlib.metadata.PackageNotFoundError:
            return []
        found = [(text, extra[1] if (extra := EXTRA.search(text)) else "") for text in texts]
    matches = [(REQUIREMENT.match(text), extra) for text, extra in found]
    return [(match[1], match[2] or "", extra) for match, extra in matches if match]


def module(name: str) -> str:
    """What a package is imported as."""
    return MODULES.get(name, name.replace("-", "_"))


def _version(name):
    try:
        return importlib.metadata.version(name) or "of unknown version"
    except importlib.metadata.PackageNotFoundError:
        return None


def _numbers(version):
    """2.10.0rc1 or 2.10.0+cpu -> [2, 10, 0]"""
    return [int(number) for number in re.findall(r"\d+", re.split(r"[^\d.]", version)[0])]


def import_all(modules: list[str]) -> dict[str, tuple[bool, str]]:
    """Of each module whether it can be imported, and what it tells of itself, or the first line of its error."""
    answers: dict[str, tuple[bool, str]] = {}
    while due := [name for name in modules if name not in answers]:
        try:
            done = subprocess.run(
                [sys.executable, __file__, *due],
                stdin=subprocess.DEVNULL,  # nobody sees what a package would ask
                capture_output=True,
                timeout=SECONDS,
                check=False,
            )
            output, end = done.stdout, f"Python itself ended with code {done.returncode}"
        except subprocess.TimeoutExpired as error:
            output, end = error.stdout or b"", f"that takes more than {SECONDS} seconds"
        lines = output.decode("utf-8", errors="replace").splitlines()
        came = [json.loads(line.removeprefix(MARK)) for line in lines if line.startswith(MARK)]
        answers |= {name: (good, text) for name, good, text in came}
        if len(came) < len(due) and all(good for _, good, _ in came):  # the next one took the process with it
            answers[due[len(came)]] = (False, end)
    return answers


def import_in_turn(modules: list[str]) -> None:
    """Import the modules and print an answer for each, to the first that fails."""
    for name in modules:
        try:
            good, text = True, _facts(name)
        except BaseException as error:  # whatever it is, it belongs into the support question
            good, text = False, ("the embedded CLIP does not load: " if name == "mini_lib" else "") + _first_line(error)
        print(f"\n{MARK}{json.dumps([name, good, text])}", flush=True)
        if not good:
            break


def _facts(name):
    if name == "mini_lib":
        sys.path.insert(0, str(FOLDER))
        import_module("mini_lib.clip").load_clip("tiny")
        return "the embedded CLIP loads"
    found = import_module(name)
    if name != "torch":
        return ""
    gpu = found.cuda.get_device_name() if found.cuda.is_available() else "no CUDA"
    mps = "MPS" if found.backends.mps.is_available() else "no MPS"
    return f"{found.get_num_threads()} threads, {gpu}, {mps}"


def _first_line(error):
    while error.__cause__:  # what numpy says of itself is a page, and its cause a line
        error = error.__cause__
    return f"{type(error).__name__}: {next(filter(str.strip, str(error).splitlines()), '').strip()}"


if __name__ == "__main__":
    sys.path[0] = ""  # as with python -m: the modules of this folder are not to be found by their short names
    import_in_turn(sys.argv[1:])
