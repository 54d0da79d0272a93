"""What an index holds: the arrays of a listing, the folders it was made from, and their times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kappa_imagefolder.errors import IndexFileError
from kappa_imagefolder.files.index_file import read_index_file
from kappa_imagefolder.files.listing import Listing, PackedPaths, pack

if TYPE_CHECKING:
    from kappa_imagefolder.files.index_file import Arrays, IndexFile
    from kappa_imagefolder.files.scan import Scan

__all__ = ["MappedListing", "arrays_of", "check_content", "folders_of", "mapped"]

_TYPES = {
    "offsets": "<i8",
    "labels": "<i4",
    "paths": "|u1",
    "folder_offsets": "<i8",
    "folders": "|u1",
    "times": "<i8",
}


@dataclass(frozen=True, eq=False)
class MappedListing(Listing):
    """A listing that lies in an index file; a worker process maps that, and gets no copy.

    Args:
        paths: See :class:`Listing`.
        labels: See :class:`Listing`.
        place: The file, and the digest of the listing in it.
    """

    place: tuple[str, str]

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, self.place


def _reopen(path: str, digest: str) -> MappedListing:
    try:
        file = read_index_file(path)
    except FileNotFoundError as error:
        raise IndexFileError(_replaced(path, "is gone")) from error
    check_content(file)
    if file.about["listing"] != digest:
        raise IndexFileError(_replaced(path, "is another one"))
    return mapped(file)


def mapped(file: IndexFile) -> MappedListing:
    """Return the listing that lies in ``file``."""
    paths = PackedPaths(file.arrays["paths"], file.arrays["offsets"])
    return MappedListing(paths, file.arrays["labels"], (file.path, file.about["listing"]))


def _replaced(path: str, what: str) -> str:
    return (
        f"the index {path!r}, by which the image folder was opened, {what}; the folder has changed "
        "since then. Open it anew"
    )


def folders_of(file: IndexFile) -> PackedPaths:
    """Return the folders that were listed; their times are ``file.arrays["times"]``."""
    return PackedPaths(file.arrays["folders"], file.arrays["folder_offsets"])


def arrays_of(found: Scan) -> Arrays:
    """Return what goes into an index."""
    folders = pack(found.folders)
    times = np.array(list(found.folders.values()), dtype=np.int64).reshape(-1, 2)
    return {
        "offsets": found.listing.paths.offsets,
        "labels": found.listing.labels,
        "paths": found.listing.paths.blob,
        "folder_offsets": folders.offsets,
        "folders": folders.blob,
        "times": times,
    }


def check_content(file: IndexFile) -> None:
    """Refuse a file whose parts do not fit together; takes the same for any number of files.

    Raises:
        IndexFileError: It was not written by this version of this package.
    """
    arrays, about = file.arrays, file.about
    kinds = {"classes": list, "class_to_idx": dict, "empty": list, "listing": str}
    if (
        any(not isinstance(about.get(key), kind) for key, kind in kinds.items())
        or {name: array.dtype.str for name, array in arrays.items()} != _TYPES
        or not _fit(arrays, "offsets", "paths", arrays["labels"].shape)
        or not _fit(arrays, "folder_offsets", "folders", arrays["times"].shape[:1])
        or arrays["times"].shape[1:] != (2,)
    ):
        raise IndexFileError(f"the index {file.path!r} is damaged: its parts do not fit together")


def _fit(arrays: Arrays, offsets: str, blob: str, shape: tuple[int, ...]) -> bool:
    """Say whether ``offsets`` cut ``blob`` into as many pieces as ``shape`` says."""
    ends, text = arrays[offsets], arrays[blob]
    return (
        len(shape) == ends.ndim == text.ndim == 1
        and len(ends) == shape[0] + 1
        and (int(ends[0]), int(ends[-1])) == (0, len(text))
    )
