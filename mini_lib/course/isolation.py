"""A process and a folder of its own for each submission, with limits, and where the machine has one a sandbox around it.

`examine` starts Python with nothing of this process: no environment, no user site, no start-up files; with a copy of the
library, and a new folder as home and for all that is written. It reads what exam/examiner.py reports, and ends whatever was
started. What is protected by what: notebooks/assignments/README.md.
"""

import ast
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import blake2b
from hmac import compare_digest
from pathlib import Path
from site import getusersitepackages
from threading import Thread
from typing import IO, Any

import psutil

MEMORY, FILE, DISK = 6 * 2**30, 100 * 2**20, 500 * 2**20  # bytes: of a process, of one file, of all that it writes
REPORT = 50 * 2**20  # bytes that it may report
PROCESSES, THREADS = 4, 256  # that it may start, beside the threads of this user
PREFIX, DAY = "mini_lib-grade-", 24 * 60 * 60
PACKAGE = Path(__file__).resolve().parents[1]
KEPT = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "GOMP_SPINCOUNT", "SYSTEMROOT")  # of this process's environment
SANDBOXES = ("bwrap", "docker")
IMAGE = "debian:stable-slim"  # gives docker a root only: Python and its libraries are this machine's, read-only
SYSTEM = ("/usr", "/bin", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/localtime", "/etc/fonts")


@dataclass
class Report:
    """What came of a submission: number of a cell -> its outputs; number of a test cell -> whether it passed."""

    outputs: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    passed: dict[int, bool] = field(default_factory=dict)
    late: set[int] = field(default_factory=set)  # cells that were stopped
    tried: list[str] = field(default_factory=list)  # what was refused
    ended: bool = False  # after its last cell, not before
    new: list[str] = field(default_factory=list)  # files that appeared among the submissions meanwhile


def check(sandbox: str | None) -> None:
    """Raises OSError with a sentence where there is no such sandbox."""
    if sandbox is not None and not _program(sandbox):
        raise OSError(
            f"there is no sandbox {sandbox!r} here: on Linux bwrap (package bubblewrap) or docker, installed."
        )


def _program(sandbox):
    return shutil.which(sandbox) if sandbox in SANDBOXES and sys.platform == "linux" else None


def examine(
    job: dict[str, Any], files: dict[str, str], hidden: Sequence[Path], seconds: float, sandbox: str | None = None
) -> Report:
    """Run a submission's cells and tests.

    job: cells, setup, functions, student_id and cell_seconds, for exam/examiner.py; files: name -> text, in the folder where
    the cells run; hidden: folders that they may not read. Raises ValueError with a sentence where it had to be ended.
    """
    key = secrets.token_hex(16)
    with _folder() as place:
        work = place / "work"
        for name, text in files.items():
            (work / name).write_text(text, encoding="utf-8")
        shown = [place, Path(sys.base_prefix), *map(Path, _site())]
        folders = {"work": str(work), "hidden": [*map(str, hidden)], "shown": [*map(str, shown)]}
        limits = {"memory": MEMORY, "file": FILE, "processes": _threads() + THREADS}
        sent = json.dumps(job | {"key": key, "folders": folders, "limits": limits})
        told, tried = _run(_command(place, sandbox), sent.encode(), place, seconds, sandbox)
    return _read(told.decode("utf-8", "replace"), tried.decode("utf-8", "replace"), key)


@contextmanager
def _folder() -> Iterator[Path]:
    """A new folder with `library`, a copy of this one, and `work`, where a submission may write; removed in the end."""
    for old in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):  # of a grading process that was killed
        maker = old.name.removeprefix(PREFIX).partition("-")[0]
        with suppress(OSError):
            gone = maker.isdecimal() and not psutil.pid_exists(int(maker))
            if gone or time.time() - os.lstat(old).st_mtime > DAY:
                shutil.rmtree(old)
    with tempfile.TemporaryDirectory(prefix=f"{PREFIX}{os.getpid()}-", ignore_cleanup_errors=True) as folder:
        place = Path(folder).resolve()
        shutil.copytree(PACKAGE, place / "library" / PACKAGE.name)
        (place / "work/tmp").mkdir(parents=True)
        _list_fonts(place / "work/matplotlib")
        yield place


