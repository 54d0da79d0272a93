"""The file that holds an index: a header, and arrays that are used where they lie.

Layout, all numbers little-endian::

    8 bytes    magic
    8 bytes    length of the header
    16 bytes   XXH3-128 of the header
    header     JSON: what the index was made for, and where each array lies
    arrays     one after the other, each at a multiple of 64

A file is written beside its place and moved there, so nobody reads half of one, and who has the
old one mapped keeps it. Opening it reads the header alone; ``check_arrays`` reads the rest.
"""

# Plain strings and os functions: names that are not UTF-8 pass through them unchanged.
# ruff: noqa: PTH105, PTH108

from __future__ import annotations

import contextlib
import json
import math
import mmap
import os
import re
import secrets
import stat
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xxhash

from kappa_imagefolder.errors import IndexFileError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Arrays", "ForeignFileError", "IndexFile", "read_index_file", "write_index_file"]

_MAGIC = b"KAPPAIF\x01"
_NAME = _MAGIC[:-1]  # what every version begins with
_ALIGN = 64
_PREFIX = len(_MAGIC) + 8 + 16
_ABANDONED = 3600  # seconds after which a file that was being written belongs to nobody

Arrays = dict[str, npt.NDArray[Any]]


class ForeignFileError(IndexFileError):
    """What is there is no index, of whatever version."""


@dataclass(frozen=True)
class IndexFile:
    """An open index.

    Args:
        path: Where it lies.
        about: What it was made for.
        digest: Digest of its arrays, as it says itself.
        arrays: Read-only views of the mapped file.
        written: When, in nanoseconds.
    """

    path: str
    about: dict[str, Any]
    digest: str
    arrays: Arrays
    written: int

    def check_arrays(self) -> None:
        """Read all arrays and compare their digest.

        Raises:
            IndexFileError: They are not what was written.
        """
        if _digest(self.arrays) != self.digest:
            raise IndexFileError(f"the index {self.path!r} is damaged: its digest is another")


def read_index_file(path: str) -> IndexFile:
    """Map an index.

    Raises:
        FileNotFoundError: There is none.
        ForeignFileError: Something else is there.
        IndexFileError: It cannot be read, or is not one that this version wrote.
    """
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            return _map(path, file.fileno())
    except (FileNotFoundError, IndexFileError):
        raise
    except OSError as error:
        raise IndexFileError(f"cannot read the index {path!r}: {error}") from error


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # a pipe would wait for a writer


def _map(path: str, descriptor: int) -> IndexFile:
    state = os.fstat(descriptor)
    if not stat.S_ISREG(state.st_mode):
        raise ForeignFileError(f"{path!r} is no file, and so no index")
    if not state.st_size:
        raise IndexFileError(f"the index {path!r} is empty")
    view = memoryview(mmap.mmap(descriptor, state.st_size, access=mmap.ACCESS_READ))
    if view[: len(_NAME)] != _NAME:
        raise ForeignFileError(f"{path!r} holds something else than an index")
    if view[: len(_MAGIC)] != _MAGIC:
        raise IndexFileError(f"{path!r} is no index that this version of kappa-imagefolder wrote")
    try:
        return _parse(path, view, state.st_mtime_ns)
    except (
        AttributeError,
        KeyError,
        OverflowError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        raise IndexFileError(f"the index {path!r} is damaged: {error}") from error


def _parse(path: str, view: memoryview, written: int) -> IndexFile:
    length = int.from_bytes(view[len(_MAGIC) : len(_MAGIC) + 8], "little")
    text = bytes(view[_PREFIX : _PREFIX + length])
    if len(text) != length or xxhash.xxh3_128_digest(text) != view[len(_MAGIC) + 8 : _PREFIX]:
        raise ValueError("the digest of its header is another")
    header = json.loads(text)
    if header["size"] != len(view):
        raise ValueError(f"it has {len(view)} of {header['size']} bytes")
    arrays = {}
    for name, (dtype, shape, start) in header["arrays"].items():
        count = math.prod(shape)
        flat = np.frombuffer(view, np.dtype(dtype), count, start)
        arrays[name] = flat.reshape(shape)
    return IndexFile(path, dict(header["about"].items()), header["digest"], arrays, written)


def write_index_file(path: str, about: Mapping[str, Any], arrays: Arrays, mode: int) -> IndexFile:
    """Write an index, replacing one that is there.

    Args:
        path: Where; its folder must exist.
        about: What it is made for; plain data.
        arrays: What it holds.
        mode: The file's permissions, less the umask.

    Returns:
        This very file, mapped; by now another process may have put another one in its place.

    Raises:
        OSError: It cannot be written there.
    """
    arrays = {name: np.ascontiguousarray(_little(array)) for name, array in arrays.items()}
    header, starts = _header(about, arrays)
    _remove_abandoned(path)
    partial = f"{path}.{secrets.token_hex(4)}.part"
    with open(partial, "x+b", opener=lambda name, flags: os.open(name, flags, mode)) as file:
        try:
            file.write(_MAGIC + len(header).to_bytes(8, "little"))
            file.write(xxhash.xxh3_128_digest(header) + header)
            for array, start in zip(arrays.values(), starts, strict=True):
                file.write(bytes(start - file.tell()))
                file.write(array.data)
            file.flush()
            os.fsync(file.fileno())
            written = _map(path, file.fileno())
            os.replace(partial, path)
        except BaseException:
            os.unlink(partial)
            raise
    return written


def _header(about: Mapping[str, Any], arrays: Arrays) -> tuple[bytes, list[int]]:
    """Return the encoded header and where each array starts, which is said in it."""
    digest = _digest(arrays)
    room = 0
    while True:  # the header says where the arrays lie, which depends on its length
        position, starts = _PREFIX + room, []
        for array in arrays.values():
            position = -(-position // _ALIGN) * _ALIGN
            starts.append(position)
            position += array.nbytes
        text = json.dumps(
            {
                "about": about,
                "digest": digest,
                "size": position,
                "arrays": {
                    name: (array.dtype.str, array.shape, start)
                    for (name, array), start in zip(arrays.items(), starts, strict=True)
                },
            }
        ).encode("ascii")
        if len(text) <= room:
            return text.ljust(room), starts
        room = len(text) + _ALIGN


def _digest(arrays: Arrays) -> str:
    hasher = xxhash.xxh3_128()
    for array in arrays.values():
        hasher.update(array.nbytes.to_bytes(8, "little"))
        hasher.update(array.data)
    return str(hasher.hexdigest())


def _little(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return array.astype(array.dtype.newbyteorder("<"), copy=False)


def _remove_abandoned(path: str) -> None:
    """Remove what writers of this index left behind that were killed."""
    folder, name = os.path.split(path)
    own = re.compile(re.escape(name) + r"\.[0-9a-f]{8}\.part")
    with os.scandir(folder or ".") as entries:
        parts = [entry for entry in entries if own.fullmatch(entry.name)]
    for entry in parts:
        with contextlib.suppress(OSError):  # it is another user's, or gone by now
            if time.time() - entry.stat(follow_symlinks=False).st_mtime > _ABANDONED:
                os.unlink(entry.path)
