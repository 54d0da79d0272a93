"""Staging beside `cp -r`, `rsync -a`, copytree, `unzip`, `tar xf` and KappaData 0.0.8, in one run.

Many small files, files of 0 to 200 KB and a few large ones, as a folder and as archives; in memory
(source and target in /dev/shm), on a disk, and behind waits of 1 ms for each call to the source
(`slow_storage.c`, which needs a C compiler). Every copy starts with the source in the page cache
(with `--cold`, its contents out of it) and a target that does not exist; what the disk takes to
have it all written (`sync`) is timed apart for everyone. `make bench` installs KappaData; what is
not installed is left out. Run it on a machine that does nothing else, with 20 GB free on the disk
and 5 in memory: on the disk, targets of many files are kept to the end, because ext4 makes new
files slowly for minutes after many were removed. `--small` leaves out the disk and the second
rounds, and takes two minutes at most.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import kappacore
from benchmarks._report import record
from kappacore.staging.target.publish import sync_disk

if TYPE_CHECKING:
    from collections.abc import Callable

    from kappacore.staging.options import Verify

    Copy = Callable[[Path, Path], "float | None"]  # may return the seconds that it synced for


_MEMORY = Path("/dev/shm")
_MANY = 1000  # files
_STAGE = """
import sys, time, kappacore
started = time.perf_counter()
kappacore.stage(*sys.argv[1:], progress=False)
print(time.perf_counter() - started)
"""


class Time(NamedTuple):
    """Seconds of one copy."""

    copying: float
    syncing: float


def make_folder(root: Path, count: int, size: int) -> None:
    noise = os.urandom(size + 4096)
    for number in range(count):
        folder = root / f"class{number * 100 // count:03}"
        folder.mkdir(parents=True, exist_ok=True)
        start = number % 4096
        (folder / f"{number}.jpg").write_bytes(noise[start : start + size])


def make_mixed(root: Path, count: int) -> None:
    noise = os.urandom(200_000)
    for number in range(count):
        folder = root / f"class{number % 100:03}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.bin").write_bytes(noise[: number * 7919 % 200_001])


def make_zip(folder: Path, path: Path, packing: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", packing) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder))


def command(*words: str) -> Copy | None:
    if shutil.which(words[0]) is None:
        print(f"{words[0]} is not installed: it is left out.")
        return None

    def copy(source: Path, target: Path) -> None:
        if words[-1] == "{target}" and words[0] in ("tar", "unzip"):
            target.mkdir()
        given = [word.format(source=source, target=target) for word in words]
        subprocess.run(given, check=True, stdout=subprocess.DEVNULL)

    return copy


def copytree(source: Path, target: Path) -> None:
    shutil.copytree(source, target)


def staged(verify: Verify) -> Copy:
    def copy(source: Path, target: Path) -> float:
        return kappacore.stage(source, target, verify=verify, progress=False).sync_seconds

    return copy


def kappadata() -> Copy | None:
    try:
        from kappadata.copying.copy_folder_from_global_to_local import (
            copy_folder_from_global_to_local,
        )
    except ImportError:
        print("KappaData 0.0.8 is not installed (`make bench` does it): it is left out.")
        return None

    def copy(source: Path, target: Path) -> None:
        copy_folder_from_global_to_local(source, target)

    return copy


def timed(copy: Copy, source: Path, target: Path, expected: int) -> Time:
    target.parent.mkdir()
    os.sync()
    started = time.perf_counter()
    within = copy(source, target) or 0.0
    copying = time.perf_counter() - started - within
    syncing = within + sync_disk(target)
    files = sum(len(names) for _, _, names in os.walk(target))
    if files < expected:
        raise RuntimeError(f"{files} files of {expected} came to {target}")
    if expected < _MANY or _MEMORY in target.parents:
        shutil.rmtree(target.parent)
    return Time(copying, syncing)


def prepare(source: Path, cold: bool) -> None:
    """Bring the source's contents into the page cache, or out of it."""
    for file in [source] if source.is_file() else source.rglob("*"):
        if file.is_file():
            with file.open("rb") as opened:
                if cold:
                    os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                while not cold and opened.read(1 << 22):
                    pass


def compare(
    title: str,
    source: Path,
    work: Path,
    peers: dict[str, Copy | None],
    count: int,
    rounds: int,
    cold: bool,
) -> None:
    times: dict[str, Time] = {}
    for turn in range(rounds):  # in turns: whatever else the machine does hits all of them
        for name, copy in peers.items():
            if copy is not None:
                prepare(source, cold)
                new = timed(copy, source, work / f"{title}, {name}, {turn}" / "data", count)
                times[name] = min(times.get(name, new), new)
    record(f"Staging {title}", {name: time_.copying for name, time_ in times.items()}, "s", "stage")
    peer_names = [name for name in times if not name.startswith("stage")]
    print(f"\n{title}; seconds, best of {rounds}, and how often slower or faster stage is")
    print(f"{'':32}{'copy':>9}{'sync':>9}" + "".join(f"{name:>16}" for name in peer_names))
    for name, time_ in times.items():
        ratios = [f"{times[peer].copying / time_.copying:15.2f}x" for peer in peer_names]
        print(f"{name:32}{time_.copying:9.2f}{time_.syncing:9.2f}" + "".join(ratios))


def second_call(source: Path, work: Path) -> None:
    target = work / "second" / "data"
    kappacore.stage(source, target, progress=False)
    started = time.perf_counter()
    result = kappacore.stage(source, target, progress=False)
    seconds = time.perf_counter() - started
    if result.copied:
        raise RuntimeError("the second call copied again")
    print(f"\nThe second call of stage, {result.files:,} files: {seconds * 1e3:.2f} ms")


