"""Reading samples: which items, in which order."""

from __future__ import annotations

from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from torch.utils.data import Dataset

from kappacore.datasets.base import KDDataset, check_dataset
from kappacore.datasets.ctx import Ctx, SampleCtx
from kappacore.datasets.epochs import EpochIndex, epoch_keepers, in_epochs, reading_epoch
from kappacore.datasets.forms import is_item_name
from kappacore.datasets.getitems import overriding_getitem, read_items
from kappacore.datasets.indexing import check_batch, check_index, check_slice, is_sequence
from kappacore.datasets.items import Item, digest, find_item
from kappacore.datasets.stack import PassThrough, refuse_empty
from kappacore.datasets.stacking import write_out
from kappacore.errors import ModeError, UnknownItemError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from kappacore.datasets.ctx import Ctxs
    from kappacore.datasets.indexing import IntArray
    from kappacore.datasets.stacking import Stacked


class ModeWrapper(PassThrough, Dataset[Any]):
    """Gives the samples of a ``KDDataset`` as a DataLoader wants them.

    A mode of one item gives the bare value, a mode of several a tuple. Indexing with a slice or a
    sequence of integers returns a list of samples. All items of a sample share one fresh ctx; an
    item that is named twice is read twice.

    Items are looked up once per process, so methods assigned to a dataset later have no effect.

    Args:
        dataset: The dataset to read.
        mode: Item names separated by blanks. Besides the dataset's own items there are ``index``,
            the sample's index in ``dataset``, and ``ctx.<key>``, the value that a dataset or
            transform stored under ``key`` in the sample's ctx while the other items were read.
        return_ctx: Whether to return the sample's ctx too, as ``(sample, ctx)``.

    Raises:
        DatasetTypeError: ``dataset`` is not a ``KDDataset``; see :func:`as_kd`.
        ModeError: ``mode`` is empty or malformed.
        UnknownItemError: The dataset has no such item.

    Example::

        train = ModeWrapper(dataset, mode="x class")
        x, label = train[0]
        loader = DataLoader(train, batch_size=64, num_workers=4)
    """

    dataset: KDDataset

    def __init__(self, dataset: KDDataset, mode: str = "x y", return_ctx: bool = False):
        super().__init__()
        check_dataset(dataset, type(self).__name__)
        self.dataset = dataset
        self.mode = mode
        self.return_ctx = bool(return_ctx)
        self._plan  # noqa: B018 - an unknown item is an error now rather than in a worker

    @staticmethod
    def has_item(mode: str, item: str) -> bool:
        """Return whether a mode has an item.

        Args:
            mode: The mode.
            item: The item's name.
        """
        return item in _split_mode(mode)

    @staticmethod
    def add_item(mode: str, item: str) -> str:
        """Return a mode with an item at its end, unless it has the item.

        Args:
            mode: The mode.
            item: The item's name.
        """
        return mode if ModeWrapper.has_item(mode, item) else f"{mode} {item}"

    @staticmethod
    def get_item_index(mode: str, item: str) -> int:
        """Return the position of an item in the samples and batches of a mode.

        Args:
            mode: The mode.
            item: The item's name.

        Raises:
            UnknownItemError: The mode does not have it.
        """
        names = _split_mode(mode)
        if item not in names:
            raise UnknownItemError(
                f"the mode {mode!r} has no item {item!r}. Add it where the ModeWrapper is made: "
                f"mode={ModeWrapper.add_item(mode, item)!r}."
            )
        return names.index(item)

    @staticmethod
    def get_item(mode: str, item: str, batch: Any) -> Any:
        """Return an item of a sample or a batch by its name; of a mode of one item, all of it.

        Args:
            mode: The mode that it was read with.
            item: The item's name.
            batch: The sample or the batch, without the ctx.

        Raises:
            UnknownItemError: The mode does not have the item.
            ModeError: The batch has another number of items than the mode.
        """
        position = ModeWrapper.get_item_index(mode, item)
        return batch if len(_split_mode(mode)) == 1 else _check_items(mode, batch)[position]

    @staticmethod
    def set_item(mode: str, item: str, batch: Any, value: Any) -> Any:
        """Return a sample or a batch with another value of an item.

        Args:
            mode: The mode that it was read with.
            item: The item's name.
            batch: The sample or the batch, without the ctx.
            value: The item's new value.

        Raises:
            UnknownItemError: The mode does not have the item.
            ModeError: The batch has another number of items than the mode.
        """
        position = ModeWrapper.get_item_index(mode, item)
        if len(_split_mode(mode)) == 1:
            return value
        values = _check_items(mode, batch)
        return (*values[:position], value, *values[position + 1 :])

    def __len__(self) -> int:
        """Return the number of samples.

        Raises:
            EmptyDatasetError: A wrapper has left none, so an epoch would silently do nothing.
        """
        length = len(self.dataset)
        if length == 0:
            refuse_empty(self.dataset)
        return length

    def __getitem__(self, index: Any) -> Any:
        """Return the sample at an integer, or the list of samples at a slice or a sequence.

        Args:
            index: An integer, counted from the end if negative; a slice; or a sequence of integers.

        Raises:
            IndexOutOfRangeError: An index is past the end.
            InvalidIndexError: It is none of these.
        """
        if isinstance(index, slice):
            return self._read_batch(check_slice(index, len(self), type(self).__name__))
        if type(index) is not int and is_sequence(index):
            return self._read_list(index)
        if isinstance(index, EpochIndex):
            with self._reading(index.epoch):
                return self._read(check_index(int(index), len(self), type(self).__name__))
        return self._read(check_index(index, len(self), type(self).__name__))

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """Return the samples at ``indices``, reading each item of the whole batch at once.

        Where a subclass overrides ``__getitem__`` alone, it reads them one by one. Indices of our
        samplers say which epoch they are of, and are read in it.
        """
        return self._read_list(indices, overriding_getitem(self, ModeWrapper))

    def _read_list(
        self, indices: Any, getitem: Callable[[ModeWrapper, int], Any] | None = None
    ) -> list[Any]:
        samples: list[Any] = []
        for epoch, group in in_epochs(indices):
            checked = check_batch(group, len(self), type(self).__name__)
            with self._reading(epoch):
                if getitem is None:
                    samples += self._read_batch(checked)
                else:
                    samples += [getitem(self, idx) for idx in checked]
        return samples

    def _reading(self, epoch: int | None) -> AbstractContextManager[None]:
        """Let what is read in a block be of an epoch; None: whichever was set."""
        return reading_epoch(self.dataset, () if epoch is None else self._keepers, epoch)

    def _read_batch(self, indices: list[int]) -> list[Any]:
        ctxs = [SampleCtx() for _ in indices]
        columns: list[list[Any]] = [[]] * len(self._plan)
        for position, item in self._plan:
            columns[position] = item.get_batch(indices, ctxs)
        samples = columns[0] if len(columns) == 1 else list(zip(*columns, strict=True))
        if self.return_ctx:
            return list(zip(samples, map(_finished, ctxs), strict=True))
        return samples

    def __iter__(self) -> Iterator[Any]:
        getitem = overriding_getitem(self, ModeWrapper)
        read = self._read if getitem is None else partial(getitem, self)
        return map(read, range(len(self)))

    def mode_items(self) -> list[tuple[str, Item]]:
        """Return the names of the mode, in its order, and the items that are read for them."""
        found = dict(self._plan)
        return [(name, found[position]) for position, name in enumerate(_split_mode(self.mode))]

    def sample_fingerprint(self) -> str | None:
        """Identify the content of the samples; None if an item's is unknown, or with a ctx."""
        if self.return_ctx:
            return None
        # With the names: one string may identify all items of a dataset.
        names = " ".join(self.mode.split())
        return digest("samples", names, *(item.fingerprint() for _, item in self._plan))

    def __getstate__(self) -> dict[str, Any]:
        looked_up = ("_plan", "_keepers")
        return {name: value for name, value in self.__dict__.items() if name not in looked_up}

    def _kd_read_samples(self, indices: list[int]) -> Iterable[Any]:
        """Read samples for a cache; see :func:`kappacore.datasets.getitems.read_samples`."""
        ctxs = [SampleCtx() for _ in indices]

        def finish(k: int, values: list[Any]) -> Any:
            sample = [None] * len(values)
            for (position, _), value in zip(self._plan, values, strict=True):
                sample[position] = value
            whole = sample[0] if len(sample) == 1 else tuple(sample)
            return (whole, _finished(ctxs[k])) if self.return_ctx else whole

        return read_items([item for _, item in self._plan], indices, ctxs, finish)

    def _read(self, idx: int) -> Any:
        ctx = SampleCtx()
        plan = self._plan
        if len(plan) == 1:
            sample = plan[0][1].get(idx, ctx)
        else:
            values: list[Any] = [None] * len(plan)
            for position, item in plan:
                values[position] = item.get(idx, ctx)
            sample = tuple(values)
        return (sample, _finished(ctx)) if self.return_ctx else sample

    @cached_property
    def _keepers(self) -> list[Any]:
        return epoch_keepers(self.dataset)

    @cached_property
    def _plan(self) -> list[tuple[int, Item]]:
        """Pairs of (position in the sample, item) in the order of reading: ``ctx.<key>`` last."""
        items = [_find(self.dataset, name) for name in _split_mode(self.mode)]
        return sorted(enumerate(items), key=lambda entry: isinstance(entry[1], _CtxItem))


