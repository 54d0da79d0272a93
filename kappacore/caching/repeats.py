"""A cache above repeated samples keeps each of them several times: noticed when it is made."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch.utils.data

from kappacore._warn import warn
from kappacore.datasets import KDConcatDataset, KDWrapper, ModeWrapper
from kappacore.datasets.subset import KDSubset
from kappacore.errors import CacheWarning
from kappacore.wrappers.randomness import RandomWrapper
from kappacore.wrappers.repeat import RepeatWrapper


def find_repeats(dataset: Any) -> str | None:
    """Return what a cache above ``dataset`` stores several times, in a clause; None if nothing."""
    total = length = len(dataset)
    indices: np.ndarray[Any, Any] | None = None
    repeating = None
    while dataset is not None:
        outer, (dataset, chosen) = dataset, _look_inside(dataset)
        if chosen is None:
            continue
        before = length if indices is None else _count(indices)
        indices = chosen if indices is None else chosen[indices]
        length = _count(indices)
        if length < before:
            repeating = type(outer).__name__
    if repeating is None:
        return None
    return (
        f"{total} samples are stored of {length} different ones, as {repeating} repeats them "
        f"below the cache; put the cache below it: {repeating}(CacheWrapper(dataset, …), …) "
        f"stores {length}"
    )


def _look_inside(dataset: Any) -> tuple[Any, np.ndarray[Any, Any] | None]:
    """Return the dataset inside and where in it the samples lie; None where they are all of it.

    No dataset is inside where the samples come from several, or may differ at each index.
    """
    if isinstance(dataset, KDSubset | torch.utils.data.Subset):
        inner: Any = dataset.dataset
        indices = np.asarray(dataset.indices, dtype=np.int64)
        return inner, indices % max(1, len(inner))  # torch's may be negative
    if isinstance(dataset, RepeatWrapper):
        return dataset.dataset, np.arange(len(dataset)) % max(1, len(dataset.dataset))
    if isinstance(dataset, KDConcatDataset | torch.utils.data.ConcatDataset):
        parts: dict[int, Any] = {id(part): part for part in dataset.datasets}
        if len(parts) == len(dataset.datasets):
            return None, None
        ends = np.cumsum([len(part) for part in parts.values()])
        ranges = {
            key: np.arange(end - len(parts[key]), end) for key, end in zip(parts, ends, strict=True)
        }
        chosen = np.concatenate([ranges[id(part)] for part in dataset.datasets])
        return dataset.datasets[0] if len(parts) == 1 else None, chosen
    if isinstance(dataset, ModeWrapper | KDWrapper):
        by_index = isinstance(dataset, RandomWrapper) and dataset.seed is not None
        named = isinstance(dataset, ModeWrapper) and "index" in dataset.mode.split()
        if not (by_index or named or len(dataset) != len(dataset.dataset)):
            return dataset.dataset, None
    return None, None


def warn_of_repeats(dataset: Any) -> str | None:
    """Warn where a cache above ``dataset`` stores samples several times; return the clause."""
    found = find_repeats(dataset)
    if found is not None:
        warn(f"This cache reads and keeps samples more than once: {found}.", CacheWarning)
    return found


def _count(indices: np.ndarray[Any, Any]) -> int:
    """Return the number of different indices."""
    mask = np.zeros(int(indices.max(initial=-1)) + 1, dtype=bool)
    mask[indices] = True
    return int(np.count_nonzero(mask))
