"""Encoding a value: a program of one letter per object, its operands, and buffers.

``(x, [1, 2], {"y": None})`` with an array ``x`` becomes the program ``taLD.``. Its operands, in the
order of the letters that take them: ``3``; dtype, shape and offset of the array; ``2 1 2``;
``1 "y"``; ``None``. They are only None, bool, int, float and str: a flat list, which a parser reads
without recursion.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

import msgspec

from kappacore.caching.codec.layout import (
    HEADER_SIZE,
    MAX_DEPTH,
    MAX_NODES,
    MAX_STRUCTURE_BYTES,
    MAX_VALUE_BYTES,
    TREE,
    Operand,
    aligned,
    padding,
    seal,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from kappacore.caching.backends.base import Buffer
    from kappacore.caching.codec.registry import TypeRegistry

#: The writer of values of exactly this type. Filled by the modules of the types.
WRITERS: dict[type, Callable[[Writer, Any], None]] = {}

#: The writer of values of a class, or of a subclass of it, that are kept as plain values of another
#: type: opened image files as images. Filled by the modules of the types.
PLAIN_WRITERS: dict[type, Callable[[Writer, Any], None]] = {}

#: Library -> module with the writers of its types, imported once the library is.
LAZY_WRITERS = {
    "torch": "kappacore.caching.codec.tensors",
    "PIL.Image": "kappacore.caching.codec.images",
    "torchvision.tv_tensors": "kappacore.caching.codec.tv_tensors",
}

to_msgpack = msgspec.msgpack.Encoder().encode


class Refusal(Exception):  # noqa: N818 - never leaves the codec
    """Why a value cannot be encoded; collects the steps to it while it propagates."""

    def __init__(self, reason: str, value: Any = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.value = value
        self.steps: list[str] = []

    def add_step(self, container: Any, step: str) -> None:
        """Record that the refused value was found in ``container`` under ``step``."""
        self.steps.append(step)
        if self.value is container:  # the value that was too deep is also further up
            self.reason = "it contains itself, and a cache keeps values, not references"
            self.steps.clear()

    @property
    def path(self) -> str:
        """The path to the value as a Python expression, starting with ``sample``."""
        return "sample" + "".join(reversed(self.steps))


class Writer:
    """The state of encoding one value."""

    __slots__ = ("_array_size", "_arrays", "_blob_size", "_blobs", "_text_size",
                 "depth", "operands", "orders", "program", "types")  # fmt: skip

    def __init__(self, types: TypeRegistry) -> None:
        self.types = types
        #: sets by id, each with its elements in the order in which they are written
        self.orders: dict[int, tuple[Any, list[Any]]] = {}
        self.program: list[str] = []
        self.operands: list[Operand] = []
        self._arrays: list[Buffer] = []
        self._blobs: list[Buffer] = []
        self._array_size = 0
        self._blob_size = 0
        self._text_size = 0
        self.depth = 0  # containers that are open

    def write(self, value: Any) -> None:
        """Write one value and everything in it."""
        write = WRITERS.get(type(value))
        if write is None:
            write = self._find(value)
        write(self, value)

    def write_part(self, container: Any, step: str, value: Any) -> None:
        """Write a value inside a container; a refusal records the step to it."""
        try:
            self.write(value)
        except Refusal as refusal:
            refusal.add_step(container, step)
            raise

    def write_apart(self, value: Any) -> tuple[bytes, ...]:
        """Return the bytes of a value inside what is being written, without adding them."""
        apart = Writer(self.types)
        apart.depth, apart.orders = self.depth, self.orders
        apart.write(value)
        structure = to_msgpack(["".join(apart.program), *apart.operands])
        return structure, *map(bytes, apart._arrays), *map(bytes, apart._blobs)

    def put(self, letter: str, *operands: Operand) -> None:
        """Append one letter and its operands."""
        self.program.append(letter)
        self.operands += operands

    def put_array(self, data: Buffer) -> int:
        """Append the memory of an array and return its offset among the arrays."""
        offset = self._append(self._arrays, self._array_size, data)
        self._array_size = offset + len(data)
        return offset

    def put_blob(self, data: Buffer) -> int:
        """Append a byte string and return its offset among the byte strings."""
        offset = self._append(self._blobs, self._blob_size, data)
        self._blob_size = offset + len(data)
        return offset

    def _append(self, buffers: list[Buffer], size: int, data: Buffer) -> int:
        """Append ``data`` to buffers that take ``size`` bytes; return its offset."""
        offset = aligned(size)
        self.check_size(offset + len(data))
        if offset != size:
            buffers.append(padding(size))
        buffers.append(data)
        return offset

    def check_size(self, size: int) -> None:
        """Refuse a value that is too large before memory is spent on it."""
        if size > MAX_VALUE_BYTES:
            raise Refusal(
                f"with it the sample takes {size} bytes, of {MAX_VALUE_BYTES} at most; is it an "
                "expanded or broadcast array?"
            )

    def add_text(self, size: int) -> None:
        """Count the size of a long string towards the limit of the structure."""
        self._text_size += size
        if self._text_size > MAX_STRUCTURE_BYTES:
            raise Refusal(
                f"with it the sample's strings take {self._text_size} bytes, of "
                f"{MAX_STRUCTURE_BYTES} at most; keep long text as bytes"
            )

    def enter(self, container: Any, children: int) -> None:
        """Go one level down; refuse what is too deep, too large or contains itself.

        The caller goes up again: ``writer.depth -= 1``.
        """
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Refusal(f"it is nested more than {MAX_DEPTH} levels deep", container)
        if max(len(self.program), len(self.operands)) + children > MAX_NODES:
            raise Refusal(f"a sample holds at most {MAX_NODES} objects; put numbers into an array")

    def finish(self, key: int, namespace: str) -> list[Buffer]:
        """Return the pieces of the encoded value."""
        structure = to_msgpack(["".join(self.program), *self.operands])
        self.add_text(len(structure) - self._text_size)
        buffers = self._arrays
        if self._blobs:
            gap = padding(self._array_size)
            buffers = [*buffers, gap, *self._blobs] if gap else [*buffers, *self._blobs]
        self.check_size(HEADER_SIZE + len(structure) + self._array_size + self._blob_size)
        return seal(TREE, structure, buffers, key, namespace, array_bytes=self._array_size)

    def _find(self, value: Any) -> Callable[[Writer, Any], None]:
        """Return the writer of a type that is registered, or whose library is loaded by now."""
        cls = type(value)
        if cls in self.types.by_class:
            return write_registered
        load_writers()
        if cls in WRITERS:
            return WRITERS[cls]
        for base in cls.__mro__:
            if base in PLAIN_WRITERS:
                return PLAIN_WRITERS[base]
        raise Refusal(_why_not(cls), value)


def load_writers() -> None:
    """Import the writers of all libraries that are loaded by now."""
    for library, module in LAZY_WRITERS.items():
        if sys.modules.get(library) is not None:
            import_module(module)


def write_registered(writer: Writer, value: Any) -> None:
    """Write a value of a registered type: the type's name and what its encoder returned."""
    entry = writer.types.by_class[type(value)]
    writer.enter(value, 1)
    writer.put("R", entry.name)
    try:
        plain = entry.encode(value)
    except Exception as error:
        raise Refusal(f"the encoder registered for {entry.name!r} raised {error!r}") from error
    writer.write_part(value, "", plain)
    writer.depth -= 1


def _why_not(cls: type) -> str:
    name = f"{cls.__module__}.{cls.__qualname__}"
    for base in cls.__mro__[1:]:
        if base in WRITERS:
            return (
                f"it is a {name}, a subclass of {base.__qualname__} that would come back as "
                f"something else. Convert it to a plain {base.__qualname__}, or register it with "
                "kappacore.register_type"
            )
    return (
        f"it is a {name}, which has no exact form as bytes. Convert it to arrays, tensors and "
        "builtin types, or register it with kappacore.register_type"
    )
