"""Decoding a value from untrusted bytes.

Every count, size, offset and shape is checked as a Python int before memory is allocated, and every
buffer may be used only once, so that a value never takes much more memory than its bytes. Malformed
bytes raise `ValueError` (or what Python raises for such arguments: see `READ_ERRORS`), which
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

from kappacore.caching.codec.layout import MAX_DEPTH, MAX_NDIM, Operand, aligned
from kappacore.errors import MissingDependencyError

if TYPE_CHECKING:
    from collections.abc import Callable

    from kappacore.caching.codec.registry import TypeRegistry

#: The reader of a letter's value. Filled by the modules of the types.
READERS: dict[str, Callable[[Reader], Any]] = {}

#: Letter -> module with its reader, imported on first use, and the package that it needs. The names
#: are fixed here and never come from data.
LAZY_READERS = {
    "x": ("kappacore.caching.codec.tensors", "torch"),
    "I": ("kappacore.caching.codec.images", "pillow"),
    "v": ("kappacore.caching.codec.tv_tensors", "torchvision"),
}

#: The exceptions that malformed bytes raise.
READ_ERRORS = (
    ValueError,
    TypeError,
    IndexError,
    OverflowError,
    StopIteration,
    msgspec.MsgspecError,
)

#: Refuses nested data before it allocates anything for it.
_from_msgpack = msgspec.msgpack.Decoder(list[Operand]).decode

#: Samples that are one array: letter -> dtypes by name, and functions for a copy and for a view.
#: Where there are such functions, the value can be written, and becomes a view only for "unsafe".
ALONE: dict[
    str,
    tuple[dict[str, np.dtype[Any]], Callable[[Any], Any] | None, Callable[[Any], Any] | None],
] = {}

#: The structure of a single array is no longer than this, in bytes.
SMALL_STRUCTURE = 64

#: Alignment that the largest numbers need, and that malloc guarantees.
ARRAY_ALIGNMENT = 16


def read_tree(
    view: memoryview,
    begin: int,
    structure_size: int,
    array_bytes: int,
    copy: bool,
    types: TypeRegistry,
    unsafe: bool = False,
    own: bool = False,
) -> Any:
    """Read a value with a structure: program and operands, then arrays, then byte strings.

    Args:
        view: The stored value.
        begin: Where its structure begins: behind the header.
        structure_size: The size of its structure.
        array_bytes: The size of its arrays.
        copy: Whether the value is independent of ``view``.
        types: The registered types.
        unsafe: Without ``copy``, whether tensors are views as well, though they can be written.
        own: With ``copy``, whether ``view`` is the value's own, so that nothing large is copied.
    """
    end = begin + structure_size
    start = aligned(end)
    size = len(view)
    if end > size or (array_bytes and start + array_bytes > size):
        raise ValueError("it is shorter than its header says")
    if array_bytes and structure_size <= SMALL_STRUCTURE and start + array_bytes == size:
        alone = _array_alone(view[begin:end].tobytes(), array_bytes)
        if alone is not None:
            dtype, shape, anywhere, of_copy, of_view = alone
            array = np.ndarray(shape, dtype, view, start)
            if own and array.flags.aligned:
                return array if of_copy is None else of_copy(array)
            if copy or (of_copy is not None and not unsafe):
                array = array.copy()
                return array if of_copy is None else of_copy(array)
            if anywhere or array.flags.aligned:
                return array if of_view is None else of_view(array)
    reader = Reader(view, view[begin:end], start, array_bytes, copy, types, unsafe, own)
    value = reader.read()
    reader.finish()
    return value


@lru_cache(maxsize=1024)  # most samples of a dataset have the same structure
def _array_alone(structure: bytes, array_bytes: int) -> Any:
    """Return how to read a sample that is an array of numbers; None for other samples.

    That is: dtype, shape, whether any address is aligned for it, and the functions to apply to a
    copy and to a view.
    """
    operands: Any = _from_msgpack(structure)
    letter = operands[0]
    if letter in LAZY_READERS:
        _find(letter)  # may add it to ALONE
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
    """The state of decoding one value."""

    depth = 0  # containers that are open
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
        unsafe: bool = False,
        own: bool = False,
    ) -> None:
        self._arrays_start = start
        self._arrays = array_bytes
        self._view = view
        self.copy = copy
        self.unsafe = unsafe
        self._own = own
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

    def read_copy(self) -> Any:
        """Read one value as a copy: memoryviews are unfit for keys and for a library's metadata."""
        copy, self.copy = self.copy, True
        value = self.read()
        self.copy = copy
        return value

    def finish(self) -> None:
        """Check that everything was read."""
        if next(self._letters, None) is not None or next(self.operands, self) is not self:
            raise ValueError("its structure goes on after its end")
        if self._array_end != self._arrays:
            raise ValueError("it holds bytes that belong to nothing")

    def enter(self) -> None:
        """Go one level down; the caller goes up again: ``reader.depth -= 1``."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ValueError(f"it is nested more than {MAX_DEPTH} levels deep")

    def count(self) -> int:
        """Read an operand that is a non-negative int."""
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
        """Read a count and that many operands."""
        count = self.count()
        values = list(islice(self.operands, count))
        if len(values) != count:
            raise ValueError("its structure ends too early")
        return values

    def shape(self) -> tuple[int, ...]:
        """Read the number of dimensions, then the size of each."""
        ndim = self.operand()
        if type(ndim) is not int or not 0 <= ndim <= MAX_NDIM:
            raise ValueError(f"an array has at most {MAX_NDIM} dimensions, not {ndim!r}")
        shape = tuple(islice(self.operands, ndim))
        for size in shape:
            if type(size) is not int or size < 0:
                raise ValueError(f"an array has the size {size!r} along a dimension")
        return shape  # type: ignore[return-value]  # all int, as checked

    def blob(self) -> memoryview:
        """Read an offset and a size; return a view of that byte string."""
        offset, size = self.count(), self.count()
        start = aligned(self._arrays_start + self._arrays) + offset
        if offset != aligned(self._blob_end) or start + size > len(self._view):
            raise ValueError("a byte string is not where it should be")
        self._blob_end = offset + size
        return self._view[start : start + size]

    def array(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
        """Read an offset; return the array there, in C order.

        Args:
            dtype: The array's dtype, from a fixed table.
            shape: The array's shape, as read from the value.
        """
        array: np.ndarray[Any, Any]
        offset = self.operand()
        size = math.prod(shape) * dtype.itemsize
        if size == 0:
            array = np.ndarray(shape, dtype, bytearray())  # without memory, however large a dtype
            array.flags.writeable = self.copy
            return array
        end = aligned(self._array_end) + size
        if type(offset) is not int or offset + size != end or end > self._arrays:
            raise ValueError("an array is not where it should be")
        self._array_end = end
        copied = self.copy and not self._own
        if size == self._arrays and copied and dtype.names is None:
            # a single array owns its memory; a copy of records would lose the bytes between fields
            array = np.ndarray(shape, dtype, self._view, self._arrays_start).copy()
            return array
        if self._memory is None:  # copied for all arrays at once, or viewed
            stored = np.frombuffer(self._view, np.uint8, self._arrays, self._arrays_start)
            address = stored.__array_interface__["data"][0]
            # A view of a misaligned buffer would give misaligned numbers.
            self._memory = stored.copy() if copied or address % ARRAY_ALIGNMENT else stored
        array = np.ndarray(shape, dtype, self._memory, offset)
        if array.flags.writeable != self.copy:
            if self.copy:
                array = array.copy()
            array.flags.writeable = self.copy
        return array


def _read_registered(reader: Reader) -> Any:
    reader.enter()
    name = reader.text()
    entry = reader.types.by_name.get(name)
    if entry is None:
        raise ValueError(
            f"it holds a value of the type {name!r}, which is not registered here; call "
            "kappacore.register_type for it first"
        )
    # A decoder may make a tensor of a read-only array: one that can write to the cache.
    plain = reader.read() if entry.derived or reader.unsafe else reader.read_copy()
    value = entry.restore(plain)
    reader.depth -= 1
    return value


READERS["R"] = _read_registered


def _find(letter: str) -> Callable[[Reader], Any]:
    """Return the reader of a letter, importing its module if needed."""
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
