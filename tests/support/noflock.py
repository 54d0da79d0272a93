"""Programs that see a file system without locks somewhere, as NFS without its lock daemon."""

from __future__ import annotations

import errno
import shutil
import subprocess
from pathlib import Path

import pytest

__all__ = ["NO_LOCKS", "without_flock"]

#: The error numbers with which file systems say that they have no locks.
NO_LOCKS = [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP]

_SOURCE = Path(__file__).with_suffix(".c")


def without_flock(library: Path, number: int, below: Path) -> dict[str, str]:
    """Return what to add to the environment of a program for which ``flock`` fails below a folder.

    Skips the test where there is no C compiler.

    Args:
        library: where to put the compiled library, a new file.
        number: the error number.
        below: the folder, without symlinks; or the beginning of any path.
    """
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    command = [compiler, "-shared", "-fPIC", "-o", str(library), str(_SOURCE), "-ldl"]
    subprocess.run(command, check=True)
    return {
        "LD_PRELOAD": str(library),
        "NOFLOCK_ERRNO": str(number),
        "NOFLOCK_BELOW": str(below),
    }
