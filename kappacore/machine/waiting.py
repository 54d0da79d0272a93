"""Waiting for another process: in pauses that grow, and never without a word."""

from __future__ import annotations

import logging
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Wait"]

log = logging.getLogger("kappacore.cache")

SAY_AFTER, SAY_EVERY = 5.0, 60.0  # seconds
_PAUSE_LEAST, PAUSE_MOST = 0.0001, 0.05  # seconds
_SHARE = 4  # a pause is at most this part of what was waited already, so it adds little to it


class Wait:
    """A wait for what another process is doing, from construction on.

    Args:
        describe: Says what for, and who does it; called when there is something to say.
        longest: Seconds of the longest pause.
    """

    def __init__(self, describe: Callable[[], str], longest: float = PAUSE_MOST) -> None:
        self._describe = describe
        self._longest = longest
        self._since = time.monotonic()
        self._say_at = self._since + SAY_AFTER

    def pause(self) -> None:
        """Sleep for a moment; say what is waited for after 5 s, and then every minute."""
        now = time.monotonic()
        waited = now - self._since
        if now >= self._say_at:
            self._say_at = now + SAY_EVERY
            _say(f"Still waiting, for {waited:.0f} s now: {self._describe()}.")
        time.sleep(min(max(waited / _SHARE, _PAUSE_LEAST), self._longest))


def _say(text: str) -> None:
    """Log a warning, and have it on the terminal even where the log goes elsewhere."""
    log.warning(text)
    if log.isEnabledFor(logging.WARNING) and not _logs_to_terminal():
        sys.stderr.write(f"kappacore: {text}\n")


def _logs_to_terminal() -> bool:
    if not log.hasHandlers():
        return True  # what has no handler goes to stderr
    streams = (sys.stderr, sys.stdout, sys.__stderr__, sys.__stdout__)
    logger: logging.Logger | None = log
    while logger is not None:
        for handler in logger.handlers:
            if isinstance(handler, logging.StreamHandler) and handler.stream in streams:
                return True
        logger = logger.parent if logger.propagate else None
    return False
