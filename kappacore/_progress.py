"""What long work shows: a bar on a terminal, and elsewhere a line now and then."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from typing import TYPE_CHECKING, Protocol

from kappacore._printable import printable
from kappacore.sizes import format_size

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

SAY_AFTER, SAY_EVERY = 2.0, 60.0  # seconds


class Progress(Protocol):
    """A bar, or the lines in its place."""

    @property
    def n(self) -> float:
        """The number of units that are done."""

    def update(self, n: float) -> object:
        """Count units that were done just now."""

    def set_postfix_str(self, s: str, refresh: bool = ...) -> None:
        """Set what is shown behind the numbers."""

    def clear(self) -> None:
        """Take the bar away until the next update, so that a line may be printed."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> object: ...


def progress_bar(
    name: str,
    total: int | None,
    unit: str = "",
    *,
    show: bool | None = None,
    done: int = 0,
    leave: bool = True,
) -> Progress:
    """Return a bar, for a ``with`` statement.

    Args:
        name: What is being done.
        total: Number of units in all; None if that is unknown: there are lines then, and no bar.
        unit: What is counted, as ``"sample"``; ``"B"`` for bytes, shown as KiB, MiB, …; empty if
            nothing is.
        show: True: a bar; False: nothing; None: a bar if there is a terminal, else a line after two
            seconds, one a minute, and one at the end.
        done: Number of units that are done already.
        leave: Whether the bar stays on the terminal.
    """
    name = printable(name)
    if show is None and (total is None or not _is_terminal()):
        return _Lines(name, total, unit, done)
    from tqdm import tqdm

    return tqdm(
        total=total, initial=done, desc=name, unit=unit, unit_scale=unit == "B", leave=leave,
        unit_divisor=1024 if unit == "B" else 1000, disable=show is False,
    )  # fmt: skip


def _is_terminal() -> bool:
    return sys.stderr is not None and not sys.stderr.closed and sys.stderr.isatty()


class _Lines:
    """Writes lines from a thread, so that they come in the middle of a long step too."""

    def __init__(self, name: str, total: int | None, unit: str, done: int) -> None:
        self.n: float = done
        self._name, self._total, self._unit = name, total, unit
        self._postfix = ""
        self._began = time.monotonic()
        self._said = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kappacore-progress", daemon=True)

    def update(self, n: float) -> None:
        self.n += n

    def set_postfix_str(self, s: str, refresh: bool = True) -> None:  # noqa: ARG002 - tqdm's
        self._postfix = s

    def clear(self) -> None:
        pass

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()
        if self._said:
            self._say()

    def _run(self) -> None:
        pause = SAY_AFTER
        while not self._ended.wait(pause):
            pause = SAY_EVERY
            self._say()

    def _say(self) -> None:
        self._said = True
        text = f"kappacore: {self._name}"
        if self._unit:
            text += f": {self._count(self.n)}"
            text += "" if self._total is None else f" of {self._count(self._total)}"
            text += "" if self._unit == "B" else f" {self._unit}s"
        text += f", {self._postfix}" if self._postfix else ""
        with contextlib.suppress(OSError, ValueError):  # what only informs does not end the work
            if sys.stderr is not None:
                sys.stderr.write(f"{text} ({time.monotonic() - self._began:.0f} s)\n")

    def _count(self, number: float) -> str:
        return format_size(number) if self._unit == "B" else f"{number:,}"
