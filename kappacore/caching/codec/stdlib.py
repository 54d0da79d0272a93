"""Dates, times and paths of the standard library."""

from __future__ import annotations

import datetime as dt
import pathlib
from typing import TYPE_CHECKING

from kappacore.caching.codec.reading import READERS
from kappacore.caching.codec.scalars import check_text
from kappacore.caching.codec.writing import WRITERS, Refusal

if TYPE_CHECKING:
    from kappacore.caching.codec.reading import Reader
    from kappacore.caching.codec.writing import Writer

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
    dt.date: _write_date,
    dt.datetime: _write_datetime,
    dt.timedelta: _write_timedelta,
    **dict.fromkeys(_PATHS.values(), _write_path),
}
READERS |= {
    "e": _read_date,
    "m": _read_datetime,
    "w": _read_timedelta,
    "p": _read_path,
}
