"""Paths and labels of many files in a few arrays, behind sequences that equal lists.

A list of a million Python strings takes over 100 MB and grows in every forked worker, because
touching an object writes its reference count. Arrays hold the same in the bytes of the paths plus
12 bytes a file, and reading them writes nothing.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice
from typing import Any, TypeVar, overload

import numpy as np
import numpy.typing as npt

__all__ = [
    "FullPaths",
    "LazySequence",
    "Listing",
    "PackedPaths",
    "PathPacker",
    "Samples",
    "Targets",
    "pack",
]

T_co = TypeVar("T_co", covariant=True)

_SHOWN = 3


class LazySequence(Sequence[T_co]):
    """A read-only sequence whose entries are made when asked for; equals a list of the same."""

    @abstractmethod
    def _at(self, idx: int) -> T_co:
        """Return the entry at ``idx``, which is in range."""

    @overload
    def __getitem__(self, idx: int) -> T_co: ...
    @overload
    def __getitem__(self, idx: slice) -> list[T_co]: ...
    def __getitem__(self, idx: int | slice) -> T_co | list[T_co]:
        from kappacore.datasets.indexing import check_index  # brings torch, which no scan needs

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
        shown = [repr(entry) for entry in islice(self, _SHOWN)]
        if len(self) > _SHOWN:
            shown.append(f"… {len(self)} in all")
        return f"[{', '.join(shown)}]"


class PackedPaths(LazySequence[str]):
    """Paths in one byte blob, exactly as the file system has them.

    Args:
        blob: The encoded paths, one after the other; ``uint8`` of shape ``(bytes,)``.
        offsets: Where each path starts, and the end; ``int64`` of shape ``(N + 1,)``.
    """

    def __init__(self, blob: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]) -> None:
        self.blob = blob
        self.offsets = offsets

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def _at(self, idx: int) -> str:
        return os.fsdecode(self.blob[self.offsets[idx] : self.offsets[idx + 1]].tobytes())


def pack(paths: Iterable[str]) -> PackedPaths:
    """Pack paths that are at hand as strings."""
    packer = PathPacker()
    packer.extend(b"", [os.fsencode(path) for path in paths])
    return packer.pack()


class PathPacker:
    """Collects paths into :class:`PackedPaths`, never holding them as objects."""

    def __init__(self) -> None:
        self._blob = bytearray()
        self._offsets = array("q", [0])

    def extend(self, prefix: bytes, names: Sequence[bytes]) -> None:
        """Add the files ``names`` of one folder; ``prefix`` is its path and a slash."""
        if not names:
            return
        lengths = (len(prefix) + len(name) for name in names)
        self._offsets.extend(islice(accumulate(lengths, initial=len(self._blob)), 1, None))
        self._blob += prefix + prefix.join(names)

    def pack(self) -> PackedPaths:
        """Return all paths added so far."""
        return PackedPaths(
            _frozen(np.array(self._blob, dtype=np.uint8)),
            _frozen(np.array(self._offsets, dtype=np.int64)),
        )


@dataclass(frozen=True, eq=False)
class Listing:
    """The files of an image folder.

    Args:
        paths: Their paths relative to the root.
        labels: Their class indices; ``int32`` of shape ``(N,)``.
    """

    paths: PackedPaths
    labels: npt.NDArray[np.int32]

    @staticmethod
    def of(paths: PackedPaths, labels: Sequence[int] | array[int]) -> Listing:
        """Return a listing of packed paths and their labels."""
        return Listing(paths, _frozen(np.array(labels, dtype=np.int32)))


class FullPaths(LazySequence[str]):
    """The path of every file, beginning with ``root``."""

    def __init__(self, root: str, paths: PackedPaths) -> None:
        self._root = root
        self._paths = paths

    def __len__(self) -> int:
        return len(self._paths)

    def _at(self, idx: int) -> str:
        return os.path.join(self._root, self._paths[idx])  # noqa: PTH118 - torchvision's strings


class Samples(LazySequence[tuple[str, int]]):
    """``(path, label)`` of every file."""

    def __init__(self, paths: FullPaths, labels: npt.NDArray[np.int32]) -> None:
        self._paths = paths
        self._labels = labels

    def __len__(self) -> int:
        return len(self._labels)

    def _at(self, idx: int) -> tuple[str, int]:
        return self._paths[idx], int(self._labels[idx])


class Targets(LazySequence[int]):
    """The label of every file; ``np.asarray`` of it is one copy."""

    def __init__(self, labels: npt.NDArray[np.int32]) -> None:
        self._labels = labels

    def __len__(self) -> int:
        return len(self._labels)

    def _at(self, idx: int) -> int:
        return int(self._labels[idx])

    def __array__(
        self, dtype: npt.DTypeLike | None = None, copy: bool | None = None
    ) -> npt.NDArray[Any]:
        if copy is False:
            raise ValueError("the labels are kept as int32: an array of them is a copy")
        return self._labels.astype(np.int64 if dtype is None else dtype)


def _frozen(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    values.flags.writeable = False
    return values
