"""A batch: a tuple of items that also answers to their names."""

from __future__ import annotations

import functools
from typing import Any, ClassVar, overload

from typing_extensions import Self

from kappacore.errors import UnknownItemError

__all__ = ["Batch", "batch_type"]


class Batch(tuple[Any, ...]):
    """The items of a batch, in the order of the mode: ``x, y = batch`` or ``batch["x"]``.

    The names belong to the class, one for each mode, so that what rebuilds a tuple by
    ``type(batch)(values)``, as trainers do to move one to a device, keeps them.
    """

    __slots__ = ()

    #: Names of the items, in order.
    names: ClassVar[tuple[str, ...]] = ()

    @overload  # type: ignore[override]
    def __getitem__(self, key: slice) -> tuple[Any, ...]: ...
    @overload
    def __getitem__(self, key: int | str) -> Any: ...
    def __getitem__(self, key: Any) -> Any:
        """Return an item by its name or position.

        Args:
            key: The item's name, its position, or a slice of positions.

        Raises:
            UnknownItemError: The batch has no item of that name.
        """
        if not isinstance(key, str):
            return super().__getitem__(key)
        return super().__getitem__(self._position(key))

    def replace(self, **items: Any) -> Self:
        """Return a batch in which the items named are others.

        Args:
            **items: New values by name.

        Raises:
            UnknownItemError: The batch has no item of that name.
        """
        values = list(self)
        for name, value in items.items():
            values[self._position(name)] = value
        return type(self)(values)

    def _position(self, name: str) -> int:
        try:
            return self.names.index(name)
        except ValueError:
            names = ", ".join(self.names) or "none"
            raise UnknownItemError(
                f"the batch has no item {name!r}; its items are: {names}. Name it in the mode."
            ) from None

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self.names, tuple(self))

    def __repr__(self) -> str:
        items = ", ".join(f"{name}={value!r}" for name, value in zip(self.names, self, strict=True))
        return f"Batch({items})"


@functools.cache
def batch_type(names: tuple[str, ...]) -> type[Batch]:
    """Return the type of batches with these items."""
    return type("Batch", (Batch,), {"names": names, "__slots__": (), "__doc__": Batch.__doc__})


def _restore(names: tuple[str, ...], values: tuple[Any, ...]) -> Batch:
    return batch_type(names)(values)
