"""Facts about the operating system: the current boot, and the errors that mean no space."""

from __future__ import annotations

import errno
from pathlib import Path

#: Error numbers of a write that found no space: disk or memory full, quota, limit on file sizes.
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def boot_id() -> str:
    """Return the identifier of the machine's current boot; empty where the system has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
