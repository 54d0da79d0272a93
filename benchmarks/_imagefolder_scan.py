"""Scanning an image folder, and opening it by its index, beside torchvision's scan."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks._timing import best_of, table
from kappa_imagefolder import ImageFolder
from kappa_imagefolder.files.scan import IMG_EXTENSIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def torchvisions_scan(root: str) -> list[tuple[str, int]]:
    """List an image folder by torchvision's algorithm: os.walk, everything sorted."""
    classes = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
    join = os.path.join
    found = []
    for label, name in enumerate(classes):
        for folder, _, files in sorted(os.walk(join(root, name), followlinks=True)):
            for file in sorted(files):
                if file.lower().endswith(IMG_EXTENSIONS):
                    found.append((join(folder, file), label))  # noqa: PERF401
    return found


def make_files(root: Path, files: int, folders: int) -> None:
    """Lay out empty files with names as ImageNet has them."""
    for number in range(folders):
        name = f"n{number:08}"
        (root / name).mkdir(parents=True)
        folder = os.open(root / name, os.O_RDONLY)
        for file in range(files * number // folders, files * (number + 1) // folders):
            os.close(os.open(f"{name}_{file:08}.JPEG", os.O_CREAT, dir_fd=folder))
        os.close(folder)


@contextmanager
def waiting(seconds: float) -> Iterator[None]:
    """Make every read of a directory wait, as network storage does."""
    usual: Any = os.scandir

    def scandir(path: Any = ".") -> Any:
        time.sleep(seconds)
        return usual(path)

    os.scandir = scandir
    try:
        yield
    finally:
        os.scandir = usual


def scanning(folder: Path, files: int, folders: int, rounds: int) -> None:
    trees = {count: folder / str(count) for count in (files // 10, files)}
    for count, tree in trees.items():
        make_files(tree, count, folders)
    time.sleep(2.1)  # an index does not believe the times of folders that changed just now
    root = str(trees[files])
    if ImageFolder(root).samples != torchvisions_scan(root):
        raise RuntimeError("the two scans differ")
    ways: dict[str, Callable[[], Any]] = {
        "torchvision's os.walk, sorted": lambda: torchvisions_scan(root),
        "ImageFolder": lambda: ImageFolder(root),
    }
    case = f"Scanning {files:,} files in {folders:,} folders"
    times = best_of(ways, rounds)
    table(f"{case}, in the page cache", times)
    scan = times["ImageFolder"]
    with waiting(0.001):
        slow = best_of(ways, max(1, rounds - 1))
    table(f"{case}, each read of a directory waiting 1 ms", slow)

    opened = {"scan": scan}
    for count, tree in trees.items():
        path = folder / f"{count}.index"
        ImageFolder(tree, index=path)
        for check in ("trust", "dirs"):
            opening = partial(ImageFolder, tree, index=path, index_check=check)
            name = f"index_check={check!r}, {count:,} files"
            opened |= best_of({name: opening}, 3 * rounds)
    table(f"Opening by index; ratios against ImageFolder's scan of {files:,} files", opened)
