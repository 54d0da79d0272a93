"""What counts as a map-style dataset, the kind that is read by index."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch.utils.data import IterableDataset

from kappacore.errors import DatasetTypeError

__all__ = ["check_map_style"]


def check_map_style(dataset: Any, owner: str) -> None:
    """Refuse what cannot be read by index from 0 to its length.

    Args:
        dataset: What was given.
        owner: Who it was given to, for the error text.

    Raises:
        DatasetTypeError: Saying why it cannot be used.
    """
    kind = type(dataset).__name__
    if isinstance(dataset, type):
        raise DatasetTypeError(f"{owner} needs a dataset; got the class {dataset.__name__}.")
    if isinstance(dataset, IterableDataset):
        raise DatasetTypeError(
            f"{owner} cannot use {kind}: an IterableDataset has no indices, so single samples "
            f"cannot be read. Use a map-style dataset (__len__ and __getitem__)."
        )
    if isinstance(dataset, Mapping):
        raise DatasetTypeError(
            f"{owner} cannot use a {kind} with the keys {list(dataset)}: datasets are read by "
            f"index. Choose one of its values."
        )
    lacking = [name for name in ("__len__", "__getitem__") if not hasattr(type(dataset), name)]
    if lacking:
        raise DatasetTypeError(
            f"{owner} cannot use a {kind}: it has no {' and no '.join(lacking)}, and datasets are "
            f"read by index from 0 to their length."
        )
