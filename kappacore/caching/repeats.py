"""A cache above repeated samples keeps each of them several times: noticed when it is made."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch.utils.data

from kappacore._warn import warn
from kappacore.datasets import KDWrapper, ModeWrapper
from kappacore.datasets.subset import KDSubset
from kappacore.errors import CacheWarning
from kappacore.wrappers.randomness import RandomWrapper
from kappacore.wrappers.repeat import RepeatWrapper


def find_repeats(dataset: Any) -> str | None:
    """Return what a cache above ``dataset`` stores several times, in a clause; None if nothing."""
    total = len(dataset)
    inner: Any
    indices: np.ndarray[Any, Any] | None = None
    repeating = None
    while True:
        if isinstance(dataset, KDSubset | torch.utils.data.Subset):
            inner, chosen = dataset.dataset, np.asarray(dataset.indices, dtype=np.int64)
        elif isinstance(dataset, RepeatWrapper):
            inner = dataset.dataset
            chosen = np.arange(len(dataset)) % max(1, len(inner))
        elif isinstance(dataset, ModeWrapper | KDWrapper):
            by_index = isinstance(dataset, RandomWrapper) and dataset.seed is not None
            named = isinstance(dataset, ModeWrapper) and "index" in dataset.mode.split()
            if by_index or named or len(dataset) != len(dataset.dataset):
                break
            dataset = dataset.dataset
            continue
        else:
            break
        before = len(dataset) if indices is None else _count(indices, len(dataset))
        indices = chosen if indices is None else chosen[indices]
        if _count(indices, len(inner)) < before:
            repeating = type(dataset).__name__
        dataset = inner
    if repeating is None or indices is None:
        return None
    distinct = _count(indices, len(dataset))
    return (
        f"{total} samples are stored of {distinct} different ones, as {repeating} repeats them "
        f"below the cache; put the cache below it: {repeating}(CacheWrapper(dataset, …), …) "
        f"stores {distinct}"
    )


def warn_of_repeats(dataset: Any) -> str | None:
    """Warn where a cache above ``dataset`` stores samples several times; return the clause."""
    found = find_repeats(dataset)
    if found is not None:
        warn(f"This cache reads and keeps samples more than once: {found}.", CacheWarning)
    return found


def _count(indices: np.ndarray[Any, Any], length: int) -> int:
    """Return the number of different indices below ``length``."""
    mask = np.zeros(length, dtype=bool)
    mask[indices] = True
    return int(np.count_nonzero(mask))
