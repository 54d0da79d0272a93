"""The manifest: a line for each file of a published folder, and a last line about all.

    ["train/n01440764/1.jpg",109527,1335812345000000000,"xxh3:…"]
    ["train/empty"]
    {"format":"kappacore-manifest","version":1,"files":…,"digest":…}

Only a complete manifest has the last line, so reading the end of the file proves that it is
complete, however many files it lists. The journal of a copy has the same lines without a last one.
"""

from __future__ import annotations

import json
import os
import stat
import threading
from functools import cached_property
from itertools import islice
from json.encoder import encode_basestring_ascii as _quoted
from typing import TYPE_CHECKING, Any, NamedTuple

import xxhash

from kappacore.errors import StagingError
from kappacore.staging.copying.worker import lines_of
from kappacore.staging.target.own_files import open_own, own_opened, read_own

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

    from kappacore.staging.sources.base import Entry

_FORMAT = "kappacore-manifest"
_VERSION = 1
_TAIL = 1 << 16  # more than the last line ever needs
_EARLIEST, _LATEST = -(1 << 31) * 10**9, ((1 << 31) - 1) * 10**9  # nanoseconds: 1901 and 2038
# Without these all paths are clean: hidden names, empty ones, those from the root, escapes.
_ODD = (b"..", b"//", b'"/', b'/"', b"/.", b'[".', b'[""', b"\\")
_LONGEST_NAME = 255  # bytes
_NO_JSON = (ValueError, RecursionError)  # the latter: brackets in brackets, thousands of them
_CLOCK = 2_000_000_000  # nanoseconds: the coarsest resolution of times in file systems


class FileRecord(NamedTuple):
    """What is known of one file."""

    size: int
    mtime_ns: int
    digest: str | None  # "crc32:<8 hexadecimal digits>", "xxh3:<32>", or both with a space


class Manifest(NamedTuple):
    """The files and folders of a dataset; of a damaged manifest, those that could be read.

    Attributes:
        files: The files by path.
        folders: Paths of the folders.
        summary: The last line; None if the manifest is damaged.
    """

    files: dict[str, FileRecord]
    folders: Collection[str]
    summary: dict[str, Any] | None = None


class Dataset:
    """All that a manifest is to say of a dataset.

    Args:
        lines: Those of its files.
        folders: Paths of its folders.
        summary: Of the last line, what the files and folders do not show.
    """

    def __init__(self, lines: Iterable[bytes], folders: Collection[str], summary: dict[str, Any]):
        self.lines = list(lines)
        self.folders = folders
        self.summary = summary

    @cached_property
    def files(self) -> dict[str, FileRecord]:
        """The files by path, read at the first use: it takes microseconds for each."""
        return read_lines(b"".join(self.lines)).files


def same_time(one: int, other: int) -> bool:
    """Return whether two times of modification, in ns, are equal as file systems keep them.

    Times that some cannot keep are all the same.
    """
    one, other = (min(max(time, _EARLIEST), _LATEST) for time in (one, other))
    return abs(one - other) < _CLOCK


def is_unchanged(path: str, expected: FileRecord | Entry) -> bool:
    """Return whether a file still has the size and time with which it was copied."""
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    same_size = stat.S_ISREG(found.st_mode) and found.st_size == expected.size
    return same_size and same_time(found.st_mtime_ns, expected.mtime_ns)


def dataset_of(
    files: Mapping[str, FileRecord], folders: Collection[str], about: dict[str, Any]
) -> Dataset:
    """Return a dataset whose files are at hand one by one."""
    left = iter(files.items())
    lines = iter(lambda: lines_of(islice(left, 4096)), b"")
    size = sum(record.size for record in files.values())
    return Dataset(lines, folders, {"files": len(files), "bytes": size, **about})


def write_manifest(path: Path, dataset: Dataset) -> None:
    """Write a manifest to a new file."""
    hasher = xxhash.xxh3_128()
    folders = "".join(f"[{_quoted(folder)}]\n" for folder in dataset.folders).encode("ascii")
    with path.open("xb") as file:
        for block in (*dataset.lines, folders):
            hasher.update(block)
            file.write(block)
        summary = {
            "format": _FORMAT,
            "version": _VERSION,
            **dataset.summary,
            "digest": hasher.hexdigest(),
        }
        file.write(json.dumps(summary).encode("ascii") + b"\n")


