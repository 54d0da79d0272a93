"""Datasets of whole samples (torchvision's, Hugging Face's, your own) as KDDatasets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from kappacore.datasets.base import KDDataset, check_map_style
from kappacore.datasets.ctx import Ctx, Ctxs, SampleCtx
from kappacore.datasets.forms import is_item_name, own_item_names
from kappacore.datasets.getitems import gives_single_reads, own_getitems
from kappacore.datasets.image_columns import ImageColumn, ImageColumns, find_image_columns
from kappacore.datasets.items import Item, as_array, digest
from kappacore.datasets.stack import PassThrough
from kappacore.datasets.stacking import as_stacked, pick_rows
from kappacore.errors import InvalidItemError, InvalidOptionError

if TYPE_CHECKING:
    from kappacore.datasets.indexing import IntArray
    from kappacore.datasets.stacking import Stacked


def as_kd(
    dataset: Any,
    items: Sequence[str] | Mapping[str, int | str] = ("x", "class"),
    labels: Any = None,
) -> KDDataset:
    """Return a map-style dataset of tuples or dicts as a ``KDDataset``.

    Each sample is read only once, however many of its items a :class:`ModeWrapper` reads.

    An image column of a Hugging Face dataset without a format or transform has a raw form: the
    bytes of the image file, also of one behind a path. A cache keeps these, and what is decoded of
    them is what the dataset returns.

    Args:
        dataset: Anything with ``__len__`` and ``__getitem__``; ``__getitems__`` is used if it
            defines one. A ``KDDataset`` is returned unchanged, with the items it has.
        items: The items' names, in the order of the tuple or as the keys of the dict. Or a mapping
            of names to positions or keys: ``{"x": "image", "class": "label"}``. If there is only
            one name, a sample that is neither a tuple nor a dict is that item.
        labels: The labels of all samples, so that none is read for its label: an array or list of
            shape ``(N, ...)``, or the name of an attribute of the dataset, such as ``"targets"``.
            They become the item ``class`` if ``items`` has it, else ``y`` if it has that, else
            ``class`` is added.

    Raises:
        DatasetTypeError: ``dataset`` has no length or cannot be read by index.
        InvalidOptionError: ``items`` or ``labels`` do not fit.

    Example::

        train = as_kd(torchvision.datasets.CIFAR10(root), labels="targets")
        train = as_kd(datasets.load_dataset("beans", split="train"),
                      items={"x": "image", "class": "labels"})
    """
    if isinstance(dataset, KDDataset):
        if labels is not None:
            raise InvalidOptionError(
                f"{type(dataset).__name__} is a KDDataset already, so as_kd returns it unchanged "
                f"and labels= would be lost. Define getall_class in it, or in a KDWrapper around."
            )
        return dataset
    return AdaptedDataset(dataset, items, labels)


class AdaptedDataset(KDDataset, PassThrough):
    """The result of :func:`as_kd`; see there.

    Attributes:
        dataset: The dataset inside.
    """

    def __init__(
        self,
        dataset: Any,
        items: Sequence[str] | Mapping[str, int | str] = ("x", "class"),
        labels: Any = None,
    ):
        super().__init__()
        check_map_style(dataset, "as_kd")
        self.dataset = dataset
        self._fields = _parse_items(items)
        self._label_item: str | None = None
        self._label_attribute = labels if isinstance(labels, str) else None
        self._labels: Any = None
        self._images: ImageColumns | None = None
        if labels is not None:
            names = [name for name in ("class", "y") if name in self._fields]
            self._label_item = names[0] if names else "class"
            self._fields.pop(self._label_item, None)
            self._labels = _read_labels(dataset, labels)

    @property
    def root_dataset(self) -> Any:
        """This dataset, as items are first defined here."""
        return self

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.dataset)

    def __getstate__(self) -> dict[str, Any]:
        state = {**self.__dict__, "_images": None}  # found again in the dataset
        if self._label_attribute is not None:
            state["_labels"] = None  # an attribute of the dataset, pickled with it
        return state

    def _kd_derived(self, name: str) -> Item | None:
        if name in self._fields:
            field = self._fields[name]
            images = self._images = find_image_columns(self.dataset, self._images)
            if images is None:
                return _FieldItem(self, name, field)
            if field.key in images.columns:
                return _ImageItem(self, name, field, images.columns[field.key])
            others = images.others if field.key in self.dataset.features else None
            return _FieldItem(self, name, field, others)
        if name != self._label_item:
            return None
        if self._labels is None:
            self._labels = _read_labels(self.dataset, self._label_attribute)
        return _LabelItem(self._labels)

    def _kd_item_names(self) -> list[str]:
        label = [] if self._label_item is None else [self._label_item]
        return list(dict.fromkeys([*self._fields, *label, *own_item_names(self)]))

    def _read(self, indices: Sequence[int], ctxs: Ctxs | None, others: Any = None) -> list[Any]:
        """Return whole samples, each read only once per ctx.

        Args:
            indices: Indices of the samples.
            ctxs: Their ctx.
            others: The dataset without images, if these are not asked for.
        """
        if ctxs is None or len(self._fields) == 1:
            if others is not None:
                return list(others.__getitems__(list(indices)))
            return self._fetch(indices)
        memos = [_memo(ctx) for ctx in ctxs]
        missing = [k for k, idx in enumerate(indices) if (self, idx) not in memos[k]]
        if missing and others is not None:
            return list(others.__getitems__(list(indices)))
        fetched = self._fetch([indices[k] for k in missing])
        for k, sample in zip(missing, fetched, strict=True):
            memos[k][self, indices[k]] = sample
        return [memo[self, idx] for memo, idx in zip(memos, indices, strict=True)]

    def _fetch(self, indices: Sequence[int]) -> list[Any]:
        getitems = own_getitems(self.dataset)
        if len(indices) < 2 or getitems is None:  # a single read is what the dataset gives alone
            return [self.dataset[idx] for idx in indices]
        samples = getitems(list(indices))
        if not isinstance(samples, (list, tuple)) or len(samples) != len(indices):
            count = f" of {len(samples)}" if hasattr(samples, "__len__") else ""
            raise InvalidItemError(
                f"{type(self.dataset).__name__}.__getitems__ returned a "
                f"{type(samples).__name__}{count} for {len(indices)} indices: expected a list "
                f"with one sample per index, in order."
            )
        return list(samples)


class _Field(NamedTuple):
    """The part of a sample that is an item: its position in a tuple, its key in a dict."""

    position: int | None
    key: Any
    whole: bool  # the only item: a sample that is neither tuple nor dict is its value


class _FieldItem(Item):
    """One field of samples that are read whole."""

    def __init__(self, dataset: AdaptedDataset, name: str, field: _Field, others: Any = None):
        self._dataset = dataset
        self._name = name
        self._field = field
        self._others = others  # the dataset without its images, if there are any
        by_name = field.position is not None and field.key == name
        self._alone = by_name and len(dataset._fields) == 1
        self.reads_samples = True

    def get(self, idx: int, ctx: Ctx | None = None) -> Any:
        return self.get_batch([idx], [ctx])[0]

    def get_batch(self, indices: Sequence[int], ctxs: Ctxs | None = None) -> list[Any]:
        samples = self._dataset._read(indices, ctxs, self._others)
        return [self._pick(sample, idx) for sample, idx in zip(samples, indices, strict=True)]

    def in_batches(self, raw: bool = False) -> bool:
        return not raw and gives_single_reads(self._dataset.dataset)

    def fingerprint(self, raw: bool = False) -> str | None:
        """Include Hugging Face's fingerprint, which changes with every transformation."""
        inner = getattr(self._dataset.dataset, "__dict__", {}).get("_fingerprint")
        if raw > self.has_raw or not isinstance(inner, str):
            return None
        form = "raw" if raw else ""
        return digest(f"as_kd{form}", inner, repr(tuple(self._field)))

    def _pick(self, sample: Any, idx: int) -> Any:
        position, key, whole = self._field
        if isinstance(sample, Mapping):
            if key in sample:
                return sample[key]
            found = f"a dict with the keys {list(sample)}"
        elif isinstance(sample, tuple) or (isinstance(sample, list) and not whole):
            if position is not None and -len(sample) <= position < len(sample):
                return sample[position]
            found = f"a {type(sample).__name__} of {len(sample)}"
        elif whole or self._alone:
            return sample
        else:
            found = f"a {type(sample).__name__}"
        where = f"position {position} of a tuple or " if position is not None else ""
        raise InvalidItemError(
            f"sample {idx} of {type(self._dataset.dataset).__name__} is {found}; item "
            f"{self._name!r} was expected at {where}key {key!r} of a dict. Name its field: "
            f"as_kd(dataset, items={{{self._name!r}: <position or key>}})."
        )


