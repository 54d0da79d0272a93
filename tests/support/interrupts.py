"""Interrupts, as by Ctrl-C, at every moment at which Python lets one through."""

from __future__ import annotations

import gc
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

__all__ = ["interrupted_before", "interrupts"]


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


@contextmanager
def interrupted_before(bytecode: int, *packages: str) -> Iterator[Callable[[], bool]]:
    """Raise KeyboardInterrupt before a bytecode of some packages is run in this thread.

    That is harsher than a signal, which comes at some of them only: no statement is safe from it.

    Args:
        bytecode: which, counted from 0 over all that are run.
        *packages: names of packages.

    Yields:
        A function that returns whether it was raised.
    """
    left = bytecode

    def trace(frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal left
        if event == "call":
            if str(frame.f_globals.get("__name__")).partition(".")[0] not in packages:
                return None
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
        elif event == "opcode":
            left -= 1
            # Before a function's first line Python makes its cells, and lets nothing come between.
            if left < 0 and frame.f_lineno is not None:
                sys.settrace(None)
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    gc.disable()
    sys.settrace(trace)
    try:
        yield lambda: left < 0
    finally:
        sys.settrace(before)
        gc.enable()
