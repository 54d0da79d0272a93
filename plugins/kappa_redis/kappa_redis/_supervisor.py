"""Runs a private server as long as the process that asked for it lives.

A program of its own, of the standard library alone: ``_supervisor.py OWNER FOLDER COMMAND …``. It
is the owner's child, so the system gives it another parent the moment the owner ends, however that
happens; what the owner's other children have inherited plays no part.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time

_PAUSE = 0.2  # seconds between looks at the owner
_PR_SET_PDEATHSIG = 1


def _end_with_parent() -> None:
    """Have this process killed when its parent is, the supervisor: also a thing that happens."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def main(owner: int, folder: str, command: list[str]) -> None:
    """Run the server until it or its owner ends, or somebody sends SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    server = subprocess.Popen(command, preexec_fn=_end_with_parent)  # noqa: S603
    try:
        while os.getppid() == owner and server.poll() is None:
            time.sleep(_PAUSE)
    finally:
        server.kill()
        server.wait()
        if os.getppid() != owner:  # else the owner removes it
            with contextlib.suppress(OSError):
                shutil.rmtree(folder)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3:])
