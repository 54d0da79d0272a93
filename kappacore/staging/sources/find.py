"""Finding the source of a dataset, and telling by its content what it is."""

from __future__ import annotations

import os
import stat
import tarfile
import zipfile
from typing import TYPE_CHECKING, BinaryIO, Protocol

from kappacore.errors import StagingError
from kappacore.staging.target.paths import KAPPADATA_END, KAPPADATA_START, UNFINISHED

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from kappacore.staging.sources.archive_safety import ArchiveLimits
    from kappacore.staging.sources.base import Deflated, Entry, Extent, Stream

__all__ = [
    "ARCHIVE_SUFFIXES",
    "Source",
    "find_source",
    "folder_mode",
    "has_parts",
    "open_source",
    "stamp_of",
    "without_suffix",
]

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")


class Source(Protocol):
    """What a dataset is staged from."""

    kind: str  # "folder", "zip", "tar", "tar.gz", or "zips": a folder of zip files
    path: Path
    mode: int  # permission bits of the folder that the dataset comes to
    ordered: bool  # contents must be opened in the order in which they are listed, one at a time

    def scan(self) -> list[Entry]:
        """List all files and folders; each folder comes before what is in it."""

    def open(self, entry: Entry) -> Extent | Deflated | Stream:
        """Open the content of a file."""

    def release(self, content: Extent | Deflated | Stream, /) -> None:
        """Close what :meth:`open` gave."""

    def changes(self, entries: list[Entry], /) -> list[str]:
        """Say what has changed since :meth:`scan` gave ``entries``."""

    def close(self) -> None:
        """Close the source."""


def find_source(path: Path) -> Path | None:
    """Return what a path means: itself, or the archive that is there instead; None if neither."""
    suffixed = [path.with_name(path.name + suffix) for suffix in ARCHIVE_SUFFIXES if path.name]
    for candidate in (path, *suffixed):
        if candidate.exists():
            return candidate.resolve()
    return None


def without_suffix(name: str) -> str:
    """Return a name without the suffix of an archive."""
    for suffix in sorted(ARCHIVE_SUFFIXES, key=len, reverse=True):
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return name


def stamp_of(path: Path, kind: str) -> list[int]:
    """Return numbers that differ once an archive, or the top of a folder, was changed."""
    found = path.stat()
    stamp = [0 if stat.S_ISDIR(found.st_mode) else found.st_size, found.st_mtime_ns]
    if kind == "zips" and path.is_dir():
        for file in sorted(file for file in path.iterdir() if not file.name.startswith(".")):
            stamp += stamp_of(file, "zip")
    return stamp


def has_parts(source: Path, parts: Iterable[str]) -> bool:
    """Tell whether any of ``parts`` is a folder of a source, without listing it.

    Of an archive that is not known, and taken for granted.
    """
    if not source.is_dir():
        return True
    return any((source / part).is_dir() or (source / f"{part}.zip").is_file() for part in parts)


def folder_mode(mode: int) -> int:
    """Return the permission bits of folders out of an archive: whoever may read it may enter."""
    return 0o700 | mode & 0o666 | (mode & 0o444) >> 2


def open_source(path: Path, limits: ArchiveLimits, workers: int) -> Source:
    """Open a source, whose kind its content tells.

    Raises:
        StagingError: if it is nothing that can be staged, or not complete itself.
    """
    from kappacore.staging.sources.folder import FolderSource
    from kappacore.staging.sources.tar import TarSource
    from kappacore.staging.sources.zip import ZipSource, ZipsSource

    if path.is_dir():
        _refuse_unfinished(path)
        zips = _zips_in(path)
        return ZipsSource(path, zips, limits) if zips else FolderSource(path, workers)
    kind = _kind_of_file(path)
    if kind == "zip":
        return ZipSource(path, limits)
    if kind in ("tar", "tar.gz"):
        return TarSource(path, limits, packed=kind == "tar.gz")
    raise StagingError(
        f"'{path}' is {kind}, which cannot be staged. Give a folder, or an archive: zip, tar or "
        f"tar.gz."
    )


def _refuse_unfinished(path: Path) -> None:
    names = {KAPPADATA_START, KAPPADATA_END, UNFINISHED} & set(os.listdir(path))  # noqa: PTH208
    if UNFINISHED in names or names == {KAPPADATA_START}:
        raise StagingError(
            f"the source '{path}' is itself an unfinished copy (it has '{min(names)}'). Complete "
            f"that one first, or stage from where it was copied from."
        )


def _zips_in(path: Path) -> list[Path]:
    """Return the zip files of a folder that holds nothing else, by content and name alike."""
    names = sorted(name for name in os.listdir(path) if not name.startswith("."))  # noqa: PTH208
    if not names or not all(name.lower().endswith(".zip") for name in names):
        return []
    zips = [path / name for name in names]
    if any(file.is_dir() for file in zips):
        return []
    for file in zips:
        if _kind_of_file(file) != "zip":
            raise StagingError(
                f"'{file}' is no zip file, though all of '{path}' are called so. It may not have "
                f"been written to its end: copy or pack it again."
            )
    return zips


def _is_old_tar(file: BinaryIO) -> bool:
    """Tell whether this is a tar file of before 1988, which has no mark."""
    try:
        with tarfile.open(fileobj=file, mode="r:"):
            return True
    except tarfile.TarError:
        return False


def _kind_of_file(path: Path) -> str:
    if not path.is_file():
        return "neither a file nor a folder"
    with path.open("rb") as file:
        head = file.read(512)
        if head.startswith((b"PK\3\4", b"PK\5\6")):
            return "zip"
        if head.startswith(b"\x1f\x8b"):
            return "tar.gz"
        if head[257:262] == b"ustar":
            return "tar"
        file.seek(0)
        if zipfile.is_zipfile(file):  # with something before it
            return "zip"
        file.seek(0)
        if head and _is_old_tar(file):
            return "tar"
    return "no archive that is known"
