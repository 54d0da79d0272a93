"""What a dataset is: properties of samples that are read one by one, and wrappers around them."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from torch.utils.data import Dataset

from kappacore.datasets.forms import ClassItem, as_method, own_item, own_item_names, split_form
from kappacore.datasets.items import Item, find_item, list_items
from kappacore.datasets.mapstyle import check_map_style
from kappacore.datasets.columns import PassThrough
from kappacore.datasets.stack import describe_stack
from kappacore.errors import DatasetTypeError, UnknownItemError, UseModeWrapperError

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from kappacore.datasets.concat import KDConcatDataset
    from kappacore.datasets.indexing import IntArray

__all__ = ["KDDataset", "KDWrapper", "check_dataset"]


class KDDataset(Dataset[Any]):
    """A dataset whose samples have properties (*items*) that can be read independently.

    A subclass defines ``__len__`` and, for each item, one method ``getitem_<item>(idx, ctx=None)``.
    Further forms of an item are optional:

    - ``getitems_<item>(indices, ctxs=None) -> list``: the values of a whole batch in one call;
    - ``getall_<item>()``: all values, as a sequence or an array, without reading any sample;
    - ``getraw_<item>(idx)`` and ``decode_<item>(raw, ctx=None)``: the value as it is stored, such
      as compressed bytes, and what turns that into the value. A cache keeps the stored form.

    Each can be left out where another gives the value. A class that defines any form of an item
    hides all forms of it in its bases (a wrapper: in the dataset inside), and makes its fingerprint
    unknown until it declares one itself. Where a method has no use for ``ctx`` or ``ctxs`` it may
    leave the parameter out; a wrapper that calls it directly must then leave it out too.

    Samples are read through :class:`ModeWrapper`, which says which items are wanted.

    Example::

        class Flowers(KDDataset):
            def __init__(self, paths, labels):
                self.paths, self.labels = paths, labels

            def __len__(self):
                return len(self.paths)

            def getitem_x(self, idx, ctx=None):
                return load_image(self.paths[idx])

            def getitem_class(self, idx):
                return self.labels[idx]

        for label in ModeWrapper(Flowers(paths, labels), mode="class"):  # loads no image
            ...
    """

    _is_random = False

    def __len__(self) -> int:
        """Return the number of samples."""
        raise DatasetTypeError(f"{type(self).__name__} has no length: define __len__.")

    def fingerprint(self, item: str, raw: bool = False) -> str | None:
        """Identify the content of an item, so that caches know what they hold.

        A dataset may override this with anything that changes when the content does: a version,
        a digest of paths, sizes and modification times, the options that shape the value.

        Args:
            item: The item's name.
            raw: Whether the stored form is meant (``getraw_<item>``) or the value.

        Returns:
            The same string for the same content, in any process; None if it is not known.
        """
        found = find_item(self, item)
        if isinstance(found, ClassItem) and found.dataset is self:
            return None  # an override that passed the question on does not know
        return found.fingerprint(raw)

    @property
    def is_random(self) -> bool:
        """True where the same index may give different values: random crops, even seeded ones.

        A class says ``is_random = True``, an instance sets it. What is around a random dataset is
        random too.
        """
        return self._is_random or any(
            bool(getattr(dataset, "is_random", False)) for dataset in self._kd_inside()
        )

    @is_random.setter
    def is_random(self, value: bool) -> None:
        self._is_random = bool(value)

    @property
    def root_dataset(self) -> Any:
        """The dataset at the bottom of the wrappers."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch begins, to every wrapper that draws anew in each.

        It reaches workers that are already running. Call it on the outermost dataset, before the
        loader is iterated.

        Args:
            epoch: Its number, from 0 on.
        """
        for dataset in self._kd_inside():
            if callable(getattr(dataset, "set_epoch", None)):
                dataset.set_epoch(epoch)

    def close(self) -> None:
        """Release what the dataset holds open, and what is inside it. Twice is no error."""
        with contextlib.ExitStack() as stack:  # closes all, even if one fails to
            for dataset in self._kd_inside():
                if callable(getattr(dataset, "close", None)):
                    stack.callback(dataset.close)

    def dispose(self) -> None:
        """Do the same as :meth:`close`."""
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        """Return the whole stack, one part a line, the outermost first."""
        return describe_stack(self)

    def __getitem__(self, index: Any) -> NoReturn:
        name = type(self).__name__
        raise UseModeWrapperError(
            f"{name} is not indexed directly, because its items are read one by one: "
            f"ModeWrapper(dataset, mode='...')[{index!r}] says which are wanted; "
            f"{list_items(self)}."
        )

    def __add__(self, other: Any) -> KDConcatDataset:  # type: ignore[override]
        from kappacore.datasets.concat import KDConcatDataset

        return KDConcatDataset([self, other])

    def __getattr__(self, name: str) -> Any:
        """Offer the forms of an item that follow from those defined."""
        split = split_form(name)
        if split is None or hasattr(type(self), name):
            return object.__getattribute__(self, name)  # raises as if this method were not here
        form, item = split
        method = as_method(find_item(self, item), form)
        if method is None:
            raise UnknownItemError(
                f"{type(self).__name__} has no {name}: item {item!r} has no such form there."
            )
        return method

    def _kd_inside(self) -> list[Any]:
        """Return the datasets that this one is around."""
        return []

    def _kd_item(self, name: str) -> Item | None:
        return own_item(self, name)

    def _kd_item_names(self) -> list[str]:
        return own_item_names(self)

    def _kd_pick(self, indices: IntArray) -> tuple[KDDataset, IntArray]:
        """Return the dataset to read the samples at ``indices`` from, and their indices in it."""
        return self, indices


class KDWrapper(PassThrough, KDDataset):
    """A dataset around another one; items that it does not define pass through.

    Args:
        dataset: The dataset inside.

    Example::

        class Grayscale(KDWrapper):
            def getitem_x(self, idx, ctx=None):
                return self.dataset.getitem_x(idx, ctx).convert("L")
    """

    def __init__(self, dataset: KDDataset):
        super().__init__()
        check_dataset(dataset, type(self).__name__)
        self.dataset = dataset

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.dataset)

    @property
    def root_dataset(self) -> Any:
        """The dataset at the bottom of the wrappers."""
        return self.dataset.root_dataset

    def __getattr__(self, name: str) -> Any:
        """Offer forms of items as they are seen here, and other public attributes from inside."""
        base = PassThrough if split_form(name) is None else KDDataset
        return base.__getattr__(self, name)

    def _kd_inside(self) -> list[Any]:
        return [self.dataset]

    def _kd_item(self, name: str) -> Item | None:
        own = own_item(self, name)
        if own is not None:
            return own
        inner = self.dataset._kd_item(name)
        if inner is None or len(self) == len(self.dataset):
            return inner
        from kappacore.datasets.subset import SubsetItem

        return SubsetItem(inner, np.arange(len(self)))  # a length of one's own: the first samples

    def _kd_item_names(self) -> list[str]:
        return list(dict.fromkeys([*self.dataset._kd_item_names(), *own_item_names(self)]))


def check_dataset(dataset: Any, owner: str) -> None:
    """Refuse what is not a ``KDDataset``.

    Raises:
        DatasetTypeError: Saying what it is and how to make it one.
    """
    if isinstance(dataset, KDDataset):
        return
    check_map_style(dataset, owner)
    raise DatasetTypeError(
        f"{owner} needs a KDDataset; got a {type(dataset).__name__}. "
        f"Wrap a map-style dataset of tuples or dicts first: as_kd(dataset, items=('x', 'class'))."
    )
