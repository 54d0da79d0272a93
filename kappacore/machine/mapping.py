"""Files mapped into memory, without a descriptor for each mapping."""

from __future__ import annotations

import ctypes
import functools
import mmap
import os
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

_MAP_FIXED = 0x10  # on Linux and macOS; Python has no name for it


def map_file(fd: int, size: int, *, writable: bool = False) -> memoryview:
    """Map the beginning of a file, shared with all processes that map it.

    Python's own mapping of a file keeps a duplicate of the descriptor (before 3.13 always), so that
    hundreds of caches in one process would run out of them. So this takes a mapping of no file,
    and puts the file in its place.

    Args:
        fd: A descriptor of the file; it may be closed afterwards.
        size: Number of bytes, at most the file's.
        writable: Whether the result can be written to.

    Returns:
        The mapping's bytes. It lives as long as anything refers to it.

    Raises:
        OSError: If the file cannot be mapped.
    """
    protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    mapping = mmap.mmap(-1, size, flags=flags, prot=protection)
    address = np.frombuffer(mapping, np.uint8).ctypes.data
    flags = mmap.MAP_SHARED | _MAP_FIXED
    if _libc_mmap()(address, size, protection, flags, fd, 0) != address:
        number = ctypes.get_errno()
        raise OSError(number, f"{os.strerror(number)} (mmap of {size} bytes)")
    return memoryview(mapping)


@functools.cache
def _libc_mmap() -> Callable[..., int]:
    function = ctypes.CDLL(None, use_errno=True).mmap
    function.restype = ctypes.c_void_p
    size, number = ctypes.c_size_t, ctypes.c_int
    function.argtypes = [ctypes.c_void_p, size, number, number, number, ctypes.c_int64]
    return function
