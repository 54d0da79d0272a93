"""What identifies the content of an image folder, wherever on the network its copies lie.

Neither the root nor any time is part of it, so copies that were staged on different nodes share
what is cached. ``"sampled"`` reads 64 files at most; what it cannot see is a file outside these
that was replaced under the same name. ``"sizes"`` asks for the size of every file, ``"content"``
reads them all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import xxhash

from kappa_imagefolder.adaptive_map import spread
from kappa_imagefolder.progress import Counter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kappa_imagefolder.files.listing import Listing

__all__ = ["FINGERPRINTS", "SAMPLED_FILES", "files_digest", "listing_digest"]

FINGERPRINTS = ("sampled", "sizes", "content")
SAMPLED_FILES = 64

_SIZES = 256  # files asked for their size by one call of a thread


def listing_digest(listing: Listing) -> str:
    """Digest the relative path and the class of every file."""
    hasher = xxhash.xxh3_128(len(listing.labels).to_bytes(8, "little"))
    hasher.update(listing.labels.astype("<i4", copy=False).data)
    hasher.update(listing.paths.offsets.astype("<i8", copy=False).data)
    hasher.update(listing.paths.blob.data)
    return str(hasher.hexdigest())


def files_digest(
    listing: Listing,
    how: str,
    read: Callable[[int], bytes],
    measure: Callable[[int], int],
    *,
    progress: bool = True,
) -> str:
    """Digest the listing and as much of the files as ``how`` says.

    Args:
        listing: The files.
        how: One of :data:`FINGERPRINTS`.
        read: Index of a file → its bytes; called from several threads.
        measure: Index of a file → its size in bytes; likewise.
        progress: Show a bar if it takes long.
    """
    hasher = xxhash.xxh3_128(listing_digest(listing).encode())
    total = len(listing.labels)
    if how == "sizes":
        hasher.update(_sizes(total, measure, progress).data)
        return str(hasher.hexdigest())
    indices = range(total) if how == "content" else _evenly_spaced(total)
    with Counter("Identifying by content", "image", len(indices), show=progress) as counter:
        for data in spread(read, indices):
            hasher.update(len(data).to_bytes(8, "little"))
            hasher.update(data)
            counter.add(1)
    return str(hasher.hexdigest())


def _sizes(total: int, measure: Callable[[int], int], progress: bool) -> npt.NDArray[np.int64]:
    sizes = np.empty(total, dtype="<i8")
    chunks = [range(i, min(i + _SIZES, total)) for i in range(0, total, _SIZES)]
    found = spread(lambda chunk: [measure(idx) for idx in chunk], chunks)
    with Counter("Identifying by sizes", "image", total, show=progress) as counter:
        for chunk, some in zip(chunks, found, strict=True):
            sizes[chunk.start : chunk.stop] = some
            counter.add(len(chunk))
    return sizes


def _evenly_spaced(total: int) -> Sequence[int]:
    """Indices of up to 64 files, the first and the last among them."""
    if total <= SAMPLED_FILES:
        return range(total)
    return [i * (total - 1) // (SAMPLED_FILES - 1) for i in range(SAMPLED_FILES)]
