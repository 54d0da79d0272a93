"""The codec: encodes a value as pieces of bytes, and decodes bytes to the value."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from xxhash import xxh3_64_intdigest

from kappacore.caching.codec import (  # noqa: F401 - each adds its types
    arrays,
    containers,
    scalars,
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
    SHORT_HEADER_SIZE,
    SIGNATURE,
    TREE,
    read_short_header,
    seal_bytes,
)
from kappacore.caching.codec.locating import locate_array, locate_image
from kappacore.caching.codec.reading import READ_ERRORS, read_tree
from kappacore.caching.codec.registry import DecoderError, TypeRegistry, find_targets
from kappacore.caching.codec.writing import WRITERS, Refusal, Writer, load_writers
from kappacore.errors import (
    CorruptValueError,
    InvalidOptionError,
    MissingDependencyError,
    TypeRegistrationError,
    UncacheableValueError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from kappacore.caching.backends.base import Buffer
    from kappacore.caching.codec.registry import Reference
    from kappacore.locations import Layout


_unpack_header = HEADER.unpack_from


class Codec:
    """Encodes samples as bytes, and decodes them to exactly the same values.

    It keeps the exact types, at any depth, of None, bool, int, float, complex, str, bytes,
    bytearray, tuple, list, dict, set, frozenset, slice, range, date, datetime (without a time zone
    or with a `datetime.timezone`), timedelta, pathlib's paths, NumPy arrays and scalars (except
    objects), dense CPU tensors, PIL images, torchvision's tv_tensors, and types given to
    :func:`register_type`. Anything else, including subclasses of these, is refused.

    Not part of a value: references (a list that occurs twice is decoded as two lists), strides
    other than C order, Fortran order, channels_last and channels_last_3d, a tensor's
    `requires_grad`, hooks and attributes, and a dtype's metadata.

    A codec holds only its registered types. When it is pickled they are sent by name, so that
    DataLoader workers know them, however they are started.
    """

    def __init__(self) -> None:
        self._types = TypeRegistry()

    def encode(self, value: Any, key: int, namespace: str = "") -> list[Buffer]:
        """Encode a value.

        Args:
            value: The sample.
            key: The key to store it under; it can be decoded only with the same key.
            namespace: The namespace to store it in, likewise.

        Returns:
            The pieces of the stored value, to be written one after another. Large ones are the
            value's own memory: copy them before the value changes.

        Raises:
            UncacheableValueError: If the value cannot be restored exactly; the message gives the
                path to the reason, as in ``sample[1]["boxes"]``.
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
        copy: bool | str = True,
    ) -> Any:
        """Decode a value.

        Args:
            buffer: The stored value, as one buffer of bytes.
            key: The key that it was stored under.
            namespace: The namespace that it was stored in.
            verify: False skips the digest over the whole value. Key, namespace and everything
                that memory safety depends on are checked either way. So is the digest of a value
                with a short header, which covers key and namespace as well.
            copy: True gives independent values: arrays and tensors are writable, and those of
                one sample share one allocation. False leaves large data where it is: arrays are
                read-only views, bytes and bytearrays read-only memoryviews; tensors, which torch
                cannot make read-only, are copied. ``"unsafe"`` leaves tensors there as well.
                **Writing to such a tensor, in-place operations included, changes the cached
                sample for every reader, or ends the process where the memory is read-only.**
                The buffer must stay unchanged while a view exists. ``"own"`` says that the buffer
                is a bytearray that nobody else uses: as True, but large data stays where it is.

        Returns:
            The value.

        Raises:
            InvalidOptionError: If ``copy`` is anything else.
            CorruptValueError: If the buffer was not written for this key and namespace by this
                version of the format.
            MissingDependencyError: If the value needs a library that is not installed.
            TypeRegistrationError: If the value is intact, but the decoder registered for a type
                fails.
        """
        unsafe = own = False
        if type(copy) is not bool:
            if copy == "own":
                copy, own = True, True
            else:
                check_copy(copy)
                copy, unsafe = False, True
        view = buffer if type(buffer) is memoryview else memoryview(buffer)
        try:
            view = view.cast("B")
        except TypeError:  # not contiguous, or not of single numbers
            view = memoryview(view.tobytes())
        size = len(view)
        signature = 0
        if size >= HEADER_SIZE:
            signature, address, digest, total, kind, structure_size, number, array_bytes = (
                _unpack_header(view)
            )
        if signature == SIGNATURE:
            start = HEADER_SIZE
            if address != xxh3_64_intdigest(namespace.encode(), key):
                raise _corrupt(key, namespace, "it belongs to another key or namespace")
            if total != size:
                raise _corrupt(key, namespace, f"it has {size} bytes instead of {total}")
            if verify and digest != xxh3_64_intdigest(view[DIGESTED_FROM:]):
                raise _corrupt(key, namespace, "its digest differs")
        elif signature & 0xFFFFFFFF == SIGNATURE & 0xFFFFFFFF:
            raise _corrupt(key, namespace, _why_not_read(signature))
        else:
            start, digest = SHORT_HEADER_SIZE, None  # which is always checked
            try:
                kind, structure_size, number, array_bytes = read_short_header(view, key, namespace)
            except ValueError as error:
                raise _corrupt(key, namespace, str(error)) from None
        if not (copy or view.readonly):
            view = view.toreadonly()
        if kind != TREE:
            data = view[start:].tobytes() if copy else view[start:]
            if kind == BYTES_AND_INT:
                return (data, number)
            if kind == BYTES:
                return data
            raise _corrupt(key, namespace, f"there is no kind {kind} of value")
        try:
            return read_tree(
                view, start, structure_size, array_bytes, copy, self._types, unsafe, own
            )
        except (*READ_ERRORS, MissingDependencyError) as error:
            intact = digest in (None, xxh3_64_intdigest(view[DIGESTED_FROM:]))
            if intact and isinstance(error, MissingDependencyError):
                raise
            if intact and isinstance(error, DecoderError):
                raise TypeRegistrationError(
                    f"The value stored for {_where(key, namespace)} is intact, but {error}. Repair "
                    f"the decoder; or, if it no longer reads what an older encoder wrote, register "
                    f"the type under another name=."
                ) from error
            raise _corrupt(key, namespace, str(error) or repr(error)) from error

    def locate(
        self, buffer: Buffer, key: int, namespace: str = "", *, verify: bool = True
    ) -> tuple[Layout, int | bytes, int] | None:
        """Decode a value once, to return where its numbers lie in the buffer.

        Args:
            buffer: As for :meth:`decode`.
            key: As for :meth:`decode`.
            namespace: As for :meth:`decode`.
            verify: As for :meth:`decode`.

        Returns:
            The layout of the value, the offset of its numbers and their size in bytes; a single
            number itself in place of the offset. None if the value is not one number, array of
            numbers, tensor, PIL image or byte string.

        Raises:
            CorruptValueError: As :meth:`decode`.
        """
        value = self.decode(buffer, key, namespace, verify=verify, copy="unsafe")
        view = memoryview(buffer).cast("B")
        images = sys.modules.get("PIL.Image")
        if images is not None and type(value) is images.Image:
            # The format is only known of what this very method has decoded.
            return locate_image(value, view) if type(self).decode is Codec.decode else None
        return locate_array(value, view)

    def register_type(
        self,
        cls: type,
        encode: Callable[[Any], Any] | None = None,
        decode: Callable[[Any], Any] | None = None,
        *,
        name: str | None = None,
    ) -> None:
        """Register a type with this codec; see :func:`register_type`.

        Args:
            cls: The type. Subclasses are not included.
            encode: Takes a value and returns it in terms of types that the codec knows.
            decode: Takes the result of ``encode`` and returns the value.
            name: The type's name in stored values; default its module and name.

        Raises:
            TypeRegistrationError: If the type or the name is registered already, or ``encode`` and
                ``decode`` are missing for a type without defaults.
        """
        load_writers()
        if isinstance(cls, type) and cls in WRITERS:
            raise TypeRegistrationError(
                f"{cls.__qualname__} is kept exactly as it is; there is nothing to register."
            )
        self._types.register(cls, encode, decode, name)

    def __reduce__(self) -> tuple[Any, ...]:
        types = [entry.reference() for entry in self._types.by_name.values()]
        return _restore, (self is _default, types)


