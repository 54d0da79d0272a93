"""Values for tests of the codec, and a comparison that takes nothing for equal that differs."""

from __future__ import annotations

import datetime as dt
import pathlib
import struct
import warnings
from typing import Any

import numpy as np
import torch

from kappacore.caching.codec import default_codec


def there_and_back(value: Any, **options: Any) -> Any:
    """Return what a cache would give back."""
    stored = b"".join(default_codec().encode(value, 7, "test"))
    return default_codec().decode(stored, 7, "test", **options)


def assert_identical(left: Any, right: Any) -> None:
    """Fail unless both have the same types at every level and the same bits."""
    assert type(left) is type(right), (left, right)
    if isinstance(left, (np.str_, np.bytes_)):  # whose == ignores zeros at the end
        assert len(left) == len(right)
    compare = _COMPARE.get(type(left))
    if compare is not None:
        compare(left, right)
    elif isinstance(left, np.generic):
        assert left.dtype == right.dtype
        assert left.dtype.char == right.dtype.char
        _elements(np.array(left), np.array(right))
    else:
        assert left == right


def _floats(left: float, right: float) -> None:
    assert struct.pack("<d", left) == struct.pack("<d", right)


def _complexes(left: complex, right: complex) -> None:
    _floats(left.real, right.real)
    _floats(left.imag, right.imag)


def _sequences(left: Any, right: Any) -> None:
    assert len(left) == len(right)
    for one, other in zip(left, right, strict=True):
        assert_identical(one, other)


def _sets(left: Any, right: Any) -> None:
    assert len(left) == len(right)
    rest = list(right)
    for one in left:
        for index, other in enumerate(rest):
            if _same(one, other):
                del rest[index]
                break
        else:
            raise AssertionError(f"{one!r} is missing")


def _same(left: Any, right: Any) -> bool:
    try:
        assert_identical(left, right)
    except AssertionError:
        return False
    return True


def _dicts(left: dict[Any, Any], right: dict[Any, Any]) -> None:
    _sequences(list(left.keys()), list(right.keys()))
    _sequences(list(left.values()), list(right.values()))


def _bounds(left: Any, right: Any) -> None:
    for name in ("start", "stop", "step"):
        assert_identical(getattr(left, name), getattr(right, name))


def _datetimes(left: dt.datetime, right: dt.datetime) -> None:
    assert left.replace(tzinfo=None) == right.replace(tzinfo=None)
    assert left.fold == right.fold
    assert repr(left.tzinfo) == repr(right.tzinfo)


def _arrays(left: np.ndarray[Any, Any], right: np.ndarray[Any, Any]) -> None:
    assert left.dtype == right.dtype
    assert left.dtype.char == right.dtype.char
    assert left.dtype.isalignedstruct == right.dtype.isalignedstruct
    assert left.shape == right.shape
    _elements(left, right)
    in_fortran_order = left.flags.f_contiguous and not left.flags.c_contiguous
    assert right.flags.f_contiguous if in_fortran_order else right.flags.c_contiguous


def _elements(left: np.ndarray[Any, Any], right: np.ndarray[Any, Any]) -> None:
    if left.dtype.char in "gG":  # which have bytes that mean nothing
        assert np.array_equal(left, right, equal_nan=True)
    elif left.dtype.names is None:
        assert left.tobytes() == right.tobytes()
    else:  # what lies between the fields of records is nobody's
        for name in left.dtype.names:
            _elements(left[name], right[name])


def tensor_bits(tensor: torch.Tensor) -> bytes:
    """Return the bytes of a tensor's elements in logical order."""
    if tensor.numel() == 0:
        return b""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about complex32
        dense = tensor.detach().resolve_conj().resolve_neg().contiguous().reshape(-1)
    return bytes(dense.view(torch.uint8).numpy())


def _tensors(left: torch.Tensor, right: torch.Tensor) -> None:
    assert left.dtype is right.dtype
    assert left.shape == right.shape
    assert not right.requires_grad
    assert tensor_bits(left) == tensor_bits(right)
    for layout in (torch.channels_last, torch.channels_last_3d):
        dims = 4 if layout is torch.channels_last else 5
        if left.dim() == dims and left.is_contiguous(memory_format=layout):
            assert right.is_contiguous(memory_format=layout)


_COMPARE: dict[type, Any] = {
    float: _floats,
    complex: _complexes,
    tuple: _sequences,
    list: _sequences,
    set: _sets,
    frozenset: _sets,
    dict: _dicts,
    slice: _bounds,
    range: _bounds,
    dt.datetime: _datetimes,
    np.ndarray: _arrays,
    torch.Tensor: _tensors,
}


def corpus() -> dict[str, Any]:
    """Return a value of every kind that needs neither Pillow nor torchvision, small ones."""
    record = np.dtype([("id", "<i4"), ("box", ">f8", (2, 2)), ("name", "U3")], align=True)
    return {
        "none": None,
        "int": -5,
        "big int": -(2**200),
        "float": -0.0,
        "complex": complex(-0.0, float("inf")),
        "str": "sämple 🐈",
        "short bytes": b"\x00\xffx",
        "bytes": bytes(range(256)),
        "bytes and int": (b"x" * 100, 417),
        "bytearray": bytearray(b"abc"),
        "tuple": (1, (2.5, None), ()),
        "list": [True, [b"y" * 70, [b"z" * 70]], "a"],
        "dict": {"x": 1, (1, 2): [3], b"k" * 70: {}, None: 0.5},
        "set": {1, "two", b"t" * 70},
        "frozenset": frozenset({(1, 2), 3}),
        "slice": slice(None, 2**70, -1),
        "range": range(3, 2**70, 7),
        "datetime": dt.datetime(2024, 2, 29, 1, 2, 3, 4, tzinfo=dt.timezone.utc, fold=1),
        "date": dt.date(1, 1, 1),
        "timedelta": dt.timedelta(-3, 4, 5),
        "path": pathlib.PurePosixPath("/data/ü"),
        "array": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
        "0-d array": np.array(7, np.int16),
        "empty array": np.zeros((0, 3), np.float16),
        "fortran": np.asfortranarray(np.arange(12, dtype=">i8").reshape(3, 4)),
        "bools": np.array([True, False, True]),
        "texts": np.array(["ab", "🐈"]),
        "times": np.array(["2020-01-01", "NaT"], "datetime64[25s]"),
        "records": np.zeros(3, record),
        "scalar": np.float32(1.5),
        "datetime64": np.datetime64("2020-01-01T01", "h"),
        "numpy str": np.str_("a\0"),
        "numpy bytes": np.bytes_(b"b\0"),
        "record": np.zeros(1, record)[0],
        "tensor": torch.arange(6, dtype=torch.int32).reshape(2, 3),
        "0-d tensor": torch.tensor(1.5),
        "empty tensor": torch.zeros(2, 0),
        "bfloat16": torch.arange(5).to(torch.bfloat16),
        "bool tensor": torch.tensor([True, False]),
        "channels last": torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "sample": {
            "image": torch.zeros(3, 4, 4, dtype=torch.uint8),
            "jpeg": b"\xff\xd8" * 50,
            "boxes": np.ones((2, 4), np.float32),
            "label": 3,
            "meta": ("train", [1.0, 2.0], {"flip": True}),
        },
    }
