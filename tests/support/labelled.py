"""A labelled dataset that counts its reads; importable in spawned workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from kappacore.datasets import KDDataset, ModeWrapper

if TYPE_CHECKING:
    from collections.abc import Sequence


class Labelled(KDDataset):
    """Item x is ten times the index, item class what was given; both are counted when read."""

    def __init__(self, labels: Sequence[int], names: Sequence[str] | None = None):
        self.labels = np.array(labels, dtype=np.int64)
        self.reads = 0
        self.columns = 0
        self.n_classes = len(names) if names else int(self.labels.max(initial=-1)) + 1
        if names:
            self.classes = list(names)

    def __len__(self) -> int:
        return len(self.labels)

    def getitem_x(self, idx: int) -> int:
        self.reads += 1
        return 10 * idx

    def getitem_class(self, idx: int) -> int:
        self.reads += 1
        return int(self.labels[idx])

    def getall_class(self) -> np.ndarray[Any, Any]:
        self.columns += 1
        return self.labels

    def fingerprint(self, item: str, raw: bool = False) -> str | None:
        return f"{item}-{self.labels.tolist()}"


def samples(dataset: Any) -> list[int]:
    """Return the indices in the source of a dataset's samples."""
    return [value // 10 for value in ModeWrapper(dataset, "x")] if len(dataset) else []


def labels(dataset: Any) -> list[int]:
    """Return the labels of a dataset as its samples have them."""
    return list(ModeWrapper(dataset, "class")) if len(dataset) else []
