"""Archives: nothing lands outside its folder, nothing is unpacked that is not the published file, no pickle runs."""

import gzip
import io
import os
import pickle
import re
import shutil
import signal
import stat
import sys
import tarfile
import threading
import time
import zipfile
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torchvision

from mini_lib.benchmarks import archives, fixtures
from mini_lib.benchmarks.archives import Archive, extract, fetch, unpack
from mini_lib.benchmarks.mtil import mtil
from mini_lib.benchmarks.pickles import plain_pickle
from mini_lib.benchmarks.sources import SOURCES, read


def member(name, content=b"x", **changes):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in changes.items():
        setattr(info, key, value)
    return info, content if info.isreg() else None


def tar(file, *members, mode="w:gz"):
    with tarfile.open(file, mode) as opened:
        for info, content in [member("set/a.txt", b"good"), *members]:
            opened.addfile(info, None if content is None else io.BytesIO(content))
    return file


def zipped(file, *members):
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("set/a.txt", b"good")
        for name, content, *mode in members:
            info = zipfile.ZipInfo(name)
            info.external_attr = (mode[0] if mode else 0) << 16
            opened.writestr(info, content)
    return file


LINK, HARD = {"type": tarfile.SYMTYPE}, {"type": tarfile.LNKTYPE}
HOSTILE = {
    "up": member("../x"), "far up": member("set/../../x"), "absolute": member("/tmp/mini_lib_escaped"),
    "drive": member("C:/x"), "windows": member("set\\..\\..\\x"), "share": member("\\\\server\\x"),
    "link out": member("set/b", b"", **LINK, linkname="../../x"), "link away": member("set/b", b"", **LINK, linkname="/etc/passwd"),
    "link in": member("set/b", b"", **LINK, linkname="a.txt"), "hard link": member("set/b", b"", **HARD, linkname="/etc/passwd"),
    "hard link in": member("set/b", b"", **HARD, linkname="set/a.txt"), "fifo": member("set/b", b"", type=tarfile.FIFOTYPE),
    "device": member("set/b", b"", type=tarfile.CHRTYPE, devmajor=1, devminor=3), "block": member("set/b", b"", type=tarfile.BLKTYPE),
}  # fmt: skip
HOSTILE_ZIPS = {
    "up": ("../x", b"x"), "absolute": ("/tmp/mini_lib_escaped", b"x"), "windows": ("set\\..\\..\\x", b"x"), "drive": ("C:\\x", b"x"),
    "link": ("set/b", b"/etc/passwd", stat.S_IFLNK | 0o777), "device": ("set/b", b"", stat.S_IFCHR | 0o666),
}  # fmt: skip


def everything(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


@pytest.mark.parametrize("case", HOSTILE)
@pytest.mark.parametrize("mode", ["w:gz", "w"])
def test_a_hostile_tar_is_refused_by_name(tmp_path, case, mode):
    (root := tmp_path / "deep" / "root").mkdir(parents=True)
    name = "x.tar.gz" if mode == "w:gz" else "x.tar"
    tar(root / name, HOSTILE[case], mode=mode)
    words = (
        "lies outside" if case in ("up", "far up", "absolute", "drive", "windows", "share") else "is a link or a device"
    )
    with pytest.raises(ValueError, match=f"{name} is refused: its member .* {words}.*Nothing of it is kept") as caught:
        unpack(Archive(name, "", "", "set"), root, print)
    assert ascii(HOSTILE[case][0].name) in str(caught.value)
    assert (
        everything(tmp_path) == ["deep", "deep/root", f"deep/root/{name}"]
        and not Path("/tmp/mini_lib_escaped").exists()
    )


@pytest.mark.parametrize("case", HOSTILE_ZIPS)
def test_a_hostile_zip_is_refused_by_name(tmp_path, case):
    (root := tmp_path / "deep" / "root").mkdir(parents=True)
    zipped(root / "x.zip", HOSTILE_ZIPS[case])
    with pytest.raises(ValueError, match="x.zip is refused: its member .*(lies outside|is a link or a device)"):
        unpack(Archive("x.zip", "", "", "set"), root, print)
    assert (
        everything(tmp_path) == ["deep", "deep/root", "deep/root/x.zip"] and not Path("/tmp/mini_lib_escaped").exists()
    )


def test_what_is_larger_than_the_disk_is_refused(tmp_path, monkeypatch):
    huge = member("set/huge", b"")[0]
    huge.size = 10**18
    (tmp_path / "x.tar.gz").write_bytes(gzip.compress(huge.tobuf()))  # a head that promises an exabyte
    zipped(tmp_path / "x.zip", ("set/zeros", bytes(10**6)))
    (tmp_path / "x.gz").write_bytes(gzip.compress(bytes(10**6)))
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10**9, 0, 10**5))
    for name, word in (("x.tar.gz", "'set/huge'"), ("x.zip", "'set/zeros'"), ("x.gz", "'x'")):
        with pytest.raises(ValueError, match=f"{name} is refused: its member {word} is more than fits on the disk"):
            unpack(Archive(name, "", "", "set"), tmp_path, print)
    monkeypatch.setattr(archives, "MOST", 1)
    with pytest.raises(ValueError, match="is one too many: no data set has more than 1 files"):
        unpack(Archive("few.tar", "", "", "set"), tar(tmp_path / "few.tar", member("set/b"), mode="w").parent, print)
    assert everything(tmp_path) == ["few.tar", "x.gz", "x.tar.gz", "x.zip"]


