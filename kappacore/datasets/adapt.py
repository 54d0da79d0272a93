"""Datasets that give whole samples (torchvision's, Hugging Face's, one's own) as KDDatasets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from kappacore.datasets.base import KDDataset
from kappacore.datasets.ctx import Ctx, SampleCtx
from kappacore.datasets.digest import digest
from kappacore.datasets.forms import own_item, own_item_names, split_form
from kappacore.datasets.items import Item
from kappacore.datasets.labels import LabelItem, read_labels
from kappacore.datasets.mapstyle import check_map_style
from kappacore.datasets.columns import PassThrough
from kappacore.errors import InvalidItemError, InvalidOptionError

__all__ = ["AdaptedDataset", "as_kd"]


def as_kd(
    dataset: Any,
    items: Sequence[str] | Mapping[str, int | str] = ("x", "class"),
    labels: Any = None,
) -> KDDataset:
    """Make a ``KDDataset`` of any map-style dataset of tuples or dicts.

    A sample is read once, however many of its items a :class:`ModeWrapper` asks for.

    Args:
        dataset: Anything with ``__len__`` and ``__getitem__``; its ``__getitems__`` is used where
            it has one. A ``KDDataset`` is returned as it is, with the items it has.
        items: The items' names, in the order of the tuple or as the keys of the dict. Or a mapping
            of names to positions or keys: ``{"x": "image", "class": "label"}``. With one name, a
            sample that is neither a tuple nor a dict is that item.
        labels: The labels of all samples, so that no sample is read for them: an array or list of
            shape ``(N, ...)``, or the name of an attribute of the dataset, such as ``"targets"``.
            They are the item ``class`` where ``items`` has it, else ``y`` where it has that, else
            ``class`` is added.

    Raises:
        DatasetTypeError: ``dataset`` cannot be read by index and length.
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


class AdaptedDataset(PassThrough, KDDataset):
    """What :func:`as_kd` makes; see there.

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
        self._places = _parse_items(items)
        self._label_item: str | None = None
        self._label_attribute = labels if isinstance(labels, str) else None
        self._labels: Any = None
        if labels is not None:
            self._label_item = next(
                (name for name in ("class", "y") if name in self._places), "class"
            )
            self._places.pop(self._label_item, None)
            self._labels = read_labels(dataset, labels)

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.dataset)

    def __getattr__(self, name: str) -> Any:
        """Offer forms of items, and other public attributes of the dataset inside."""
        base = PassThrough if split_form(name) is None else KDDataset
        return base.__getattr__(self, name)

    def __getstate__(self) -> dict[str, Any]:
        if self._label_attribute is None:
            return self.__dict__
        return {**self.__dict__, "_labels": None}  # the dataset carries them

    def _kd_inside(self) -> list[Any]:
        return [self.dataset]

    def _kd_item(self, name: str) -> Item | None:
        own = own_item(self, name)
        if own is not None:
            return own
        if name != self._label_item:
            return _SampleItem(self, name, self._places[name]) if name in self._places else None
        if self._labels is None:
            self._labels = read_labels(self.dataset, self._label_attribute)
        return LabelItem(self._labels)

    def _kd_item_names(self) -> list[str]:
        label = [] if self._label_item is None else [self._label_item]
        return list(dict.fromkeys([*self._places, *label, *own_item_names(self)]))

    def _read(self, indices: Sequence[int], ctxs: Sequence[Ctx | None] | None) -> list[Any]:
        """Return whole samples, each read only once for one ctx."""
        if ctxs is None or len(self._places) == 1:
            return self._fetch(indices)
        memos = [_memo(ctx) for ctx in ctxs]
        missing = [k for k, idx in enumerate(indices) if (self, idx) not in memos[k]]
        fetched = self._fetch([indices[k] for k in missing])
        for k, sample in zip(missing, fetched, strict=True):
            memos[k][self, indices[k]] = sample
        return [memo[self, idx] for memo, idx in zip(memos, indices, strict=True)]

    def _fetch(self, indices: Sequence[int]) -> list[Any]:
        getitems = _own_getitems(self.dataset)
        if not indices or getitems is None:
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


class _Place(NamedTuple):
    """Where an item is in a sample: its position in a tuple, its key in a dict."""

    position: int | None
    key: Any
    whole: bool  # of one name: a sample that is neither tuple nor dict is the item itself


class _SampleItem(Item):
    """One place of samples that are read whole."""

    def __init__(self, dataset: AdaptedDataset, name: str, place: _Place):
        self._dataset = dataset
        self._name = name
        self._place = place
        by_name = place.position is not None and place.key == name
        self._alone = by_name and len(dataset._places) == 1
        self.reads_samples = True

    def get(self, idx: int, ctx: Ctx | None = None) -> Any:
        return self.get_batch([idx], [ctx])[0]

    def get_batch(
        self, indices: Sequence[int], ctxs: Sequence[Ctx | None] | None = None
    ) -> list[Any]:
        samples = self._dataset._read(indices, ctxs)
        return [self._pick(sample, idx) for sample, idx in zip(samples, indices, strict=True)]

    def fingerprint(self, raw: bool = False) -> str | None:
        """Follow Hugging Face's fingerprint, which changes with every transformation."""
        inner = getattr(self._dataset.dataset, "__dict__", {}).get("_fingerprint")
        if raw or not isinstance(inner, str):
            return None
        return digest("as_kd", inner, repr(tuple(self._place)))

    def _pick(self, sample: Any, idx: int) -> Any:
        position, key, whole = self._place
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
            f"{self._name!r} was expected at {where}key {key!r} of a dict. Say where it is: "
            f"as_kd(dataset, items={{{self._name!r}: <position or key>}})."
        )


def _memo(ctx: Ctx | None) -> dict[tuple[Any, int], Any]:
    """Return what was read for a sample so far; without a ModeWrapper's ctx, nothing is kept."""
    if not isinstance(ctx, SampleCtx):
        return {}
    if ctx.reads is None:
        ctx.reads = {}
    return ctx.reads


def _own_getitems(dataset: Any) -> Any:
    """Return ``__getitems__`` unless a ``__getattr__`` forwards it from further inside."""
    own = "__getitems__" in getattr(dataset, "__dict__", {}) or hasattr(
        type(dataset), "__getitems__"
    )
    return (dataset.__getitems__ or None) if own else None


def _parse_items(items: Any) -> dict[str, _Place]:
    if isinstance(items, Mapping):
        places = {
            name: _Place(key if isinstance(key, int) else None, key, whole=False)
            for name, key in items.items()
        }
    elif isinstance(items, str) or not isinstance(items, Sequence):
        raise InvalidOptionError(f"items= takes a list of names or a mapping; got {items!r}.")
    else:
        names = list(items)
        places = {name: _Place(k, name, len(names) == 1) for k, name in enumerate(names)}
        if len(places) < len(names):
            raise InvalidOptionError(f"items= names an item twice: {names}.")
    if not places:
        raise InvalidOptionError("items= is empty; expected names such as ('x', 'class').")
    for name, place in places.items():
        if not isinstance(name, str) or not name.isidentifier():
            raise InvalidOptionError(f"items= has {name!r}, which cannot be an item's name.")
        if isinstance(place.key, bool) or not isinstance(place.key, (int, str)):
            raise InvalidOptionError(
                f"items= says {place.key!r} for {name!r}; expected a position (int) or a key (str)."
            )
    return places
