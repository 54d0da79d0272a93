"""Interrupts, as by Ctrl-C, at every moment at which Python lets one through."""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["interrupts"]


def interrupts(call: Callable[[], Any]) -> Iterator[KeyboardInterrupt]:
    """Call again and again, each time interrupted one moment later, until it goes through.

    Python looks for signals where a function begins and where one that is written in C has
    returned. Each error is held while it is yielded, as an interactive session holds its last one.

    Args:
        call: what to call; it must work after having been interrupted.
    """
    moment = 0
    while True:
        left = moment

        def interrupt(_frame: object, event: str, _argument: object) -> None:
            nonlocal left
            if event in ("call", "c_return"):
                left -= 1
                if left < 0:
                    raise KeyboardInterrupt

        try:
            gc.disable()  # whose callbacks, as Hypothesis has one, let no error through
            sys.setprofile(interrupt)
            try:
                call()
            finally:
                sys.setprofile(None)
                gc.enable()
        except KeyboardInterrupt as error:
            yield error
        else:
            return
        moment += 1
