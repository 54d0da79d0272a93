"""The bytes themselves: what docs/format.md promises, and who notices when they differ."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
import xxhash

from kappacore.caching.codec import FORMAT_VERSION, default_codec
from kappacore.caching.codec.layout import shorten
from kappacore.errors import CorruptValueError, UncacheableValueError
from support.codec_values import assert_identical, corpus

HEADER = struct.Struct("<4sIQQQIIqQ8x")


def encode(value: Any, key: int = 7, namespace: str = "ns") -> bytes:
    return b"".join(default_codec().encode(value, key, namespace))


def decode(stored: bytes, key: int = 7, namespace: str = "ns", **options: Any) -> Any:
    return default_codec().decode(stored, key, namespace, **options)


def refuse(stored: bytes, reason: str, **options: Any) -> None:
    with pytest.raises(CorruptValueError, match=reason):
        decode(stored, **options)


def test_a_stored_value_can_be_read_with_the_documentation_alone() -> None:
    image = np.arange(12, dtype="<u2").reshape(3, 4)
    stored = encode({"image": image, "jpeg": b"j" * 100, "label": 3})
    magic, version, address, digest, total, kind, size, number, arrays = HEADER.unpack_from(stored)
    assert (magic, version, kind, number) == (b"KAPV", 1, 0, 0)
    assert address == xxhash.xxh3_64_intdigest(b"ns", 7)
    assert digest == xxhash.xxh3_64_intdigest(stored[24:])
    assert total == len(stored)
    structure = msgspec.msgpack.decode(stored[64 : 64 + size])
    assert structure == [
        "DaB.", 3, "image", "jpeg", "label", "<u2", "C", 2, 3, 4, 0, 0, 100, 3
    ]  # fmt: skip
    start = (64 + size + 63) // 64 * 64
    assert arrays == 24
    assert stored[start : start + 24] == image.tobytes()
    assert stored[start + 64 :] == b"j" * 100


def test_bytes_and_bytes_with_an_int_have_no_structure() -> None:
    stored = encode(b"abc")
    assert HEADER.unpack_from(stored)[4:] == (67, 1, 0, 0, 0)
    assert stored[64:] == b"abc"
    stored = encode((b"abc", -417))
    assert HEADER.unpack_from(stored)[4:] == (67, 2, 0, -417, 0)
    assert stored[64:] == b"abc"


STABLE: dict[str, tuple[Any, str]] = {
    "scalars": (
        (None, True, 1, 2**70, 0.5, 1j, "ä", b"short", b"long" * 50, bytearray(b"x")),
        "fccfc01c32e94b10",
    ),
    "containers": (
        {"l": [1, [2]], "t": (), "f": frozenset({1}), "s": slice(1, 2), "r": range(3)},
        "024eae2a7fd4a209",
    ),
    "array": (np.arange(6, dtype="<f4").reshape(2, 3), "5e2573d9db1e72e5"),
    "arrays": (
        [np.arange(3, dtype="<i8"), np.array(["a"], "<U3"), np.float32(1), np.zeros(1, "V3")],
        "73f04b8c62609026",
    ),
    "tensor": (torch.arange(6, dtype=torch.int16), "08b80a71f1ad10c5"),
    "tensors": (
        (torch.ones(2, dtype=torch.bfloat16), torch.tensor(True), b"x" * 100),
        "8d9bfe18b2e191bc",
    ),
}


@pytest.mark.parametrize("name", STABLE)
def test_values_keep_their_bytes_as_long_as_the_version_of_the_format_stays(name: str) -> None:
    value, digest = STABLE[name]
    assert xxhash.xxh3_64_hexdigest(encode(value)) == digest


# ---- what is noticed


@pytest.mark.parametrize("name", corpus())
def test_any_changed_byte_is_noticed(name: str) -> None:
    stored = encode(corpus()[name])
    for position in range(len(stored)):
        changed = bytearray(stored)
        changed[position] ^= 1 << (position % 8)
        with pytest.raises(CorruptValueError):
            decode(bytes(changed))


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("name", corpus())
def test_any_other_length_is_noticed(name: str, verify: bool) -> None:
    stored = encode(corpus()[name])
    for other in (*(stored[:length] for length in range(len(stored))), stored + b"\0"):
        with pytest.raises(CorruptValueError):
            decode(other, verify=verify)


@pytest.mark.parametrize("value", [b"x", (b"x", 1), np.zeros(3), [1, 2]])
def test_a_value_of_another_key_or_namespace_is_refused_without_verification_too(
    value: Any,
) -> None:
    stored = encode(value)
    for key, namespace in ((8, "ns"), (7, "other"), (7, ""), (77, "s")):
        for verify in (True, False):
            with pytest.raises(CorruptValueError, match="another key or namespace"):
                decode(stored, key, namespace, verify=verify)


def test_the_next_version_of_the_format_is_a_miss_that_says_so() -> None:
    stored = bytearray(encode([1]))
    struct.pack_into("<I", stored, 4, FORMAT_VERSION + 1)
    refuse(bytes(stored), "version 2 of the format, and 1 is read here")
    refuse(bytes(stored), "version 2 of the format", verify=False)


def test_messages_say_what_is_wrong() -> None:
    stored = encode([1])
    refuse(b"", "key 7 of namespace 'ns' cannot be used: 0 bytes are shorter than a header")
    refuse(b"x" * 100, "does not begin like a stored value")
    refuse(stored[:-1], f"it has {len(stored) - 1} bytes instead of {len(stored)}")
    refuse(stored[:-1] + b"\xff", "its digest differs")
    with pytest.raises(CorruptValueError, match="stored for key 3 cannot"):
        default_codec().decode(b"", 3)


def test_damage_to_the_data_passes_where_nothing_is_verified() -> None:
    stored = bytearray(encode(b"abc"))
    stored[-1] ^= 1
    assert decode(bytes(stored), verify=False) == b"abb"
    refuse(bytes(stored), "its digest differs")


@pytest.mark.slow
def test_equal_sets_are_stored_alike_in_every_process():
    program = (
        "from kappacore.caching.codec import default_codec\n"
        "value = {'one', 'two', 'three', 4, frozenset({'a', 'b', 'c'}), ('t', 1)}\n"
        "print(b''.join(default_codec().encode(value, 0)).hex())"
    )
    stored = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(stored) == 1


# ---- what is equal is stored alike

ALIGNED = np.dtype(
    [("label", "u1"), ("box", "<f8"), ("parts", [("a", "u1"), ("b", "<i4")], 2)], True
)
DTYPES = {
    "aligned": ALIGNED,
    "nested": np.dtype([("inner", ALIGNED, (2,)), ("end", "u1")], align=True),
    "gaps": np.dtype(
        {"names": ["a", "b"], "formats": ["u1", "<i2"], "offsets": [3, 8], "itemsize": 16}
    ),
    "overlapping": np.dtype(
        {"names": ["a", "b"], "formats": ["<i4", "u1"], "offsets": [4, 5], "itemsize": 12}
    ),
    "long double": np.dtype("g"),
    "swapped long double": np.dtype("g").newbyteorder(),
    "complex long double": np.dtype("G"),
    "field of long doubles": np.dtype([("x", "g", 3), ("y", "u1")], align=True),
}


def with_junk(dtype: np.dtype[Any], shape: tuple[int, ...], junk: int) -> np.ndarray[Any, Any]:
    """Return an array of the same values for any junk, which is in the bytes of no value."""
    array = np.frombuffer(bytearray([junk]) * (dtype.itemsize * 6), dtype).reshape(shape)
    fill(array)
    return array


def fill(array: np.ndarray[Any, Any]) -> None:
    for name in array.dtype.names or ():
        fill(array[name])
    if array.dtype.names is None:
        array[...] = 1
        if array.dtype.kind in "fc":
            array[...] /= 3


@pytest.mark.parametrize("name", DTYPES)
def test_bytes_that_belong_to_no_value_are_stored_as_zeros(name: str) -> None:
    dtype = DTYPES[name]
    for view in (
        lambda array: array,
        lambda array: array.T,
        lambda array: array[:, ::2],
        lambda array: array[0, 0],
        lambda array: {"a": [array, 1]},
        lambda array: array[:0],
    ):
        one, other = (view(with_junk(dtype, (2, 3), junk)) for junk in (0x11, 0xEE))
        assert encode(one) == encode(other)
        assert_identical(one, decode(encode(other)))


def test_values_stored_with_other_bytes_between_their_fields_are_read() -> None:
    array = with_junk(ALIGNED, (2, 3), 0x11)
    stored = bytearray(encode(array))
    stored[-array.nbytes :] = array.tobytes()  # as earlier versions did
    struct.pack_into("<Q", stored, 16, xxhash.xxh3_64_intdigest(stored[24:]))
    assert_identical(array, decode(bytes(stored)))


SETS = """
import numpy as np
from kappacore.caching.codec import default_codec
words = ["x", "yy", "zzz", "w", "one", "two", "three", "four"]
inner = [frozenset(words[:3]), frozenset(words[1:4]), frozenset(words[3:])]
values = [
    set(words),
    {(inner[0], 1), (inner[1], 1), (inner[2], 1)},
    {"a": set(inner), inner[1]: [set(words), (frozenset({(inner[0], inner[2]), inner[1]}),)]},
    frozenset({frozenset({frozenset(inner), "a"}), frozenset({frozenset(inner[:2]), "b"})}),
    {b"k" * 100, b"l" * 100, (b"m" * 100, inner[0]), (b"m" * 100, inner[1])},
    {None, 1.5, "1.5", 2**70, -3, (1, "a"), (1, "b"), np.float32(1), np.str_("s"), 2j},
]
for value in values:
    print(b"".join(default_codec().encode(value, 0)).hex())
