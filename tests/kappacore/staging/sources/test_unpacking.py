"""What is compressed is unpacked once from beginning to end, in large steps, by bounded memory."""

from __future__ import annotations

import bz2
import functools
import gzip
import io
import lzma
import os
import threading

import pytest

from kappacore.staging.sources import unpacking
from kappacore.staging.sources.unpacking import BadStreamError, open_unpacked
from support.staging import zstd

PACK = {
    "gz": gzip.compress,
    "bz2": functools.partial(bz2.compress, compresslevel=1),
    "xz": functools.partial(lzma.compress, preset=0),
    "zst": zstd,
}
DATA = os.urandom(1 << 16) * 100  # more than a thread is started for


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "kappacore-unpack"]


@pytest.mark.parametrize(
    "packing", ["gz", pytest.param("bz2", marks=pytest.mark.slow), "xz", "zst"]
)
def test_it_can_be_read_and_passed_over(packing):
    packed = PACK[packing](DATA[:3_000_000]) + PACK[packing](DATA[3_000_000:])
    with open_unpacked(io.BytesIO(packed), packing) as file:
        for _ in range(2):
            file.seek(0)
            assert file.read(10) == DATA[:10]
            file.seek(2_999_999)
            assert file.read(5_000) == DATA[2_999_999:3_004_999]
            buffer = bytearray(7)
            assert file.readinto(buffer) == 7
            assert bytes(buffer) == DATA[3_004_999:3_005_006]
            file.seek(6_000_000)
            assert file.read(1 << 20) == DATA[6_000_000:]
            assert file.read(1) == b""
    assert threads() == []


def test_a_thread_unpacks_ahead_and_ends_with_the_file(monkeypatch):
    packed = gzip.compress(DATA, 1, mtime=0)
    with open_unpacked(io.BytesIO(packed), "gz") as file:
        file.read(1 << 20)
        assert threads() == []
        file.seek(5 << 20)
        file.read(1)
        assert len(threads()) == 1
        file.seek(1)
        assert threads() == []
        file.seek(5 << 20)
        file.read(1)
    assert threads() == []


def test_of_gzip_all_is_read_in_few_calls():
    class Counted(io.BytesIO):
        calls = 0

        def read(self, size=-1, /):
            Counted.calls += 1
            return super().read(size)

    packed = gzip.compress(DATA, 1, mtime=0)
    with open_unpacked(Counted(packed), "gz") as file:
        while file.read(1 << 20):
            pass
    assert Counted.calls <= len(packed) // unpacking._BLOCK + 4


GOOD = gzip.compress(b"first", mtime=0)


@pytest.mark.parametrize(
    ("packed", "found"),
    [
        (GOOD, b"first"),
        (GOOD + gzip.compress(b"", mtime=0) + gzip.compress(b" second", mtime=0), b"first second"),
        (GOOD + b"\0" * 1000, b"first"),
        (GOOD + b"\0" * 1000 + gzip.compress(b" second", mtime=0), b"first second"),
        (GOOD + b"garbage", BadStreamError),
        (GOOD[:-1], EOFError),
        (GOOD + GOOD[:5], EOFError),
        (GOOD[:-8] + b"\1" + GOOD[-7:], BadStreamError),  # its CRC
        (GOOD[:-4] + b"\1" + GOOD[-3:], BadStreamError),  # its length
    ],
)
def test_what_follows_a_gzip_stream_and_what_it_stores_of_itself_counts(packed, found):
    with open_unpacked(io.BytesIO(packed), "gz") as file:
        if isinstance(found, bytes):
            assert file.read(1000) == found == gzip.decompress(packed)
        else:
            with pytest.raises(found):
                file.read(1000)


def test_an_error_of_the_thread_is_raised_where_it_is_read_and_again():
    packed = gzip.compress(DATA, 1, mtime=0)
    with open_unpacked(io.BytesIO(packed[:-1]), "gz") as file:
        file.seek(6_000_000)
        for _ in range(2):
            with pytest.raises(EOFError):
                file.read(1 << 20)
