"""Several transforms as one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kappacore.datasets.ctx import Ctx, takes_ctx
from kappacore.errors import InvalidOptionError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Compose:
    """Transforms one after another; each that has a parameter ``ctx`` gets the sample's.

    torchvision's ``Compose`` hands on no ctx.

    Args:
        transforms: What is called with the value that the one before returned.

    Raises:
        InvalidOptionError: One of them cannot be called.
    """

    def __init__(self, transforms: Sequence[Callable[..., Any]]) -> None:
        listed = isinstance(transforms, (list, tuple))
        if not listed or not all(map(callable, transforms)):
            raise InvalidOptionError(
                f"Compose takes a list of transforms that can be called; got {transforms!r}."
            )
        self.transforms = list(transforms)
        self._takes_ctx = [takes_ctx(transform) for transform in self.transforms]

    @property
    def is_random(self) -> bool:
        """Whether one of the transforms says that it is."""
        return any(getattr(transform, "is_random", False) for transform in self.transforms)

    def __call__(self, value: Any, ctx: Ctx | None = None) -> Any:
        """Return what the transforms make of a value.

        Args:
            value: The item's value.
            ctx: What the sample's items share; given to transforms that take it.
        """
        for transform, takes in zip(self.transforms, self._takes_ctx, strict=True):
            value = transform(value, ctx=ctx) if takes else transform(value)
        return value
