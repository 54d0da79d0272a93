"""Programs that see another file system somewhere, where this user may mount one."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import tempfile

__all__ = ["may_mount", "with_tmpfs"]


def with_tmpfs(folder: str | os.PathLike[str], options: str) -> list[str]:
    """Return a command that runs another with an empty file system in memory at ``folder``."""
    mount = f"mount -t tmpfs -o {options} tmpfs {os.fspath(folder)}"
    return ["unshare", "--mount", "sh", "-c", f'{mount} && exec "$0" "$@"']


@functools.cache
def may_mount() -> bool:
    """Tell whether this user may mount file systems in a namespace of its own."""
    if shutil.which("unshare") is None:
        return False
    command = [*with_tmpfs(tempfile.gettempdir(), "size=1m"), "true"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
