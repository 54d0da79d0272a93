"""Warnings that point at the user's line, not at one of the library's."""

from __future__ import annotations

import sys
import warnings

__all__ = ["warn"]

_BETWEEN = ("kappacore", "kappa_", "torch")  # packages through which a user's call comes


def warn(message: str, category: type[Warning]) -> None:
    """Warn as from the innermost line outside this project and torch."""
    level = 1
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(_BETWEEN):
        frame = frame.f_back
        level += 1
    warnings.warn(message, category, stacklevel=level + 1)
