"""A cache on a file system without locks is refused: the message names it and says what to do."""

from __future__ import annotations

import errno
import os

import pytest

from kappacore.machine.lease import SharedFolderLease, remove
from support.caching import start_script
from support.noflock import NO_LOCKS, without_flock


@pytest.fixture
def disk(tmp_path):
    """A folder below which programs that are refused see no locks."""
    folder = tmp_path / "disk"
    folder.mkdir()
    return folder


def refusal(tmp_path, source, *arguments, **env):
    """Run a program that opens a cache; return what the ``StorageError`` says."""
    lines = ["try:", *(f"    {line}" for line in source.splitlines())]
    lines += ["except StorageError as error:", "    print(error)"]
    program = "import pathlib, sys\nfrom kappacore.errors import StorageError\n" + "\n".join(lines)
    with start_script(tmp_path, program, *arguments, env=env) as process:
        out, err = process.communicate(timeout=250)
    assert err == ""
    return out


def expected(path, number):
    return (
        f"The file system of {path} has no locks (flock): [Errno {number}] {os.strerror(number)}. "
        f"Processes that share a cache need them. Set KAPPACORE_DIR, or the option path where it "
        f"was given, to a folder on a local disk.\n"
    )


@pytest.mark.slow
@pytest.mark.parametrize("number", NO_LOCKS, ids=errno.errorcode.get)
def test_opening_a_cache_leaves_nothing(tmp_path, disk, backend, number):
    env = without_flock(tmp_path / "noflock.so", number, disk)
    source = "from support.caching import open_cache\nopen_cache(sys.argv[1])"
    said = refusal(tmp_path, source, backend, KAPPACORE_DIR=str(disk), **env)
    assert said == expected(disk, number)
    assert list(disk.iterdir()) == []


@pytest.mark.slow
def test_a_path_leaves_nothing_either(tmp_path, disk):
    env = without_flock(tmp_path / "noflock.so", errno.ENOLCK, disk)
    source = (
        "from kappa_shared.backend import SharedBackend\n"
        "SharedBackend('test', 10, max_bytes='1MiB', path=sys.argv[1])"
    )
    said = refusal(tmp_path, source, disk, **env)
    assert said == expected(disk, errno.ENOLCK)
    assert list(disk.iterdir()) == []


@pytest.mark.parametrize(
    ("source", "name"),
    [
        (
            "from kappacore.machine.lease import SharedFolderLease\nSharedFolderLease(folder)",
            "users",
        ),
        ("from kappacore.machine.lease import remove\nremove(folder, kept=True)", "users"),
        ("from kappacore.caching.stats import _take_slot\n_take_slot(folder)", "slot-0000"),
        (
            "from kappacore.machine.claims import MachineClaims\nMachineClaims(folder, 10)",
            "claims",
        ),
        (
            "from support.arenas import open_arena\nopen_arena(folder, 10)",
            "lock",
        ),
    ],
)
def test_every_file_that_is_locked_is_named(tmp_path, disk, source, name):
    """Files that a machine with locks has made, or whose lock alone is refused."""
    path = disk / "kept" / name
    assert not SharedFolderLease(disk / "kept", keep=1000).release()
    env = without_flock(tmp_path / "noflock.so", errno.EOPNOTSUPP, path)
    source = f"folder = pathlib.Path(sys.argv[1])\n{source}"
    assert refusal(tmp_path, source, disk / "kept", **env) == expected(path, errno.EOPNOTSUPP)
    assert remove(disk / "kept", kept=True)
