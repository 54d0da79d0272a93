"""The manifest: what is in a published folder, a line for each file, and a last line about all.

    ["train/n01440764/1.jpg",109527,1335812345000000000,"xxh3:…"]
    ["train/empty"]
    {"format":"kappacore-manifest","version":1,"files":…,"digest":…}

Only a whole manifest has the last line, so reading the end of the file tells that it is one,
however many files it lists. The journal of a copy that goes on has the same lines and no last one.
"""

from __future__ import annotations

import json
import os
from json.encoder import encode_basestring_ascii as _quoted
from typing import TYPE_CHECKING, Any, NamedTuple

import xxhash

from kappacore.errors import StagingError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = [
    "Manifest",
    "FileRecord",
    "line_of",
    "read_lines",
    "read_manifest",
    "read_summary",
    "write",
]

_FORMAT = "kappacore-manifest"
_VERSION = 1
_TAIL = 1 << 16  # more than the last line ever needs


class FileRecord(NamedTuple):
    """What is known of one file."""

    size: int
    mtime_ns: int
    digest: str | None  # "xxh3:<32 hexadecimal digits>" or "crc32:<8>"


class Manifest(NamedTuple):
    """A manifest as it was read; ``summary`` is None where it is damaged."""

    files: dict[str, FileRecord]
    folders: set[str]
    summary: dict[str, Any] | None


def line_of(path: str, record: FileRecord) -> str:
    """Return the line of a file."""
    digest = f'"{record.digest}"' if record.digest else "null"
    return f"[{_quoted(path)},{record.size},{record.mtime_ns},{digest}]\n"


def write(
    path: Path, files: dict[str, FileRecord], folders: Iterable[str], about: dict[str, Any]
) -> dict[str, Any]:
    """Write a manifest and return its summary; the file does not exist yet."""
    hasher = xxhash.xxh3_128()
    with path.open("xb") as file:
        for start in range(0, len(names := list(files)), 4096):
            block = "".join(line_of(name, files[name]) for name in names[start : start + 4096])
            hasher.update(block.encode("ascii"))
            file.write(block.encode("ascii"))
        tail = "".join(f"[{_quoted(folder)}]\n" for folder in folders).encode("ascii")
        hasher.update(tail)
        summary = {
            "format": _FORMAT,
            "version": _VERSION,
            "files": len(files),
            "bytes": sum(record.size for record in files.values()),
            **about,
            "digest": hasher.hexdigest(),
        }
        file.write(tail + json.dumps(summary).encode("ascii") + b"\n")
    return summary


def read_summary(path: Path) -> dict[str, Any] | None:
    """Return the last line of a manifest, reading no other; None if it is damaged.

    Raises:
        FileNotFoundError: if there is no manifest.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        size = os.fstat(fd).st_size
        tail = os.pread(fd, _TAIL, max(0, size - _TAIL))
    finally:
        os.close(fd)
    return _summary_in(tail, path)


def read_manifest(path: Path) -> Manifest:
    """Read a whole manifest; of a damaged one, what can be read."""
    data = path.read_bytes()
    body, _, _ = data.rstrip(b"\n").rpartition(b"\n")
    body = body + b"\n" if body else b""
    summary = _summary_in(data, path)
    if summary is not None and summary["digest"] != xxhash.xxh3_128_hexdigest(body):
        summary = None
    files, folders = read_lines(body if summary else data)
    return Manifest(files, folders, summary)


def read_lines(data: bytes) -> tuple[dict[str, FileRecord], set[str]]:
    """Return the files and folders that lines tell of; of several for one file, the last holds.

    Lines that are torn, as a kill leaves them, are skipped.
    """
    files: dict[str, FileRecord] = {}
    folders: set[str] = set()
    for line in data.splitlines():
        try:
            fields = json.loads(line)
        except ValueError:
            continue
        match fields:
            case [str(path), int(size), int(mtime_ns), (str() | None) as digest]:
                files[path] = FileRecord(size, mtime_ns, digest)
            case [str(path)]:
                folders.add(path)
    return files, folders


def _summary_in(data: bytes, path: Path) -> dict[str, Any] | None:
    if not data.endswith(b"\n"):
        return None
    try:
        summary = json.loads(data[:-1].rpartition(b"\n")[2])
    except ValueError:
        return None
    if not isinstance(summary, dict) or summary.get("format") != _FORMAT:
        return None
    if summary.get("version") != _VERSION:
        raise StagingError(
            f"'{path}' was written by another version of kappacore (format "
            f"{summary.get('version')!r}, this one knows {_VERSION}). Update kappacore, or remove "
            f"the folder it lies in and stage again."
        )
    known = {"files": int, "bytes": int, "source": str, "kind": str, "stamp": list, "digest": str}
    return summary if all(type(summary.get(key)) is kind for key, kind in known.items()) else None
