"""Identifying whole samples, of datasets of every kind."""

from __future__ import annotations

from typing import Any

import torch.utils.data

from kappacore.datasets import ModeWrapper
from kappacore.datasets.forms import fingerprint_is_content
from kappacore.datasets.items import digest


def sample_fingerprint(dataset: Any) -> str | None:
    """Identify the content of whole samples; None if unknown."""
    if isinstance(dataset, torch.utils.data.Subset):
        inner = sample_fingerprint(dataset.dataset)
        if inner is None or type(dataset) is not torch.utils.data.Subset:
            return None
        return f"subset:{digest(inner, *map(str, dataset.indices))}"
    if hasattr(type(dataset), "sample_fingerprint"):
        found = dataset.sample_fingerprint() if _identifies_samples(type(dataset)) else None
        return None if found is None else str(found)
    # Its own, not one that a wrapper's __getattr__ hands out from further down.
    own = hasattr(type(dataset), "_fingerprint") or "_fingerprint" in getattr(
        dataset, "__dict__", {}
    )
    huggingface = dataset._fingerprint if own else None
    return f"huggingface:{huggingface}" if isinstance(huggingface, str) else None


def samples_need_no_proof(dataset: Any) -> bool:
    """Return whether the fingerprint of a dataset's samples proves their content."""
    if type(dataset) is torch.utils.data.Subset:
        return samples_need_no_proof(dataset.dataset)
    if type(dataset) is ModeWrapper:
        return all(item.fingerprint_is_content for _, item in dataset.mode_items())
    return fingerprint_is_content(dataset)


def _identifies_samples(cls: type) -> bool:
    """Return whether no subclass of the class that declares the fingerprint changes samples."""
    for base in cls.__mro__:
        if "sample_fingerprint" in vars(base):
            return True
        if vars(base).keys() & {"__getitem__", "__getitems__"}:
            return False
    return False
