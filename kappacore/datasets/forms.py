"""The forms of an item (getitem, getitems, getall, getraw, …) and the rule that orders them.

The first namespace that defines any form of an item, searching the instance, then its class and
the bases in method resolution order, defines the item completely: forms from other namespaces are
ignored. So a subclass that overrides ``getitem_x`` is never read through its parent's
``getitems_x``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from kappacore.datasets.ctx import Ctx, Ctxs, takes_ctx
from kappacore.datasets.indexing import check_indices
from kappacore.datasets.items import Item
from kappacore.datasets.stacking import as_stacked, pick_rows, write_out
from kappacore.errors import InvalidItemError, UnknownItemError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kappacore.datasets.indexing import IntArray
    from kappacore.datasets.stacking import Stacked

FORMS = ("getitem", "getitems", "getall", "getraw", "decode", "getbatch")

_Method = Callable[..., Any]


class ClassItem(Item):
    """An item as the methods of one dataset define it; missing forms are derived from the others.

    Args:
        dataset: The dataset whose methods these are.
        name: The item's name.
        forms: The bound methods by form.
        identified: Whether the dataset's ``fingerprint`` covers these forms.
        declared: Whether its ``raw_formats`` does.
    """

    def __init__(
        self,
        dataset: Any,
        name: str,
        forms: dict[str, _Method],
        identified: bool,
        declared: bool = False,
    ):
        self.dataset = dataset
        self.name = name
        self._getitem, self._getitems, self._getall, self._getraw, self._decode, self._getbatch = (
            map(forms.get, FORMS)
        )
        self.has_raw = self._getraw is not None and self._decode is not None
        self._getitem_ctx = takes_ctx(self._getitem)
        self._getitems_ctx = takes_ctx(self._getitems, "ctxs")
        self._decode_ctx = takes_ctx(self._decode)
        self._identified = identified
        self._declared = declared
        self._column: Any = None
        self._stacked_column: Stacked | None = None
        self._getbatch_takes = [name for name in ("out", "ctxs") if takes_ctx(self._getbatch, name)]
        self._looks_at_column = self._getall is not None and self._getbatch is None

    @property
    def fingerprint_is_content(self) -> bool:  # type: ignore[override]
        """Whether the fingerprint needs no proof; looked up when it is asked for."""
        return self._identified and fingerprint_is_content(self.dataset)

    def get(self, idx: int, ctx: Ctx | None = None) -> Any:
        """Return the value at ``idx``."""
        if self._getitem is not None:
            return self._getitem(idx, ctx=ctx) if self._getitem_ctx else self._getitem(idx)
        return self.get_batch([idx], [ctx])[0]

    def get_batch(self, indices: Sequence[int], ctxs: Ctxs | None = None) -> list[Any]:
        """Return the values at ``indices``, through ``getitems`` if it is defined."""
        if self._getitems is not None:
            values = (
                self._getitems(indices, ctxs=ctxs)
                if self._getitems_ctx
                else self._getitems(indices)
            )
            return self._one_each(values, len(indices))
        getitem = self._getitem
        if getitem is not None and not self._getitem_ctx:
            return [getitem(idx) for idx in indices]
        if ctxs is None:
            ctxs = [None] * len(indices)
        if getitem is not None:
            return [getitem(idx, ctx=ctx) for idx, ctx in zip(indices, ctxs, strict=True)]
        if self.has_raw:
            raws = self.get_raw_batch(indices)
            return [self.decode(raw, ctx) for raw, ctx in zip(raws, ctxs, strict=True)]
        if self._column is None:
            self._column = self.get_all()
        return [self._column[idx] for idx in indices]

    def get_stacked(self, indices: IntArray, out: Any = None, ctxs: Ctxs | None = None) -> Stacked:
        """Return the values stacked: by ``getbatch``, from a column of numbers, or one by one."""
        getbatch = self._getbatch
        if getbatch is not None:
            given = {"out": out, "ctxs": ctxs}
            taken = {name: given[name] for name in self._getbatch_takes}
            batch = self._one_row_each(getbatch(indices, **taken), len(indices))
            return batch if out is None or batch is out else write_out(batch, out)
        if self._looks_at_column and len(indices):
            self._looks_at_column = False  # once
            example = self.get(indices.item(0), None if ctxs is None else ctxs[0])
            self._stacked_column = as_stacked(self.get_all(), example)
        if self._stacked_column is not None:
            return pick_rows(self._stacked_column, indices, out)
        return super().get_stacked(indices, out, ctxs)

    def how_stacked(self) -> tuple[bool, str]:
        """Return how batches are stacked."""
        if self._getbatch is not None:
            return True, f"by {self._form('getbatch')}"
        if self._getall is not None:
            return True, f"picked from {self._form('getall')}, if that is numbers"
        form = "getitem" if self._getitem else "getitems" if self._getitems else "getraw"
        return False, f"sample by sample, by {self._form(form)}"

    def in_batches(self, raw: bool = False) -> bool:
        """Return whether ``getitems`` is defined, or a column is all there is."""
        return not raw and (self._getitems is not None or not (self._getitem or self.has_raw))

    def get_all(self) -> Any:
        """Return the result of ``getall``; None if it is not defined."""
        if self._getall is None:
            return None
        column = self._getall()
        if not hasattr(column, "__len__") or not hasattr(column, "__getitem__"):
            raise InvalidItemError(
                f"{self._form('getall')} returned a {type(column).__name__}: expected a sequence "
                f"or an array with one value per sample."
            )
        if len(column) != len(self.dataset):
            raise InvalidItemError(
                f"{self._form('getall')} returned {len(column)} values, but the dataset has "
                f"{len(self.dataset)} samples: return one value per sample."
            )
        return column

    def get_raw_batch(self, indices: Sequence[int]) -> list[Any]:
        """Return the stored values at ``indices``."""
        getraw = self._getraw
        if getraw is None:
            raise UnknownItemError(f"{self._form('getraw')} is not defined.")
        return [getraw(idx) for idx in indices]

    def decode(self, raw: Any, ctx: Ctx | None = None) -> Any:
        """Turn a stored value into the value."""
        if self._decode is None:
            raise UnknownItemError(f"{self._form('decode')} is not defined.")
        return self._decode(raw, ctx=ctx) if self._decode_ctx else self._decode(raw)

    @property
    def raw_format(self) -> str | None:  # type: ignore[override]
        """What the stored form is, if that was declared for these very forms."""
        return self.dataset.raw_formats.get(self.name) if self._declared and self.has_raw else None

    def fingerprint(self, raw: bool = False) -> str | None:
        """Return the dataset's fingerprint if it was defined for these very forms, else None."""
        known: str | None = None
        if self._identified:
            known = self.dataset.fingerprint(self.name, raw=raw)
        return known

    def _form(self, form: str) -> str:
        return f"{type(self.dataset).__name__}.{form}_{self.name}"

    def _one_row_each(self, batch: Any, expected: int) -> Stacked:
        if not isinstance(batch, np.ndarray | torch.Tensor):
            raise InvalidItemError(
                f"{self._form('getbatch')} returned a {type(batch).__name__}: expected an array or "
                f"a tensor with one row per index."
            )
        if batch.ndim == 0 or len(batch) != expected:
            raise InvalidItemError(
                f"{self._form('getbatch')} returned the shape {tuple(batch.shape)} for {expected} "
                f"indices: return one row per index, in order."
            )
        return batch

    def _one_each(self, values: Any, expected: int) -> list[Any]:
        try:
            result = values if type(values) is list else list(values)
        except TypeError:
            raise InvalidItemError(
                f"{self._form('getitems')} returned a {type(values).__name__} for {expected} "
                f"indices: expected a list with one value per index, in order."
            ) from None
        if len(result) != expected:
            raise InvalidItemError(
                f"{self._form('getitems')} returned {len(result)} values for {expected} indices: "
                f"return one value per index, in order."
            )
        return result


