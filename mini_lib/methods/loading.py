"""A finished run's method, from its folder: to be asked about new pictures. Used in notebook 15."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from torch.utils.data import Dataset

from ..benchmarks.base import Benchmark, Task
from ..clip import load_clip
from ..embedded.run_folder import CHECKPOINT, DIGESTS, SETTINGS, RunFolder, Tables, differences, stored
from .base import Method, make_method, needs
from .zero_shot import ZeroShot

GIVEN = ("reference", "captions", "tasks")  # to a method that learns; one that is only asked does without
PASS = "pass load_run the CLIP of then, as clip=, tokenizer= and preprocess="


@dataclass
class LearnedRun:
    """What a run has learned, ready for `predict`.

    method: as it was after its newest task; it is asked, and refuses to learn. original: the CLIP that it began with, as a
    method. preprocess: what makes a picture into a tensor (3, H, W), None where the CLIP was given without it. tasks: those
    learned so far, in order, with class names and templates and without images.
    """

    method: Method
    original: Method
    preprocess: Callable | None
    tasks: list[Task]


def load_run(
    out: str | Path,
    clip: Any = None,
    tokenizer: Callable | None = None,
    preprocess: Callable | None = None,
    **settings,
) -> LearnedRun:
    """The method that `run` left in the folder `out`, whether all its tasks are learned or the first of them. Writes nothing.

    The CLIP is loaded as it was then. clip, tokenizer, preprocess: what `load_clip` returned, where that is impossible
    (random weights, one made by hand, a file that moved), or for another device. settings: what settings.json can only
    describe, such as selector=, one of one's own. Weights, what they compute, settings, class names and prompts, and all
    that was learned are compared with what `run` noted. No reference images are needed, hence the method refuses `learn`.
    Raises ValueError for a folder that holds no run of this version or no learned task, for what was damaged or exchanged,
    and for a CLIP, settings or a method other than then. (Used in notebook 15.)
    """
    folder = _Finished(Path(out))
    held = folder.held()
    folder.begin([SETTINGS])  # its digests are there, and of these settings
    if clip is None:
        clip, preprocess, tokenizer = _clip_of(held, folder.out)
    elif tokenizer is None:
        raise ValueError(f"a CLIP reads prompts by its tokenizer: {PASS}.")
    prompts = ((name, *held["prompts"][name]) for name in held["tasks"])
    tasks = [Task(name, classnames, templates, None, None) for name, classnames, templates in prompts]
    method = _method_of(held, folder.out, clip, tokenizer, tasks, settings)
    if not (learned := folder.resume(method)[0]):
        raise ValueError(f"{folder.out} holds no {CHECKPOINT}: its first task is not learned yet.")
    method.learn = _refuse  # it has no reference images, and the folder is finished
    return LearnedRun(method, ZeroShot(clip, tokenizer), preprocess, tasks[:learned])


class _Finished(RunFolder):
    """A run's folder that is only read: it may lie where nobody can write, and another process may go on with the run."""

    def __init__(self, out):
        Tables.__init__(self, out, [], DIGESTS, "", "Take another folder, or run it anew.")
        if not (out / SETTINGS).is_file():
            below = sorted(path.parent.name for path in out.glob(f"*/{SETTINGS}"))
            others = f" The folders in it do: take {' or '.join(str(out / name) for name in below)}." if below else ""
            raise ValueError(f"{out} holds no run, for it has no {SETTINGS}.{others}")


class Absent(Dataset):
    """Images that are not there, for a method that does not learn any more; asking for one is a ValueError."""

    def __len__(self) -> int:
        _refuse()

    def __getitem__(self, index: int) -> Any:
        _refuse()

    def fingerprint(self) -> str:
        """By which it is known: nothing."""
        return ""


def _refuse(task: Any = None) -> NoReturn:
    raise ValueError(
        "a method from load_run is asked, not taught: it has no reference images. To go on learning, make it with "
        "make_method, and run it again in the same folder."
    )


def _clip_of(held, out):
    """load_clip, as it was called then."""
    source = held.get("clip_source")
    if not source or source["pretrained"] is None:
        why = "has random weights" if source else "did not come from load_clip"
        raise ValueError(f"the CLIP of {out} {why}, and cannot be loaded again: {PASS}.")
    try:
        return load_clip(**source)
    except (ValueError, OSError) as error:
        raise ValueError(f"the CLIP of {out} cannot be loaded again ({error}): {PASS}.") from error


def _method_of(held, out, clip, tokenizer, tasks, settings):
    """The method as it was made then, before it learned anything. Raises ValueError where it is another."""
    name = held["method"]
    parts = needs(name, Benchmark("absent", tasks, Absent(), captions=["nothing"]))
    try:
        method = make_method(name, clip, tokenizer, **parts, **{**held["method_settings"], **settings})
    except ValueError as error:
        raise ValueError(
            f"the method of {out} cannot be made again ({error}) A method of your own must be registered first, and what "
            f"{SETTINGS} can only describe, such as a selector of your own, be passed to load_run: selector=..."
        ) from error
    now = json.loads(json.dumps(method.identity(), default=stored))
    now["given"] |= {part: held["given"][part] for part in GIVEN if part in now["given"]}
    if other := differences({key: held.get(key) for key in now}, now)[0]:
        raise ValueError(
            f"what was loaded is not what made {out} ({'; '.join(other)}): {PASS}, and its settings of then."
        )
    return method
