"""Bytes made to harm: the fuzzer for a few seconds, and cases that it might not find in time."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kappacore.caching.codec import default_codec
from kappacore.caching.codec.layout import seal
from kappacore.errors import CorruptValueError


def refuse(program: str, *operands: Any, buffers: bytes = b"", arrays: int = 0) -> None:
    """Check that a value with this content, whose digests are right, is refused at once."""
    structure = msgspec.msgpack.encode([program, *operands])
    refuse_structure(structure, buffers, arrays)


def refuse_structure(structure: bytes, buffers: bytes = b"", arrays: int = 0) -> None:
    stored = b"".join(seal(0, structure, [buffers] if buffers else [], 0, "", array_bytes=arrays))
    start = time.thread_time()
    for copy in (True, False):
        with pytest.raises(CorruptValueError):
            default_codec().decode(stored, 0, copy=copy)
    assert time.thread_time() - start < 1


@pytest.mark.slow
def test_the_fuzzer_finds_nothing() -> None:
    program = Path(__file__).with_name("fuzz.py")
    done = subprocess.run(
        [sys.executable, str(program), "--seconds", "3"],
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all well" in done.stdout


def test_parsers_do_not_allocate_what_a_length_claims() -> None:
    for structure in (
        b"\xdd\xff\xff\xff\xff",
        b"\x92\xa1l\xdd\xff\xff\xff\xff",
        b"\xdd\xff\xff\xff\xff" * 1000,
        b"\x91\xdf\xff\xff\xff\xff",
        b"\x91\xdb\xff\xff\xff\xff",
        b"\x91\xc6\xff\xff\xff\xff",
        b"\x91\xc9\xff\xff\xff\xff\x00",
        b"\x91\xd6\xff\x00\x00\x00\x00",
        b"\x91" * 10_000,
        b"\x81\xa1a\x01",
        b"\xc0",
        b"",
        b"\x90",
        b"\x91\x01",
        b"\x91\xa1\xff",
    ):
        refuse_structure(structure)


@pytest.mark.parametrize("letter", "tlszdTLSZDa")
@pytest.mark.parametrize("count", [1, 2**31, 2**63 - 1, 2**64 - 1, -1, 1.0, True, None, "1"])
def test_counts_that_nothing_follows(letter: str, count: Any) -> None:
    refuse(letter, count)


@pytest.mark.parametrize(
    "shape", [[2**62, 2**62], [2**40], [-1], [-1, -64], [1.0], ["64"], [None], [64, "x" * 1000]]
)
def test_shapes_that_do_not_fit(shape: list[Any]) -> None:
    for letter, dtype in (("a", "|u1"), ("x", "uint8"), ("x", "bfloat16"), ("a", "<c16")):
        refuse(letter, dtype, "C", len(shape), *shape, 0, buffers=bytes(64), arrays=64)
        refuse("l" + letter, 1, dtype, "C", len(shape), *shape, 0, buffers=bytes(64), arrays=64)


@pytest.mark.parametrize("offset", [1, 8, 64, 128, -64, 2**63, 0.0, None, "0", False])
def test_offsets_that_do_not_fit(offset: Any) -> None:
    refuse("a", "<f8", "C", 1, 8, offset, buffers=bytes(64), arrays=64)
    refuse("B", offset, 10, buffers=bytes(10))


def test_one_buffer_cannot_be_named_twice() -> None:
    refuse("ll" + "B" * 9, 1, 9, *[0, 1000] * 9, buffers=bytes(1000))
    refuse("l" + "a" * 9, 9, *["|u1", "C", 1, 1000, 0] * 9, buffers=bytes(1000), arrays=1000)


@pytest.mark.parametrize(
    "name",
    ["O", "|O", "object", "os.system", "|V-1", "<U9999999999", "(2,2)f4", "i4,i4", "", "float64",
     "<M8[ns", "<M8[foo]", "|V4, |V4", None, 3],
)  # fmt: skip
def test_names_of_dtypes_outside_the_tables(name: Any) -> None:
    refuse("a", name, "C", 1, 1, 0, buffers=bytes(8), arrays=8)
    refuse("x", name if name != "float64" else "<f8", "C", 1, 1, 0, buffers=bytes(8), arrays=8)
    refuse("g", name, "\0" * 8)


def test_structured_dtypes_that_do_not_fit() -> None:
    field = ["x", None, 0, "<i4"]
    for fields in (
        [2**31, False, 1, *field],
        [4, False, 2, *field, *field],
        [2, False, 1, *field],
        [4, 1, 1, *field],
        [6, True, 1, "x", None, 2, "<i4"],
        [4, False, 2**40, *field],
        [4, False, 1, "x", 7, 0, "<i4"],
        [4, False, 1, "x", None, -1, "<i4"],
        [4, False, 1, "x", None, 0, "A", 1, 2**60, "<i4"],
        [4, False, 1, "x", None, 0, "A", 65, *[1] * 65, "<i4"],
    ):
        refuse("a", "V", *fields, "C", 1, 1, 0, buffers=bytes(64), arrays=64)
    refuse("a", *["A", 0] * 1000, "<i4", "C", 1, 1, 0, buffers=bytes(4), arrays=4)


@pytest.mark.parametrize("letters", ["l" * 65 + "L", "tlszd" * 100_000, ":" * 1000, "R" * 100])
def test_nesting_beyond_the_limit(letters: str) -> None:
    refuse(letters, *[1] * len(letters))


def test_values_that_are_none_of_their_type() -> None:
    refuse("a", "|b1", "C", 1, 2, 0, buffers=b"\1\2", arrays=2)
    refuse("x", "bool", "C", 1, 2, 0, buffers=b"\1\2", arrays=2)
    refuse("a", "<U1", "C", 1, 1, 0, buffers=b"\xff\xff\xff\xff", arrays=4)
    refuse("g", "|b1", "\x02")
    refuse("e", 2023, 2, 29)
    refuse("m", 2023, 1, 1, 25, 0, 0, 0, 0, None, None)
    refuse("m", 2023, 1, 1, 1, 0, 0, 0, 0, 2**62, "zone")
    refuse("w", 10**12, 0, 0)
    refuse("c", 1.0, "j")
    refuse("i", "__import__('os')")
    refuse("r...", 1, 2, 0)
    refuse("r...", 1, None, 1)
    refuse("sl.", 1, 1, 5)
    refuse("dl..", 1, 1, 5, 6)
    refuse("p", "os", "/")
    refuse("R.", "not registered", 1)
    refuse("b", "🐈")
    refuse("?", 1)
    refuse("..", 1, 2)
    refuse(".", 1, 2)
    refuse("", 1)
    refuse("x", "uint8", "L", 1, 4, 0, buffers=bytes(4), arrays=4)
    refuse("a", "|u1", "Z", 1, 4, 0, buffers=bytes(4), arrays=4)


def test_sizes_in_the_header_that_do_not_fit() -> None:
    structure = msgspec.msgpack.encode([".", 1])
    for arrays in (1, 2**32, 2**64 - 1):
        refuse_structure(structure, arrays=arrays)
    for size in (0, len(structure) - 1, len(structure) + 1, 2**32 - 1):
        stored = bytearray(b"".join(seal(0, structure, [], 0, "")))
        stored[36:40] = size.to_bytes(4, "little")
        with pytest.raises(CorruptValueError):
            default_codec().decode(bytes(stored), 0, verify=False)
