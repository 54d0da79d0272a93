"""Small files are copied by processes: exactly as by threads, and at less cost."""

from __future__ import annotations

import errno
import os
import platform
import re
import resource
import shutil
import socket
import subprocess
import sys
import time
import zipfile
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

import kappacore
from kappacore.errors import StagingError
from kappacore.staging import check_staged
from kappacore.staging.copying import processes, transfer, worker
from kappacore.staging.copying.processes import Workers
from kappacore.staging.options import Options
from kappacore.staging.sources import folder
from kappacore.staging.sources.base import Listing, parent_of
from kappacore.staging.sources.find import open_source
from kappacore.staging.sources.folder import FolderSource
from kappacore.staging.target.manifest import Dataset, read_journal, read_manifest
from kappacore.staging.target.paths import MANIFEST
from support.staging import left_beside, make_tree, pack, tree_of

if TYPE_CHECKING:
    from pathlib import Path

FILES = {
    **{f"{number % 7}/{number}.jpg": os.urandom(number * 37) for number in range(700)},
    "top.txt": b"",
    "a/b/c/deep.bin": os.urandom(300_000),
    "large.bin": os.urandom(2_000_000),  # more than a process takes
    "text.csv": b"1,2,3\n" * 10_000,
}
SOURCES = ["folder", "stored.zip", "deflated.zip", "a.tar", "zips"]


def make_source(root: Path, kind: str) -> Path:
    if kind == "folder":
        source = make_tree(root / "s", FILES)
        for number, path in enumerate(sorted(source.rglob("*.*"))):
            path.chmod((0o644, 0o600, 0o755, 0o444)[number % 4])
            os.utime(path, ns=(10**18 + number, 10**18 + number))
        return source
    packing = zipfile.ZIP_DEFLATED if kind == "deflated.zip" else zipfile.ZIP_STORED
    if kind != "zips":
        return pack(root / kind, FILES, packing)
    (root / "zips").mkdir()
    for name in ("one.zip", "two.zip"):
        pack(root / "zips" / name, FILES, packing)
    return root / "zips"


