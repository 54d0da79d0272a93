"""Identifying the content of an image folder, wherever on the network its copies are.

Neither the root nor any time counts, so copies staged on different nodes share a cache.
``"sampled"`` reads at most 64 files and misses a file outside them that was replaced under the same
name. ``"sizes"`` reads the size of every file, ``"content"`` all of its bytes. Of a file that
cannot be read, the failure counts: no cache keeps anything of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import xxhash

from kappa_imagefolder.adaptive_map import adaptive_map
from kappa_imagefolder.progress import progress_bar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kappa_imagefolder.files.listing import Listing

FINGERPRINTS = ("sampled", "sizes", "content")
SAMPLED_FILES = 64

_UNREADABLE = 2**64 - 1  # in place of a size


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
        measure: Index of a file → its size in bytes; called from several threads.
        progress: Show a bar if it takes long.
    """

    def look(idx: int) -> tuple[int, bytes]:
        try:
            if how == "sizes":
                return measure(idx), b""
            data = read(idx)
        except (OSError, MemoryError) as error:
            cause = error.__cause__ or error
            failure = f"{type(cause).__name__} {getattr(cause, 'errno', None)}"
            return _UNREADABLE, failure.encode()
        return len(data), data

    hasher = xxhash.xxh3_128(listing.digest().encode())
    total = len(listing.labels)
    indices: Sequence[int] = range(total)
    if how == "sampled" and total > SAMPLED_FILES:  # evenly spaced, the first and the last included
        indices = [i * (total - 1) // (SAMPLED_FILES - 1) for i in range(SAMPLED_FILES)]
    title = "Identifying by sizes" if how == "sizes" else "Identifying by content"
    with progress_bar(title, len(indices), show=progress) as done:
        for size, data in adaptive_map(look, indices, batch=256 if how == "sizes" else 1):
            hasher.update(size.to_bytes(8, "little"))
            hasher.update(data)
            done(1)
    return str(hasher.hexdigest())
