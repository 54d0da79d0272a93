"""The files of an unfinished copy that are complete, so that the next try skips them."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from kappacore.staging.target.manifest import FileRecord, line_of, read_lines

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


class Journal:
    """Records the files that are complete. A kill may come at any moment: lines are appended.

    Args:
        path: Its file.
    """

    def __init__(self, path: Path):
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        self._fd = os.open(path, flags, 0o600)
        self._lock = threading.Lock()
        self._append("\n")  # ends a line torn by a kill

    def write(self, done: Iterable[tuple[str, FileRecord]]) -> None:
        """Record that these files are complete."""
        self._append("".join(line_of(path, record) for path, record in done))

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def _append(self, lines: str) -> None:
        data = lines.encode("ascii")
        with self._lock:
            while data:
                data = data[os.write(self._fd, data) :]


def read_journal(path: Path) -> dict[str, FileRecord]:
    """Return the files that earlier tries completed."""
    try:
        return read_lines(path.read_bytes()).files
    except FileNotFoundError:
        return {}