class _ImageItem(_FieldItem):
    """A field of samples whose stored form is the bytes of an image file."""

    has_raw = True

    def __init__(self, dataset: AdaptedDataset, name: str, field: _Field, column: ImageColumn):
        super().__init__(dataset, name, field)
        self._column = column

    def get_raw_batch(self, indices: Sequence[int]) -> list[Any]:
        return self._column.read(indices)

    def decode(self, raw: Any, ctx: Ctx | None = None) -> Any:  # noqa: ARG002
        return self._column.decode(raw)


def _memo(ctx: Ctx | None) -> dict[tuple[Any, int], Any]:
    """Return the samples read for this ctx so far; only a ModeWrapper's ctx keeps any."""
    if not isinstance(ctx, SampleCtx):
        return {}
    if ctx.reads is None:
        ctx.reads = {}
    return ctx.reads


def _parse_items(items: Any) -> dict[str, _Field]:
    if isinstance(items, Mapping):
        fields = {
            name: _Field(key if isinstance(key, int) else None, key, whole=False)
            for name, key in items.items()
        }
    elif isinstance(items, str) or not isinstance(items, Sequence):
        raise InvalidOptionError(f"items= takes a list of names or a mapping; got {items!r}.")
    else:
        names = list(items)
        fields = {name: _Field(k, name, len(names) == 1) for k, name in enumerate(names)}
        if len(fields) < len(names):
            raise InvalidOptionError(f"items= names an item twice: {names}.")
    if not fields:
        raise InvalidOptionError("items= is empty; expected names such as ('x', 'class').")
    for name, field in fields.items():
        if not isinstance(name, str) or not is_item_name(name):
            raise InvalidOptionError(f"items= has {name!r}, which cannot be an item's name.")
        if isinstance(field.key, bool) or not isinstance(field.key, (int, str)):
            raise InvalidOptionError(
                f"items= has {field.key!r} for {name!r}; expected a position (int) or a key (str)."
            )
    return fields


