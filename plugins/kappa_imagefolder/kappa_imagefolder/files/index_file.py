"""The file that holds an index: a header, and arrays that are used where they are mapped.

Layout, all numbers little-endian::

    8 bytes    magic
    8 bytes    length of the header
    16 bytes   XXH3-128 of the header
    header     JSON, see write_index_file; padded so that the arrays start at a multiple of 64
    arrays     those of _ARRAYS, one after the other

Opening a file reads its header alone; ``check_arrays`` reads the rest. A file is written under
another name and then renamed, so nobody reads half of one, and those who have the old one mapped
keep it.

The usual formats would each cost something: ``.npz`` and safetensors copy what they load, a single
structured ``.npy`` ends at 2 GiB, and none of them notices damage.
"""

# Plain strings and os functions: names that are not UTF-8 pass through them unchanged.
# ruff: noqa: PTH105, PTH108

from __future__ import annotations

import contextlib
import json
import mmap
import os
import re
import secrets
import stat
import struct
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from kappa_imagefolder.errors import IndexFileError
from kappa_imagefolder.files.listing import Listing, OpenFolder, PackedPaths

_MAGIC = b"KAPPAIF\x02"
_NAME = _MAGIC[:-1]  # every version begins with it
_START = struct.Struct("<8sQ16s")  # magic, length of the header, its digest
_ABANDONED = 3600  # seconds after which a partial file is taken to be left by a killed process

# In this order, so that each is aligned. The times of a folder are two numbers.
_ARRAYS = {
    "offsets": "<i8",
    "folder_offsets": "<i8",
    "times": "<i8",
    "labels": "<i4",
    "paths": "|u1",
    "folders": "|u1",
}
_HEADER = {"purpose": dict, "classes": list, "class_to_idx": dict, "empty": list, "listing": str}


class ForeignFileError(IndexFileError):
    """The file is not an index, of whatever version."""


@dataclass(frozen=True, eq=False)
class MappedListing(Listing):
    """A listing in an index file. A worker process maps that file instead of receiving a copy.

    Args:
        paths: See :class:`Listing`.
        labels: See :class:`Listing`.
        source: The file, and the digest of the listing in it.
    """

    source: tuple[str, str]

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, self.source


def _reopen(path: str, digest: str) -> Listing:
    try:
        listing = read_index_file(path).listing
        if isinstance(listing, MappedListing) and listing.source[1] == digest:
            return listing
        what = "has been replaced by another one"
    except FileNotFoundError:
        what = "is gone"
    raise IndexFileError(
        f"the index {path!r}, by which the image folder was opened, {what}; the folder has changed "
        "since then. Open it again"
    )


@dataclass(frozen=True, eq=False, kw_only=True)
class IndexFile(OpenFolder):
    """What an index says; its arrays are read-only views of the mapped file.

    Args:
        index_path: The file.
        purpose: What it was made for.
        digest: The digest of its arrays.
        written: When it was written, in nanoseconds.
    """

    index_path: str
    purpose: dict[str, Any]
    digest: str
    written: int

    def check_arrays(self) -> None:
        """Read all arrays and compare their digest.

        Raises:
            IndexFileError: They are damaged.
        """
        if _digest(arrays_of(self)) != self.digest:
            raise IndexFileError(
                f"the index {self.index_path!r} is damaged: the digest of its arrays does not match"
            )


def read_index_file(path: str) -> IndexFile:
    """Map an index; takes the same time for any number of files.

    Raises:
        FileNotFoundError: There is none.
        ForeignFileError: The file is something else.
        IndexFileError: It cannot be read, is damaged, or is of another version.
    """
    nonblock = getattr(os, "O_NONBLOCK", 0)  # else opening a pipe waits for its writer
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | nonblock)) as file:
            return _map(path, file.fileno())
    except (FileNotFoundError, IndexFileError):
        raise
    except OSError as error:
        raise IndexFileError(f"cannot read the index {path!r}: {error}") from error


def _map(path: str, descriptor: int) -> IndexFile:
    state = os.fstat(descriptor)
    if not stat.S_ISREG(state.st_mode):
        raise ForeignFileError(f"{path!r} is not a regular file, and so not an index")
    if not state.st_size:
        raise IndexFileError(f"the index {path!r} is empty")
    view = memoryview(mmap.mmap(descriptor, state.st_size, access=mmap.ACCESS_READ))
    if view[: len(_NAME)] != _NAME:
        raise ForeignFileError(f"{path!r} is not an index")
    if view[: len(_MAGIC)] != _MAGIC:
        raise IndexFileError(f"{path!r} is an index of another version of kappa-imagefolder")
    try:
        return _parse(path, view, state.st_mtime_ns)
    except (KeyError, OverflowError, RecursionError, TypeError, ValueError, struct.error) as error:
        raise IndexFileError(f"the index {path!r} is damaged: {error}") from error


