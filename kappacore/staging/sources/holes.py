"""The holes of sparse files, and of members of tar files that were."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from kappacore.staging.sources.base import Extent, Pieces, Stream

if TYPE_CHECKING:
    from collections.abc import Iterator

Part = tuple[Extent | Stream, bool]


def parts_of(content: Extent | Pieces) -> Iterator[Part]:
    """Yield the parts of a content in order, and whether each is a hole, which reads as zeros."""
    return _of_pieces(content) if isinstance(content, Pieces) else _of_file(content)


def _of_pieces(content: Pieces) -> Iterator[Part]:
    at = 0
    data = content.data
    for begin, size in content.places:
        if begin > at:
            yield Extent(-1, 0, begin - at), True
        yield data._replace(size=size), False
        if isinstance(data, Extent):  # a stream goes on by itself
            data = data._replace(offset=data.offset + size)
        at = begin + size
    if at < content.size:
        yield Extent(-1, 0, content.size - at), True


def _of_file(content: Extent) -> Iterator[Part]:
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
