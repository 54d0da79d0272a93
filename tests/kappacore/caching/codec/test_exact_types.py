"""What goes in comes out: same types at every level, same bits."""

from __future__ import annotations

import datetime as dt
import math
import pathlib
import struct
import sys
import warnings
from typing import Any

import numpy as np
import pytest
import torch

from kappacore.caching.codec import default_codec
from kappacore.errors import UncacheableValueError
from support.codec_values import assert_identical, corpus, there_and_back


@pytest.mark.parametrize("name", corpus())
def test_every_kind_of_value_comes_back_as_it_was(name: str) -> None:
    value = corpus()[name]
    assert_identical(value, there_and_back(value))
    assert_identical([value, value], there_and_back([value, value]))
    assert_identical({"x": (value,)}, there_and_back({"x": (value,)}))


@pytest.mark.parametrize(
    "value",
    [0, -1, 2**63 - 1, -(2**63), 2**63, 2**64 - 1, 2**64, -(2**63) - 1, 10**5000, -(10**5000)],
    ids=lambda value: f"{value:.0e}" if value.bit_length() < 100 else "huge",
)
def test_integers_of_any_size(value: int) -> None:
    assert_identical(value, there_and_back(value))
    assert_identical([value] * 2, there_and_back([value] * 2))
    assert_identical((b"jpeg", value), there_and_back((b"jpeg", value)))


@pytest.mark.parametrize("bits", [0, 1 << 63, 0x7FF8000000000123, 0xFFF0000000000001, 0x7FF << 52])
def test_floats_keep_their_bits(bits: int) -> None:
    (value,) = struct.unpack("<d", struct.pack("<Q", bits))
    for sample in (value, [value, value], complex(1.0, value), np.float64(value)):
        assert_identical(sample, there_and_back(sample))


def test_true_one_and_one_point_zero_stay_apart() -> None:
    assert_identical(
        [True, 1, 1.0, np.True_, np.int64(1)], there_and_back([True, 1, 1.0, np.True_, np.int64(1)])
    )


def test_dicts_keep_their_order_and_any_key() -> None:
    value = {3: "a", "3": "b", 3.5: "c", None: "d", (1, b"x" * 99): "e", frozenset({2}): "f",
             np.int64(9): "g", dt.date(2020, 1, 1): "h", pathlib.PurePosixPath("p"): "i",
             np.datetime64("NaT", "s"): "j", range(3): "k"}  # fmt: skip
    assert_identical(value, there_and_back(value))


def test_a_name_of_a_time_zone_is_kept() -> None:
    zones = [dt.timezone.utc, dt.timezone(dt.timedelta(hours=-3)),
             dt.timezone(dt.timedelta(microseconds=-1)), dt.timezone(dt.timedelta(0), "Z"),
             dt.timezone(dt.timedelta(hours=1), "CET")]  # fmt: skip
    for zone in zones:
        value = dt.datetime(9999, 12, 31, 23, 59, 59, 999999, zone, fold=1)
        assert_identical(value, there_and_back(value))
    assert there_and_back(dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc)).tzinfo is dt.timezone.utc


def test_extremes_of_dates_and_time_differences() -> None:
    for value in (
        dt.datetime.min,
        dt.datetime.max,
        dt.date.max,
        dt.timedelta.min,
        dt.timedelta.max,
    ):
        assert_identical(value, there_and_back(value))


@pytest.mark.parametrize("path", ["", ".", "/", "//a", "a/b.jpg", "ü/🐈", "C:\\x"])
def test_paths(path: str) -> None:
    for cls in (pathlib.Path, pathlib.PurePosixPath, pathlib.PureWindowsPath):
        assert_identical(cls(path), there_and_back(cls(path)))


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 4096])
def test_byte_strings_of_every_size(size: int) -> None:
    data = bytes(range(256)) * 17
    assert_identical(data[:size], there_and_back(data[:size]))
    assert_identical(
        [data[:size], bytearray(data[:size])], there_and_back([data[:size], bytearray(data[:size])])
    )