def _list_fonts(folder: Path) -> None:
    """matplotlib's list of fonts, without this user's own: it takes a second to write, and needs another process."""
    import matplotlib
    from matplotlib import font_manager  # noqa: F401  (it writes the list where there is none)

    folder.mkdir()
    for path in Path(matplotlib.get_cachedir()).glob("fontlist-*.json"):
        fonts = json.loads(path.read_text(encoding="utf-8"))
        fonts["ttflist"] = [font for font in fonts["ttflist"] if not Path(font["fname"]).is_relative_to(Path.home())]
        (folder / path.name).write_text(json.dumps(fonts), encoding="utf-8")


def _site() -> list[str]:
    """Where this Python finds its packages: not the user's own ones, and nothing that PYTHONPATH names."""
    return [p for p in sys.path if Path(p).name in ("site-packages", "dist-packages") and p != getusersitepackages()]


def _environment(work: Path) -> dict[str, str]:
    """All that the process finds in its environment."""
    here, tmp = str(work), str(work / "tmp")
    given = {"HOME": here, "USERPROFILE": here, "TMPDIR": tmp, "TMP": tmp, "TEMP": tmp, "PATH": os.defpath}
    quiet = {"LANG": "C.UTF-8", "TQDM_DISABLE": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    figures = {"MPLCONFIGDIR": str(work / "matplotlib"), "MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    return {**given, **quiet, **figures, **{name: os.environ[name] for name in KEPT if name in os.environ}}


def _command(place: Path, sandbox: str | None) -> list[str]:
    """What is started. -I: no environment, no user site, nothing from the folder; -S: no start-up files."""
    paths = [str(place / "library"), *_site()]
    code = f"import sys; sys.path += {paths!r}; from mini_lib.course.exam.desk import main; main()"
    program = os.path.realpath(sys.executable) if os.name == "posix" else sys.executable  # venv's is only a link
    python = [program, "-I", "-S", "-B", "-X", "utf8", "-c", code]
    if sandbox is None:
        return python
    there = str(_program(sandbox))
    work = str(place / "work")
    seen = [path for path in (*SYSTEM, sys.base_prefix, *_site(), str(place)) if os.path.exists(path)]
    if sandbox == "bwrap":
        binds = [part for path in seen for part in ("--ro-bind", path, path)]
        own = "--unshare-all --die-with-parent --new-session --cap-drop ALL --proc /proc --dev /dev".split()
        return [there, *own, *binds, "--bind", work, work, "--chdir", work, "--", *python]
    seen = [path for path in seen if not os.path.islink(path)]  # the image has such links of its own
    mounts = [part for path in seen for part in ("--mount", f"type=bind,source={path},target={path},readonly")]
    user = ["--user", f"{os.getuid()}:{os.getgid()}", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
    limits = ["--network", "none", "--read-only", "--memory", str(MEMORY), "--pids-limit", str(THREADS)]
    setting = [part for item in _environment(place / "work").items() for part in ("--env", "=".join(item))]
    own = ["--rm", "--interactive", "--name", place.name, *user, *limits, *setting, "--workdir", work]
    return [there, "run", *own, *mounts, "--mount", f"type=bind,source={work},target={work}", IMAGE, *python]


def _run(command: list[str], sent: bytes, place: Path, seconds: float, sandbox: str | None) -> tuple[bytes, bytes]:
    """Run it, watch it, end it with all that it has started. -> what it reported, and what it was refused"""
    work, before = place / "work", {child.pid for child in _children()}
    environment = dict(os.environ) if sandbox == "docker" else _environment(work)  # docker's own; see --env
    _adopt()
    process = subprocess.Popen(
        command,
        cwd=work,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdin and process.stdout and process.stderr  # they are pipes
    told, tried = _Pipe(process.stdout, REPORT), _Pipe(process.stderr, 2**20)
    deadline, why = time.monotonic() + seconds, None
    Thread(target=_send, args=(process.stdin, sent), daemon=True).start()
    try:
        while process.poll() is None and not why:
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.2)
            if time.monotonic() > deadline:
                why = f"stopped after {seconds:g} seconds: does a cell ignore being interrupted?"
            elif told.full:
                why = f"stopped: it wrote more than {REPORT // 2**20} MiB of output."
            elif len(_children(before)) > PROCESSES + 1 + bool(sandbox):
                why = f"stopped: it started more than {PROCESSES} processes."
            elif sum(map(_memory, _children(before))) > MEMORY:
                why = f"stopped: it took more than {MEMORY // 2**30} GiB of memory."
            elif _size(work) > DISK:
                why = f"stopped: it wrote more than {DISK // 2**20} MiB of files."
    finally:
        if sandbox == "docker":
            subprocess.run(["docker", "kill", place.name], capture_output=True)
        while left := _children(before):
            for child in left:
                with suppress(psutil.Error):
                    child.kill()
            psutil.wait_procs(left, timeout=5)
        process.wait()
        told.join(5)
        tried.join(5)
    if why:
        raise ValueError(why)
    return bytes(told.found), bytes(tried.found)


def _send(pipe: IO[bytes], data: bytes) -> None:
    with suppress(OSError):  # the process may have ended
        pipe.write(data)
        pipe.close()


class _Pipe(Thread):
    """Reads what the process writes; more than `most` bytes are thrown away, and noted."""

    def __init__(self, pipe: IO[bytes], most: int):
        super().__init__(daemon=True)
        self.pipe, self.most, self.found, self.full = pipe, most, bytearray(), False
        self.start()

    def run(self):
        while part := os.read(self.pipe.fileno(), 2**16):
            self.full = len(self.found) + len(part) > self.most
            self.found += part[: self.most - len(self.found)]


def _children(before: Collection[int] = ()) -> list[psutil.Process]:
    return [child for child in psutil.Process().children(recursive=True) if child.pid not in before]


def _memory(process: psutil.Process) -> int:
    with suppress(psutil.Error):
        return process.memory_info().rss
    return 0


def _adopt() -> None:
    """Processes whose parent is gone become children of this one, so that they can be found and ended (Linux)."""
    if sys.platform == "linux":
        from ctypes import CDLL

        CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER


def _size(folder: Path) -> int:
    """Bytes of all files below a folder, while they come and go."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += os.lstat(os.path.join(place, name)).st_size
    return total


def _threads() -> int:
    """How many threads this user has."""
    me = psutil.Process().username()
    every = psutil.process_iter(["username", "num_threads"])
    return sum(one.info["num_threads"] or 1 for one in every if one.info["username"] == me)


def _read(told: str, tried: str, key: str) -> Report:
    """The report, of which only signed lines are believed: the submission can write to the same pipe."""
    report, ready = Report(), False
    report.tried = [text for line in tried.splitlines() if (text := _value(line, str))]
    for line in told.split("\n"):
        signature, _, rest = line.partition(" ")
        mine = blake2b(rest.encode(), key=key.encode()).hexdigest()
        if not compare_digest(signature.encode(), mine.encode()):
            continue
        kind, number, text = rest.split(" ", 2)
        ready, report.ended = ready or kind == "ready", kind == "end"
        if kind == "broken":
            raise ValueError(f"the assignment's own setup failed: {_value(text, str)}")
        if kind == "passed":
            report.passed[int(number)] = text == "True"
        elif kind == "late":
            report.late.add(int(number))
        elif kind == "outputs":
            report.outputs[int(number)] = _value(text, list) or []
        elif kind == "shown":
            with suppress(ValueError, RecursionError):
                report.outputs[int(number)] = json.loads(_value(text, str) or "[]")
    if not ready:
        raise ValueError(f"its process did not start: {' '.join(tried.split())[-300:]}")
    return report


def _value(text: str, kind: type) -> Any:
    """A text or list written by `ascii`, or None where it is none."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None
    return value if isinstance(value, kind) else None
