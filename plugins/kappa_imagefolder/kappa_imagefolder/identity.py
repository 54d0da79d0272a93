"""What identifies the content of an image folder, wherever on the network its copies lie.

Neither the root nor any time is part of it, so copies that were staged on different nodes share
what is cached. ``"sampled"`` reads 64 files at most; what it cannot see is a file outside these
that was replaced under the same name. ``"sizes"`` asks for the size of every file, ``"content"``
reads them all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xxhash

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kappa_imagefolder.scan import Listing

__all__ = ["FINGERPRINTS", "SAMPLED_FILES", "files_digest", "listing_digest"]

FINGERPRINTS = ("sampled", "sizes", "content")
SAMPLED_FILES = 64


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
) -> str:
    """Digest the listing and as much of the files as ``how`` says.

    Args:
        listing: The files.
        how: One of :data:`FINGERPRINTS`.
        read: Index of a file → its bytes.
        measure: Index of a file → its size in bytes.
    """
    hasher = xxhash.xxh3_128(listing_digest(listing).encode())
    total = len(listing.labels)
    if how == "sizes":
        hasher.update(np.fromiter(map(measure, range(total)), dtype="<i8", count=total).data)
        return str(hasher.hexdigest())
    for idx in range(total) if how == "content" else _evenly_spaced(total):
        data = read(idx)
        hasher.update(len(data).to_bytes(8, "little"))
        hasher.update(data)
    return str(hasher.hexdigest())


def _evenly_spaced(total: int) -> Iterable[int]:
    """Indices of up to 64 files, the first and the last among them."""
    if total <= SAMPLED_FILES:
        return range(total)
    return (i * (total - 1) // (SAMPLED_FILES - 1) for i in range(SAMPLED_FILES))