def split_form(attribute: str) -> tuple[str, str] | None:
    """Split ``"getitem_x"`` into ``("getitem", "x")``; None for any other name."""
    form, _, item = attribute.partition("_")
    return (form, item) if item and form in FORMS else None


def is_item_name(name: str) -> bool:
    """Return whether methods can be named after an item: ``2d`` is a name, ``x-y`` is none."""
    return f"getitem_{name}".isidentifier() and name != ""


def own_item(dataset: Any, name: str) -> ClassItem | None:
    """Return the item that ``dataset`` itself defines by methods, or None.

    Raises:
        InvalidItemError: Its forms provide no value: ``decode`` without ``getraw`` or the reverse,
            or ``getbatch`` alone.
    """
    scopes = _scopes(dataset)
    depth, forms = _own_forms(dataset, scopes, name)
    if not forms:
        return None
    for form, method in forms.items():
        if not callable(method):
            raise InvalidItemError(
                f"{type(dataset).__name__}.{form}_{name} must be a method, "
                f"but it is a {type(method).__name__}."
            )
    if not _gives_values(forms):
        raise InvalidItemError(_incomplete(dataset, name, depth, forms))
    identified = any("fingerprint" in scope for scope in scopes[: depth + 1])
    declared = any("raw_formats" in scope for scope in scopes[: depth + 1])
    return ClassItem(dataset, name, forms, identified, declared)


