"""Programs that need torch, without the seconds that each would take to import it.

They are forked from one process that has torch imported, and nothing of kappacore. A test of
what is imported, or of mounts and preloaded libraries, starts a Python of its own instead.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from typing_extensions import Self

__all__ = ["WarmProgram", "run_warm"]

_TESTS = Path(__file__).parents[1]


@functools.cache
def _server(_process: int) -> socket.socket:
    """Start the server of this process; return where it takes requests."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    fd = theirs.fileno()
    server = subprocess.Popen(
        [sys.executable, "-W", "error::ResourceWarning", "-m", "support.warm_server", str(fd)],
        cwd=_TESTS,
        pass_fds=[fd],
        stdin=subprocess.DEVNULL,
    )
    theirs.close()
    atexit.register(_end, ours, server)
    return ours


def _end(requests: socket.socket, server: subprocess.Popen[bytes]) -> None:
    requests.close()
    server.wait()


class WarmProgram:
    """A program that runs; used as a ``subprocess.Popen`` of its script with pipes and text.

    Args:
        script: its file.
        *arguments: its arguments.
        env: environment variables beside those there are.
        cwd: its folder.
        stderr: a file descriptor for its errors.
    """

    def __init__(
        self,
        script: Path,
        *arguments: object,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stderr: int = subprocess.PIPE,
    ) -> None:
        request = {
            "script": str(script),
            "arguments": list(map(str, arguments)),
            "environment": {**os.environ, **(env or {})},
            "folder": str(cwd or Path.cwd()),
        }
        self._answers, answers = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        stdin, self.stdin = _pipe(writes=True)
        stdout, self.stdout = _pipe()
        self.stderr: TextIO | None = None
        if stderr == subprocess.PIPE:
            errors, self.stderr = _pipe()
        else:
            errors = os.dup(stderr)
        fds = [stdin, stdout, errors, answers.detach()]
        socket.send_fds(_server(os.getpid()), [json.dumps(request).encode()], fds)
        for fd in fds:
            os.close(fd)
        self.args = [str(script), *request["arguments"]]
        self.pid = int(self._answers.recv(100))
        self.returncode: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end and return the exit code, or the signal's negative number."""
        if self.returncode is None:
            self._answers.settimeout(timeout)
            try:
                self.returncode = int(self._answers.recv(100))
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired(self.args, timeout or 0) from None
            self._answers.close()
        return self.returncode

    def poll(self) -> int | None:
        """Return what ``wait`` would, or None if it runs."""
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def communicate(self, text: str = "", timeout: float | None = None) -> tuple[str, str]:
        """Write its input and let it run to its end; return what it printed and its errors."""
        assert self.stderr is not None
        self.stdin.write(text)
        self.stdin.close()
        with ThreadPoolExecutor(2) as readers:
            try:
                out, err = readers.map(_read, (self.stdout, self.stderr), timeout=timeout)
            except TimeoutError:
                self.kill()
                raise
        self._close()
        self.wait(timeout)
        return out, err

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it by SIGKILL."""
        self.send_signal(9)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._close()
        self.wait()

    def _close(self) -> None:
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream is not None:
                stream.close()


def _pipe(*, writes: bool = False) -> tuple[int, TextIO]:
    """Make a pipe; return the program's end and ours."""
    reader, writer = os.pipe()
    if writes:
        return reader, os.fdopen(writer, "w")
    return writer, os.fdopen(reader)


def _read(stream: TextIO) -> str:
    return stream.read()


def run_warm(
    script: Path,
    *arguments: object,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float = 250,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, as ``subprocess.run`` with its output captured as text."""
    with WarmProgram(script, *arguments, env=env, cwd=cwd) as program:
        out, err = program.communicate(timeout=timeout)
        return subprocess.CompletedProcess(program.args, program.wait(), out, err)