@pytest.mark.parametrize("name, spoil", [
    ("x.tar.gz", lambda b: b[: len(b) // 2]), ("x.tar.gz", lambda b: b""), ("x.tar.gz", lambda b: b"<html>"),
    ("x.tgz", lambda b: b[:60] + bytes(len(b))), ("x.zip", lambda b: b[: len(b) // 2]), ("x.gz", lambda b: b[:-9]), ("x.gz", lambda b: b"no"),
])  # fmt: skip
def test_a_damaged_archive_is_one_sentence(tmp_path, name, spoil):
    (tmp_path / "whole").mkdir()
    file = tmp_path / "whole" / name
    if name == "x.gz":
        file.write_bytes(gzip.compress(os.urandom(9999)))
    else:
        zipped(file, ("set/b", os.urandom(9999))) if name == "x.zip" else tar(file, member("set/b", os.urandom(9999)))
    (tmp_path / name).write_bytes(spoil(file.read_bytes()))
    with pytest.raises(ValueError, match=f"{name} is damaged, or no archive that can be unpacked"):
        unpack(Archive(name, "", "", "set"), tmp_path, print)
    assert everything(tmp_path) == sorted(["whole", f"whole/{name}", name])


def test_an_old_python_is_told_to_update(tmp_path, monkeypatch):
    monkeypatch.delattr(tarfile, "data_filter")
    with pytest.raises(ValueError, match="this Python cannot unpack archives safely: update it"):
        unpack(Archive("x.tar", "", "", "set"), tar(tmp_path / "x.tar", mode="w").parent, print)


def test_a_good_archive_takes_its_place_at_once(tmp_path):
    log = []
    zipped(tmp_path / "x.zip", ("set/b/c.txt", b"there"), ("other/d.txt", b"not wanted"), ("set/", b""))
    (tmp_path / ".x.zip.unpacking" / "set").mkdir(parents=True)  # of a kill
    (tmp_path / "other").mkdir()
    row = Archive("x.zip", "", "", "set")
    unpack(row, tmp_path, log.append)
    assert everything(tmp_path) == ["other", "set", "set/a.txt", "set/b", "set/b/c.txt", "x.zip"] and not log
    assert (tmp_path / "set/b/c.txt").read_bytes() == b"there"
    unpack(row, tmp_path, log.append)  # the same again changes nothing
    assert len(everything(tmp_path)) == 6 and not log
    (tmp_path / "set/a.txt").unlink(), (tmp_path / "set/mine.txt").write_text("of the user")
    unpack(row, tmp_path, log.append)
    assert (tmp_path / "set.incomplete1/mine.txt").read_text() == "of the user" and (tmp_path / "set/a.txt").exists()
    assert "is set.incomplete1 now" in log[0]
    with pytest.raises(ValueError, match="x.zip does not hold 'elsewhere': it is another archive"):
        unpack(Archive("x.zip", "", "", "elsewhere"), tmp_path, print)
    inner = tar(tmp_path / "set.tar.gz")
    zipped(tmp_path / "y.zip", ("y/set.tar.gz", inner.read_bytes()))
    shutil.rmtree(tmp_path / "set")
    unpack(Archive("y.zip", "", "", "set", inner="y/set.tar.gz"), tmp_path, print)
    assert everything(tmp_path / "set") == ["a.txt"]


def test_every_archive_has_a_checksum_and_torchvision_knows_the_addresses():
    rows = [row for source in SOURCES.values() for row in source.archives]
    assert len(rows) == 15 == len({row.sha256 for row in rows})
    assert all(re.fullmatch("[0-9a-f]{64}", row.sha256) for row in rows)
    code = "".join(p.read_text() for p in (Path(torchvision.__file__).parent / "datasets").glob("*.py"))
    for row in rows:
        assert row.url.rsplit("/", 1)[1] in code, row.url
        assert Path(row.file).name == row.url.rsplit("/", 1)[1]


class Server(BaseHTTPRequestHandler):
    """Gives one content; breaks off after `most` bytes; goes on where it is asked to."""

    content, most, asked = b"", None, []

    def do_GET(self):
        begin = int((self.headers.get("Range") or "bytes=0-")[6:-1])
        self.asked.append(begin)
        if begin >= len(self.content):
            self.send_error(416)
            return
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(self.content) - begin))
        self.end_headers()
        self.wfile.write(self.content[begin:][: self.most])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    class Own(Server):
        asked = []

    with ThreadingHTTPServer(("127.0.0.1", 0), Own) as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        Own.address = f"http://127.0.0.1:{served.server_port}"
        yield Own
        served.shutdown()


def test_a_download_goes_on_where_it_broke_off(tmp_path, server):
    file = tar(tmp_path / "published.tar.gz", member("set/b", os.urandom(300_000)))
    server.content, server.most = file.read_bytes(), 100_000
    row = Archive("sub/x.tar.gz", f"{server.address}/x.tar.gz", archives.sha256(file), "set")
    for _ in range(2):
        with pytest.raises(OSError, match=r"broke off after [12]00,000 of 3.*bytes; the next try goes on from there"):
            fetch(row, tmp_path, print)
    assert not (tmp_path / "sub/x.tar.gz").exists()
    server.most = None
    fetch(row, tmp_path, print)
    assert (tmp_path / "sub/x.tar.gz").read_bytes() == server.content and server.asked == [0, 100_000, 200_000]
    fetch(row, tmp_path, print)
    assert len(server.asked) == 3 and everything(tmp_path / "sub") == ["x.tar.gz"]
    (tmp_path / "sub/x.tar.gz").rename(tmp_path / "sub/x.tar.gz.part")  # killed just before it got its name
    fetch(row, tmp_path, print)
    assert (tmp_path / "sub/x.tar.gz").exists() and server.asked[3:] == [len(server.content)]
    server.content = b"another" * 99
    (tmp_path / "sub/x.tar.gz").unlink()
    with pytest.raises(OSError, match="gave another file than the published one .its SHA-256 differs.; it is not kept"):
        fetch(row, tmp_path, print)
    assert everything(tmp_path / "sub") == []


def test_two_downloads_at_once_do_not_meet(tmp_path, monkeypatch):
    """The second would write to the first one's file; another data set, or another folder, is no hindrance."""
    from mini_lib.benchmarks import data

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "cache"))
    done, log = [], []
    monkeypatch.setattr(data, "_fetch", lambda name, source, root, log: done.append((name, root)))
    with data._alone("dtd", tmp_path / "root") as first:
        assert first
        for name, root in (("dtd", "root"), ("dtd", "root/../root"), ("pets", "root"), ("dtd", "other")):
            data.fetch(name, tmp_path / root, log.append)
        assert len(log) == 2 and all("dtd: another process fetches it into" in line for line in log)
    data.fetch("dtd", tmp_path / "root", log.append)
    assert (
        done == [("pets", tmp_path / "root"), ("dtd", tmp_path / "other"), ("dtd", tmp_path / "root")] and len(log) == 2
    )
    (tmp_path / "cache").rename(tmp_path / "moved")
    (tmp_path / "cache").write_text("")  # no place for locks
    data.fetch("dtd", tmp_path / "root", log.append)
    assert len(done) == 4


