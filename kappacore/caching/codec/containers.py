"""Tuples, lists, sets and dicts; slices and ranges.

A container whose elements are all operands has a letter of its own, which spares one letter per
element and the calls that go with it: ``T`` for ``t``, ``L`` for ``l`` and so on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kappacore.caching.codec.layout import INT64_MIN, UINT64_MAX
from kappacore.caching.codec.reading import READERS
from kappacore.caching.codec.scalars import LONG_TEXT
from kappacore.caching.codec.writing import WRITERS, Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kappacore.caching.codec.reading import Reader
    from kappacore.caching.codec.writing import Writer


def _all_operands(values: Iterable[Any]) -> bool:
    """Return whether every value is one that an operand holds as it is."""
    kinds = set(map(type, values))
    if not kinds <= {type(None), bool, int, float, str}:
        return False
    if int in kinds:
        for value in values:
            if type(value) is int and not INT64_MIN <= value <= UINT64_MAX:
                return False
    if str in kinds:
        for value in values:
            if type(value) is str and (len(value) >= LONG_TEXT or not value.isascii()):
                return False
    return True


def _sequence_writer(letter: str) -> Callable[[Writer, Any], None]:
    def write(writer: Writer, values: tuple[Any, ...] | list[Any]) -> None:
        writer.enter(values, len(values))
        if _all_operands(values):
            writer.put(letter.upper(), len(values), *values)
        else:
            writer.put(letter, len(values))
            index = 0
            try:
                for index, value in enumerate(values):  # noqa: B007 - the step of a refusal
                    writer.write(value)
            except Refusal as refusal:
                refusal.add_step(values, f"[{index}]")
                raise
        writer.leave()

    return write


def _order(value: Any) -> tuple[str, str]:
    inner = sorted(map(_order, value)) if isinstance(value, frozenset) else value
    return type(value).__name__, repr(inner)


def _set_writer(letter: str) -> Callable[[Writer, Any], None]:
    def write(writer: Writer, values: set[Any] | frozenset[Any]) -> None:
        writer.enter(values, len(values))
        # In an order of its own: the set's depends on the process, and a cache compares bytes.
        ordered = sorted(values, key=_order)
        if _all_operands(values):
            writer.put(letter.upper(), len(values), *ordered)
        else:
            writer.put(letter, len(values))
            try:
                for value in ordered:
                    writer.write(value)
            except Refusal as refusal:
                refusal.add_step(values, "{an element}")
                raise
        writer.leave()

    return write


def _collection_reader(make: Callable[[Any], Any]) -> Callable[[Reader], Any]:
    def read(reader: Reader) -> Any:
        reader.enter()
        values = [reader.read() for _ in range(reader.count())]
        reader.leave()
        return make(values)

    return read


def _set_reader(make: Callable[[Any], Any]) -> Callable[[Reader], Any]:
    def read(reader: Reader) -> Any:
        reader.enter()
        copy, reader.copy = reader.copy, True  # a memoryview need not have a hash
        values = [reader.read() for _ in range(reader.count())]
        reader.copy = copy
        reader.leave()
        return make(values)

    return read


def _operands_reader(make: Callable[[Any], Any]) -> Callable[[Reader], Any]:
    def read(reader: Reader) -> Any:
        reader.enter()
        values = make(reader.plain())
        reader.leave()
        return values

    return read


# ---- dict: "D" has operands for keys


def _write_dict(writer: Writer, value: dict[Any, Any]) -> None:
    writer.enter(value, 2 * len(value))
    key: Any = None
    step = ""
    try:
        if _all_operands(value):
            writer.put("D", len(value), *value)
            for key, child in value.items():  # noqa: B007 - the step of a refusal
                writer.write(child)
        else:
            writer.put("d", len(value))
            for key, child in value.items():
                step = "{a key}"
                writer.write(key)
                step = ""
                writer.write(child)
    except Refusal as refusal:
        refusal.add_step(value, step or f"[{_show(key)}]")
        raise
    writer.leave()


def _show(key: Any) -> str:
    """Return a key as one would type it, and not at length."""
    if type(key) is int and key.bit_length() > 64:
        return "a large int"
    text = f'"{key}"' if type(key) is str and '"' not in key else repr(key)
    return text if len(text) <= 80 else text[:77] + "..."


def _read_dict(reader: Reader) -> dict[Any, Any]:
    reader.enter()
    result = {}
    copy = reader.copy
    for _ in range(reader.count()):
        reader.copy = True  # a memoryview need not have a hash
        key = reader.read()
        reader.copy = copy
        result[key] = reader.read()
    reader.leave()
    return result


def _read_plain_dict(reader: Reader) -> dict[Any, Any]:
    reader.enter()
    result = {key: reader.read() for key in reader.plain()}
    reader.leave()
    return result


# ---- slice and range


def _bounds_writer(letter: str) -> Callable[[Writer, Any], None]:
    def write(writer: Writer, value: slice | range) -> None:
        writer.enter(value, 3)
        writer.put(letter)
        name = ""
        try:
            for name in ("start", "stop", "step"):
                writer.write(getattr(value, name))
        except Refusal as refusal:
            refusal.add_step(value, f".{name}")
            raise
        writer.leave()

    return write


def _read_slice(reader: Reader) -> slice:
    reader.enter()
    bounds = slice(reader.read(), reader.read(), reader.read())
    reader.leave()
    return bounds


def _read_range(reader: Reader) -> range:
    return range(reader.read(), reader.read(), reader.read())


WRITERS |= {
    tuple: _sequence_writer("t"),
    list: _sequence_writer("l"),
    set: _set_writer("s"),
    frozenset: _set_writer("z"),
    dict: _write_dict,
    slice: _bounds_writer(":"),
    range: _bounds_writer("r"),
}
READERS |= {
    "t": _collection_reader(tuple),
    "l": _collection_reader(list),
    "s": _set_reader(set),
    "z": _set_reader(frozenset),
    "T": _operands_reader(tuple),
    "L": _operands_reader(list),
    "S": _operands_reader(set),
    "Z": _operands_reader(frozenset),
    "D": _read_plain_dict,
    "d": _read_dict,
    ":": _read_slice,
    "r": _read_range,
}
