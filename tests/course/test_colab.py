"""What Colab is asked to install, by the versions that it has; nothing that belongs to its GPU or its page is exchanged."""

import tomllib
from importlib.metadata import PackageNotFoundError

import pytest
from helpers import ROOT
from packaging.requirements import Requirement

from mini_lib.course import colab

HERE = {  # of August 2026, with Python 3.13
    "torch": "2.11.0+cu128",
    "torchvision": "0.26.0+cu128",
    "numpy": "2.1.3",
    "pandas": "2.2.2",
    "pillow": "11.3.0",
    "safetensors": "0.6.2",
    "scikit-learn": "1.6.1",
    "scipy": "1.16.3",
    "tqdm": "4.67.1",
    "matplotlib": "3.10.0",
    "packaging": "25.0",
    "filelock": "3.19.1",
    "seaborn": "0.13.2",
    "ipywidgets": "7.7.1",
    "ipython": "7.34.0",
    "ipykernel": "6.17.1",
    "nbconvert": "7.16.6",
    "nbformat": "5.10.4",
    "pyyaml": "6.0.3",
}


@pytest.fixture
def asked(monkeypatch):
    """What pip is asked to install on a Colab that differs from HERE, and what it must not exchange."""

    def asked(**changes):
        here = {name: found for name, found in (HERE | changes).items() if found}
        commands = []

        def version(name):
            if name not in here:
                raise PackageNotFoundError(name)
            return here[name]

        def run(command, check):
            pins = command[command.index("--constraint") + 1].read_text(encoding="utf-8").splitlines()
            commands.append((command[command.index("--constraint") + 2 :], pins))
            return type("Done", (), {"returncode": 0})

        monkeypatch.setattr(colab, "version", version)
        monkeypatch.setattr(colab.subprocess, "run", run)
        with pytest.raises(SystemExit, match="0"):
            colab.main()
        return commands[0]

    return asked


def names(texts):
    return [Requirement(text).name for text in texts]


def test_colab_as_it_is(asked, capsys):
    wanted, pins = asked()
    assert names(wanted) == ["open_clip_torch", "papermill"]
    kept = ("torch", "torchvision", "numpy", "ipywidgets", "ipython", "ipykernel")
    assert pins == [f"{name}=={HERE[name]}" for name in kept]
    assert capsys.readouterr().out == f"Installing {', '.join(wanted)}\n"


def test_the_lower_bounds_admit_what_colab_has():
    """So that `mini_lib check` shows no [FAIL] there."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for text in project["dependencies"] + project["optional-dependencies"]["notebooks"]:
        wanted = Requirement(text)
        assert wanted.name not in HERE or wanted.specifier.contains(HERE[wanted.name]), text


@pytest.mark.parametrize("name, found", [("torch", "2.5.1+cu124"), ("torchvision", "0.20.1"), ("numpy", "1.26.4")])
def test_what_belongs_to_the_gpu_is_never_exchanged(asked, capsys, name, found):
    wanted, pins = asked(**{name: found})
    assert not {"torch", "torchvision", "numpy"} & set(names(wanted)) and f"{name}=={found}" in pins
    assert f"Colab has {name} {found}, and {name}>=" in capsys.readouterr().out


def test_what_is_too_old_or_not_there_is_asked_for(asked):
    assert names(asked(pandas="2.1.4", safetensors=None)[0]) == [
        "open_clip_torch",
        "pandas",
        "safetensors",
        "papermill",
    ]
    wanted, pins = asked(torchvision=None, ipywidgets=None)
    assert names(wanted) == ["torchvision", "open_clip_torch", "papermill"]
    assert not any(pin.startswith(("torchvision", "ipywidgets")) for pin in pins)


def test_nothing_to_install(monkeypatch, capsys):
    monkeypatch.setattr(colab, "version", lambda name: "99")
    colab.main()
    assert capsys.readouterr().out == ""
