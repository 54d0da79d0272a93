"""Staging beside `cp -r`, `rsync -a`, `shutil.copytree`, `unzip` and KappaData 0.0.8, in one run.

Many small files and a few large ones, as a folder and as a stored zip file. Every copy starts with
the source in the page cache (with `--cold`, its contents out of it) and a target that does not
exist; what the disk takes to have it all
written (`sync`) is timed apart for everyone. `make bench` installs KappaData; rsync and unzip are
left out where they are not installed. Run it on a machine that does nothing else, with 20 GB free:
targets of many files are kept to the end, because ext4 makes new files slowly for minutes after
many were removed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import tempfile
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import kappacore
from kappacore.staging.target.publish import sync_disk

if TYPE_CHECKING:
    from collections.abc import Callable

    from kappacore.staging.options import Verify

    Copy = Callable[[Path, Path], "float | None"]  # may return the seconds that it synced for


_MANY = 1000  # files


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


def make_zip(folder: Path, path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder))


def command(*words: str) -> Copy | None:
    if shutil.which(words[0]) is None:
        print(f"{words[0]} is not installed: it is left out.")
        return None

    def copy(source: Path, target: Path) -> None:
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
    if expected < _MANY:
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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--bytes", type=int, default=30_000)
    parser.add_argument("--large-files", type=int, default=4)
    parser.add_argument("--large-bytes", type=int, default=500_000_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--cold", action="store_true", help="read the source from its disk")
    parser.add_argument("--small", action="store_true", help="a quick try: 1,000 and 2 x 100 MB")
    parser.add_argument("--root", type=Path, help="a folder on the disk to measure")
    arguments = parser.parse_args()
    if arguments.small:
        arguments.files, arguments.large_files, arguments.large_bytes = 1000, 2, 100_000_000
        arguments.rounds = 1

    folders: dict[str, Copy | None] = {
        "stage": staged("size"),
        'stage, verify="hash"': staged("hash"),
        "cp -r": command("cp", "-r", "{source}", "{target}"),
        "rsync -a": command("rsync", "-a", "{source}/", "{target}"),
        "copytree": copytree,
        "KappaData": kappadata(),
    }
    zips: dict[str, Copy | None] = {
        "stage": staged("size"),
        'stage, verify="hash"': staged("hash"),
        "unzip": command("unzip", "-q", "{source}", "-d", "{target}"),
        "KappaData": folders["KappaData"],
    }
    with tempfile.TemporaryDirectory(prefix="kappacore-bench-", dir=arguments.root) as work:
        for title, count, size in (
            ("small", arguments.files, arguments.bytes),
            ("large", arguments.large_files, arguments.large_bytes),
        ):
            source = Path(work) / title
            make_folder(source, count, size)
            what = f"{count:,} files of {size:,} bytes{', cold,' if arguments.cold else ''}"
            rounds, cold = arguments.rounds, arguments.cold
            compare(f"{what} in a folder", source, Path(work), folders, count, rounds, cold)
            if title == "small":
                second_call(source, Path(work))
            archive = source.with_suffix(".zip")
            make_zip(source, archive)
            compare(f"{what} in a zip file", archive, Path(work), zips, count, rounds, cold)


if __name__ == "__main__":
    main()