def check_copy(copy: object) -> None:
    """Raise InvalidOptionError unless ``copy`` is True, False or "unsafe"."""
    if not (type(copy) is bool or (type(copy) is str and copy == "unsafe")):
        raise InvalidOptionError(
            f"copy={copy!r} is not known. Use True (values of their own), False (read-only views "
            f"where the type has them, copies of tensors) or 'unsafe' (tensors are views too, and "
            f"writing to one changes the cache)."
        )


_default = Codec()


def default_codec() -> Codec:
    """Return the codec of this process, the default of all caches."""
    return _default


def register_type(
    cls: type,
    encode: Callable[[Any], Any] | None = None,
    decode: Callable[[Any], Any] | None = None,
    *,
    name: str | None = None,
) -> None:
    """Allow values of a custom type in samples.

    Register a type before the cache is used. DataLoader workers receive the registration with the
    dataset, so they must be able to import the type and both functions: define them at the top
    level of a module, neither as a lambda nor inside another function.

    Args:
        cls: The type. Subclasses are not included.
        encode: Takes a value and returns it in terms of types that the codec knows. May be left
            out, with ``decode``, for enums (kept by member name), namedtuples (by position) and
            dataclasses (by field name; restored without a call of ``__init__``).
        decode: Takes the result of ``encode`` and returns the value.
        name: The type's name in stored values; default its module and name. Values can be read
            only as long as it stays the same.

    Raises:
        TypeRegistrationError: If the type or the name is registered already, or if ``encode`` and
            ``decode`` are missing for a type without defaults.

    Example::

        def encode_boxes(boxes):
            return boxes.xyxy, boxes.image_size

        def decode_boxes(parts):
            return Boxes(*parts)

        kappacore.register_type(Boxes, encode_boxes, decode_boxes)
        kappacore.register_type(Split)  # an enum
    """
    _default.register_type(cls, encode, decode, name=name)


def _restore(is_default: bool, types: list[Reference]) -> Codec:
    """Return a codec from a pickle, with the types of the process that sent it."""
    codec = _default if is_default else Codec()
    for reference in types:
        codec.register_type(*find_targets(reference), name=reference[0])
    return codec


def _why_not_read(signature: int) -> str:
    return f"it has version {signature >> 32} of the format, and {FORMAT_VERSION} is read here"


def _corrupt(key: int, namespace: str, reason: str) -> CorruptValueError:
    return CorruptValueError(
        f"The value stored for {_where(key, namespace)} cannot be used: {reason}."
    )


def _where(key: int, namespace: str) -> str:
    return f"key {key} of namespace {namespace!r}" if namespace else f"key {key}"
