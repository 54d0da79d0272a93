"""Datasets whose properties are read one by one, and wrappers around them."""

from __future__ import annotations

from kappacore.datasets.adapt import as_kd
from kappacore.datasets.base import KDConcatDataset, KDDataset, KDWrapper
from kappacore.datasets.ctx import takes_ctx
from kappacore.datasets.items import Item, find_item
from kappacore.datasets.mode import ModeWrapper
from kappacore.datasets.stack import find_wrapper, iter_wrappers
from kappacore.datasets.subset import KDSubset

__all__ = [
    "Item",
    "KDConcatDataset",
    "KDDataset",
    "KDSubset",
    "KDWrapper",
    "ModeWrapper",
    "as_kd",
    "find_item",
    "find_wrapper",
    "iter_wrappers",
    "takes_ctx",
]
