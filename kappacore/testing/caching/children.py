"""Processes for tests: forked ones that run a function, and unrelated ones that run a program."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import traceback
import warnings
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection

__all__ = ["Child", "forks_are_meant", "run_program"]


class Child:
    """A forked process that runs one function.

    Args:
        timeout: seconds after which it hangs.
        function: what it runs; nothing of it is pickled.
        *args: its arguments.
    """

    def __init__(self, timeout: float, function: Callable[..., Any], *args: Any) -> None:
        self._timeout = timeout
        context = multiprocessing.get_context("fork")
        self._receiver, sender = context.Pipe(duplex=False)
        self._process = context.Process(
            target=_run, args=(sender, function, args), name="kappacore-suite", daemon=True
        )
        with forks_are_meant():
            self._process.start()
        sender.close()

    def result(self) -> Any:
        """Wait for the function to end and return its result; fail if it fails or hangs."""
        if not self._receiver.poll(self._timeout):
            self.kill()
            pytest.fail(f"a process that uses the backend hung for {self._timeout:.0f} s")
        try:
            ok, result = self._receiver.recv()
        except EOFError:
            self._process.join()
            ok, result = False, f"it ended with exit code {self._process.exitcode}"
        self._process.join(self._timeout)
        self.kill()
        if not ok:
            pytest.fail(f"in a child process: {result}")
        return result

    def kill(self) -> None:
        """End the process with SIGKILL, if it has not ended yet."""
        if self._process.pid is not None and self._process.is_alive():
            os.kill(self._process.pid, signal.SIGKILL)
        self._process.join()
        self._receiver.close()


@contextlib.contextmanager
def forks_are_meant() -> Iterator[None]:
    """Python 3.12 warns of forks in a process with threads, which is where DataLoaders fork."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*multi-threaded.*fork", DeprecationWarning)
        yield


def _run(sender: Connection, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    try:
        reply = (True, function(*args))
    except BaseException:
        reply = (False, traceback.format_exc())
    sender.send(reply)
    sender.close()


_PROGRAM = """\
import pickle, sys
path, code, arguments = pickle.load(sys.stdin.buffer)
sys.path[:] = path
exec(compile(code, "<suite>", "exec"), {"arguments": pickle.loads(arguments)})
"""


def run_program(timeout: float, code: str, *arguments: Any) -> str:
    """Run code in a new Python.

    Args:
        timeout: seconds after which it hangs.
        code: the program; finds the arguments in a global ``arguments``.
        *arguments: what can be pickled.

    Returns:
        What it printed.
    """
    try:
        done = subprocess.run(  # noqa: S603 - this Python, and the suite's own code
            [sys.executable, "-c", _PROGRAM],
            input=pickle.dumps((sys.path, code, pickle.dumps(arguments))),
            capture_output=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        pytest.fail(f"a process that uses the backend hung for {timeout:.0f} s")
    if done.returncode:
        pytest.fail(f"in another Python: {done.stderr.decode(errors='replace')}")
    return done.stdout.decode()
