"""Tuples, lists, sets and dicts; slices and ranges.

A container whose elements are all operands has a letter of its own, which saves one letter and two
calls per element: ``T`` for ``t``, ``L`` for ``l`` and so on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kappacore.caching.codec.layout import INT64_MIN, UINT64_MAX
from kappacore.caching.codec.reading import READERS
from kappacore.caching.codec.scalars import LONG_TEXT
from kappacore.caching.codec.writing import WRITERS, Refusal, to_msgpack

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from kappacore.caching.codec.reading import Reader
    from kappacore.caching.codec.writing import Writer


def _all_operands(values: Iterable[Any]) -> bool:
    """Return whether every value can be an operand as it is."""
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


def _in_order(writer: Writer, values: Collection[Any]) -> list[Any]:
    """Return the elements of a set, ordered by their bytes.

    Its own order depends on the process, and caches compare bytes. An inner set is ordered once,
    however many sets it is in.
    """
    _, ordered = writer.orders.get(id(values), (None, None))
    if ordered is None:
        ordered = sorted(values, key=writer.write_apart)
        writer.orders[id(values)] = values, ordered  # kept alive, so its id stays its own
    return ordered


def _collection_writer(letter: str, *, is_set: bool = False) -> Callable[[Writer, Any], None]:
    def write(writer: Writer, values: Collection[Any]) -> None:
        writer.enter(values, len(values))
        if _all_operands(values):
            ordered = sorted(values, key=to_msgpack) if is_set else values
            writer.put(letter.upper(), len(values), *ordered)
        else:
            index = 0
            try:
                ordered = _in_order(writer, values) if is_set else values
                writer.put(letter, len(values))
                for index, value in enumerate(ordered):  # noqa: B007 - the step of a refusal
                    writer.write(value)
            except Refusal as refusal:
                refusal.add_step(values, "{an element}" if is_set else f"[{index}]")
                raise
        writer.depth -= 1

    return write


def _reader(read_parts: Callable[[Reader], Any]) -> Callable[[Reader], Any]:
    """Return a reader that goes one level down for the parts of a container."""

    def read(reader: Reader) -> Any:
        reader.enter()
        value = read_parts(reader)
        reader.depth -= 1
        return value

    return read


def _elements(reader: Reader) -> list[Any]:
    return [reader.read() for _ in range(reader.count())]


def _hashable_elements(reader: Reader) -> list[Any]:
    return [reader.read_copy() for _ in range(reader.count())]


# ---- dict; the keys of "D" are operands


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
        refusal.add_step(value, step or f"[{_shown(key)}]")
        raise
    writer.depth -= 1


def _shown(key: Any) -> str:
    """Return a key as a Python expression, shortened."""
    if type(key) is int and key.bit_length() > 64:
        return "a large int"
    text = f'"{key}"' if type(key) is str and '"' not in key else repr(key)
    return text if len(text) <= 80 else text[:77] + "..."


def _entries(reader: Reader) -> dict[Any, Any]:
    return {reader.read_copy(): reader.read() for _ in range(reader.count())}


def _entries_of_operands(reader: Reader) -> dict[Any, Any]:
    return {key: reader.read() for key in reader.plain()}


# ---- slice and range


def _bounds_writer(letter: str) -> Callable[[Writer, Any], None]:
    def write(writer: Writer, value: slice | range) -> None:
        writer.enter(value, 3)
        writer.put(letter)
        for name in ("start", "stop", "step"):
            writer.write_part(value, f".{name}", getattr(value, name))
        writer.depth -= 1

    return write


def _bounds(reader: Reader) -> tuple[Any, Any, Any]:
    return reader.read(), reader.read(), reader.read()


WRITERS |= {
    tuple: _collection_writer("t"),
    list: _collection_writer("l"),
    set: _collection_writer("s", is_set=True),
    frozenset: _collection_writer("z", is_set=True),
    dict: _write_dict,
    slice: _bounds_writer(":"),
    range: _bounds_writer("r"),
}
READERS |= {
    "t": _reader(lambda reader: tuple(_elements(reader))),
    "l": _reader(_elements),
    "s": _reader(lambda reader: set(_hashable_elements(reader))),
    "z": _reader(lambda reader: frozenset(_hashable_elements(reader))),
    "T": _reader(lambda reader: tuple(reader.plain())),
    "L": _reader(lambda reader: list(reader.plain())),
    "S": _reader(lambda reader: set(reader.plain())),
    "Z": _reader(lambda reader: frozenset(reader.plain())),
    "D": _reader(_entries_of_operands),
    "d": _reader(_entries),
    ":": _reader(lambda reader: slice(*_bounds(reader))),
    "r": _reader(lambda reader: range(*_bounds(reader))),
}
