"""NumPy arrays and scalars."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from kappacore.caching.codec.dtypes import DTYPES, dtype_name, read_dtype, write_dtype
from kappacore.caching.codec.reading import ALONE, READERS
from kappacore.caching.codec.scalars import check_text
from kappacore.caching.codec.writing import WRITERS, Refusal

if TYPE_CHECKING:
    from kappacore.caching.codec.reading import Reader
    from kappacore.caching.codec.writing import Writer

Array = np.ndarray[Any, Any]

#: What a memoryview casts by itself, which is faster.
_CASTABLE = "?bBhHiIlLqQfd"
_MAX_CODE_POINT = 0x10FFFF
_NUMBERS = tuple(
    {np.dtype(char).type for char in "?bBhHiIlLqQefdgFDG"} | {np.datetime64, np.timedelta64}
)


def memory_of(array: Array) -> memoryview:
    """Return the bytes of a C-contiguous array, without a copy."""
    if array.dtype.char in _CASTABLE and array.dtype.isnative:
        return array.data.cast("B")
    return array.reshape(-1).view(np.uint8).data


def _dense(array: Array) -> Array:
    """Return an array in C order; NumPy's own way leaves noise between the fields of records."""
    if array.dtype.names is None:
        return np.ascontiguousarray(array)
    dense = np.zeros(array.shape, array.dtype)
    dense[...] = array
    return dense


def write_array(writer: Writer, array: Array) -> None:
    """Write an array: Fortran order is kept, other strides become C order."""
    writer.program.append("a")
    write_dtype(writer, array.dtype)
    writer.check_size(array.nbytes)
    flags = array.flags
    order = "C"
    if not flags.c_contiguous:
        if flags.f_contiguous:
            order, array = "F", array.T
        else:
            array = _dense(array)
    offset = writer.put_array(memory_of(array)) if array.nbytes else 0
    writer.operands += (order, array.ndim, *array.shape, offset)


def _read_array(reader: Reader) -> Array:
    dtype = read_dtype(reader)
    order = reader.operand()
    if order not in ("C", "F"):
        raise ValueError(f"{order!r} is no order of an array")
    array = reader.array(dtype, reader.shape())
    check_items(array)
    return array if order == "C" else array.T


def check_items(array: Array) -> None:
    """Check the types whose bytes are not all valid values."""
    kind = array.dtype.kind
    if kind == "b":
        if array.size and array.view(np.uint8).max() > 1:
            raise ValueError("a bool is neither 0 nor 1")
    elif kind == "U":
        if array.size and array.dtype.itemsize:
            points = np.ndarray(
                (array.size, array.dtype.itemsize // 4),
                np.dtype(np.uint32).newbyteorder(array.dtype.byteorder),
                np.ascontiguousarray(array),
            )
            if points.max() > _MAX_CODE_POINT:
                raise ValueError("a string holds what is no character")
    elif array.dtype.names:
        for name in array.dtype.names:
            check_items(array[name])


def _write_scalar(writer: Writer, value: np.generic) -> None:
    writer.put("g", dtype_name(value.dtype), value.tobytes().decode("latin-1"))


def _read_scalar(reader: Reader) -> Any:
    dtype = read_dtype(reader)
    data = reader.text().encode("latin-1")
    if len(data) != dtype.itemsize or not data:
        raise ValueError("a scalar has the wrong size")
    array = np.frombuffer(data, dtype)
    check_items(array)
    return array[0]


def _write_str(writer: Writer, value: np.str_) -> None:
    text = str.__str__(value)  # str(value) drops zeros at the end
    check_text(text)
    writer.add_text(len(text))
    writer.put("u", text)


def _read_str(reader: Reader) -> Any:
    return np.str_(reader.text())


def _write_bytes(writer: Writer, value: np.bytes_) -> None:
    writer.put("o", writer.put_blob(bytes(value)), len(value))


def _read_bytes(reader: Reader) -> Any:
    return np.bytes_(bytes(reader.blob()))


def _write_void(writer: Writer, value: np.void) -> None:
    """Write a record of a structured array, or raw bytes: an array without dimensions."""
    if value.dtype.hasobject:
        raise Refusal("it holds Python objects")
    writer.program.append("k")
    write_dtype(writer, value.dtype)
    array = np.array(value, value.dtype)
    writer.operands.append(writer.put_array(memory_of(array)) if array.nbytes else 0)


def _read_void(reader: Reader) -> Any:
    dtype = read_dtype(reader)
    if dtype.type is not np.void:
        raise ValueError("a record has a structured dtype")
    array = reader.array(dtype, (1,)).copy()
    check_items(array)
    return array[0]


WRITERS |= {
    np.ndarray: write_array,
    np.str_: _write_str,
    np.bytes_: _write_bytes,
    np.void: _write_void,
    **dict.fromkeys(_NUMBERS, _write_scalar),
}
ALONE["a"] = ({name: dtype for name, dtype in DTYPES.items() if dtype.kind != "b"}, None, None)
READERS |= {"a": _read_array, "g": _read_scalar, "u": _read_str, "o": _read_bytes, "k": _read_void}