def test_lists_of_many_numbers_and_words() -> None:
    value = {"ids": list(range(10_000)), "scores": [i / 7 for i in range(10_000)],
             "words": ["wörd"] * 1000, "mixed": [None, 1, 2.0, "x", True] * 1000}  # fmt: skip
    assert_identical(value, there_and_back(value))


# ---- NumPy


@pytest.mark.parametrize("char", np.typecodes["All"].replace("O", ""))
@pytest.mark.parametrize("order", "<>")
def test_every_dtype_of_numpy(char: str, order: str) -> None:
    dtype = np.dtype(char + "5" if char in "SUV" else char).newbyteorder(order)
    array = np.frombuffer(bytes(dtype.itemsize * 6), dtype).reshape(2, 3).copy()
    if char not in "mM":
        array[1, 2] = np.ones(1, np.uint8).astype(dtype)[0] if char not in "V" else b"abc"
    assert_identical(array, there_and_back(array))
    assert_identical(array[1, 2], there_and_back(array[1, 2]))
    assert_identical([array, array[:, ::-1]], there_and_back([array, array[:, ::-1].copy()]))


@pytest.mark.parametrize("dtype", ["<M8", ">m8"])
def test_times_without_a_unit(dtype: str) -> None:
    array = np.array([0, 5, -(2**63)], dtype[0] + "i8").view(dtype)  # NumPy 2.5 warns of others
    for value in (array, array[1], array[2], np.zeros(2, [("at", dtype)])):
        assert_identical(value, there_and_back(value))


@pytest.mark.parametrize(
    "unit", ["Y", "M", "W", "D", "h", "m", "s", "ms", "us", "ns", "ps", "fs", "as"]
)
def test_every_unit_of_time(unit: str) -> None:
    for dtype in (f"<M8[{unit}]", f">m8[7{unit}]"):
        array = np.array([0, 5, -(2**63)], "i8").astype(dtype)
        assert_identical(array, there_and_back(array))
        assert_identical(array[1], there_and_back(array[1]))


@pytest.mark.parametrize(
    "dtype",
    [
        [("a", "i1"), ("b", "f8")],
        np.dtype([("a", "i1"), ("b", "f8")], align=True),
        {"names": ["x", "y"], "formats": ["<i4", ">f2"], "offsets": [8, 1], "itemsize": 40},
        {"names": ["x", "y"], "formats": ["<i4", "<i2"], "offsets": [0, 1]},
        [(("a title", "a"), "U7"), ("b", "S3")],
        [("nested", [("deep", "<M8[ns]", (2, 2)), ("deeper", [("z", "?")])]), ("v", "V3")],
        [("empty", "S0"), ("x", "i4")],
        [],
    ],
)
def test_structured_arrays(dtype: Any) -> None:
    array = np.zeros(4, dtype)
    back = there_and_back(array)
    assert_identical(array, back)
    assert back.dtype.fields == array.dtype.fields
    if array.dtype.itemsize:
        assert_identical(array[0], there_and_back(array[0]))


def test_layouts_of_arrays() -> None:
    base = np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4)
    for array in (
        base[:, ::-1],
        base[::2, 1:, ::3],
        base.T,
        base.transpose(1, 0, 2),
        np.asfortranarray(base),
        np.broadcast_to(base[0], (5, 3, 4)),
        base[:0],
        base[1, 2, 3:4],
    ):
        assert_identical(array, there_and_back(array))
        assert_identical([array], there_and_back([array]))


def test_numpy_scalars_keep_types_that_share_a_dtype() -> None:
    for cls in (np.longlong, np.int64, np.intc, np.ulonglong, np.longdouble, np.clongdouble):
        back = there_and_back(cls(5))
        assert type(back) is cls
        assert back == 5
        assert there_and_back(np.ones(2, cls)).dtype.char == np.ones(2, cls).dtype.char


# ---- torch


def torch_dtypes() -> list[torch.dtype]:
    return sorted({d for d in vars(torch).values() if isinstance(d, torch.dtype)}, key=str)