def fingerprint_is_content(dataset: Any) -> bool:
    """Return whether a dataset's own class declares that its fingerprint needs no proof.

    A subclass, or an instance that replaces a method, may read something else than the class that
    declared it.
    """
    cls = type(dataset)
    if not vars(cls).get("fingerprint_is_content", False):
        return False
    return not any(callable(getattr(cls, name, None)) for name in getattr(dataset, "__dict__", {}))


def own_item_names(dataset: Any) -> list[str]:
    """Return the names of the items that ``dataset`` itself defines, in order of definition."""
    scopes = _scopes(dataset)
    names = dict.fromkeys(
        split[1] for scope in reversed(scopes) for key in scope if (split := split_form(key))
    )
    return [name for name in names if _gives_values(_own_forms(dataset, scopes, name)[1])]


def as_method(item: Item, form: str, dataset: Any) -> _Method | None:
    """Return a form of ``item`` as a method of ``dataset``; None if it does not have the form."""
    if form == "getitem":
        return item.get
    if form == "getitems":
        return item.get_batch
    if form == "getbatch":
        return lambda indices, out=None, ctxs=None: item.get_stacked(
            check_indices(indices, len(dataset), type(dataset).__name__), out, ctxs
        )
    if form == "getall":
        column = item.get_all()
        return None if column is None else lambda: column
    if not item.has_raw:
        return None
    return item.decode if form == "decode" else lambda idx: item.get_raw_batch([idx])[0]


def _scopes(dataset: Any) -> list[Any]:
    return [vars(dataset), *map(vars, type(dataset).__mro__)]


def _own_forms(dataset: Any, scopes: list[Any], name: str) -> tuple[int, dict[str, Any]]:
    """Return the depth of the first scope that defines any form of an item, and its bound forms.

    There are none if no scope does, or if all of them are None: so a class removes an item.
    """
    keys = [(form, f"{form}_{name}") for form in FORMS]
    for depth, scope in enumerate(scopes):
        found = [pair for pair in keys if pair[1] in scope]
        if found:  # the first, so getattr finds just these
            bound = {form: getattr(dataset, key) for form, key in found}
            return depth, {form: method for form, method in bound.items() if method is not None}
    return len(scopes), {}


def _gives_values(forms: dict[str, Any]) -> bool:
    return bool(forms.keys() & {"getitem", "getitems", "getall"}) or (
        forms.keys() >= {"getraw", "decode"}
    )


def _incomplete(dataset: Any, name: str, depth: int, forms: dict[str, Any]) -> str:
    """Return the error message for a lone ``getraw``, ``decode`` or ``getbatch``."""
    has, lacks = ("getraw", "decode") if "getraw" in forms else ("decode", "getraw")
    if forms.keys() == {"getbatch"}:
        has, lacks = "getbatch", "getitem"
    mro = type(dataset).__mro__
    owner = mro[depth - 1].__name__ if depth else "the instance"
    text = (
        f"{owner} defines {has}_{name} but no {lacks}_{name}, and forms of an item from different "
        f"classes are not mixed: define {lacks}_{name}"
        f"{'' if lacks == 'getitem' else f' (or getitem_{name})'} in {owner} too"
    )
    base = next((cls.__name__ for cls in mro[depth:] if f"{lacks}_{name}" in vars(cls)), None)
    if base is None:
        return f"{text}."
    return f"{text}; `{lacks}_{name} = {base}.{lacks}_{name}` keeps that of {base}."
