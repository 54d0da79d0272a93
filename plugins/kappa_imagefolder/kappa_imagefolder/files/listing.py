"""Paths and labels of many files in a few arrays, behind sequences that equal lists.

A list of a million Python strings takes over 100 MB and grows in every forked worker, because
touching an object writes its reference count. Arrays hold the same in the bytes of the paths plus
12 bytes per file, and reading them writes nothing.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NoReturn, TypeVar, overload

import numpy as np
import numpy.typing as npt
import xxhash

from kappa_imagefolder.errors import FixedAttributeError

T_co = TypeVar("T_co", covariant=True)

#: Names of the classes, and the index of each.
Classes = tuple[list[str], dict[str, int]]

_SHOWN = 3


class LazySequence(Sequence[T_co]):
    """A read-only sequence that makes its entries on demand; equals a list of the same entries."""

    @abstractmethod
    def _at(self, idx: int) -> T_co:
        """Return the entry at ``idx``, which is in range."""

    @overload
    def __getitem__(self, idx: int) -> T_co: ...
    @overload
    def __getitem__(self, idx: slice) -> list[T_co]: ...
    def __getitem__(self, idx: int | slice) -> T_co | list[T_co]:
        from kappacore.plugin_api import check_index  # brings torch, which no scan needs

        if isinstance(idx, slice):
            return [self._at(i) for i in range(*idx.indices(len(self)))]
        return self._at(check_index(idx, len(self), type(self).__name__, "integers or slices"))

    def __iter__(self) -> Iterator[T_co]:
        return map(self._at, range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, (list, LazySequence)):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    def __add__(self, other: object) -> list[Any]:
        if not isinstance(other, (list, LazySequence)):
            return NotImplemented
        return [*self, *other]

    def __radd__(self, other: object) -> list[Any]:
        if not isinstance(other, list):
            return NotImplemented
        return [*other, *self]

    __hash__ = None  # type: ignore[assignment]  # like a list

    def __repr__(self) -> str:
        return _shortened(self)


def _shortened(entries: Sequence[Any]) -> str:
    shown = [repr(entry) for entry in islice(entries, _SHOWN)]
    if len(entries) > _SHOWN:
        shown.append(f"… {len(entries)} in all")
    return f"[{', '.join(shown)}]"


@dataclass(frozen=True, eq=False, repr=False)
class PackedPaths(LazySequence[str]):
    """Paths in one block of bytes, exactly as the file system has them.

    Args:
        blob: The encoded paths, one after the other; ``uint8`` of shape ``(bytes,)``.
        offsets: Where each path starts, and the end; ``int64`` of shape ``(N + 1,)``.
        root: The folder that they begin with when they are read; empty for none.
    """

    blob: npt.NDArray[np.uint8]
    offsets: npt.NDArray[np.int64]
    root: str = ""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def _at(self, idx: int) -> str:
        path = os.fsdecode(self.blob[self.offsets[idx] : self.offsets[idx + 1]].tobytes())
        return os.path.join(self.root, path)  # noqa: PTH118 - torchvision's strings


def pack(paths: Iterable[str]) -> PackedPaths:
    """Pack paths given as strings."""
    encoded = [os.fsencode(path) for path in paths]
    return pack_bytes(b"".join(encoded), array("q", map(len, encoded)))


def pack_bytes(blob: bytes, lengths: array[int]) -> PackedPaths:
    """Pack paths given as one block, and the length of each."""
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return PackedPaths(np.frombuffer(blob, np.uint8), offsets)


@dataclass(frozen=True, eq=False)
class Listing:
    """The files of an image folder.

    Args:
        paths: Their paths relative to the root.
        labels: Their class indices; ``int32`` of shape ``(N,)``.
    """

    paths: PackedPaths
    labels: npt.NDArray[np.int32]

    def digest(self) -> str:
        """Digest the relative path and the class of every file."""
        hasher = xxhash.xxh3_128(len(self.labels).to_bytes(8, "little"))
        hasher.update(self.labels.astype("<i4", copy=False).data)
        hasher.update(self.paths.offsets.astype("<i8", copy=False).data)
        hasher.update(self.paths.blob.data)
        return str(hasher.hexdigest())


@dataclass(frozen=True, eq=False)
class OpenFolder:
    """What a scan or an index says of an image folder.

    Args:
        listing: Its files.
        classes: Its classes.
        empty: Names of the classes without a file.
        folders: The folders that were listed, relative to the root; none unless timed.
        times: When each of them last changed (mtime and ctime, in nanoseconds), zeros where that is
            too recent to reveal a later change; ``int64`` of shape ``(folders, 2)``.
        index_path: The index that says so; None for a scan.
    """

    listing: Listing
    classes: Classes
    empty: list[str]
    folders: PackedPaths
    times: npt.NDArray[np.int64]
    index_path: str | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Samples(LazySequence[tuple[str, int]]):
    """``(path, label)`` of every file."""

    paths: PackedPaths
    labels: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.labels)

    def _at(self, idx: int) -> tuple[str, int]:
        return self.paths[idx], int(self.labels[idx])


def _refuse_change(*_: Any, **__: Any) -> NoReturn:
    raise FixedAttributeError(
        "targets cannot be changed, because reading would not follow them: set samples, or change "
        "labels with target_transform; list(targets) is a list that can be changed"
    )


class Targets(list[int]):
    """The label of every file: a list, for JSON and all else that takes nothing less.

    It takes 8 bytes per file, as the labels of a class are one object. Nothing can change it.

    Args:
        labels: The labels; ``int32`` of shape ``(N,)``.
    """

    def __init__(self, labels: npt.NDArray[np.int32]) -> None:
        numbers, which = np.unique(labels, return_inverse=True)
        super().__init__(np.array(numbers.tolist(), dtype=object)[which].tolist())
        self._labels = labels

    def __repr__(self) -> str:
        return _shortened(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return Targets, (self._labels,)

    append = extend = insert = pop = remove = clear = sort = reverse = _refuse_change
    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse_change

    def __array__(
        self, dtype: npt.DTypeLike | None = None, copy: bool | None = None
    ) -> npt.NDArray[Any]:
        if copy is False:
            raise ValueError("the labels are kept as int32: an array of them is a copy")
        return self._labels.astype(np.int64 if dtype is None else dtype)
