"""Programs whose file systems lack something: locks, as NFS without its lock daemon; fallocate."""

from __future__ import annotations

import errno
import shutil
import subprocess
from pathlib import Path

import pytest

__all__ = ["NO_LOCKS", "without_fallocate", "without_flock"]

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
    _compile(_SOURCE, library)
    return {
        "LD_PRELOAD": str(library),
        "NOFLOCK_ERRNO": str(number),
        "NOFLOCK_BELOW": str(below),
    }


def without_fallocate(library: Path, number: int) -> dict[str, str]:
    """Return what to add to the environment of a program for which ``fallocate`` fails.

    Skips the test where there is no C compiler.

    Args:
        library: where to put the compiled library, a new file.
        number: the error number.
    """
    _compile(_SOURCE.with_stem("nofallocate"), library)
    return {"LD_PRELOAD": str(library), "NOFALLOCATE_ERRNO": str(number)}


def _compile(source: Path, library: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    command = [compiler, "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True)
