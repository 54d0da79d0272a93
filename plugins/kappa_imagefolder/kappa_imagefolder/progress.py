"""A bar for what may take long; nothing is shown, or imported, for what does not."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Counter"]

DELAY = 2.0  # seconds before the bar appears


class Counter:
    """Counts up; shows a bar on a terminal, on the first rank, once two seconds have passed.

    Args:
        title: What is being done.
        unit: What is counted.
        total: How many there will be, where that is known.
        show: Whether to show anything.
    """

    def __init__(self, title: str, unit: str, total: int | None = None, *, show: bool = True):
        self._options: dict[str, Any] = {"desc": title, "unit": f" {unit}", "total": total}
        self._show = show and os.environ.get("RANK", "0") == "0" and sys.stderr.isatty()
        self._due = time.monotonic() + DELAY
        self._count = 0
        self._bar: Any = None

    def add(self, count: int) -> None:
        """Count ``count`` more."""
        self._count += count
        if self._bar is not None:
            self._bar.update(count)
        elif self._show and time.monotonic() >= self._due:
            from tqdm import tqdm

            self._bar = tqdm(initial=self._count, leave=False, **self._options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()
