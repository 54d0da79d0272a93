"""Files with holes: they stay so, and take no room for them."""

from __future__ import annotations

import filecmp
import io
import os
import subprocess
import tarfile

import pytest

import kappacore
from kappacore.errors import (
    NotEnoughSpaceError,
    SourceChangedError,
    StagingError,
    UnsafeArchiveError,
)
from kappacore.staging import ArchiveLimits, check_staged
from kappacore.staging.copying.digests import CHUNK
from kappacore.staging.copying.strategies import CopyStrategy, TooShortError
from kappacore.staging.sources.base import Extent
from support.staging import make_tree, small_disk

MIB = 1 << 20
LAYOUTS = {  # size, and where there is data
    "only a hole": (5 * MIB, []),
    "a hole at the end": (5 * MIB, [0]),
    "a hole at the beginning": (5 * MIB, [5 * MIB - 10]),
    "several": (5 * MIB + 3, [MIB, 3 * MIB - 5, 4 * MIB]),
    "chunks": (2 * CHUNK + 77, [5, CHUNK - 4, 2 * CHUNK + 70]),
    "chunks that are holes": (3 * CHUNK, [CHUNK + MIB]),
}


def sparse(path, size, data):
    with path.open("wb") as file:
        for at in data:
            file.seek(at)
            file.write(b"data"[: size - at])
        file.truncate(size)
    if path.stat().st_blocks * 512 >= size:
        pytest.skip("this file system has no holes")
    return path


def taken(path):
    return path.stat().st_blocks * 512


@pytest.mark.slow
@pytest.mark.parametrize("verify", ["size", "reread"])
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_holes_stay_holes(tmp_path, layout, verify):
    source = make_tree(tmp_path / "s", {"1.jpg": b"1"})
    file = sparse(source / "big.bin", *layout)
    target = kappacore.stage(source, tmp_path / "t", verify=verify).path
    assert filecmp.cmp(file, target / "big.bin", shallow=False)
    assert taken(target / "big.bin") <= taken(file) + MIB
    assert check_staged(target).ok


def test_room_is_asked_for_what_they_take(tmp_path):
    source = make_tree(tmp_path / "s", {"1.jpg": b"1"})
    for number in range(3):
        sparse(source / f"{number}.bin", 100 * MIB, [50 * MIB])
    with small_disk(tmp_path / "disk", "8m") as disk:
        result = kappacore.stage(source, disk / "t")
        assert result.bytes == 300 * MIB + 1
        assert filecmp.cmp(source / "2.bin", disk / "t" / "2.bin", shallow=False)
        (source / "full.bin").write_bytes(os.urandom(9 * MIB))
        with pytest.raises(NotEnoughSpaceError, match=r"needs \d+\.\d MiB more"):
            kappacore.stage(source, disk / "t")


def test_the_digest_is_that_of_the_same_file_without_holes(tmp_path):
    source = make_tree(tmp_path / "s", {"1.jpg": b"1"})
    file = sparse(source / "big.bin", *LAYOUTS["several"])
    target = kappacore.stage(source, tmp_path / "t", verify="hash").path
    (target / "big.bin").write_bytes(file.read_bytes())
    report = check_staged(target)
    assert (report.ok, report.digests) == (True, 2)


def test_one_that_becomes_shorter_is_noticed(tmp_path):
    file = sparse(tmp_path / "a", *LAYOUTS["a hole at the end"])
    size = file.stat().st_size
    os.truncate(file, MIB)
    with file.open("rb") as source, (tmp_path / "b").open("wb") as target:
        extent = Extent(source.fileno(), 0, size, sparse=True)
        with pytest.raises(TooShortError):
            CopyStrategy().copy(extent, target.fileno())


def test_so_it_is_in_the_middle_of_a_copy(tmp_path):
    source = make_tree(tmp_path / "s", {"1.jpg": b"1"})
    file = sparse(source / "big.bin", *LAYOUTS["a hole at the end"])

    def log(line):
        if line.startswith("copying"):
            os.truncate(file, MIB)

    with pytest.raises(SourceChangedError, match=r"'big\.bin'"):
        kappacore.stage(source, tmp_path / "t", log=log)


FORMATS = {
    "gnu": ["--format=gnu"],
    "0.0": ["--format=posix", "--sparse-version=0.0", "-z"],
    "0.1": ["--format=posix", "--sparse-version=0.1"],
    "1.0": ["--format=posix", "--sparse-version=1.0", "-z"],
}


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMATS)
def test_sparse_members_of_a_tar_file(tmp_path, form):
    """In all forms of GNU tar, of which the oldest has 21 pieces a header."""
    source = tmp_path / "s"
    source.mkdir()
    for name, layout in LAYOUTS.items():
        if "chunks" not in name:
            sparse(source / name, *layout)
    sparse(source / "30 pieces", 40 * MIB, [number * MIB for number in range(30)])
    (source / "link").hardlink_to(source / "30 pieces")
    (source / "plain").write_bytes(b"plain")
    command = ["tar", "-cS", *FORMATS[form], "-f", tmp_path / "a.tar", "-C", source, "."]
    subprocess.run(command, check=True)
    limits = ArchiveLimits(max_ratio=1e9)
    for verify in ("size", "hash"):
        target = tmp_path / verify
        kappacore.stage(tmp_path / "a.tar", target, verify=verify, limits=limits)
        for file in source.iterdir():
            copy = target / file.name
            assert filecmp.cmp(file, copy, shallow=False)
            assert copy.stat().st_blocks <= file.stat().st_blocks + 64
        (tmp_path / "a.tar").touch()  # so contents are compared
        assert not kappacore.stage(tmp_path / "a.tar", target, verify=verify, limits=limits).copied
    with pytest.raises(UnsafeArchiveError, match="max-ratio"):
        kappacore.stage(tmp_path / "a.tar", tmp_path / "t")


@pytest.mark.parametrize("pieces", ["5,5,0,5", "0,5,3,5", "-1,5", "0,-5", "10,10", "0,9999"])
def test_a_map_of_holes_that_cannot_be(tmp_path, pieces):
    member = tarfile.TarInfo("a")
    member.size = 10
    member.pax_headers = {"GNU.sparse.map": pieces, "GNU.sparse.size": "15"}
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(member, io.BytesIO(b"x" * 10))
    with pytest.raises(StagingError, match=r"a\.tar"):
        kappacore.stage(tmp_path / "a.tar", tmp_path / "t")
    assert not (tmp_path / "t").exists()
