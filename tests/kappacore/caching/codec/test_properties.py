"""Properties that hold for all values, tried on many."""

from __future__ import annotations

import datetime as dt
import pathlib
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kappacore.caching.codec import default_codec
from kappacore.errors import CorruptValueError
from support.codec_values import assert_identical, there_and_back

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
offsets = st.timedeltas(dt.timedelta(hours=-23), dt.timedelta(hours=23))
zones = st.one_of(
    st.none(),
    st.builds(dt.timezone, offsets),
    st.builds(dt.timezone, offsets, text.filter(bool)),
)
hashables = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**300), 2**300),
    st.floats(width=64),
    st.complex_numbers(),
    text,
    st.binary(max_size=100),
    st.dates(),
    st.timedeltas(),
    st.datetimes(timezones=zones),
    st.builds(pathlib.PurePosixPath, text.filter(lambda part: "\0" not in part)),
    st.builds(range, st.integers(), st.integers(), st.integers().filter(bool)),
)
bounds = st.one_of(st.none(), st.integers())
DTYPES = [
    np.dtype(name)
    for name in (
        "?", "i1", "u1", "<i2", ">i2", "<u4", "<i8", ">u8", "<f2", ">f4", "<f8", "<c8", ">c16", "g",
        "q", "S1", "S9", "<U3", ">U2", "V5", "<M8[ns]", ">m8[7D]", "<M8",
        "i4,f2", "?,V3,(2,2)S2", "<i8,(2,)>f4",
    )
]  # fmt: skip
DTYPES += [np.dtype([("x", DTYPES[-1]), ("y", "<U2")]), np.dtype("i1,f8,?", align=True)]


@st.composite
def arrays(draw: st.DrawFn, dtypes: list[np.dtype[Any]] = DTYPES) -> np.ndarray[Any, Any]:
    """Arrays of any dtype, of any bits where all bits are values, in some layout."""
    dtype = draw(st.sampled_from(dtypes))
    shape = draw(st.lists(st.integers(0, 3), max_size=3))
    array = np.zeros(shape, dtype)
    if dtype.kind in "iufcmMSV" and dtype.names is None and array.size:
        data = draw(st.binary(min_size=array.nbytes, max_size=array.nbytes))
        array = np.frombuffer(data, dtype).reshape(shape)
    layout = draw(st.sampled_from(["C", "F", "T", "backwards"]))
    if layout == "F":
        return np.asfortranarray(array)
    if layout == "T":
        return array.T
    return array[..., ::-1] if layout == "backwards" and array.ndim else array


@st.composite
def tensors(draw: st.DrawFn) -> torch.Tensor:
    """Tensors of any bits, most dtypes and some layout."""
    array = np.ascontiguousarray(draw(arrays([np.dtype(char) for char in "bBhiqefdFD"])))
    tensor = torch.from_numpy(array.copy())
    if draw(st.booleans()) and tensor.dim():
        tensor = tensor.transpose(0, -1)
    if tensor.dtype is torch.int16 and draw(st.booleans()):
        return tensor.view(torch.bfloat16)
    if tensor.dtype is torch.uint8 and draw(st.booleans()):
        return tensor > 127
    if tensor.is_complex() and draw(st.booleans()):
        return tensor.conj()
    return tensor


def scalars_of(array: np.ndarray[Any, Any]) -> Any:
    return array.reshape(-1)[0] if array.size else array


keys = st.recursive(
    hashables,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(tuple), st.frozensets(inner, max_size=3)
    ),
    max_leaves=3,
)
values = st.recursive(
    st.one_of(
        keys,
        st.binary(max_size=300).map(bytearray),
        st.builds(slice, bounds, bounds, bounds),
        arrays(),
        arrays().map(scalars_of),
        tensors(),
        text.map(np.str_),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(keys, inner, max_size=3),
        st.sets(keys, max_size=3),
    ),
    max_leaves=5,
)
many = settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.slow
@many
@given(values)
def test_every_value_comes_back_with_the_same_types_and_bits(value: Any) -> None:
    assert_identical(value, there_and_back(value))


@pytest.mark.slow
@settings(many, max_examples=300)
@given(values, st.data())
def test_one_changed_byte_anywhere_is_noticed(value: Any, data: st.DataObject) -> None:
    stored = bytearray(b"".join(default_codec().encode(value, 1)))
    position = data.draw(st.integers(0, len(stored) - 1))
    stored[position] ^= data.draw(st.integers(1, 255))
    try:
        default_codec().decode(stored, 1)
    except CorruptValueError:
        return
    raise AssertionError(f"a change at byte {position} of {len(stored)} went unnoticed")


@pytest.mark.slow
@settings(many, max_examples=300)
@given(values)
def test_arrays_lie_at_multiples_of_64_bytes_in_what_is_stored(value: Any) -> None:
    pieces = default_codec().encode([np.arange(3.0), value, np.arange(5.0)], 1)
    stored = b"".join(pieces)
    for needle in (np.arange(3.0).tobytes(), np.arange(5.0).tobytes()):
        assert any(
            stored[start : start + len(needle)] == needle for start in range(0, len(stored), 64)
        )
