"""Copying a whole stack of datasets, but not what it reads from."""

from __future__ import annotations

import copy
import weakref
from typing import Any

from kappacore.datasets.stack import MOST_SEARCHED, walk


def shallow_copy(dataset: Any) -> Any:
    """Return a copy of a dataset and of all inside it, which share everything else.

    A file that the copy opens at its first read stays unopened in the dataset, which so can still
    be forked and pickled. That holds for the plain objects in their attributes, such as readers, as
    well.
    """
    parts = {id(part): part for _, part in walk(dataset) if hasattr(part, "__dict__")}
    copies = {key: copy.copy(part) for key, part in parts.items()}
    for key, part in parts.items():
        if hasattr(type(part), "__del__"):  # may close what both have, so the copy goes after it
            weakref.finalize(part, list, [copies[key]])
        for helper in vars(part).values():
            if id(helper) not in copies and _is_plain(helper):
                copies[id(helper)] = twin = object.__new__(type(helper))
                vars(twin).update(vars(helper))
    for part in copies.values():
        attributes = getattr(part, "__dict__", {})
        attributes.update({name: _replaced(value, copies) for name, value in attributes.items()})
    return copies.get(id(dataset), dataset)


def _is_plain(value: Any) -> bool:
    """Return whether a value is an object of a plain class, which a copy may stand in for.

    Not one that says how it is copied or pickled, or that releases something when it goes.
    """
    cls = type(value)
    inherited = ("__new__", "__reduce_ex__", "__reduce__", "__getstate__")
    return (
        hasattr(value, "__dict__")
        and all(getattr(cls, name, None) is getattr(object, name, None) for name in inherited)
        and not any(hasattr(cls, name) for name in ("__copy__", "__setstate__", "__del__"))
        and not any(vars(base).get("__slots__") for base in cls.__mro__)
    )


def _replaced(value: Any, copies: dict[int, Any]) -> Any:
    """Return the copy of a dataset; a list, tuple or dict with the copies of those it holds."""
    if type(value) not in (list, tuple, dict) or len(value) > max(MOST_SEARCHED, len(copies)):
        return copies.get(id(value), value)
    parts = value.values() if type(value) is dict else value
    if not any(id(part) in copies for part in parts):
        return value
    if type(value) is dict:
        return {key: copies.get(id(part), part) for key, part in value.items()}
    return type(value)(copies.get(id(part), part) for part in value)
