"""Which files of an unfinished copy are whole, so that the next try does not copy them again."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from kappacore.staging.copying.strategies import write_all
from kappacore.staging.target.manifest import FileRecord, line_of, read_lines

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from types import TracebackType

    from typing_extensions import Self

__all__ = ["Journal", "read_journal"]


class Journal:
    """Takes down the files that are whole. A process may end at any moment: lines are appended.

    Args:
        path: its file.
    """

    def __init__(self, path: Path):
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        self._fd = os.open(path, flags, 0o600)
        self._lock = threading.Lock()
        write_all(self._fd, b"\n")  # ends a line that a kill has torn

    def write(self, done: Iterable[tuple[str, FileRecord]]) -> None:
        """Take down that these files are whole."""
        lines = "".join(line_of(path, record) for path, record in done)
        with self._lock:
            write_all(self._fd, lines.encode("ascii"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._fd)


def read_journal(path: Path) -> dict[str, FileRecord]:
    """Return the files that earlier tries took down."""
    try:
        return read_lines(path.read_bytes())[0]
    except FileNotFoundError:
        return {}