def facts_of(root: Path) -> dict[str, tuple[int, int, int]]:
    found = {path: path.stat() for path in root.rglob("*") if path.name != MANIFEST}
    return {
        str(path.relative_to(root)): (
            info.st_mode,
            info.st_size,
            0 if path.is_dir() else info.st_mtime_ns,
        )
        for path, info in found.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("verify", ["size", "hash"])
@pytest.mark.parametrize("kind", SOURCES)
def test_processes_and_threads_copy_the_same(tmp_path, monkeypatch, kind, verify):
    source = make_source(tmp_path, kind)
    found = []
    for name in ("threads", "processes"):
        monkeypatch.setattr(transfer, "road", name)
        target = tmp_path / f"t-{name}"
        kappacore.stage(source, target, verify=verify, progress=False)
        manifest = read_manifest(target / MANIFEST)
        found.append((tree_of(target), facts_of(target), manifest.files, set(manifest.folders)))
        assert check_staged(target).ok
    assert found[0] == found[1]


@pytest.mark.slow
def test_many_small_files_go_to_processes_and_few_do_not(tmp_path, monkeypatch):
    counts = counted(monkeypatch)
    few = make_tree(tmp_path / "few", {f"{number}": b"x" for number in range(100)})
    kappacore.stage(few, tmp_path / "t")
    assert counts == []
    many = make_tree(tmp_path / "many", {f"{number}": b"x" for number in range(1000)})
    monkeypatch.setattr("kappacore.staging.waiting.Watch.waits", lambda *_: False)
    monkeypatch.setattr(transfer, "_FIRST_SECONDS", 100)
    kappacore.stage(many, tmp_path / "m")
    assert sum(counts) == 1000 - transfer._FIRST_FILES
    kappacore.stage(many, tmp_path / "one", workers=1)
    assert sum(counts) == 1000 - transfer._FIRST_FILES


@pytest.mark.slow
def test_where_storage_waits_the_processes_have_many_threads(tmp_path, monkeypatch):
    counts = counted(monkeypatch)
    source = make_tree(tmp_path / "s", {f"{number}": b"x" for number in range(600)})
    open_ = os.open

    def slowly(path, *arguments, **options):
        if str(path).startswith(str(source)):
            time.sleep(0.003)
        return open_(path, *arguments, **options)

    monkeypatch.setattr(os, "open", slowly)
    threads = []
    prepare = Workers.prepare

    def noted(self, *given):
        threads.append(prepare(self, *given))
        return threads[-1]

    monkeypatch.setattr(Workers, "prepare", noted)
    kappacore.stage(source, tmp_path / "t")
    assert 64 <= threads[0] < 64 + 16
    assert max(counts) <= 600 // (4 * 64)  # so that all of them have something to do
    assert 600 - transfer._FIRST_FILES <= sum(counts) < 600
    assert len(tree_of(tmp_path / "t")) == 600


@pytest.mark.parametrize("kind", ["folder", "a.tar"])
def test_a_fresh_copy_looks_at_no_file_by_itself(tmp_path, monkeypatch, kind):
    """What the parent spends on each file is what limits many cores."""
    files = {f"{number % 3}/{number}": b"x" for number in range(600)}
    source = make_tree(tmp_path / "s", files) if kind == "folder" else pack(tmp_path / kind, files)
    for where in (Listing, Dataset):
        monkeypatch.setattr(where, "files", property(lambda _: pytest.fail("it did")))
    monkeypatch.setattr(transfer, "road", "processes")
    kappacore.stage(source, tmp_path / "t")
    assert tree_of(tmp_path / "t") == files


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_for_few_files_no_process_starts(tmp_path, monkeypatch, kind):
    files = {f"{number % 3}/{number}": b"x" for number in range(100)}
    source = (
        make_tree(tmp_path / "s", files) if kind == "folder" else pack(tmp_path / "s.zip", files)
    )
    monkeypatch.setattr(Workers, "start", None)
    kappacore.stage(source, tmp_path / "t")
    assert tree_of(tmp_path / "t") == files


def test_what_is_not_shown_is_not_imported(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    source = make_tree(tmp_path / "s", {"a": b"x"})
    kappacore.stage(source, tmp_path / "t", progress=False)
    kappacore.stage(source, tmp_path / "u")


def counted(monkeypatch) -> list[int]:
    """Return a list that grows by the number of files that processes copy."""
    counts: list[int] = []
    copy = Workers.copy

    def wrapped(self, batches):
        for outcome in copy(self, batches):
            counts.append(outcome.copied if outcome else 0)
            yield outcome

    monkeypatch.setattr(Workers, "copy", wrapped)
    return counts


def test_a_worker_copies_nothing_that_is_not_plainly_right(tmp_path):
    """It leaves no trace of what it did not copy, and does not touch what is there."""
    source, target = tmp_path / "s", tmp_path / "t"
    make_tree(source, {"a": b"12345", "b": b"12345"})
    make_tree(target, {"there": b"mine"})
    os.mkfifo(source / "pipe")
    (source / "there").write_bytes(b"12345")
    journal = tmp_path / "journal"

    def copied(name: str, size: int, digest=None) -> int:
        with journal.open("ab") as file:
            copier = worker.Worker("utf-8", digest)
            copier.take(str(target), file.fileno(), {})
            group = (str(source), "", [name], [size], [10**18], [0o644], [None], [None])
            return copier.copy([group])[0]

    assert copied("a", 5) == 1
    for digest in (None, lambda data: data):
        assert copied("b", 6, digest) == 0  # it has become shorter
        assert copied("pipe", 5, digest) == 0
        assert copied("gone", 5, digest) == 0
        assert copied("there", 5, digest) == 0
    assert tree_of(target) == {"a": b"12345", "there": b"mine"}
    assert read_journal(journal) == {"a": (5, 10**18, None)}


def test_processes_list_what_is_plain_and_the_rest_is_looked_at_here(tmp_path, monkeypatch):
    files = {f"{number % 9}/{number}": os.urandom(number) for number in range(700)}
    files.update({f"{number}/below/{number}": b"below" for number in range(9)})
    source = make_tree(
        tmp_path / "s", {**files, "7/.hidden": b"x", "8/@eaDir/1": b"no", "ä/\udcff": b""}
    )
    (source / "6" / "link").symlink_to("../1/1")
    (source / "5" / "up").symlink_to("../0")
    with (source / "4" / "sparse").open("wb") as file:
        file.truncate(1 << 20)
    expected = open_source(source, Options()).scan()
    calls = []
    look = FolderSource._list
    monkeypatch.setattr(FolderSource, "_list", lambda *a: calls.append(a[1][0]) or look(*a))
    monkeypatch.setattr(folder, "_MANY", 5)
    with closing(Workers(2, with_digest=False)) as workers:
        found = open_source(source, Options()).scan(workers)
    assert (found.files, found.folders) == (expected.files, expected.folders)
    assert (found.count, found.size) == (expected.count, expected.size)
    at_top = sorted(path for path in calls if "/" not in path)
    assert at_top == ["", "4", "7", "8"]  # those with a hole, a dot, and what is no data
    places = {path: place for place, path in enumerate(found.folders)}
    assert all(places[parent_of(path)] < place for path, place in places.items() if "/" in path)


@pytest.mark.parametrize(
    "change", ["none", "size", "time", "kind", "gone", "new", "copy", "no copy"]
)
def test_a_worker_sees_what_has_changed(tmp_path, change):
    source, target = tmp_path / "s", tmp_path / "t"
    for root in (source, target):
        make_tree(root, {"a": b"12345", "b": b"12345", "below/c": b""})
        os.utime(root / "a", ns=(10**18, 10**18))
        os.utime(root / "b", ns=(10**18, 10**18))
    copier = worker.Worker("utf-8")
    copier.take(str(target), -1, {})
    names = ["a", "b", "below"]
    files = [(str(source), "", ["a", "b"], [5, 5], [10**18, 10**18])]
    folders = [(str(source), "", ["below"], [-1], [0])]
    if change == "size":
        (source / "b").write_bytes(b"123456")
        os.utime(source / "b", ns=(10**18, 10**18))
    elif change == "time":
        os.utime(source / "b", ns=(10**18, 10**18 + 1))
    elif change == "kind":
        shutil.rmtree(source / "below")
        (source / "below").write_bytes(b"")
    elif change == "gone":
        (source / "b").unlink()
    elif change == "new":
        (source / "new").write_bytes(b"")
    elif change == "copy":
        (target / "b").write_bytes(b"1234")
    elif change == "no copy":
        (target / "b").unlink()
    same = copier.check_files(files) and copier.check_files(folders)
    assert same == (change in ("none", "new"))
    assert copier.check_names([(str(source), names)]) == (change not in ("gone", "new"))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is about glibc's memory")
def test_a_worker_keeps_the_memory_that_it_unpacks_into(tmp_path, monkeypatch):
    """The kernel would clear a hundred KB for each file."""
    files = {f"{number}": os.urandom(30_000) for number in range(600)}
    source = pack(tmp_path / "a.zip", files, zipfile.ZIP_DEFLATED)
    monkeypatch.setattr(transfer, "road", "processes")
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_minflt
    kappacore.stage(source, tmp_path / "t", workers=2)
    faults = resource.getrusage(resource.RUSAGE_CHILDREN).ru_minflt - before
    assert faults < 2 * 1300 + 2 * len(files)  # to start two, and for files


def test_processes_look_at_the_names_of_a_large_folder_too(tmp_path, monkeypatch):
    source = make_tree(tmp_path / "s", {f"{number}": b"x" * number for number in range(90)})
    make_tree(source / "below", {"1": b"1"})
    (source / "link").symlink_to("1")
    expected = open_source(source, Options()).scan()
    looked = []
    look = FolderSource._look
    monkeypatch.setattr(
        FolderSource, "_look", lambda self, part: looked.append(len(part[1])) or look(self, part)
    )
    monkeypatch.setattr(folder, "_MANY", 32)
    monkeypatch.setattr(folder, "_TOGETHER", 8)
    with closing(Workers(2, with_digest=False)) as workers:
        found = open_source(source, Options()).scan(workers)
        assert sum(looked) == 33  # the first, and what is in the folder below
        (source / ".hidden").write_bytes(b"")
        hidden = open_source(source, Options()).scan(workers)
    assert (found.files, found.folders) == (expected.files, expected.folders)
    assert hidden.files.keys() - expected.files.keys() == {".hidden"}


@pytest.mark.parametrize("bad", ["pipe", "dangling", "loop"])
def test_what_processes_cannot_list_is_the_same_error(tmp_path, monkeypatch, bad):
    source = make_tree(tmp_path / "s", {f"{number % 9}/{number}": b"" for number in range(99)})
    if bad == "pipe":
        os.mkfifo(source / "5" / bad)
    else:
        (source / "5" / bad).symlink_to("nothing" if bad == "dangling" else "..")
    messages = []
    for many in (1000, 5):
        monkeypatch.setattr(folder, "_MANY", many)
        with pytest.raises(StagingError) as error:
            kappacore.stage(source, tmp_path / "t")
        messages.append(str(error.value))
    assert messages[0] == messages[1]
    assert left_beside(tmp_path / "t") == []


@pytest.mark.slow
def test_descriptors_are_sent_again_where_too_many_are_on_their_way(tmp_path, monkeypatch):
    """As with hundreds of archives, where the user is not root."""
    (tmp_path / "zips").mkdir()
    for number in range(205):
        pack(tmp_path / "zips" / f"{number}.zip", {"1": b"one", "2": b"two"})
    monkeypatch.setattr(transfer, "road", "processes")
    send, refusals = socket.send_fds, iter([True, True, False, True])

    def refusing(*given):
        if next(refusals, False):
            raise OSError(errno.ETOOMANYREFS, os.strerror(errno.ETOOMANYREFS))
        return send(*given)

    monkeypatch.setattr(socket, "send_fds", refusing)
    counts = counted(monkeypatch)
    kappacore.stage(tmp_path / "zips", tmp_path / "t", workers=2)
    assert sum(counts) == len(tree_of(tmp_path / "t")) == 410
    monkeypatch.setattr(processes, "_PATIENCE", 0.01)
    refusals = iter([True] * 100)
    kappacore.stage(tmp_path / "zips", tmp_path / "u", workers=2)
    assert len(tree_of(tmp_path / "u")) == 410


@pytest.mark.slow
def test_a_file_costs_few_system_calls_and_its_parent_none(tmp_path, monkeypatch):
    """Two opened, copied, its time set, and closed; listed twice, and its size looked at."""
    if shutil.which("strace") is None:
        pytest.skip("there is no strace")
    source = make_tree(tmp_path / "s", {f"{number % 10}/{number}": b"x" for number in range(2000)})
    script = (
        "import sys, kappacore\n"
        "from kappacore.staging.copying import transfer\n"
        "from kappacore.staging.waiting import Watch\n"
        "transfer.road = 'processes'\n"
        "Watch.waits = lambda *_: False  # strace makes everybody wait\n"
        "kappacore.stage(*sys.argv[1:], workers=2, progress=False)\n"
    )
    trace = tmp_path / "trace"
    command = ["strace", "-f", "-o", str(trace), sys.executable, "-c", script]
    done = subprocess.run([*command, str(source), str(tmp_path / "t")], capture_output=True)
    if done.returncode:
        pytest.skip(f"strace does not work here: {done.stderr[:100]!r}")
    by_process: dict[str, list[str]] = {}
    for line in trace.read_text(errors="replace").splitlines():
        pid, _, call = line.partition(" ")
        if "resumed" not in call:
            by_process.setdefault(pid, []).append(call)
    parent, *workers = by_process.values()
    assert sum(map(len, workers)) < 10.5 * 2000  # 9 each, and those to start them
    of_files = [call for call in parent if re.search(r'/\d/\d+"', call)]
    assert len(of_files) < 1000  # the first that are listed


def test_an_error_names_the_file_and_what_was_copied_is_kept(tmp_path, monkeypatch):
    archive = pack(tmp_path / "a.zip", FILES)
    data = bytearray(archive.read_bytes())
    at = data.index(FILES["6/699.jpg"])
    data[at] ^= 1
    archive.write_bytes(data)
    monkeypatch.setattr(transfer, "road", "processes")
    with pytest.raises(StagingError, match=r"'6/699\.jpg' of .* is damaged: its bytes do not have"):
        kappacore.stage(archive, tmp_path / "t")
    assert not (tmp_path / "t").exists()
