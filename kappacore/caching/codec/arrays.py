"""NumPy arrays, scalars and dtypes. A dtype's name is looked up in fixed tables when it is read."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from kappacore.caching.codec.reading import ALONE, READERS
from kappacore.caching.codec.scalars import check_text
from kappacore.caching.codec.writing import PLAIN_WRITERS, WRITERS, Refusal

if TYPE_CHECKING:
    from kappacore.caching.codec.layout import Operand
    from kappacore.caching.codec.reading import Reader
    from kappacore.caching.codec.writing import Writer

Array = np.ndarray[Any, Any]

_NUMBERS = "?bBhHiIlLqQefdgFDG"
_SIZED = re.compile(r"[|<>][SUV][0-9]{1,9}")
_TIMES = re.compile(r"[<>][mM]8(\[[0-9]{0,9}(Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)\])?")
_FLEXIBLE = (np.bytes_, np.str_, np.void, np.datetime64, np.timedelta64)
#: Instead of a name, where a structured dtype or a subarray follows.
_STRUCTURED, _SUBARRAY = "V", "A"
_MAX_FIELDS = 1 << 16
#: Bits of the mantissa of Intel's long double, and the bytes of which it makes use.
_INTEL_MANTISSA, _INTEL_BYTES = 63, 10


def _number_name(dtype: np.dtype[Any]) -> str:
    name: str = dtype.str
    if dtype.char in "gG":  # its layout differs between machines that give it one name
        return f"{name}/{np.finfo(np.longdouble).nmant}"
    if np.dtype(name).char != dtype.char:  # long long, where long has the same size
        return name + dtype.char
    return name


DTYPES = {
    _number_name(dtype): dtype
    for char in _NUMBERS
    for dtype in (np.dtype(char), np.dtype(char).newbyteorder())
}


def dtype_name(dtype: np.dtype[Any]) -> str:
    """Return the name of a dtype without fields; refuse dtypes without a name."""
    if dtype.char in _NUMBERS and dtype.isbuiltin != 2:
        return _number_name(dtype)
    if dtype.type in _FLEXIBLE and dtype.names is None and dtype.subdtype is None:
        return str(dtype.str)
    if dtype.hasobject:
        raise Refusal(
            "it is an array of Python objects, which has no exact form as bytes; use a list, or "
            "an array of a type of fixed size"
        )
    raise Refusal(f"arrays of dtype {dtype} are not supported; view it as one of NumPy's own")


@lru_cache(maxsize=256)
def named_dtype(name: str) -> np.dtype[Any]:
    """Return the dtype of that name."""
    dtype = DTYPES.get(name)
    if dtype is not None:
        return dtype
    if _SIZED.fullmatch(name) or _TIMES.fullmatch(name):
        return np.dtype(name)
    raise ValueError(f"{name!r} names no dtype")


def write_dtype(writer: Writer, dtype: np.dtype[Any]) -> None:
    """Write a dtype with its fields as operands."""
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        writer.operands += (_SUBARRAY, len(shape), *shape)
        write_dtype(writer, base)
    elif dtype.names is not None:
        if dtype.hasobject or dtype.type is not np.void:
            kind = "Python objects" if dtype.hasobject else "records"
            raise Refusal(f"it is an array of {kind}; use an array of a plain structured dtype")
        writer.operands += (
            _STRUCTURED, dtype.itemsize, dtype.isalignedstruct, len(dtype.names),
        )  # fmt: skip
        for name in dtype.names:
            field, offset, *title = dtype.fields[name]  # type: ignore[index]
            if title and type(title[0]) is not str:
                raise Refusal(f"the field {name!r} has a title that is no string")
            writer.operands += (name, title[0] if title else None, offset)
            write_dtype(writer, field)
    else:
        writer.operands.append(dtype_name(dtype))


def read_dtype(reader: Reader) -> np.dtype[Any]:
    """Read what :func:`write_dtype` wrote."""
    name = reader.text()
    if name not in (_STRUCTURED, _SUBARRAY):
        return named_dtype(name)
    reader.enter()
    if name == _SUBARRAY:
        shape = reader.shape()
        dtype = np.dtype((read_dtype(reader), shape))
    else:
        dtype = _read_fields(reader)
    reader.depth -= 1
    return dtype


def _read_fields(reader: Reader) -> np.dtype[Any]:
    itemsize, align, count = reader.count(), reader.operand(), reader.count()
    if type(align) is not bool or count > _MAX_FIELDS:
        raise ValueError("a structured dtype is malformed")
    names, titles, offsets, formats = [], [], [], []
    for _ in range(count):
        names.append(reader.text())
        title = reader.operand()
        if type(title) is not str and title is not None:
            raise ValueError("the title of a field is no string")
        titles.append(title)
        offsets.append(reader.count())
        formats.append(read_dtype(reader))
    fields: dict[str, Any] = {
        "names": names, "formats": formats, "offsets": offsets, "itemsize": itemsize,
    }  # fmt: skip
    if any(title is not None for title in titles):
        fields["titles"] = titles
    return np.dtype(fields, align=align)  # type: ignore[call-overload, no-any-return]


# ---- arrays

#: Memoryviews of these can be cast directly, which is faster.
_CASTABLE = "?bBhHiIlLqQfd"
_MAX_CODE_POINT = 0x10FFFF
_SCALARS = {np.dtype(char).type for char in _NUMBERS} | {np.datetime64, np.timedelta64}


def memory_of(array: Array) -> memoryview:
    """Return the bytes of a C-contiguous array, without a copy."""
    if array.dtype.char in _CASTABLE and array.dtype.isnative:
        return array.data.cast("B")
    return array.reshape(-1).view(np.uint8).data


def _find_mask(dtype: np.dtype[Any]) -> Array | None:
    """Return a mask of the bytes of an item that are part of its value; None if all are.

    Records have bytes between their fields, and Intel's long doubles take 10 bytes of 12 or 16.
    They hold what was in memory before, so equal items may differ there.
    """
    mask = np.zeros(dtype.itemsize, np.uint8)
    if dtype.subdtype is not None:
        base = dtype.subdtype[0]
        inner = _find_mask(base)
        if inner is None or not base.itemsize:
            return None
        mask[:] = np.tile(inner, dtype.itemsize // base.itemsize)
    elif dtype.names is not None:
        for field, offset, *_ in dtype.fields.values():  # type: ignore[union-attr]
            inner = _find_mask(field)
            mask[offset : offset + field.itemsize] |= np.uint8(255) if inner is None else inner
    elif dtype.char in "gG" and np.finfo(np.longdouble).nmant == _INTEL_MANTISSA:
        native = mask.reshape(-1, np.dtype("g").itemsize)  # a complex one is two
        native[:, :_INTEL_BYTES] = 255
        if not dtype.isnative:
            native[:] = native[:, ::-1].copy()
    else:
        return None
    return None if mask.all() else mask


#: Masks by what is written of the dtype: NumPy cannot hash every dtype.
_masks: dict[tuple[Operand, ...], Array | None] = {}
_MAX_MASKS = 256


def _write_dtype_of(writer: Writer, array: Array) -> Array | None:
    """Write the dtype of an array; return the mask for :func:`_memory_of_values`."""
    start = len(writer.operands)
    write_dtype(writer, array.dtype)
    if array.dtype.names is None and array.dtype.char not in "gG":
        return None
    name = tuple(writer.operands[start:])
    if name in _masks:
        return _masks[name]
    mask = _find_mask(array.dtype)
    if len(_masks) < _MAX_MASKS:
        _masks[name] = mask
    return mask


def _memory_of_values(array: Array, mask: Array | None) -> memoryview:
    """Return the bytes of an array in C order, zeros for those that are not part of its values."""
    array = np.ascontiguousarray(array)
    if mask is None:
        return memory_of(array)
    items = array.reshape(-1).view(np.uint8).reshape(-1, array.dtype.itemsize)
    return (items & mask).data.cast("B")


def write_array(writer: Writer, array: Array) -> None:
    """Write an array. Fortran order is kept; other strides become C order."""
    writer.program.append("a")
    mask = _write_dtype_of(writer, array)
    writer.check_size(array.nbytes)
    flags = array.flags
    order = "C"
    if not flags.c_contiguous and flags.f_contiguous:
        order, array = "F", array.T
    offset = writer.put_array(_memory_of_values(array, mask)) if array.nbytes else 0
    writer.operands += (order, array.ndim, *array.shape, offset)


def _write_mapped(writer: Writer, array: Array) -> None:
    """Write what is mapped from a file as the plain array that it is."""
    write_array(writer, array.view(np.ndarray))


def _read_array(reader: Reader) -> Array:
    dtype = read_dtype(reader)
    order = reader.operand()
    if order not in ("C", "F"):
        raise ValueError(f"{order!r} is no order of an array")
    array = reader.array(dtype, reader.shape())
    check_items(array)
    return array if order == "C" else array.T


def check_items(array: Array) -> None:
    """Check items of types for which some bytes are invalid."""
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


def _write_long_double(writer: Writer, value: np.generic) -> None:
    array = np.array(value)
    writer.program.append("g")
    mask = _write_dtype_of(writer, array)
    writer.operands.append(bytes(_memory_of_values(array, mask)).decode("latin-1"))


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
    array = np.array(value, value.dtype)
    mask = _write_dtype_of(writer, array)
    writer.operands.append(writer.put_array(_memory_of_values(array, mask)) if array.nbytes else 0)


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
    **dict.fromkeys(_SCALARS, _write_scalar),
    np.longdouble: _write_long_double,
    np.clongdouble: _write_long_double,
}
PLAIN_WRITERS[np.memmap] = _write_mapped
ALONE["a"] = ({name: dtype for name, dtype in DTYPES.items() if dtype.kind != "b"}, None, None)
READERS |= {"a": _read_array, "g": _read_scalar, "u": _read_str, "o": _read_bytes, "k": _read_void}
