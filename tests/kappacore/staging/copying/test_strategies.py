"""The ways of moving bytes, and the sums computed on the way."""

from __future__ import annotations

import errno
import filecmp
import os
import zlib

import pytest
import xxhash

import kappacore
from kappacore.staging.copying.digests import (
    CHUNK,
    SumsOfContent,
    combine_crcs,
    combine_digests,
)
from kappacore.staging.copying.strategies import CopyStrategy, TooShortError
from kappacore.staging.sources.base import Extent
from support.staging import pack, sharing_disk, small_disk


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP])
def test_where_the_kernel_cannot_copy_reading_and_writing_does(tmp_path, monkeypatch, number):
    """Also in the middle of a file."""
    (tmp_path / "a").write_bytes(data := os.urandom(3_000_000))
    real, calls = os.copy_file_range, []

    def fails_the_second_time(source, target, count, *offsets):
        calls.append(count)
        if len(calls) > 1:
            raise OSError(number, os.strerror(number))
        return real(source, target, min(count, 1000), *offsets)

    monkeypatch.setattr(os, "copy_file_range", fails_the_second_time)
    strategy = CopyStrategy()
    for name in ("b", "c"):
        with (tmp_path / "a").open("rb") as source, (tmp_path / name).open("wb") as target:
            strategy.copy(Extent(source.fileno(), 0, len(data)), target.fileno())
        assert (tmp_path / name).read_bytes() == data
    assert len(calls) == 2  # it is not tried again


def test_a_file_system_that_wrongly_reports_the_end_is_not_believed(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(data := os.urandom(100_000))
    monkeypatch.setattr(os, "copy_file_range", lambda *given: 0)
    with (tmp_path / "a").open("rb") as source, (tmp_path / "b").open("wb") as target:
        CopyStrategy().copy(Extent(source.fileno(), 0, len(data)), target.fileno())
    assert (tmp_path / "b").read_bytes() == data


def test_a_file_that_is_shorter_than_it_was_is_an_error(tmp_path):
    (tmp_path / "a").write_bytes(b"short")
    with (
        (tmp_path / "a").open("rb") as source,
        (tmp_path / "b").open("wb") as target,
        pytest.raises(TooShortError),
    ):
        CopyStrategy().copy(Extent(source.fileno(), 0, 6), target.fileno(), 0)


def test_copies_between_file_systems(tmp_path):
    with small_disk(tmp_path / "disk", "8m") as disk:
        (tmp_path / "a").write_bytes(data := os.urandom(3_000_000))
        with (tmp_path / "a").open("rb") as source, (disk / "b").open("wb") as target:
            CopyStrategy().copy(Extent(source.fileno(), 5, 2_000_000), target.fileno(), 0)
        assert (disk / "b").read_bytes() == data[5:2_000_005]


@pytest.mark.parametrize("size", [CHUNK - 1, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 5000])
def test_a_disk_that_shares_blocks_makes_copies_without_writing(tmp_path, size):
    """XFS or btrfs. The last block of a file is not whole."""
    with sharing_disk(tmp_path / "disk") as disk:
        source = disk / "s"
        source.mkdir()
        noise = os.urandom(1 << 20)
        with (source / "big.bin").open("wb") as file:
            for start in range(0, size, len(noise)):
                file.write(noise[: size - start])
        os.sync()
        before = os.statvfs(disk).f_bfree * os.statvfs(disk).f_frsize
        target = kappacore.stage(source, disk / "t").path
        os.sync()
        after = os.statvfs(disk).f_bfree * os.statvfs(disk).f_frsize
        assert filecmp.cmp(source / "big.bin", target / "big.bin", shallow=False)
        assert before - after < size / 4


@pytest.mark.slow
@pytest.mark.parametrize("refuses", [True, False], ids=["refuses", "shortens"])
def test_a_stand_in_for_a_disk_that_shares_whole_blocks_only(tmp_path, monkeypatch, refuses):
    real, size = os.copy_file_range, CHUNK + 4097
    calls = []

    def shares(source, target, count, offset, to):
        calls.append(count)
        whole = offset % 4096 == to % 4096 == 0
        if not whole or (refuses and count % 4096 and offset + count != os.fstat(source).st_size):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        rounded = count if offset + count == os.fstat(source).st_size else count // 4096 * 4096
        return real(source, target, rounded, offset, to)

    monkeypatch.setattr(os, "copy_file_range", shares)
    source = tmp_path / "s"
    source.mkdir()
    noise = os.urandom(1 << 20)
    with (source / "big.bin").open("wb") as file:
        for start in range(0, size, len(noise)):
            file.write(noise[: size - start])
    pack(source / "shards.tar", {"1.bin": noise}).rename(source / "shards.bin")
    target = kappacore.stage(source, tmp_path / "t").path
    assert calls
    assert filecmp.cmp(source / "big.bin", target / "big.bin", shallow=False)
    kappacore.stage(source / "shards.bin", tmp_path / "u")  # its member begins within a block
    assert (tmp_path / "u" / "1.bin").read_bytes() == noise


def test_crcs_of_parts_give_the_crc_of_the_whole():
    data = os.urandom(100_000)
    for cuts in ([0], [1, 99_999], [4096, 4097, 50_000]):
        parts = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
        assert combine_crcs((zlib.crc32(part), len(part)) for part in parts) == zlib.crc32(data)


def test_sums_do_not_depend_on_the_sizes_of_blocks():
    data = bytes(CHUNK + 1000)
    chunks = [xxhash.xxh3_128_digest(data[:CHUNK]), xxhash.xxh3_128_digest(data[CHUNK:])]
    for step in (len(data), 10_000_019):
        sums = SumsOfContent(with_crc=True, with_digest=True)
        for start in range(0, len(data), step):
            sums.update(data[start : start + step])
        assert sums.value() == (zlib.crc32(data), combine_digests(chunks))
    small = SumsOfContent(with_crc=False, with_digest=True)
    small.update(b"small")
    assert small.value() == (None, xxhash.xxh3_128_digest(b"small"))