"""


@pytest.mark.slow
def test_equal_sets_are_stored_alike_wherever_they_are() -> None:
    stored = {
        subprocess.run(
            [sys.executable, "-c", SETS],
            env={**os.environ, "PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
            check=True,
        ).stdout
        for seed in ("1", "2", "3", "4")
    }
    assert len(stored) == 1


def test_sets_in_sets_are_ordered_once_each() -> None:
    value: Any = frozenset({"a", "b"})
    for level in range(60):
        value = frozenset({value, level, (level,)})
    assert decode(encode(value)) == value  # and not after 2**60 steps


def test_a_set_with_what_cannot_be_kept_is_refused_by_its_path() -> None:
    with pytest.raises(UncacheableValueError, match=r'sample\["a"\]{an element}\[1\] cannot'):
        encode({"a": {(1, object())}})


SHORT = [
    b"",
    b"abc",
    (b"abc", -1),
    (b"abc", (1 << 55) - 1),
    [1, "two", 3.0],
    {"image": np.arange(12, dtype="<u2").reshape(3, 4), "data": bytes(100)},
]


@pytest.mark.parametrize("value", SHORT)
def test_a_short_header_protects_as_much_as_the_long_one(value: object) -> None:
    stored = b"".join(shorten(default_codec().encode(value, 7, "ns"), 7, "ns"))
    assert len(stored) <= max(len(encode(value)) - 48, 128 + 100)
    assert_identical(decode(stored), value)
    assert_identical(decode(bytearray(stored), copy="own"), value)
    decode(stored, copy=False)
    for key, namespace in ((8, "ns"), (7, "sn")):
        with pytest.raises(CorruptValueError, match="another key or namespace"):
            default_codec().decode(stored, key, namespace, verify=False)
    for position in range(len(stored)):
        damaged = bytearray(stored)
        damaged[position] ^= 1
        refuse(bytes(damaged), "digest differs|does not begin like")
    for size in range(len(stored)):
        refuse(stored[:size], "digest differs|shorter than a header")


def test_what_a_short_header_has_no_room_for_keeps_the_long_one() -> None:
    pieces = default_codec().encode((b"abc", 1 << 55), 7, "ns")
    assert shorten(pieces, 7, "ns") is pieces
    assert shorten([b"of another codec"], 7, "ns") == [b"of another codec"]
    arrays = default_codec().encode(np.zeros(10), 7, "ns")
    assert len(b"".join(shorten(arrays, 7, "ns"))) % 64 == 80 % 64  # they lie as before
