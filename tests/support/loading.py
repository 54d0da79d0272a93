"""Datasets for tests of the Loader; importable in spawned workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import default_collate

from kappacore.datasets import KDDataset, ModeWrapper

if TYPE_CHECKING:
    from collections.abc import Iterable


class Photos(KDDataset):
    """Every kind of value that a batch may be made of; each tells its index."""

    def __init__(self, length: int = 10, size: tuple[int, int] = (5, 6)) -> None:
        self.length = length
        self.size = size

    def __len__(self) -> int:
        return self.length

    def getitem_x(self, idx: int) -> Image.Image:
        return Image.fromarray(self.getitem_array(idx))

    def getitem_array(self, idx: int) -> np.ndarray[Any, Any]:
        generator = np.random.default_rng(idx)
        return generator.integers(0, 256, (*self.size, 3), dtype=np.uint8)

    def getitem_tensor(self, idx: int) -> torch.Tensor:
        return torch.full((3, 2), float(idx), dtype=torch.bfloat16)

    def getitem_class(self, idx: int) -> int:
        return idx % 3

    def getall_class(self) -> list[int]:
        return [idx % 3 for idx in range(self.length)]

    def getitem_weight(self, idx: int) -> float:
        return idx / 2

    def getitem_name(self, idx: int) -> str:
        return f"image {idx}"

    def getitem_parts(self, idx: int) -> dict[str, Any]:
        return {"number": idx, "pair": (idx, -idx)}

    def getitem_boxes(self, idx: int, ctx: dict[str, Any] | None = None) -> np.ndarray[Any, Any]:
        if ctx is not None:
            ctx["boxes"] = idx % 4
        return np.full((idx % 4, 4), idx, dtype=np.float32)

    def getitem_mixed(self, idx: int) -> Image.Image:
        return Image.fromarray(np.full((4 + idx % 2, 6, 3), idx, dtype=np.uint8))


def expected(dataset: KDDataset, mode: str, indices: Iterable[int]) -> Any:
    """Return what ``default_collate`` makes of the samples; images as arrays."""
    return default_collate([as_arrays(sample) for sample in ModeWrapper(dataset, mode)[[*indices]]])


def as_arrays(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(as_arrays, value))
    return np.array(value) if isinstance(value, Image.Image) else value


def equal(one: Any, other: Any) -> bool:
    """Return whether two batches are equal, down to types of numbers."""
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(equal, one, other))
    return bool(one == other)
