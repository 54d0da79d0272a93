"""The codec: a value to pieces of bytes, and bytes to the value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from xxhash import xxh3_64_intdigest

from kappacore.caching.codec import (  # noqa: F401 - each adds its types
    arrays,
    containers,
    scalars,
    stdlib,
)
from kappacore.caching.codec.layout import (
    BYTES,
    BYTES_AND_INT,
    DIGESTED_FROM,
    FORMAT_VERSION,
    HEADER,
    HEADER_SIZE,
    INT64_MAX,
    INT64_MIN,
    MAGIC,
    SIGNATURE,
    TREE,
    seal_bytes,
)
from kappacore.caching.codec.reading import READ_ERRORS, read_tree
from kappacore.caching.codec.registry import DecoderError, TypeRegistry
from kappacore.caching.codec.writing import Refusal, Writer
from kappacore.errors import (
    CorruptValueError,
    MissingDependencyError,
    TypeRegistrationError,
    UncacheableValueError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from kappacore.caching.backends.base import Buffer
    from kappacore.caching.codec.registry import Reference

__all__ = ["Codec", "default_codec", "register_type"]


_unpack_header = HEADER.unpack_from


class Codec:
    """Turns samples into bytes and back into exactly what they were.

    Kept with their exact types, at any depth: None, bool, int, float, complex, str, bytes,
    bytearray, tuple, list, dict, set, frozenset, slice, range, date, datetime (without a time zone
    or with a `datetime.timezone`), timedelta, pathlib's paths, NumPy arrays and scalars (but no
    objects), dense CPU tensors, PIL images, torchvision's tv_tensors, and what was given to
    :func:`register_type`. Anything else, subclasses of these included, is refused.

    Not part of a value: references (one list found twice comes back as two lists), strides other
    than C order, Fortran order, channels_last and channels_last_3d, a tensor's `requires_grad`,
    hooks and attributes, and a dtype's metadata.

    A codec holds nothing but its registered types. Pickled, it carries them by reference, so the
    workers of a DataLoader know them however they are started.
    """

    def __init__(self) -> None:
        self._types = TypeRegistry()

    def encode(self, value: Any, key: int, namespace: str = "") -> list[Buffer]:
        """Turn a value into bytes.

        Args:
            value: the sample.
            key: the key that it will be stored under; only the same key reads it.
            namespace: the namespace that it will be stored in, likewise.

        Returns:
            The pieces of the stored value, to be written one behind the other. Large ones are the
            value's own memory: copy them before the value changes.

        Raises:
            UncacheableValueError: the value cannot be given back exactly; the message names the
                place, as in ``sample[1]["boxes"]``.
        """
        if type(value) is bytes:
            return seal_bytes(BYTES, value, key, namespace)
        if (
            type(value) is tuple
            and len(value) == 2
            and type(value[0]) is bytes
            and type(value[1]) is int
            and INT64_MIN <= value[1] <= INT64_MAX
        ):
            return seal_bytes(BYTES_AND_INT, value[0], key, namespace, value[1])
        writer = Writer(self._types)
        try:
            writer.write(value)
            return writer.finish(key, namespace)
        except Refusal as refusal:
            message = f"{refusal.path} cannot be cached: {refusal.reason}."
            raise UncacheableValueError(message) from refusal.__cause__

    def decode(
        self,
        buffer: Buffer,
        key: int,
        namespace: str = "",
        *,
        verify: bool = True,
        copy: bool = True,
    ) -> Any:
        """Turn bytes back into the value.

        Args:
            buffer: the stored value, as one buffer of bytes.
            key: the key that it was stored under.
            namespace: the namespace that it was stored in.
            verify: False leaves out the digest over the whole value. That the value belongs to
                this key and namespace is checked either way, and so is everything that would be
                unsafe to get wrong.
            copy: True gives values of their own: arrays and tensors are writable, and those of
                one sample share one allocation. False leaves large data where it is: arrays are
                read-only views, bytes and bytearrays read-only memoryviews, and **tensors are
                views that torch takes for writable. Writing to one, in-place operations
                included, changes the cached sample for every reader, or ends the process where
                the memory is read-only.** The buffer must stay unchanged as long as a view lives.

        Returns:
            The value.

        Raises:
            CorruptValueError: the buffer is not what was written for this key and namespace by
                this version of the format.
            MissingDependencyError: the value needs a library that is not installed.
            TypeRegistrationError: the value is intact, but the decoder registered for a type fails.
        """
        view = buffer if type(buffer) is memoryview else memoryview(buffer)
        try:
            view = view.cast("B")
        except TypeError:  # with gaps, or of items that are no single numbers
            view = memoryview(view.tobytes())
        size = len(view)
        if size < HEADER_SIZE:
            raise _corrupt(key, namespace, f"{size} bytes are shorter than a header")
        signature, address, digest, total, kind, structure_size, number, array_bytes = (
            _unpack_header(view)
        )
        if signature != SIGNATURE:
            raise _corrupt(key, namespace, _why_not_read(signature))
        if address != xxh3_64_intdigest(namespace.encode(), key):
            raise _corrupt(key, namespace, "it belongs to another key or namespace")
        if total != size:
            raise _corrupt(key, namespace, f"it has {size} bytes instead of {total}")
        if verify and digest != xxh3_64_intdigest(view[DIGESTED_FROM:]):
            raise _corrupt(key, namespace, "its digest differs")
        if not (copy or view.readonly):
            view = view.toreadonly()
        if kind != TREE:
            data = view[HEADER_SIZE:].tobytes() if copy else view[HEADER_SIZE:]
            if kind == BYTES_AND_INT:
                return (data, number)
            if kind == BYTES:
                return data
            raise _corrupt(key, namespace, f"there is no kind {kind} of value")
        try:
            return read_tree(view, structure_size, array_bytes, copy, self._types)
        except (*READ_ERRORS, MissingDependencyError) as error:
            intact = digest == xxh3_64_intdigest(view[DIGESTED_FROM:])
            if intact and isinstance(error, MissingDependencyError):
                raise
            if intact and isinstance(error, DecoderError):
                raise TypeRegistrationError(
                    f"The value stored for {_place(key, namespace)} is intact, but {error}. Repair "
                    f"the decoder; or, if it no longer reads what an older encoder wrote, register "
                    f"the type under another name=."
                ) from error
            raise _corrupt(key, namespace, str(error) or repr(error)) from error

    def register_type(
        self,
        cls: type,
        encode: Callable[[Any], Any] | None = None,
        decode: Callable[[Any], Any] | None = None,
        *,
        name: str | None = None,
    ) -> None:
        """Teach this codec a type; see :func:`register_type`."""
        self._types.register(cls, encode, decode, name)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self is _default, self._types.references())


_default = Codec()


def default_codec() -> Codec:
    """Return the codec of this process, which caches use unless they are given another."""
    return _default


def register_type(
    cls: type,
    encode: Callable[[Any], Any] | None = None,
    decode: Callable[[Any], Any] | None = None,
    *,
    name: str | None = None,
) -> None:
    """Let samples hold values of a type of one's own.

    Do so before the cache is used. Workers of a DataLoader learn it from the dataset that they
    are sent, so the type and both functions must be importable there: defined at the top level of
    a module, neither a lambda nor inside another function.

    Args:
        cls: the type; values of exactly this type, not of its subclasses.
        encode: takes a value and returns it in terms of types that the codec knows. May be left
            out, with ``decode``, for enums (kept by member name), namedtuples (by position) and
            dataclasses (by field name; restored without a call of ``__init__``).
        decode: takes what ``encode`` returned and gives the value back.
        name: what stored values call the type; default its module and name. It must stay the same
            as long as stored values are to be read.

    Raises:
        TypeRegistrationError: the type is known already, the name is taken, or there is no default.

    Example::

        def encode_boxes(boxes):
            return boxes.xyxy, boxes.image_size

        def decode_boxes(parts):
            return Boxes(*parts)

        kappacore.register_type(Boxes, encode_boxes, decode_boxes)
        kappacore.register_type(Split)  # an enum
    """
    _default.register_type(cls, encode, decode, name=name)


def _restore(is_default: bool, types: tuple[Reference, ...]) -> Codec:
    """Return the codec that a pickle carried: its types are those of the process that sent it."""
    codec = _default if is_default else Codec()
    codec._types.add_references(types)
    return codec


def _why_not_read(signature: int) -> str:
    magic, version = (signature & 0xFFFFFFFF).to_bytes(4, "little"), signature >> 32
    if magic == MAGIC:
        return f"it has version {version} of the format, and {FORMAT_VERSION} is read here"
    return "it does not begin like a stored value"


def _corrupt(key: int, namespace: str, reason: str) -> CorruptValueError:
    return CorruptValueError(
        f"The value stored for {_place(key, namespace)} cannot be used: {reason}."
    )


def _place(key: int, namespace: str) -> str:
    return f"key {key} of namespace {namespace!r}" if namespace else f"key {key}"
