"""Trees of files to stage, and the results."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from typing import TYPE_CHECKING, Any

import pytest

from kappacore.staging.target.paths import is_bookkeeping

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from kappacore.staging.target.paths import StagePaths

SMALL = {
    "train/a/1.jpg": b"one" * 1000,
    "train/a/2.jpg": b"",
    "train/b/3.jpg": os.urandom(5000),
    "val/a/4.jpg": b"four",
    "labels.csv": b"1,2,3\n",
}


def make_tree(root: Path, files: Mapping[str, bytes] = SMALL) -> Path:
    """Write files below ``root``."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def tree_of(root: Path) -> dict[str, bytes]:
    """Return the files below ``root`` but for staging's own."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not any(is_bookkeeping(part) for part in path.relative_to(root).parts)
    }


def leave_work(paths: StagePaths, files: Mapping[str, bytes]) -> Path:
    """Make a work folder as a kill leaves one."""
    state = json.dumps({"format": "kappacore-work"}).encode("ascii")
    return make_tree(paths.work, {**files, "state.json": state})


def left_beside(target: Path) -> list[str]:
    """Return what staging left beside a target, but for its lock."""
    names = (path.name for path in target.parent.iterdir())
    return sorted(name for name in names if is_bookkeeping(name) and not name.endswith("-lock"))


def pack(
    path: Path, files: Mapping[str, bytes] = SMALL, compression: int = zipfile.ZIP_STORED
) -> Path:
    """Write an archive of the kind of its suffix."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", compression) as archive:
            for name, content in files.items():
                info = zipfile.ZipInfo(name, (2020, 1, 2, 3, 4, 6))
                info.external_attr = 0o100644 << 16
                archive.writestr(info, content, compression)
        return path
    packing = path.suffix.replace(".tgz", ".gz")[1:]
    mode: Any = f"w:{packing}" if packing in ("gz", "bz2", "xz") else "w"
    with tarfile.open(path, mode) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            member.mtime = 1577934246
            member.mode = 0o644
            tar.addfile(member, io.BytesIO(content))
    if packing == "zst":
        path.write_bytes(zstd(path.read_bytes()))
    return path


def zstd(data: bytes) -> bytes:
    """Compress data; skips the test where nothing can."""
    if sys.version_info >= (3, 14):
        from compression.zstd import compress
    else:
        compress = pytest.importorskip("zstandard").compress
    packed: bytes = compress(data)
    return packed


def run_stage(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run ``kappacore stage``."""
    return subprocess.run(
        [sys.executable, "-m", "kappacore", "stage", *map(str, arguments)],
        capture_output=True,
        text=True,
        **options,
    )


def staged_json(*arguments: str | Path) -> dict[str, Any]:
    """Run ``kappacore stage --json`` and return what it printed."""
    done = run_stage("--json", *arguments)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@contextlib.contextmanager
def small_disk(folder: Path, size: str, options: str = "") -> Iterator[Path]:
    """Mount a small file system in memory; skips the test where that is not allowed."""
    what = f"size={size}{',' if options else ''}{options}"
    with _mounted(folder, "-t", "tmpfs", "-o", what, "tmpfs"):
        yield folder


@contextlib.contextmanager
def sharing_disk(folder: Path) -> Iterator[Path]:
    """Mount a small XFS or btrfs, whose files may share blocks; skips the test where none can be.

    Its image is beside the folder.
    """
    image = folder.with_name(f"{folder.name}.image")
    with image.open("wb") as file:
        file.truncate(400 << 20)
    for command in (["mkfs.xfs", "-q", "-m", "reflink=1"], ["mkfs.btrfs", "-q"]):
        with contextlib.suppress(FileNotFoundError):
            if subprocess.run([*command, str(image)], capture_output=True).returncode == 0:
                break
    else:
        pytest.skip("there is neither mkfs.xfs nor mkfs.btrfs")
    with _mounted(folder, "-o", "loop", str(image)):
        yield folder


@contextlib.contextmanager
def _mounted(folder: Path, *arguments: str) -> Iterator[None]:
    folder.mkdir()
    try:
        done = subprocess.run(["mount", *arguments, str(folder)], capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no command `mount`")
    if done.returncode != 0:
        pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")
    try:
        yield
    finally:
        done = subprocess.run(["umount", str(folder)], capture_output=True, text=True)
        if done.returncode != 0:  # something has a file open there: an error, but leave no mount
            subprocess.run(["umount", "-l", str(folder)], check=True)
            raise AssertionError(done.stderr)