class _LabelItem(Item):
    """An item whose values are all in memory.

    Args:
        labels: One per sample, an array or a list. Entries of a one-dimensional array are returned
            as Python values.
    """

    def __init__(self, labels: Sequence[Any] | np.ndarray[Any, Any]):
        self._labels = labels
        self._stacked: Stacked | None = None  # of the same, made when first asked for
        self._stacks = True

    def get(self, idx: int, ctx: Ctx | None = None) -> Any:  # noqa: ARG002
        labels = self._labels
        if not isinstance(labels, np.ndarray):
            return labels[idx]
        return labels.item(idx) if labels.ndim == 1 else labels[idx].copy()

    def get_all(self) -> Any:
        return self._labels

    def get_stacked(self, indices: IntArray, out: Any = None, ctxs: Ctxs | None = None) -> Stacked:
        if self._stacked is None and self._stacks and len(indices):
            self._stacked = as_stacked(self._labels, self.get(indices.item(0)))
            self._stacks = self._stacked is not None
        if self._stacked is None:
            return super().get_stacked(indices, out, ctxs)
        return pick_rows(self._stacked, indices, out)

    def how_stacked(self) -> tuple[bool, str]:
        return True, "picked from labels in memory, if they are numbers"

    def in_batches(self, raw: bool = False) -> bool:
        return not raw

    def fingerprint(self, raw: bool = False) -> str | None:
        labels = self._labels
        if raw or not isinstance(labels, np.ndarray) or labels.dtype.hasobject:
            return None
        dtype: str = labels.dtype.str
        return digest("labels", dtype, repr(labels.shape), labels.tobytes())


def _read_labels(dataset: Any, labels: Any) -> Any:
    """Return the labels of a dataset as an array, or as a list if they are not numbers.

    Args:
        dataset: The dataset.
        labels: A tensor, array or sequence of them, or the name of an attribute of ``dataset``.

    Raises:
        InvalidOptionError: There is no such attribute, or not one label per sample.
    """
    kind = type(dataset).__name__
    source = "labels"
    if isinstance(labels, str):
        source = f"{kind}.{labels}"
        if not hasattr(dataset, labels):
            raise InvalidOptionError(
                f"labels={labels!r} names an attribute, but {kind} has none of that name. "
                f"Name another, or give the labels themselves."
            )
        labels = getattr(dataset, labels)
    column = _as_column(labels)
    if column is None:
        raise InvalidOptionError(
            f"{source} is a {type(labels).__name__}; expected an array or list with one label "
            f"per sample."
        )
    if len(column) != len(dataset):
        raise InvalidOptionError(
            f"{source} has {len(column)} labels, but {kind} has {len(dataset)} samples; "
            f"expected one per sample, in order."
        )
    return column


def _as_column(labels: Any) -> Any:
    if hasattr(labels, "__array__"):  # a tensor too
        array = as_array(labels)
        return array if array.ndim else None
    if not isinstance(labels, Sequence):
        return None
    values = list(labels)
    if set(map(type, values)) == {int}:
        array = np.array(values)  # a list of a million integers is copied by every worker
        return array if array.dtype == np.int64 else values
    return values
