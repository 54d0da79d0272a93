"""Warnings that point at the user's line, not at a line of the library."""

from __future__ import annotations

import sys
import warnings

# Packages between the user's line and the warning.
_BETWEEN = {"kappacore", "torch"}


def warn(message: str, category: type[Warning]) -> None:
    """Warn, with the innermost line outside kappacore and torch as the origin."""
    level = 1
    frame = sys._getframe(1)
    while frame.f_back is not None and _package(frame.f_globals) in _BETWEEN:
        frame = frame.f_back
        level += 1
    warnings.warn(message, category, stacklevel=level + 1)


def _package(namespace: dict[str, object]) -> str:
    return str(namespace.get("__name__", "")).partition(".")[0]
