"""A process that has torch imported and forks into programs that need it.

Started by ``support.warm`` as a script. It imports nothing of kappacore.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import socket
import sys
import types
import warnings
from pathlib import Path
from typing import Any

import torch.utils.data  # noqa: F401 - for the programs

__all__: list[str] = []


def wait_for_requests(requests: socket.socket) -> Any:
    """Fork for each request; return it in the forked process, whose streams are the request's."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the keepers
    while True:
        data, fds, _, _ = socket.recv_fds(requests, 1 << 20, 4)
        if not data:
            requests.close()
            sys.exit()  # the tests have ended
        if os.fork() == 0:
            requests.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            *streams, answers = fds
            program = os.fork()
            if program:
                _keep(program, streams, answers)
            os.close(answers)
            for number, fd in enumerate(streams):
                os.dup2(fd, number)
                os.close(fd)
            return json.loads(data)
        for fd in fds:
            os.close(fd)


def _keep(program: int, streams: list[int], answers: int) -> None:
    """Say which process the program is, wait for it, and say how it ended."""
    for fd in (*range(3), *streams):
        os.close(fd)
    with socket.socket(fileno=answers) as tests:
        tests.send(b"%d" % program)
        _, status = os.waitpid(program, 0)
        with contextlib.suppress(BrokenPipeError):  # nobody wants to know
            tests.send(b"%d" % os.waitstatus_to_exitcode(status))
    os._exit(0)


def run(script: str, arguments: list[str], environment: dict[str, str], folder: str) -> None:
    """Run a script as ``python SCRIPT ARGUMENTS`` does."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    paths = environment.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:1] = [str(Path(script).parent), *(path for path in paths if path not in sys.path)]
    sys.argv[:] = [script, *arguments]
    main = types.ModuleType("__main__")
    main.__file__ = script
    sys.modules["__main__"] = main
    exec(compile(Path(script).read_text(encoding="utf-8"), script, "exec"), vars(main))


if __name__ == "__main__":
    gc.collect()
    gc.freeze()  # so that no collection of a forked process copies what it shares
    with warnings.catch_warnings():
        # From Python 3.12 on; the other thread is that of NumPy's linear algebra.
        warnings.filterwarnings("ignore", ".*multi-threaded.*fork", DeprecationWarning)
        request = wait_for_requests(socket.socket(fileno=int(sys.argv[1])))
    run(**request)
