"""Children that are killed at a chosen moment of what they do."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import traceback
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")

__all__ = ["kill_self", "killed_at_every_line", "run_in_child"]


def kill_self(*_: object, **__: object) -> None:
    """End this process as the kernel does when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)


def run_in_child(call: Callable[[], Any]) -> int:
    """Call something in a forked child; return its exit code, or minus the signal that ended it."""
    pid = os.fork()
    if not pid:
        code = 1
        try:
            call()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def killed_at_every_line(
    prepare: Callable[[], T], call: Callable[[T], Any], *files: str
) -> Iterator[int]:
    """Call something in child after child, each killed one line later, until one gets through.

    Args:
        prepare: called in each child before.
        call: what to call with the result.
        files: ends of the paths of the source files whose lines count.

    Yields:
        How many lines it had run.
    """
    for line in itertools.count():

        def work(left: int = line) -> None:
            prepared = prepare()

            def trace(frame: Any, event: str, _argument: object) -> Any:
                nonlocal left
                if not frame.f_code.co_filename.endswith(files):
                    return None
                if event == "line":
                    left -= 1
                    if left < 0:
                        kill_self()
                return trace

            sys.settrace(trace)
            call(prepared)
            sys.settrace(None)

        code = run_in_child(work)
        if not code:
            return
        assert code == -signal.SIGKILL, f"exit code {code}"
        yield line