KEPT = """
bool uint8 uint16 uint32 uint64 int8 int16 int32 int64 float16 bfloat16 float32 float64
complex32 complex64 complex128 float8_e4m3fn float8_e5m2 float8_e4m3fnuz float8_e5m2fnuz
float8_e8m0fnu float4_e2m1fn_x2
"""


@pytest.mark.parametrize("name", [name for name in KEPT.split() if hasattr(torch, name)])
def test_every_dtype_of_torch(name: str) -> None:
    dtype = getattr(torch, name)
    data = torch.arange(6 * dtype.itemsize, dtype=torch.uint8) % 2
    tensor = data.view(dtype).reshape(2, 3)
    for value in (
        tensor,
        tensor[1, 2],
        tensor[:0],
        tensor.T,
        tensor[:, ::2],
        tensor.expand(4, 2, 3),
    ):
        assert_identical(value, there_and_back(value))
        assert_identical({"x": [value]}, there_and_back({"x": [value]}))


def test_no_dtype_of_torch_is_forgotten() -> None:
    for dtype in torch_dtypes():
        if str(dtype).removeprefix("torch.") in KEPT.split():
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # quantized tensors are deprecated
            try:
                tensor = torch.empty(2, dtype=dtype)
            except (RuntimeError, NotImplementedError, TypeError):
                continue  # a dtype that a plain tensor cannot have
        with pytest.raises(UncacheableValueError, match=str(dtype)):
            default_codec().encode(tensor, 0)


def test_tensors_keep_channels_last() -> None:
    image = torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last)
    video = torch.rand(2, 3, 4, 5, 6).to(memory_format=torch.channels_last_3d)
    for value in (image, video, image.to(torch.bfloat16), image[:1]):
        back = there_and_back([value])[0]
        assert_identical(value, back)
        assert back.stride() == value.stride()


def test_conjugate_and_negative_tensors_are_resolved() -> None:
    tensor = torch.tensor([1 + 2j, 3 - 4j])
    for value in (tensor.conj(), tensor.conj().imag, tensor.conj().real):
        back = there_and_back(value)
        assert not back.is_conj()
        assert not back.is_neg()
        assert torch.equal(back, value)


def test_a_tensor_comes_back_without_requires_grad() -> None:
    tensor = torch.ones(3, requires_grad=True)
    for value in (tensor, tensor * 2):
        back = there_and_back(value)
        assert not back.requires_grad
        assert back.grad_fn is None
        assert torch.equal(back, value)


def test_one_list_found_twice_comes_back_as_two() -> None:
    inner = [1]
    first, second = there_and_back([inner, inner])
    assert first == second == [1]
    assert first is not second


def test_nesting_up_to_the_limit() -> None:
    value: list[Any] = []
    for _ in range(63):
        value = [value]
    assert_identical(value, there_and_back(value))


def test_random_keys_and_namespaces() -> None:
    codec = default_codec()
    for key, namespace in ((0, ""), (2**40, "a.b-c_d"), (-1, "x" * 100)):
        stored = b"".join(codec.encode("value", key, namespace))
        assert codec.decode(stored, key, namespace) == "value"


def test_nan_is_not_confused_by_reading_twice() -> None:
    assert math.isnan(there_and_back([math.nan])[0])
    assert sys.float_info.min == there_and_back(sys.float_info.min)


def test_parts_of_mapped_files_come_back_as_the_arrays_they_are(tmp_path: pathlib.Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(12.0).reshape(4, 3))
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    for value in (mapped[1], mapped[1:3], mapped.T, mapped[:, 1]):
        assert type(value) is np.memmap
        for sample in (value, [value, {"x": value}]):
            plain = value.view(np.ndarray)
            wanted = plain if sample is value else [plain, {"x": plain}]
            assert_identical(wanted, there_and_back(sample))
            assert default_codec().encode(sample, 0) == default_codec().encode(wanted, 0)


def test_sizes_of_torch_come_back_as_the_tuples_they_are() -> None:
    value = {"shape": torch.zeros(2, 3).shape, "all": [torch.Size([]), (torch.Size([1]),)]}
    for copy in (True, False):
        back = there_and_back(value, copy=copy)
        assert_identical(back, {"shape": (2, 3), "all": [(), ((1,),)]})
