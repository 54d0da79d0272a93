"""The holes of sparse files."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kappacore.staging.sources.base import Extent


def parts_of(content: Extent) -> Iterator[tuple[Extent, bool]]:
    """Yield the parts of a content in order, and whether each is a hole, which reads as zeros."""
    at, end = content.offset, content.offset + content.size
    while at < end:
        try:
            data = min(os.lseek(content.fd, at, os.SEEK_DATA), end)
            hole = min(os.lseek(content.fd, data, os.SEEK_HOLE), end) if data < end else end
        except OSError as error:
            # No more data. Or this file system has no holes, or the file has become shorter:
            # reading the rest shows it.
            is_hole = error.errno == errno.ENXIO and os.fstat(content.fd).st_size >= end
            yield content._replace(offset=at, size=end - at), is_hole
            return
        if data > at:
            yield content._replace(offset=at, size=data - at), True
        if hole > data:
            yield content._replace(offset=data, size=hole - data), False
        at = hole