def _parse(path: str, view: memoryview, written: int) -> IndexFile:
    _, length, digest = _START.unpack_from(view)
    end = _START.size + length
    text = bytes(view[_START.size : end])
    if len(text) != length or xxhash.xxh3_128_digest(text) != digest:
        raise ValueError("the digest of its header does not match")
    header = json.loads(text)
    arrays = {}
    for name, dtype in _ARRAYS.items():
        arrays[name] = np.frombuffer(view, dtype, header["lengths"][name], end)
        end += arrays[name].nbytes
    if len(view) != end:
        raise ValueError(f"it has {len(view)} bytes instead of {end}")
    arrays["times"] = arrays["times"].reshape(-1, 2)
    if (
        any(not isinstance(header[key], kind) for key, kind in _HEADER.items())
        or not _fits(arrays["offsets"], arrays["paths"], arrays["labels"])
        or not _fits(arrays["folder_offsets"], arrays["folders"], arrays["times"])
    ):
        raise ValueError("its parts do not fit together")
    paths = PackedPaths(arrays["paths"], arrays["offsets"])
    return IndexFile(
        MappedListing(paths, arrays["labels"], (path, header["listing"])),
        (header["classes"], header["class_to_idx"]),
        header["empty"],
        PackedPaths(arrays["folders"], arrays["folder_offsets"]),
        arrays["times"],
        index_path=path,
        purpose=header["purpose"],
        digest=header["digest"],
        written=written,
    )


def _fits(offsets: npt.NDArray[Any], blob: npt.NDArray[Any], rows: npt.NDArray[Any]) -> bool:
    """Return whether ``offsets`` cut ``blob`` into one piece per row."""
    return len(offsets) == len(rows) + 1 and (offsets[0], offsets[-1]) == (0, len(blob))


def arrays_of(found: OpenFolder) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of an index."""
    arrays = {
        "offsets": found.listing.paths.offsets,
        "folder_offsets": found.folders.offsets,
        "times": found.times,
        "labels": found.listing.labels,
        "paths": found.listing.paths.blob,
        "folders": found.folders.blob,
    }
    return {name: np.ascontiguousarray(arrays[name], dtype) for name, dtype in _ARRAYS.items()}


def write_index_file(path: str, purpose: dict[str, Any], found: OpenFolder, mode: int) -> IndexFile:
    """Write an index, replacing any that is there.

    Args:
        path: The file; its folder must exist.
        purpose: What the index is made for; plain data.
        found: What it is to say.
        mode: The file's permissions, less the umask.

    Returns:
        This very file, mapped; by now another process may have replaced it.

    Raises:
        OSError: It cannot be written.
    """
    arrays = arrays_of(found)
    header = {
        "purpose": purpose,
        "classes": found.classes[0],
        "class_to_idx": found.classes[1],
        "empty": found.empty,
        "listing": found.listing.digest(),
        "digest": _digest(arrays),
        "lengths": {name: array.size for name, array in arrays.items()},
    }
    text = json.dumps(header).encode("ascii")
    text += b" " * (-(_START.size + len(text)) % 64)
    _remove_abandoned(path)
    partial = f"{path}.{secrets.token_hex(4)}.part"
    with open(partial, "x+b", opener=lambda name, flags: os.open(name, flags, mode)) as file:
        try:
            file.write(_START.pack(_MAGIC, len(text), xxhash.xxh3_128_digest(text)) + text)
            for array in arrays.values():
                file.write(array.data)
            file.flush()
            os.fsync(file.fileno())
            written = _map(path, file.fileno())
            os.replace(partial, path)
        except BaseException:
            os.unlink(partial)
            raise
    return written


def _digest(arrays: dict[str, npt.NDArray[Any]]) -> str:
    hasher = xxhash.xxh3_128()
    for array in arrays.values():
        hasher.update(array.data)
    return str(hasher.hexdigest())


def _remove_abandoned(path: str) -> None:
    """Remove the partial files of this index that killed processes left."""
    folder, name = os.path.split(path)
    own = re.compile(re.escape(name) + r"\.[0-9a-f]{8}\.part")
    with os.scandir(folder or ".") as entries:
        parts = [entry for entry in entries if own.fullmatch(entry.name)]
    for entry in parts:
        with contextlib.suppress(OSError):  # it is another user's, or already gone
            if time.time() - entry.stat(follow_symlinks=False).st_mtime > _ABANDONED:
                os.unlink(entry.path)