class Journal:
    """Records the files that are complete. A kill may come at any moment: lines are appended.

    Args:
        path: Its file.
    """

    def __init__(self, path: Path):
        self._fd = open_own(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._lock = threading.Lock()
        self.end_line()

    def end_line(self) -> None:
        """End a line that was torn by a kill."""
        self.write(b"\n")

    def write(self, lines: bytes) -> None:
        """Record that the files of these lines are complete."""
        with self._lock:
            while lines:
                lines = lines[os.write(self._fd, lines) :]

    def fileno(self) -> int:
        """Return its descriptor, which worker processes append to."""
        return self._fd

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


def read_summary(path: Path) -> dict[str, Any] | None:
    """Return the last line of a manifest, reading no other; None if it is damaged or missing."""
    try:
        with own_opened(path, os.O_RDONLY) as fd:
            size = os.fstat(fd).st_size
            tail = os.pread(fd, _TAIL, max(0, size - _TAIL))
    except FileNotFoundError:
        return None
    return _summary_in(tail, path)


def read_manifest(path: Path) -> Manifest | None:
    """Read a manifest; None if there is none (any more).

    Another process may replace or remove it at any moment, so callers open it without checking
    first that it exists.
    """
    data = read_own(path)
    if data is None:
        return None
    body, _, _ = data.rstrip(b"\n").rpartition(b"\n")
    body = body + b"\n" if body else b""
    summary = _summary_in(data, path)
    if summary is not None and summary["digest"] != xxhash.xxh3_128_hexdigest(body):
        summary = None
    return read_lines(body if summary else data)._replace(summary=summary)


def read_lines(data: bytes) -> Manifest:
    """Return the files and folders in lines; the last line of a file counts.

    Lines torn by a kill are skipped, and paths that staging never writes: somebody else has, and
    they may lead anywhere.
    """
    files: dict[str, FileRecord] = {}
    folders: set[str] = set()
    for line in data.splitlines():
        try:
            fields = json.loads(line)
        except _NO_JSON:
            continue
        match fields:
            case [str(path), int(size), int(mtime_ns), (str() | None) as digest]:
                files[path] = FileRecord(size, mtime_ns, digest)
            case [str(path)]:
                folders.add(path)
    longest = max(map(len, (*files, *folders)), default=0)
    if longest > _LONGEST_NAME or any(odd in data for odd in _ODD):
        files = {path: record for path, record in files.items() if _is_inside(path)}
        folders = set(filter(_is_inside, folders))
    return Manifest(files, folders)


def _is_inside(path: str) -> bool:
    """Return whether a path is a clean one below the folder, and can be one on a disk."""
    parts = path.split("/")
    if "\0" in path or any(part in ("", ".", "..") for part in parts):
        return False
    try:
        return all(len(os.fsencode(part)) <= _LONGEST_NAME for part in parts)
    except UnicodeEncodeError:
        return False


def read_journal(path: Path) -> dict[str, FileRecord]:
    """Return the files that earlier tries completed."""
    return read_lines(read_own(path) or b"").files


def _summary_in(data: bytes, path: Path) -> dict[str, Any] | None:
    if not data.endswith(b"\n"):
        return None
    try:
        summary = json.loads(data[:-1].rpartition(b"\n")[2])
    except _NO_JSON:
        return None
    if not isinstance(summary, dict) or summary.get("format") != _FORMAT:
        return None
    if summary.get("version") != _VERSION:
        raise StagingError(
            f"'{path}' was written by another version of kappacore (format "
            f"{summary.get('version')!r}; this one reads {_VERSION}). Update kappacore, or remove "
            f"the folder that contains it and stage again."
        )
    known = {"files": int, "bytes": int, "source": str, "kind": str, "stamp": list, "digest": str}
    return summary if all(type(summary.get(key)) is kind for key, kind in known.items()) else None
