"""A disk that is too small, or becomes full."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile

import pytest

import kappacore
from kappacore.errors import NotEnoughSpaceError, StagingError
from kappacore.staging.target.paths import StagePaths
from support.staging import make_tree, pack, small_disk, tree_of

FILES = {f"{number % 7}/{number}.bin": os.urandom(400_000) for number in range(100)}  # 40 MB


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return make_tree(tmp_path_factory.mktemp("source") / "s", FILES)


def test_what_does_not_fit_is_refused_before_anything_is_copied(tmp_path, source):
    with small_disk(tmp_path / "disk", "32m") as disk:
        with pytest.raises(NotEnoughSpaceError, match=r"needs 38\.\d MiB more .* 32\.0 MiB"):
            kappacore.stage(source, disk / "t")
        assert not (disk / "t").exists()
        assert list(StagePaths(disk / "t").tree.rglob("*.bin")) == []


def test_inodes_are_counted_too(tmp_path):
    files = make_tree(tmp_path / "s", {f"{number}": b"" for number in range(100)})
    with small_disk(tmp_path / "disk", "32m", "nr_inodes=80") as disk:
        with pytest.raises(NotEnoughSpaceError, match=r"needs 100 more files and folders"):
            kappacore.stage(files, disk / "t")
        assert not (disk / "t").exists()


@pytest.mark.usefixtures("road")
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["folder", "zip", "tgz"])
def test_a_disk_that_becomes_full_keeps_what_was_copied(tmp_path, source, kind):
    """Something else fills it after the check; the next try, with room, goes on."""
    given = (
        source if kind == "folder" else pack(tmp_path / f"a.{kind}", FILES, zipfile.ZIP_DEFLATED)
    )
    with small_disk(tmp_path / "disk", "64m") as disk:
        filler = disk / "filler"

        def fill(line):
            if line.startswith("copying"):
                filler.write_bytes(b"x" * (40 << 20))

        with pytest.raises(NotEnoughSpaceError) as caught:
            kappacore.stage(given, disk / "t", log=fill, workers=2)
        assert "is full (No space left on device); nothing was published" in str(caught.value)
        assert not (disk / "t").exists()
        there = sum(path.stat().st_size for path in StagePaths(disk / "t").tree.rglob("*.bin"))
        assert there > 5_000_000
        filler.unlink()
        result = kappacore.stage(given, disk / "t", verify="size")
        assert tree_of(disk / "t") == FILES
        assert result.kept_bytes == there
        assert result.copied_bytes == 40_000_000 - there


def test_the_root_of_a_disk_can_be_the_target(tmp_path, source):
    with small_disk(tmp_path / "disk", "64m") as disk:
        part = kappacore.stage(source, disk, relative="3")
        assert part.path == disk / "3"
        result = kappacore.stage(source, disk)
        assert tree_of(disk) == FILES
        assert result.kept_bytes == part.bytes
        assert not kappacore.stage(source, disk).copied
        assert [path.name for path in disk.iterdir() if path.name.endswith("-work")] == []


@pytest.mark.slow
def test_a_limit_of_the_process_is_no_different(tmp_path):
    """Where nothing can be mounted: RLIMIT_FSIZE makes the kernel refuse within a file."""
    source = make_tree(tmp_path / "s", {**FILES, "9/long.bin": os.urandom(3_000_000)})
    script = (
        "import resource, sys, kappacore\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))\n"
        "kappacore.stage(*sys.argv[1:], workers=1)\n"
    )
    target = tmp_path / "t"
    done = subprocess.run(
        [sys.executable, "-c", script, str(source), str(target)], capture_output=True, text=True
    )
    assert "NotEnoughSpaceError: the disk of" in done.stderr
    assert "File too large" in done.stderr
    assert not target.exists()
    result = kappacore.stage(source, target)
    assert result.kept_bytes > 0
    assert tree_of(target) == tree_of(source)


def test_a_disk_that_is_read_only(tmp_path, source):
    with small_disk(tmp_path / "disk", "64m") as disk:
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with pytest.raises(StagingError, match=r"cannot stage to '.*t': Read-only file sy"):
            kappacore.stage(source, disk / "t")
