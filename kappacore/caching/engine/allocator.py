"""Keeping freed memory for the next batch instead of giving it back to the system each time."""

from __future__ import annotations

import numpy as np

__all__ = ["keep_freed_memory"]

_BLOCK = 31 * 2**20  # just below glibc's DEFAULT_MMAP_THRESHOLD_MAX, above which it is ignored


def keep_freed_memory() -> None:
    """Have the C allocator keep up to 62 MiB that this process has freed.

    glibc gives free memory above 128 KiB at the end of the heap back at once, so a DataLoader
    worker that frees a batch faults all its pages in again for the next one, which costs several
    times the copying of the samples. Freeing one large block raises that limit to twice its size
    (mallopt(3), "dynamic mmap threshold"). Elsewhere this does nothing.
    """
    np.empty(_BLOCK, np.uint8)  # freed at once; its pages are never touched
