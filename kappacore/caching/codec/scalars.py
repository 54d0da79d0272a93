"""Values without parts: None, numbers, strings, byte strings, dates, times and paths."""

from __future__ import annotations

import datetime as dt
import pathlib
from typing import TYPE_CHECKING

from kappacore.caching.codec.layout import INT64_MIN, UINT64_MAX
from kappacore.caching.codec.reading import READERS
from kappacore.caching.codec.writing import WRITERS, Refusal

if TYPE_CHECKING:
    from kappacore.caching.codec.reading import Reader
    from kappacore.caching.codec.writing import Writer

#: Byte strings up to this size are part of the structure, one character a byte.
SHORT_BYTES = 64
#: Strings from this size on count towards the limit of the structure as they are written.
LONG_TEXT = 256


def _write_operand(writer: Writer, value: float | None) -> None:
    writer.program.append(".")
    writer.operands.append(value)


def _write_int(writer: Writer, value: int) -> None:
    if INT64_MIN <= value <= UINT64_MAX:
        writer.put(".", value)
    else:
        digits = hex(value)
        writer.add_text(len(digits))
        writer.put("i", digits)


def _write_str(writer: Writer, value: str) -> None:
    check_text(value)
    if len(value) >= LONG_TEXT:
        writer.add_text(len(value))
    writer.put(".", value)


def check_text(value: str) -> None:
    """Refuse a string that UTF-8 cannot hold."""
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise Refusal(
                f"the string has a lone surrogate at position {error.start}, which UTF-8 cannot "
                "hold; keep it as bytes (os.fsencode turns file names back into theirs)"
            ) from None


def _write_complex(writer: Writer, value: complex) -> None:
    writer.put("c", value.real, value.imag)


def _read_int(reader: Reader) -> int:
    return int(reader.text(), 16)


def _read_complex(reader: Reader) -> complex:
    real, imag = reader.operand(), reader.operand()
    if type(real) is not float or type(imag) is not float:
        raise ValueError("a complex number has two floats")
    return complex(real, imag)


# ---- bytes and bytearray


def _write_bytes(writer: Writer, value: bytes) -> None:
    if len(value) <= SHORT_BYTES:
        writer.put("b", value.decode("latin-1"))
    else:
        writer.put("B", writer.put_blob(value), len(value))


def _write_bytearray(writer: Writer, value: bytearray) -> None:
    writer.put("Y", writer.put_blob(memoryview(value)), len(value))


def _read_short_bytes(reader: Reader) -> bytes | memoryview:
    value = reader.text().encode("latin-1")
    return value if reader.copy else memoryview(value)


def _read_bytes(reader: Reader) -> bytes | memoryview:
    blob = reader.blob()
    return bytes(blob) if reader.copy else blob


def _read_bytearray(reader: Reader) -> bytearray | memoryview:
    blob = reader.blob()
    return bytearray(blob) if reader.copy else blob


# ---- dates, times and paths

_MICROSECOND = dt.timedelta(microseconds=1)


def _write_date(writer: Writer, value: dt.date) -> None:
    writer.put("e", value.year, value.month, value.day)


def _write_datetime(writer: Writer, value: dt.datetime) -> None:
    zone = value.tzinfo
    offset: int | None = None
    name: str | None = None
    if zone is not None:
        if type(zone) is not dt.timezone:
            raise Refusal(
                f"its time zone is a {type(zone).__module__}.{type(zone).__qualname__}, whose "
                "rules are not part of the value; use value.astimezone(datetime.timezone.utc)"
            )
        offset = zone.utcoffset(None) // _MICROSECOND
        name = zone.tzname(None)
        check_text(name)
    writer.put(
        "m", value.year, value.month, value.day, value.hour, value.minute, value.second,
        value.microsecond, value.fold, offset, name,
    )  # fmt: skip


def _write_timedelta(writer: Writer, value: dt.timedelta) -> None:
    writer.put("w", value.days, value.seconds, value.microseconds)


def _read_date(reader: Reader) -> dt.date:
    return dt.date(reader.count(), reader.count(), reader.count())


def _read_datetime(reader: Reader) -> dt.datetime:
    fields = [reader.count() for _ in range(7)]
    fold = reader.count()
    offset, name = reader.operand(), reader.operand()
    zone = None
    if offset is not None:
        if type(offset) is not int or type(name) is not str:
            raise ValueError("a time zone has an offset and a name")
        zone = dt.timezone(offset * _MICROSECOND)
        if zone.tzname(None) != name:
            zone = dt.timezone(offset * _MICROSECOND, name)
    return dt.datetime(*fields, tzinfo=zone, fold=fold)  # type: ignore[arg-type, misc]


def _read_timedelta(reader: Reader) -> dt.timedelta:
    days = reader.operand()
    if type(days) is not int:
        raise ValueError("a time difference has whole days")
    return dt.timedelta(days, reader.count(), reader.count())


_PATHS: dict[str, type[pathlib.PurePath]] = {
    cls.__name__: cls
    for cls in (
        pathlib.PurePosixPath,
        pathlib.PureWindowsPath,
        pathlib.PosixPath,
        pathlib.WindowsPath,
    )
}


def _write_path(writer: Writer, value: pathlib.PurePath) -> None:
    text = str(value)
    check_text(text)
    writer.add_text(len(text))
    writer.put("p", type(value).__name__, text)


def _read_path(reader: Reader) -> pathlib.PurePath:
    cls = _PATHS.get(reader.text())
    if cls is None:
        raise ValueError("no class of paths has this name")
    try:
        return cls(reader.text())
    except NotImplementedError as error:  # a path of the other operating system
        raise ValueError(str(error)) from error


WRITERS |= {
    type(None): _write_operand,
    bool: _write_operand,
    float: _write_operand,
    int: _write_int,
    str: _write_str,
    complex: _write_complex,
    bytes: _write_bytes,
    bytearray: _write_bytearray,
    dt.date: _write_date,
    dt.datetime: _write_datetime,
    dt.timedelta: _write_timedelta,
    **dict.fromkeys(_PATHS.values(), _write_path),
}
READERS |= {
    ".": lambda reader: reader.operand(),
    "i": _read_int,
    "c": _read_complex,
    "b": _read_short_bytes,
    "B": _read_bytes,
    "Y": _read_bytearray,
    "e": _read_date,
    "m": _read_datetime,
    "w": _read_timedelta,
    "p": _read_path,
}