def behind_waits(work: Path, count: int) -> None:
    """Compare copies of a source whose every call waits for a millisecond."""
    title = f"{count:,} files of 30,000 bytes behind waits of 1 ms"
    compiler = shutil.which("cc")
    if compiler is None:
        print(f"\nThere is no C compiler: {title} are left out.")
        return
    library, source = work / "slow_storage.so", work / "slow"
    code = Path(__file__).with_name("slow_storage.c")
    flags = ["-O1", "-w", "-shared", "-fPIC", "-o", str(library), str(code), "-ldl"]
    subprocess.run([compiler, *flags], check=True)
    make_folder(source, count, 30_000)
    environment = {**os.environ, "LD_PRELOAD": str(library), "SLOW_STORAGE": str(source)}

    def run(*words: str | Path) -> str:
        done = subprocess.run(words, check=True, env=environment, stdout=subprocess.PIPE, text=True)
        return done.stdout

    stage = float(run(sys.executable, "-c", _STAGE, source, work / "target-stage"))
    times = {"stage": stage}
    for words in (["cp", "-r"], ["rsync", "-a"]):
        if shutil.which(words[0]):
            started = time.perf_counter()
            run(*words, source, work / f"target-{words[0]}")
            times[" ".join(words)] = time.perf_counter() - started
    record(f"Staging {title}", times, "s", "stage")
    print(f"\n{title}; seconds, and how often stage is faster")
    for name, seconds in times.items():
        print(f"{name:32}{seconds:9.2f}{seconds / stage:15.2f}x")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--bytes", type=int, default=30_000)
    parser.add_argument("--mixed-files", type=int, default=5_000)
    parser.add_argument("--large-files", type=int, default=4)
    parser.add_argument("--large-bytes", type=int, default=500_000_000)
    parser.add_argument("--slow-files", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cold", action="store_true", help="read the source from its disk")
    parser.add_argument("--small", action="store_true", help="in memory only, and fewer files")
    parser.add_argument("--root", type=Path, help="a folder on the disk to measure")
    arguments = parser.parse_args()
    if arguments.small:
        arguments.mixed_files, arguments.slow_files, arguments.large_files = 3_000, 1_000, 2
        arguments.large_bytes, arguments.rounds = 100_000_000, 1

    stages: dict[str, Copy | None] = {
        "stage": staged("size"),
        'stage, verify="hash"': staged("hash"),
    }
    kappadata_ = kappadata()
    folders: dict[str, Copy | None] = {
        **stages,
        "cp -r": command("cp", "-r", "{source}", "{target}"),
        "rsync -a": command("rsync", "-a", "{source}/", "{target}"),
        "copytree": copytree,
        "KappaData": kappadata_,
    }
    zips: dict[str, Copy | None] = {
        **stages,
        "unzip": command("unzip", "-q", "{source}", "-d", "{target}"),
        "KappaData": kappadata_,
    }
    tars: dict[str, Copy | None] = {
        **stages,
        "tar xf": command("tar", "xf", "{source}", "-C", "{target}"),
    }
    places = {"in memory": _MEMORY, "on disk": arguments.root}
    if arguments.small or not _MEMORY.is_dir():
        del places["on disk" if _MEMORY.is_dir() else "in memory"]
    for place, root in places.items():
        with tempfile.TemporaryDirectory(prefix="kappacore-bench-", dir=root) as folder:
            compare_all(place, Path(folder), arguments, folders, zips, tars)
    with tempfile.TemporaryDirectory(prefix="kappacore-bench-", dir=arguments.root) as folder:
        behind_waits(Path(folder), arguments.slow_files)


def compare_all(
    place: str,
    work: Path,
    arguments: argparse.Namespace,
    folders: dict[str, Copy | None],
    zips: dict[str, Copy | None],
    tars: dict[str, Copy | None],
) -> None:
    """Compare copies of all kinds of sources in one place."""
    rounds, cold = arguments.rounds, arguments.cold
    small, mixed, large = work / "small", work / "mixed", work / "large"
    for source, what, count in (
        (small, f"files of {arguments.bytes:,} bytes", arguments.files),
        (mixed, "files of 0 to 200,000 bytes", arguments.mixed_files),
        (large, f"files of {arguments.large_bytes:,} bytes", arguments.large_files),
    ):
        if source == mixed:
            make_mixed(source, count)
        else:
            make_folder(
                source, count, arguments.bytes if source == small else arguments.large_bytes
            )
        title = f"{count:,} {what}{', cold,' if cold else ''} {place}"
        compare(f"{title}, folder", source, work, folders, count, rounds, cold)
        if source == mixed:
            continue
        if source == small:
            second_call(source, work)
        stored = source.with_suffix(".zip")
        make_zip(source, stored)
        compare(f"{title}, zip", stored, work, zips, count, rounds, cold)
        stored.unlink()
        if source == small:
            deflated, packed = work / "deflated.zip", work / "small.tgz"
            make_zip(source, deflated, zipfile.ZIP_DEFLATED)
            compare(f"{title}, deflated zip", deflated, work, zips, count, rounds, cold)
            with tarfile.open(packed, "w:gz", compresslevel=6) as archive:
                archive.add(source, ".")
            compare(f"{title}, tgz", packed, work, tars, count, rounds, cold)
        shutil.rmtree(source)


if __name__ == "__main__":
    main()
