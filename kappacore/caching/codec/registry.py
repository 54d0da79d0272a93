"""Types registered with a codec, and the references by which worker processes find them."""

from __future__ import annotations

import dataclasses
import enum
from typing import TYPE_CHECKING, Any

from kappacore._importable import name_of, resolve
from kappacore.errors import TypeRegistrationError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    Functions = tuple[Callable[[Any], Any], Callable[[Any], Any]]

#: The name of a type, and :meth:`RegisteredType.names`.
Reference = tuple[str, list[str]]


class DecoderError(ValueError):
    """A registered decoder fails on a stored value."""


@dataclasses.dataclass(frozen=True)
class RegisteredType:
    """A type, its name in stored values, and its encoder and decoder."""

    name: str
    cls: type
    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]
    derived: bool

    def restore(self, plain: Any) -> Any:
        """Return the value that was encoded as ``plain``."""
        try:
            value = self.decode(plain)
        except Exception as error:
            # There is nothing to repair in a derived decoder: the class has changed since.
            kind = ValueError if self.derived else DecoderError
            raise kind(f"the decoder registered for {self.name!r} raised {error!r}") from error
        if type(value) is not self.cls:
            raise DecoderError(
                f"the decoder registered for {self.name!r} returned a {type(value).__qualname__} "
                f"instead of a {self.cls.__qualname__}"
            )
        return value

    def names(self) -> list[str]:
        """Return ``module:qualified.name`` of the class and, unless derived, of its functions."""
        functions = () if self.derived else (self.encode, self.decode)
        return [name_of(target) for target in (self.cls, *functions)]

    def reference(self) -> Reference:
        """Return the names by which a process that imports the same modules finds the type."""
        names = self.names()
        for name, target in zip(names, (self.cls, self.encode, self.decode), strict=False):
            if resolve(name) is not target:
                raise TypeRegistrationError(
                    f"The type registered as {self.name!r} cannot be sent to a worker process: "
                    f"{target!r} cannot be imported there. Define the class and its functions at "
                    f"the top level of a module, without lambda; or start the workers with fork."
                )
        return self.name, names


class TypeRegistry:
    """The registered types of one codec, by class and by name."""

    def __init__(self) -> None:
        self.by_class: dict[type, RegisteredType] = {}
        self.by_name: dict[str, RegisteredType] = {}

    def register(
        self,
        cls: type,
        encode: Callable[[Any], Any] | None,
        decode: Callable[[Any], Any] | None,
        name: str | None,
    ) -> None:
        """Add a type; registering the same one again changes nothing."""
        if not isinstance(cls, type):
            raise TypeRegistrationError(f"register_type takes a class, not {cls!r}.")
        if name is None:
            name = name_of(cls).replace(":", ".")
        if type(name) is not str or not name:
            raise TypeRegistrationError(f"The name of a type is a string, not {name!r}.")
        derived = encode is None and decode is None
        if derived:
            encode, decode = _derive(cls)
        if not callable(encode) or not callable(decode):
            raise TypeRegistrationError(
                f"register_type({cls.__qualname__}, …) needs both functions, encode and decode, or "
                "neither."
            )
        entry = RegisteredType(name, cls, encode, decode, derived)
        for known in (self.by_name.get(name), self.by_class.get(cls)):
            # The same names: perhaps a notebook cell that ran again.
            if known and (known.name, known.names()) != (name, entry.names()):
                raise TypeRegistrationError(
                    f"{known.cls.__qualname__} is registered as {known.name!r} already, with "
                    f"other functions, name or class than {cls.__qualname__} as {name!r} now."
                )
        self.by_class = {**self.by_class, cls: entry}
        self.by_name = {**self.by_name, name: entry}


def find_targets(reference: Reference) -> list[Any]:
    """Return the class and, unless derived, the functions of a type that another process sent."""
    registered, names = reference
    targets = [resolve(name) for name in names]
    for name, target in zip(names, targets, strict=True):
        if target is None:
            raise TypeRegistrationError(
                f"The type registered as {registered!r} cannot be used in this process: "
                f"{name!r} cannot be found here. Define it at the top level of a module, "
                'not below `if __name__ == "__main__"` and not in a notebook.'
            )
    return targets


# ---- encoders and decoders of enums, namedtuples and dataclasses


def _derive(cls: type) -> Functions:
    if issubclass(cls, enum.Enum):
        return _enum_functions(cls)
    if issubclass(cls, tuple) and hasattr(cls, "_fields"):
        return _namedtuple_functions(cls)
    if dataclasses.is_dataclass(cls):
        return _dataclass_functions(cls)
    raise TypeRegistrationError(
        f"{cls.__qualname__} is neither an enum, a namedtuple nor a dataclass, so register_type "
        "needs the functions encode and decode."
    )


def _enum_functions(cls: type[enum.Enum]) -> Functions:
    def encode(member: enum.Enum) -> Any:
        # a combination of flags has no name of its own
        return member.name if member.name in cls.__members__ else (member.value,)

    def decode(plain: Any) -> enum.Enum:
        return cls[plain] if type(plain) is str else cls(*plain)

    return encode, decode


def _namedtuple_functions(cls: Any) -> Functions:
    def encode(value: Any) -> tuple[Any, ...]:
        _refuse_more(value, ())
        return tuple(value)

    return encode, cls._make


def _dataclass_functions(cls: type) -> Functions:
    names = [field.name for field in dataclasses.fields(cls)]

    def encode(value: Any) -> dict[str, Any]:
        _refuse_more(value, names)
        return {name: getattr(value, name) for name in names}

    def decode(plain: Any) -> Any:
        if list(plain) != names:
            raise ValueError(f"it has the fields {list(plain)}, and the class has {names}")
        value: Any = object.__new__(cls)
        for name in names:
            object.__setattr__(value, name, plain[name])  # frozen ones too, without __init__
        return value

    return encode, decode


def _refuse_more(value: Any, names: Collection[str]) -> None:
    """Refuse attributes other than fields, which would be lost silently."""
    more = sorted(set(getattr(value, "__dict__", ())) - set(names))
    if more:
        raise TypeError(
            f"it has attributes beside its fields: {', '.join(more)}; register the type with "
            "functions of your own that handle them"
        )
