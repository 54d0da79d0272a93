"""How far a copy is: for a bar on the terminal, or for a function of the caller's."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Progress", "StageProgress", "display"]


@dataclass(frozen=True)
class StageProgress:
    """How far a copy is.

    Attributes:
        files: number of files that are there, those of earlier tries among them.
        total_files: number of files.
        bytes: bytes that are there.
        total_bytes: bytes of the whole dataset.
        seconds: since this copy began.
    """

    files: int
    total_files: int
    bytes: int
    total_bytes: int
    seconds: float


class Progress:
    """Counts what several threads have done.

    Args:
        total_files: number of files.
        total_bytes: their bytes.
    """

    def __init__(self, total_files: int, total_bytes: int):
        self.total_files = total_files
        self.total_bytes = total_bytes
        self.files = 0
        self.bytes = 0
        self.started = time.monotonic()
        self._lock = threading.Lock()

    def add(self, files: int, size: int) -> None:
        """Count files and bytes."""
        with self._lock:
            self.files += files
            self.bytes += size

    def now(self) -> StageProgress:
        """Return how far it is."""
        with self._lock:
            return StageProgress(
                self.files,
                self.total_files,
                self.bytes,
                self.total_bytes,
                time.monotonic() - self.started,
            )


@contextmanager
def display(
    progress: Progress, show: bool | Callable[[StageProgress], None] | None, name: str
) -> Iterator[Callable[[], None]]:
    """Give a function that shows how far it is; to be called now and then, by one thread.

    Args:
        progress: what is counted.
        show: True: a bar; None: a bar where there is a terminal; False: nothing; a function: called
            with a :class:`StageProgress`.
        name: what the bar calls it.
    """
    if callable(show):
        yield lambda: show(progress.now())
        show(progress.now())
    elif show is False or (show is None and not sys.stderr.isatty()):
        yield lambda: None
    else:
        with _bar(progress, name) as bar:
            yield lambda: _update(bar, progress)
            _update(bar, progress)


def _bar(progress: Progress, name: str) -> Any:
    from tqdm import tqdm

    return tqdm(
        total=progress.total_bytes, initial=progress.bytes, desc=f"Staging {name}", unit="B",
        unit_scale=True, unit_divisor=1024,
    )  # fmt: skip


def _update(bar: Any, progress: Progress) -> None:
    now = progress.now()
    bar.set_postfix_str(f"{now.files:,} of {now.total_files:,} files", refresh=False)
    bar.update(now.bytes - bar.n)
