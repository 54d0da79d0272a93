"""Names for NumPy's dtypes, looked up in fixed tables on the way back."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from kappacore.caching.codec.writing import Refusal

if TYPE_CHECKING:
    from kappacore.caching.codec.reading import Reader
    from kappacore.caching.codec.writing import Writer

_NUMBERS = "?bBhHiIlLqQefdgFDG"
_SIZED = re.compile(r"[|<>][SUV][0-9]{1,9}")
_TIMES = re.compile(r"[<>][mM]8(\[[0-9]{0,9}(Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)\])?")
_FLEXIBLE = (np.bytes_, np.str_, np.void, np.datetime64, np.timedelta64)
#: Where a name stands, ``"V"`` says that a structured dtype follows.
_STRUCTURED, _SUBARRAY = "V", "A"
_MAX_FIELDS = 1 << 16


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
    """Return the name of a dtype without fields; refuse what has none."""
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
    reader.leave()
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
