"""None, numbers, strings and byte strings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kappacore.caching.codec.layout import INT64_MIN, UINT64_MAX
from kappacore.caching.codec.reading import READERS
from kappacore.caching.codec.writing import WRITERS, Refusal

if TYPE_CHECKING:
    from kappacore.caching.codec.reading import Reader
    from kappacore.caching.codec.writing import Writer

#: Byte strings up to this size ride in the structure, one character a byte.
SHORT_BYTES = 64
#: Strings from this size on are counted against the limit of the structure as they come.
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


def _read_operand(reader: Reader) -> Any:
    return reader.operand()


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


WRITERS |= {
    type(None): _write_operand,
    bool: _write_operand,
    float: _write_operand,
    int: _write_int,
    str: _write_str,
    complex: _write_complex,
    bytes: _write_bytes,
    bytearray: _write_bytearray,
}
READERS |= {
    ".": _read_operand,
    "i": _read_int,
    "c": _read_complex,
    "b": _read_short_bytes,
    "B": _read_bytes,
    "Y": _read_bytearray,
}
