"""Runs a private server as long as its owner, the process that asked for it, lives.

A program of its own, of the standard library alone: ``_supervisor.py OWNER FOLDER COMMAND …``. It
is a child of the owner, so it gets another parent as soon as the owner ends, even if that is killed
while its DataLoader workers, which have inherited its files, live on. The kernel's own signal for
this, ``PR_SET_PDEATHSIG``, is of no use to the owner: it comes when the *thread* that started the
child ends. Here, where there is one thread, it ends the server if the supervisor itself is killed.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time

_PAUSE = 0.2  # seconds between checks of the owner
_PR_SET_PDEATHSIG = 1


def _end_with_supervisor() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def main(owner: int, folder: str, command: list[str]) -> None:
    """Run the server until it or its owner ends, or SIGTERM comes."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    server = subprocess.Popen(command, preexec_fn=_end_with_supervisor)  # noqa: S603
    try:
        while os.getppid() == owner and server.poll() is None:
            time.sleep(_PAUSE)
    finally:
        server.kill()
        server.wait()
        if os.getppid() != owner:  # else the owner removes it
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3:])
