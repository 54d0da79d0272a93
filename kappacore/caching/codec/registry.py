"""Types that a codec was taught, and how a worker process gets to know them."""

from __future__ import annotations

import dataclasses
import enum
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from kappacore.caching.codec.writing import WRITERS, load_writers
from kappacore.errors import TypeRegistrationError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

#: name of the type, class, encoder and decoder as "module:qualified.name"; None: derived ones
Reference = tuple[str, str, str | None, str | None]


class DecoderError(ValueError):
    """A registered decoder does not make a value of what is stored."""


@dataclasses.dataclass(frozen=True)
class RegisteredType:
    """A type, the name that stored values call it by, and the way there and back."""

    name: str
    cls: type
    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]
    derived: bool

    def restore(self, plain: Any) -> Any:
        """Return the value that ``plain`` was made of."""
        try:
            value = self.decode(plain)
        except Exception as error:
            # A derived one has nothing to repair: the class has changed since.
            kind = ValueError if self.derived else DecoderError
            raise kind(f"the decoder registered for {self.name!r} raised {error!r}") from error
        if type(value) is not self.cls:
            raise DecoderError(
                f"the decoder registered for {self.name!r} returned a {type(value).__qualname__} "
                f"instead of a {self.cls.__qualname__}"
            )
        return value

    def reference(self) -> Reference:
        """Return what a process that imports the same modules can find the type by."""
        functions = (None, None) if self.derived else (self.encode, self.decode)
        return (self.name, self._path(self.cls), *map(self._path, functions))  # type: ignore[return-value]

    def _path(self, target: Any) -> str | None:
        if target is None:
            return None
        module = getattr(target, "__module__", None)
        qualname = getattr(target, "__qualname__", None)
        if isinstance(module, str) and isinstance(qualname, str):
            path = f"{_module_name(module)}:{qualname}"
            if _resolve(path) is target:
                return path
        raise TypeRegistrationError(
            f"The type registered as {self.name!r} cannot be sent to a worker process: {target!r} "
            "cannot be imported there. Define the class and its functions at the top level of a "
            "module, without lambda; or start the workers with fork."
        )


class TypeRegistry:
    """The registered types of one codec, by class and by name."""

    def __init__(self) -> None:
        self._by_class: dict[type, RegisteredType] = {}
        self._by_name: dict[str, RegisteredType] = {}

    def __contains__(self, cls: type) -> bool:
        return cls in self._by_class

    def of_class(self, cls: type) -> RegisteredType:
        """Return the entry of a class that is registered."""
        return self._by_class[cls]

    def of_name(self, name: str) -> RegisteredType:
        """Return the entry of a name found in a stored value."""
        entry = self._by_name.get(name)
        if entry is None:
            raise ValueError(
                f"it holds a value of the type {name!r}, which is not registered here; call "
                "kappacore.register_type for it first"
            )
        return entry

    def register(
        self,
        cls: type,
        encode: Callable[[Any], Any] | None,
        decode: Callable[[Any], Any] | None,
        name: str | None,
    ) -> None:
        """Add a type; the same again is no error."""
        if not isinstance(cls, type):
            raise TypeRegistrationError(f"register_type takes a class, not {cls!r}.")
        load_writers()
        if cls in WRITERS:
            raise TypeRegistrationError(
                f"{cls.__qualname__} is kept exactly as it is; there is nothing to register."
            )
        if name is None:
            name = f"{_module_name(cls.__module__)}.{cls.__qualname__}"
        if type(name) is not str or not name:
            raise TypeRegistrationError(f"The name of a type is a string, not {name!r}.")
        derived = encode is None and decode is None
        if derived:
            encode, decode = derive(cls)
        if not callable(encode) or not callable(decode):
            raise TypeRegistrationError(
                f"register_type({cls.__qualname__}, …) needs both functions, encode and decode, or "
                "neither."
            )
        entry = RegisteredType(name, cls, encode, decode, derived)
        for known in (self._by_name.get(name), self._by_class.get(cls)):
            if known is not None and not _same(known, entry):
                raise TypeRegistrationError(
                    f"{known.cls.__qualname__} is registered as {known.name!r} already, with "
                    f"other functions, name or class than {cls.__qualname__} as {name!r} now."
                )
        self._by_class = {**self._by_class, cls: entry}
        self._by_name = {**self._by_name, name: entry}

    def references(self) -> tuple[Reference, ...]:
        """Return all types in a form that can be pickled."""
        return tuple(entry.reference() for entry in self._by_name.values())

    def add_references(self, references: tuple[Reference, ...]) -> None:
        """Add the types that another process sent."""
        for name, *paths in references:
            targets = [None if path is None else _resolve(path) for path in paths]
            for path, target in zip(paths, targets, strict=True):
                if path is not None and target is None:
                    raise TypeRegistrationError(
                        f"The type registered as {name!r} cannot be used in this process: "
                        f"{path!r} cannot be found here. Define it at the top level of a module, "
                        'not below `if __name__ == "__main__"` and not in a notebook.'
                    )
            cls: Any
            cls, encode, decode = targets
            self.register(cls, encode, decode, name)


def derive(cls: type) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """Return encoder and decoder for an enum, a namedtuple or a dataclass."""
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


def _enum_functions(cls: type[enum.Enum]) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    def encode(member: enum.Enum) -> Any:
        # a combination of flags has no name of its own
        return member.name if member.name in cls.__members__ else (member.value,)

    def decode(plain: Any) -> enum.Enum:
        return cls[plain] if type(plain) is str else cls(*plain)

    return encode, decode


def _namedtuple_functions(cls: Any) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    def encode(value: Any) -> tuple[Any, ...]:
        _refuse_more(value, ())
        return tuple(value)

    return encode, cls._make


def _refuse_more(value: Any, names: Collection[str]) -> None:
    """Refuse attributes beside the fields, which would be lost without a word."""
    more = sorted(set(getattr(value, "__dict__", ())) - set(names))
    if more:
        raise TypeError(
            f"it has attributes beside its fields: {', '.join(more)}; register the type with "
            "functions of your own, which say what becomes of them"
        )


def _dataclass_functions(cls: type) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
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


def _module_name(module: str) -> str:
    """Return one name for the main script, which spawned workers know under another."""
    return "__main__" if module == "__mp_main__" else module


def _resolve(path: str) -> Any:
    """Return what ``module:qualified.name`` names, or None."""
    module_name, _, qualname = path.partition(":")
    try:
        target: Any = sys.modules.get(module_name) or import_module(module_name)
    except ImportError:
        return None
    for part in qualname.split("."):
        target = getattr(target, part, None)
    return target


def _same(known: RegisteredType, entry: RegisteredType) -> bool:
    """Return whether two registrations are one, perhaps of a notebook cell that ran again."""
    if known.name != entry.name or known.derived is not entry.derived:
        return False
    pairs: list[tuple[Any, Any]] = [(known.cls, entry.cls)]
    if not entry.derived:
        pairs += [(known.encode, entry.encode), (known.decode, entry.decode)]
    return all(old is new or _address(old) == _address(new) for old, new in pairs)


def _address(target: Any) -> tuple[str, str]:
    module, qualname = getattr(target, "__module__", ""), getattr(target, "__qualname__", "")
    return _module_name(module), qualname
