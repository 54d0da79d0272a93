"""How far a copy is: for a bar on the terminal, or for the caller's function."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kappacore._progress import progress_bar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass(frozen=True)
class StageProgress:
    """How far a copy is.

    Attributes:
        files: Number of files at the target, including those of earlier tries.
        total_files: Number of files in the dataset.
        bytes: Bytes at the target.
        total_bytes: Bytes of the dataset.
        seconds: Time since this copy began.
    """

    files: int
    total_files: int
    bytes: int
    total_bytes: int
    seconds: float


class Progress:
    """Counts what several threads have done.

    Args:
        total_files: Number of files in the dataset.
        total_bytes: Their bytes.
    """

    def __init__(self, total_files: int, total_bytes: int):
        self._totals = total_files, total_bytes
        self._files = self._bytes = 0
        self._started = time.monotonic()
        self._lock = threading.Lock()

    def add(self, files: int, size: int) -> None:
        """Count files and bytes."""
        with self._lock:
            self._files += files
            self._bytes += size

    def now(self) -> StageProgress:
        """Return the counts."""
        files, size = self._totals
        with self._lock:
            seconds = time.monotonic() - self._started
            return StageProgress(self._files, files, self._bytes, size, seconds)


@contextmanager
def display(
    progress: Progress, show: bool | Callable[[StageProgress], None] | None, name: str
) -> Iterator[Callable[[], None]]:
    """Yield a function that displays the progress, to be called now and then by one thread.

    Args:
        progress: The counts.
        show: True: a bar; None: a bar if there is a terminal, else a line now and then; False:
            nothing; a function: called with a :class:`StageProgress`.
        name: The bar's title.
    """
    if callable(show):
        yield lambda: show(progress.now())
        show(progress.now())
        return
    if show is False:  # tqdm takes a tenth of a second to import
        yield lambda: None
        return
    start = progress.now()
    with progress_bar(name, start.total_bytes, "B", show=show, done=start.bytes) as bar:

        def update() -> None:
            now = progress.now()
            bar.set_postfix_str(f"{now.files:,} of {now.total_files:,} files", refresh=False)
            bar.update(now.bytes - bar.n)

        yield update
        update()
