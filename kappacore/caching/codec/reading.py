"""Putting a value together again from bytes that nobody vouches for.

Every count, size, offset and shape is checked as a Python int before memory is taken, and every
buffer may be named once only, so a value never takes much more memory than its bytes. What does
not fit raises `ValueError` (or what Python raises for such arguments: see `READ_ERRORS`), which
:meth:`Codec.decode` turns into `CorruptValueError`.
"""

from __future__ import annotations

import math
from functools import lru_cache
from importlib import import_module
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from kappacore.caching.codec.layout import HEADER_SIZE, MAX_DEPTH, MAX_NDIM, Operand, aligned
from kappacore.errors import MissingDependencyError

if TYPE_CHECKING:
    from collections.abc import Callable

    from kappacore.caching.codec.registry import TypeRegistry

#: How the value behind a letter is read. Filled by the modules of the types.
READERS: dict[str, Callable[[Reader], Any]] = {}

#: Letters whose module is imported when a value needs it: names fixed here, never found in data.
LAZY_READERS = {
    "x": ("kappacore.caching.codec.tensors", "torch"),
    "I": ("kappacore.caching.codec.images", "pillow"),
    "v": ("kappacore.caching.codec.tv_tensors", "torchvision"),
}

#: What reading malformed bytes raises.
READ_ERRORS = (
    ValueError,
    TypeError,
    IndexError,
    OverflowError,
    StopIteration,
    msgspec.MsgspecError,
)

#: Refuses everything that nests before it allocates anything for it.
_from_msgpack = msgspec.msgpack.Decoder(list[Operand]).decode

#: Samples that are one array: letter -> dtypes by name, and what is made of a copy and of a view.
ALONE: dict[
    str,
    tuple[dict[str, np.dtype[Any]], Callable[[Any], Any] | None, Callable[[Any], Any] | None],
] = {}

#: Bytes of structure up to which it may be that of one array.
SMALL_STRUCTURE = 64

#: What the largest numbers need; malloc gives as much.
ARRAY_ALIGNMENT = 16


def read_tree(
    view: memoryview, structure_size: int, array_bytes: int, copy: bool, types: TypeRegistry
) -> Any:
    """Read a value with a structure: program and operands, then arrays, then byte strings."""
    end = HEADER_SIZE + structure_size
    start = aligned(end)
    size = len(view)
    if end > size or (array_bytes and start + array_bytes > size):
        raise ValueError("it is shorter than its header says")
    if array_bytes and structure_size <= SMALL_STRUCTURE and start + array_bytes == size:
        alone = _array_alone(view[HEADER_SIZE:end].tobytes(), array_bytes)
        if alone is not None:
            dtype, shape, anywhere, of_copy, of_view = alone
            array = np.ndarray(shape, dtype, view, start)
            if copy:
                array = array.copy()
                return array if of_copy is None else of_copy(array)
            if anywhere or array.flags.aligned:
                return array if of_view is None else of_view(array)
    reader = Reader(view, view[HEADER_SIZE:end], start, array_bytes, copy, types)
    value = reader.read()
    reader.finish()
    return value


@lru_cache(maxsize=1024)  # most samples of a dataset have the same structure
def _array_alone(structure: bytes, array_bytes: int) -> Any:
    """Return what reads a sample that is an array of numbers, else None.

    That is its dtype, its shape, whether it may lie at any address, and what is made of a copy and
    of a view of it.
    """
    operands: Any = _from_msgpack(structure)
    letter = operands[0]
    if letter in LAZY_READERS:
        _find(letter)  # which may make it one of ALONE
    if letter not in ALONE or len(operands) < 5:
        return None
    _, name, order, *numbers = operands
    ndim, *shape, offset = numbers
    dtypes, of_copy, of_view = ALONE[letter]
    dtype = dtypes.get(name)
    if dtype is None or order != "C" or set(map(type, numbers)) != {int}:
        return None
    if offset != 0 or ndim != len(shape) or min(shape, default=0) < 0:
        return None
    if math.prod(shape) * dtype.itemsize != array_bytes:
        return None
    return dtype, tuple(shape), dtype.alignment == 1, of_copy, of_view