class _IndexItem(Item):
    """The index itself."""

    fingerprint_is_content = True

    def get(self, idx: int, ctx: Ctx | None = None) -> int:  # noqa: ARG002
        return idx

    def get_stacked(
        self,
        indices: IntArray,
        out: Any = None,
        ctxs: Ctxs | None = None,  # noqa: ARG002
    ) -> Stacked:
        return indices.copy() if out is None else write_out(indices, out)

    def how_stacked(self) -> tuple[bool, str]:
        return True, "as they are given"

    def in_batches(self, raw: bool = False) -> bool:
        return not raw

    def fingerprint(self, raw: bool = False) -> str:  # noqa: ARG002
        return "index"


class _CtxItem(Item):
    """A value that was stored in the sample's ctx."""

    def __init__(self, key: str):
        self._key = key

    def get(self, idx: int, ctx: Ctx | None = None) -> Any:
        ctx = {} if ctx is None else ctx
        if self._key not in ctx:
            keys = ", ".join(map(repr, ctx)) or "none"
            raise UnknownItemError(
                f"the mode asks for 'ctx.{self._key}', but the ctx of sample {idx} has no key "
                f"{self._key!r}; its keys are: {keys}. A key exists once an item of the same "
                f"mode that sets it has been read."
            )
        return ctx[self._key]


