"""Collators that know the mode: what is done with a batch, and not with single samples."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from torch.utils.data import default_collate

from kappacore.datasets.mode import ModeWrapper
from kappacore.errors import InvalidOptionError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kappacore.datasets.ctx import Ctx


class Collator(ABC):
    """A ``collate_fn`` that takes the items of a batch by their names in the mode.

    A derived class defines ``collate``.

    Args:
        mode: The mode of the ``ModeWrapper`` whose samples are collated.
        return_ctx: Whether that gives ``(sample, ctx)``; the batch then is ``(batch, ctx)``.

    Attributes:
        collates: When ``default_collate`` makes a batch of the samples: ``"before"`` ``collate``,
            ``"after"`` it, or None: never, so ``collate`` does.

    Example::

        class Flip(kappacore.Collator):
            def collate(self, batch, ctx):
                return self.set_item(batch, "x", self.get_item(batch, "x").flip(-1))

        DataLoader(ModeWrapper(ds, "x class"), batch_size=64, collate_fn=Flip("x class"))
    """

    collates: ClassVar[Literal["before", "after"] | None] = "before"

    def __init__(self, mode: str, return_ctx: bool = False) -> None:
        self.mode = mode
        self.return_ctx = bool(return_ctx)

    @abstractmethod
    def collate(self, batch: Any, ctx: Ctx) -> Any:
        """Return the batch, changed.

        Args:
            batch: The batch, or the list of samples if ``collates`` is not ``"before"``.
            ctx: The ctx of the samples, collated; empty without ``return_ctx``. It may be changed.
        """

    def get_item(self, batch: Any, item: str) -> Any:
        """Return an item of a batch; see :meth:`ModeWrapper.get_item`.

        Args:
            batch: The batch, without the ctx.
            item: The item's name.
        """
        return ModeWrapper.get_item(self.mode, item, batch)

    def set_item(self, batch: Any, item: str, value: Any) -> Any:
        """Return a batch with another value of an item; see :meth:`ModeWrapper.set_item`.

        Args:
            batch: The batch, without the ctx.
            item: The item's name.
            value: The item's new value.
        """
        return ModeWrapper.set_item(self.mode, item, batch, value)

    def __call__(self, samples: list[Any]) -> Any:
        """Return the batch, as a ``collate_fn`` does."""
        return _collate([self], samples, self.return_ctx)


class ComposeCollator:
    """Several collators, one after another; the samples are collated once.

    Args:
        collators: Of one mode, at least one. Those that need samples come first.
        return_ctx: As for :class:`Collator`; it holds for all of them.

    Raises:
        InvalidOptionError: They do not fit together.
    """

    def __init__(self, collators: Sequence[Collator], return_ctx: bool = False) -> None:
        self.collators = list(collators)
        self.return_ctx = bool(return_ctx)
        if not self.collators:
            raise InvalidOptionError("ComposeCollator takes collators, at least one; got none.")
        for collator in self.collators:
            if not isinstance(collator, Collator):
                raise InvalidOptionError(
                    f"ComposeCollator takes Collators; got a {type(collator).__name__}."
                )
        first, *others = self.collators
        for other in others:
            if other.mode != first.mode:
                raise InvalidOptionError(
                    f"{type(first).__name__} has the mode {first.mode!r}, and "
                    f"{type(other).__name__} beside it the mode {other.mode!r}; expected one."
                )
        collated: Collator | None = None
        for collator in self.collators:
            if collated is not None and collator.collates != "before":
                raise InvalidOptionError(
                    f"{type(collator).__name__} needs samples, and {type(collated).__name__} "
                    f"before it leaves a batch. Put it first."
                )
            collated = collated if collator.collates is None else collator

    def __call__(self, samples: list[Any]) -> Any:
        """Return the batch, as a ``collate_fn`` does."""
        return _collate(self.collators, samples, self.return_ctx)


def _collate(collators: list[Collator], samples: list[Any], return_ctx: bool) -> Any:
    ctx: Ctx = {}
    batch: Any = samples
    if return_ctx:
        if not all(isinstance(each, tuple) and len(each) == 2 for each in samples) or not all(
            isinstance(each[1], dict) for each in samples
        ):
            raise InvalidOptionError(
                "the collator was made with return_ctx=True, but the samples are no pairs "
                "(sample, ctx). Make the ModeWrapper with return_ctx=True too."
            )
        batch = [sample for sample, _ in samples]
        ctx = default_collate([dict(ctx) for _, ctx in samples])
    collated = False
    for collator in collators:
        if collator.collates == "before" and not collated:
            batch, collated = default_collate(batch), True
        batch = collator.collate(batch, ctx)
        if collator.collates == "after":
            batch, collated = default_collate(batch), True
    return (batch, ctx) if return_ctx else batch
