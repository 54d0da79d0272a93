"""What is done where a fast way to decode fails: the plain way, which alone says what is wrong."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_log = logging.getLogger(__name__)


def fast_else_plain(fast: Callable[[], T], plain: Callable[[], T]) -> T:
    """Return ``fast()``, or ``plain()`` where that fails, whatever it raises.

    A fast way knows fewer files than Pillow does, so its failure says nothing about the file.
    """
    try:
        return fast()
    except MemoryError:  # the plain way would need as much
        raise
    except Exception as error:
        _log.debug("the fast way failed, so the plain one is taken: %r", error)
    return plain()  # outside of the block: its errors have no other one as their context