class Reader:
    """The state of putting one value together."""

    _depth = 0
    _array_end = 0
    _blob_end = 0
    _memory: np.ndarray[Any, Any] | None = None

    def __init__(
        self,
        view: memoryview,
        structure: memoryview,
        start: int,
        array_bytes: int,
        copy: bool,
        types: TypeRegistry,
    ) -> None:
        self._arrays_start = start
        self._arrays = array_bytes
        self._view = view
        self.copy = copy
        self.types = types
        self.operands = iter(_from_msgpack(structure))
        self.operand = self.operands.__next__
        self._letters = iter(self.operand())  # type: ignore[arg-type]  # only a str is iterable

    def read(self) -> Any:
        """Read one value and everything in it."""
        letter = next(self._letters)
        read = READERS.get(letter)
        if read is None:
            read = _find(letter)
        return read(self)

    def finish(self) -> None:
        """Check that nothing is left over."""
        if next(self._letters, None) is not None or next(self.operands, self) is not self:
            raise ValueError("its structure goes on after its end")
        if self._array_end != self._arrays:
            raise ValueError("it holds bytes that belong to nothing")

    def enter(self) -> None:
        """Go one level down."""
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ValueError(f"it is nested more than {MAX_DEPTH} levels deep")

    def leave(self) -> None:
        """Go one level up."""
        self._depth -= 1

    def count(self) -> int:
        """Read an operand that counts something."""
        value = self.operand()
        if type(value) is not int or value < 0:
            raise ValueError(f"{value!r} is no count")
        return value

    def text(self) -> str:
        """Read an operand that is a string."""
        value = self.operand()
        if type(value) is not str:
            raise ValueError(f"{value!r} is no string")
        return value

    def plain(self) -> list[Operand]:
        """Read a count and as many operands."""
        count = self.count()
        values = list(islice(self.operands, count))
        if len(values) != count:
            raise ValueError("its structure ends too early")
        return values

    def shape(self) -> tuple[int, ...]:
        """Read the number of dimensions and the size along each."""
        ndim = self.operand()
        if type(ndim) is not int or not 0 <= ndim <= MAX_NDIM:
            raise ValueError(f"an array has at most {MAX_NDIM} dimensions, not {ndim!r}")
        shape = tuple(islice(self.operands, ndim))
        for size in shape:
            if type(size) is not int or size < 0:
                raise ValueError(f"an array has the size {size!r} along a dimension")
        return shape  # type: ignore[return-value]  # all int, as just seen

    def blob(self) -> memoryview:
        """Read an offset and a size and return that byte string, still in the stored value."""
        offset, size = self.count(), self.count()
        start = aligned(self._arrays_start + self._arrays) + offset
        if offset != aligned(self._blob_end) or start + size > len(self._view):
            raise ValueError("a byte string is not where it should be")
        self._blob_end = offset + size
        return self._view[start : start + size]

    def array(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
        """Read an offset and return the array there, in C order.

        Args:
            dtype: of the array, from a fixed table.
            shape: of the array, as read from the value.
        """
        array: np.ndarray[Any, Any]
        offset = self.operand()
        size = math.prod(shape) * dtype.itemsize
        if size == 0:
            array = np.ndarray(shape, dtype, bytearray())  # without memory, however large a dtype
            array.flags.writeable = self.copy
            return array
        if type(offset) is not int or offset != aligned(self._array_end):
            raise ValueError("an array is not where it should be")
        if offset + size > self._arrays:
            raise ValueError("an array is not where it should be")
        self._array_end = offset + size
        if size == self._arrays and self.copy and dtype.names is None:
            # the only one owns its memory; a copy of records would lose what is between fields
            array = np.ndarray(shape, dtype, self._view, self._arrays_start).copy()
            return array
        if self._memory is None:
            self._load_memory()
        array = np.ndarray(shape, dtype, self._memory, offset)
        return array

    def _load_memory(self) -> None:
        """Copy the memory of all arrays at once, or view it where it is."""
        stored = np.frombuffer(self._view, np.uint8, self._arrays, self._arrays_start)
        address = stored.__array_interface__["data"][0]
        # No numbers may lie at an odd address, so such a buffer cannot be viewed.
        self._memory = stored.copy() if self.copy or address % ARRAY_ALIGNMENT else stored
        self._memory.flags.writeable = self.copy


def _read_registered(reader: Reader) -> Any:
    reader.enter()
    entry = reader.types.of_name(reader.text())
    value = entry.restore(reader.read())
    reader.leave()
    return value


READERS["R"] = _read_registered


def _find(letter: str) -> Callable[[Reader], Any]:
    """Return the reader of a letter whose module is not loaded yet."""
    if letter in LAZY_READERS:
        module, package = LAZY_READERS[letter]
        try:
            import_module(module)
        except ImportError as error:
            raise MissingDependencyError(
                f"A cached sample holds an object of {package}, which cannot be imported here "
                f"({error}). Install it with `pip install {package}`."
            ) from error
    if letter not in READERS:
        raise ValueError(f"no type has the letter {letter!r}")
    return READERS[letter]
