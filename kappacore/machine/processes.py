"""Other processes: whether they live, are stopped, and how to name them."""

from __future__ import annotations

import io
import os
import socket
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

__all__ = ["Claimant", "ProcessId", "command_of", "host_name", "look_at", "own_id"]


@dataclass(frozen=True)
class ProcessId:
    """A process of this machine, so that no other one is taken for it.

    Args:
        pid: Its number.
        space: The inode of the pid namespace that the number belongs to; 0 if unknown.
        started: Its start, in clock ticks since the machine's; 0 if unknown.
    """

    pid: int
    space: int
    started: int

    def state(self) -> str:
        """Return the letter that ``/proc`` gives for its state: ``"T"`` if it is stopped, for one.

        Returns:
            ``""`` if it has ended, ``"?"`` if this process cannot look at it.
        """
        if not self.space or self.space != own_id().space:
            return "?"
        state, started = _stat(self.pid)
        if state == "?" or not self.started:
            return state
        return state if started == self.started else ""


@dataclass(frozen=True, kw_only=True)
class Claimant:
    """A process that others wait for.

    Args:
        pid: The number of the process.
        host: The name of its machine.
        since: When it began what they wait for, in seconds since 1970; None if unknown.
        command: Its command line; empty if unknown.
        state: What is known to be wrong with it: ``"gone"``, ``"stopped"``, or nothing.
    """

    pid: int
    host: str
    since: float | None = None
    command: str = ""
    state: str = ""

    def __str__(self) -> str:
        command = f" ({self.command})" if self.command else ""
        text = f"process {self.pid}{command} on {self.host}"
        if self.since is not None:
            text += time.strftime(", since %H:%M:%S", time.localtime(self.since))
        return text + self.trouble

    @property
    def trouble(self) -> str:
        """What is wrong with it, to follow other text: ``"; it is gone"``; mostly empty."""
        if self.state == "stopped":
            return "; it is stopped (by SIGSTOP, Ctrl-Z or a debugger)"
        return "; it is gone" if self.state == "gone" else ""


def look_at(process: ProcessId, since: float | None = None) -> Claimant:
    """Return what can be said of a process of this machine, in this pid namespace or another."""
    state = process.state()
    return Claimant(
        pid=process.pid,
        host=host_name(),
        since=since,
        command="" if state == "?" else command_of(process.pid),
        state={"": "gone", "T": "stopped", "t": "stopped"}.get(state, ""),
    )


def own_id() -> ProcessId:
    """Return this process's."""
    return _own_id(os.getpid())


@lru_cache(maxsize=1)
def _own_id(pid: int) -> ProcessId:
    try:
        # Of another pid namespace, /proc has other numbers, and says nothing of ours.
        visible = str(Path("/proc/self").readlink()) == str(pid)
        space = Path("/proc/self/ns/pid").stat().st_ino if visible else 0
    except OSError:
        space = 0
    return ProcessId(pid, space, _stat(pid)[1] if space else 0)


def _stat(pid: int) -> tuple[str, int]:
    """Return the state of a process, as :meth:`ProcessId.state` does, and its start."""
    try:
        with io.FileIO(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(b")")[2].split()  # its name may have blanks
        state, threads = fields[0].decode(), int(fields[17])
        if state in "ZX" and threads < 2:  # ended, and only its parent does not know yet
            return "", 0
        return state, int(fields[19])
    except (FileNotFoundError, ProcessLookupError):
        return "", 0
    except (OSError, IndexError, ValueError):
        return "?", 0


def command_of(pid: int) -> str:
    """Return the command line of a process, shortened; empty if it cannot be read.

    Args:
        pid: The number of the process.
    """
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return ""
    text = " ".join(words).strip()
    return text if len(text) <= 80 else f"{text[:77]}..."


@lru_cache(maxsize=1)
def host_name() -> str:
    """Return the name of this machine."""
    return socket.gethostname()
