"""Datasets of pairs as other libraries give them, for what adapts them."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from torch.utils.data import Dataset

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["BatchPairs", "Pairs", "Random", "Rows"]


class Pairs(Dataset[Any]):
    """Tuples of an image and a label, as torchvision's datasets give them."""

    classes = ("even", "odd")

    def __init__(self, length: int = 10) -> None:
        self.targets = [idx % 2 for idx in range(length)]
        self.reads: list[Any] = []

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, idx: int) -> Any:
        self.reads.append(idx)
        return f"image {idx}", self.targets[idx]


class BatchPairs(Pairs):
    """The same, read in batches."""

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        self.reads.append(list(indices))
        return [(f"image {idx}", self.targets[idx]) for idx in indices]


class Random(Pairs):
    """Both items of a sample are the same random number."""

    is_random = True

    def __getitem__(self, idx: int) -> Any:
        value = random.random()
        return value, value


class Rows(Dataset[Any]):
    """Dicts of columns, as Hugging Face's datasets give them."""

    def __len__(self) -> int:
        return 10

    def __getitem__(self, idx: int) -> dict[str, str | int]:
        return {"image": f"image {idx}", "label": idx % 2, "x": f"x {idx}"}