def _find(dataset: KDDataset, name: str) -> Item:
    if name.startswith("ctx."):
        return _CtxItem(name.removeprefix("ctx."))
    if name == "index" and dataset._kd_item("index") is None:
        return _IndexItem()
    return find_item(dataset, name)


def _check_items(mode: str, batch: Any) -> Any:
    number = len(_split_mode(mode))
    sized = isinstance(batch, (list, tuple))
    if sized and len(batch) == number:
        return batch
    given = f"a {type(batch).__name__}{f' of {len(batch)}' if sized else ''}"
    raise ModeError(
        f"the mode {mode!r} has {number} items, the batch is {given}. With return_ctx=True, take "
        f"the batch out of (batch, ctx) first."
    )


def _split_mode(mode: Any) -> list[str]:
    if not isinstance(mode, str):
        raise ModeError(
            f"a mode is a string of item names, such as 'x class'; got a {type(mode).__name__}."
        )
    words = mode.split()
    if not words:
        raise ModeError(f"the mode {mode!r} names no item; expected names such as 'x class'.")
    for word in words:
        is_key = word.startswith("ctx.") and word != "ctx."
        if not is_key and not is_item_name(word):
            raise ModeError(
                f"the mode {mode!r} is malformed at {word!r}: expected item names, 'index' or "
                f"'ctx.<key>', separated by blanks."
            )
    return words


def _finished(ctx: SampleCtx) -> SampleCtx:
    """Drop the samples read for the ctx, which may outlive them by far."""
    if ctx.reads is not None:
        ctx.reads = None
    return ctx