def test_a_hostile_archive_in_the_place_of_a_published_one(tmp_path, monkeypatch):
    """Aircraft's, which torchvision would unpack without a filter and without a checksum."""
    from mini_lib.benchmarks.data import fetch as fetch_set

    (root := tmp_path / "deep" / "root").mkdir(parents=True)
    monkeypatch.setattr(archives, "urlopen", partial(pytest.fail, "no network in tests"))
    monkeypatch.setattr(archives, "_download", lambda *_: (_ for _ in ()).throw(OSError("no network")))
    file, log = tar(root / "fgvc-aircraft-2013b.tar.gz", *HOSTILE.values()), []
    before = file.read_bytes()
    fetch_set("aircraft", root, log.append)
    assert "is not the published archive" in log[0] and "aircraft: no network" in log[1]
    assert everything(tmp_path) == ["deep", "deep/root", "deep/root/fgvc-aircraft-2013b.tar.gz.other1"]
    assert (root / "fgvc-aircraft-2013b.tar.gz.other1").read_bytes() == before


# Pickles


class Harmful:
    def __init__(self, call, *arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


PAYLOADS = {
    "system": lambda file: pickle.dumps(Harmful(os.system, f"touch {file}")),
    "in a mapping": lambda file: pickle.dumps({"data": Harmful(os.mkdir, str(file)), "fine_labels": []}),
    "open": lambda file: pickle.dumps(Harmful(open, str(file), "w"), protocol=0),
    "eval": lambda file: b"cbuiltins\neval\n(V__import__('pathlib').Path('%s').touch()\ntR." % str(file).encode(),
    "getattr": lambda file: b"c__builtin__\ngetattr\n(cos\nV\ntR.", "numpy": lambda file: b"cnumpy\nload\n(V/x\ntR.",
    "a path": lambda file: pickle.dumps(Path("x")), "a set": lambda file: pickle.dumps({1, 2, complex(1)}),
    "dotted": lambda file: b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93.", "an instance": lambda file: b"(ios\nsystem\n.",
    "a codec": lambda file: b"c_codecs\nencode\n(Vx\nVzlib\ntR.", "no mapping": lambda file: pickle.dumps([1]), "cut": lambda file: b"\x80\x02}q",
    "objects": lambda file: pickle.dumps({"data": np.array([Harmful(os.mkdir, str(file))])}), "empty": lambda file: b"",
    "floats": lambda file: pickle.dumps({"data": np.zeros(3)}), "persistent": lambda file: b"Px\n.",
}  # fmt: skip


@pytest.mark.parametrize("case", PAYLOADS)
@pytest.mark.parametrize("place", ["train", "meta"])
def test_no_pickle_runs(tmp_path, case, place):
    fixtures.write(tmp_path / "drawn", classes=2)
    file = tmp_path / "drawn" / "cifar-100-python" / place
    file.write_bytes(PAYLOADS[case](tmp_path / "escaped"))
    with fixtures.unverified(), pytest.raises(ValueError, match="cifar100 in .* cannot be read") as caught:
        mtil(root=tmp_path / "drawn", tasks=["cifar100"], reference=None)
    if case in ("system", "in a mapping", "open", "eval"):
        assert "it wants to run" in str(caught.value) and "nothing of it was run" in str(caught.value)
    assert not (tmp_path / "escaped").exists()


def test_plain_pickles_of_all_ages(tmp_path):
    values = np.arange(12, dtype=np.uint8).reshape(2, 6)
    content = {"data": values, "fine_labels": [3, 4], "filenames": ["é", "b"], "batch_label": b"x"}
    for protocol in range(6):
        (tmp_path / "x").write_bytes(pickle.dumps(content, protocol=protocol))
        if protocol == 5:
            with pytest.raises(pickle.UnpicklingError):  # numpy's own way of protocol 5; the official files have 2
                plain_pickle(tmp_path / "x")
            continue
        found = plain_pickle(tmp_path / "x")
        assert (found["data"] == values).all() and found["data"].dtype == np.uint8 and found["fine_labels"] == [3, 4]
    python2 = (
        b"\x80\x02}q\x01(U\x04dataq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04K\x00\x85U\x01b\x87Rq\x05"
        b"(K\x01K\x01K\x03\x86cnumpy\ndtype\nq\x06U\x02u1K\x00K\x01\x87Rq\x07(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89U\x03\x80\xff\x07tbU\x0bfine_labelsq\x08]q\t(K\x01K\x02eu."
    )  # as Python 2 wrote it
    (tmp_path / "x").write_bytes(python2)
    found = plain_pickle(tmp_path / "x")
    assert found["data"].tolist() == [[0x80, 0xFF, 7]] and found["fine_labels"] == [1, 2]


def test_published_checksums_come_before_the_file_is_opened(tmp_path, monkeypatch):
    fixtures.write(tmp_path / "drawn", classes=2)
    monkeypatch.setattr("mini_lib.benchmarks.sources.plain_pickle", lambda file: pytest.fail("opened"))
    with pytest.raises(ValueError, match="cifar100 in .* cannot be read .*corrupted or another file: its checksum"):
        read("cifar100", tmp_path / "drawn")


def test_extraction_alone(tmp_path):
    tar(tmp_path / "x.tar", member("set/run.sh", b"#!/bin/sh", mode=0o4777), mode="w")
    (tmp_path / "out").mkdir()
    extract(tmp_path / "x.tar", tmp_path / "out")
    mode = (tmp_path / "out/set/run.sh").stat().st_mode
    assert not mode & (stat.S_ISUID | stat.S_IWOTH)


@pytest.mark.skipif(sys.platform != "linux", reason="processes are made by forking here")
def test_killed_at_any_moment_it_ends_the_same(tmp_path, server, monkeypatch):
    """Forty kills while it downloads and unpacks: what is in place is whole, and the next call goes on."""
    content = {f"set/{i}.bin": os.urandom(20_000) for i in range(40)}
    file = tar(tmp_path / "published.tar.gz", *(member(name, data) for name, data in content.items()))
    server.content = file.read_bytes()
    row = Archive("root/x.tar.gz", f"{server.address}/x.tar.gz", archives.sha256(file), "set")
    monkeypatch.setattr(archives, "CHUNK", 20_000)
    rng, killed, moments, began = np.random.default_rng(0), 0, set(), time.perf_counter()
    fetch(row, tmp_path, print)
    unpack(row, tmp_path, print)
    whole = time.perf_counter() - began
    shutil.rmtree(tmp_path / "root")
    for _ in range(40):
        if not (child := os.fork()):
            try:
                fetch(row, tmp_path, lambda line: None)
                unpack(row, tmp_path, lambda line: None)
            finally:
                os._exit(0)
        time.sleep(rng.uniform(0, whole))
        os.kill(child, signal.SIGKILL)
        killed += os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
        there = {path.name for path in (tmp_path / "root").iterdir()} if (tmp_path / "root").exists() else set()
        moments.add(frozenset(there))
        assert there <= {"x.tar.gz", "x.tar.gz.part", ".x.tar.gz.unpacking", "set"}
        if "x.tar.gz" in there:
            assert (tmp_path / "root/x.tar.gz").read_bytes() == server.content
        if "set" in there:
            assert len(everything(tmp_path / "root/set")) == 41
            shutil.rmtree(tmp_path / "root")  # once more from the beginning
    assert killed >= 5 and len(moments) >= 2
    fetch(row, tmp_path, print)
    unpack(row, tmp_path, print)
    assert everything(tmp_path / "root") == sorted(["set", "x.tar.gz", "set/a.txt", *content])
    assert all((tmp_path / "root" / name).read_bytes() == data for name, data in content.items())
