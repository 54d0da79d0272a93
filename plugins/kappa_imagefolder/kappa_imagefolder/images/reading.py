"""Reading image files, which may be anything: huge, endless, pipes, no images."""

from __future__ import annotations

import os
import stat

from kappa_imagefolder.errors import UnreadableImageError
from kappa_imagefolder.images import pillow

AnyPath = str | os.PathLike[str]

LARGE = 16 << 20  # bytes from which on a file's header is looked at before the rest is read

#: Opening a pipe does not wait for its writer.
_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)

_OTHER_FILES = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def read_file(
    path: AnyPath,
    max_bytes: int | None = None,
    *,
    is_image: bool = False,
    max_pixels: int | None = None,
) -> bytes:
    """Return the bytes of a regular file that must not be empty.

    Args:
        path: The file.
        max_bytes: The most that it may have.
        is_image: Refuse a large file by its header, before the rest is read.
        max_pixels: See :func:`kappa_imagefolder.images.pillow.open_image`.

    Raises:
        UnreadableImageError: It cannot be read, is empty, has more bytes, or is no regular file; or
            its header is not that of an image with so many pixels. The message does not name it.
    """
    try:
        descriptor = os.open(path, _FLAGS)
        try:
            state = os.fstat(descriptor)
            if not stat.S_ISREG(state.st_mode):
                kind = _OTHER_FILES.get(stat.S_IFMT(state.st_mode), "something else")
                raise UnreadableImageError(f"it is {kind}, not a regular file")
            check_bytes(state.st_size, max_bytes)
            if is_image and state.st_size > LARGE:
                with open(descriptor, "rb", closefd=False) as file:
                    pillow.check_header(file, state.st_size, max_pixels)
                os.lseek(descriptor, 0, os.SEEK_SET)
            data = _read(descriptor, state.st_size, max_bytes)
        finally:
            os.close(descriptor)
    except UnreadableImageError:
        raise
    except OSError as error:
        raise UnreadableImageError(error.strerror or str(error)) from error
    if not data:
        raise UnreadableImageError("the file is empty")
    return data


def measure_file(path: AnyPath) -> int:
    """Return the size of a file in bytes; raises the ``OSError`` of the system."""
    return os.stat(path).st_size  # noqa: PTH116 - called for every file


def check_bytes(size: int, max_bytes: int | None) -> None:
    """Refuse a file of more bytes than ``max_bytes``."""
    if max_bytes is not None and size > max_bytes:
        raise UnreadableImageError(
            f"the file has {size} bytes, more than max_bytes_per_file={max_bytes}"
        )


def _read(descriptor: int, size: int, max_bytes: int | None) -> bytes:
    """Read to the end; a file may have more bytes than its size says, or fewer."""
    data = os.read(descriptor, size + 1)  # the byte more shows the end without another call
    if len(data) == size:
        return data
    parts = [data]
    total = len(data)
    while data:
        check_bytes(total, max_bytes)
        data = os.read(descriptor, LARGE)
        parts.append(data)
        total += len(data)
    return b"".join(parts)
