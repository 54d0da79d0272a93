"""Samples that cost nothing: what is left is what their cache takes."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch.utils.data import Dataset

PATTERNS = 16  # different tensors


class Bytes(Dataset[Any]):
    """Samples of ``size`` random bytes."""

    def __init__(self, length: int, size: int):
        self.length = length
        self.data = os.urandom(size)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, idx: int) -> Any:
        if idx >= self.length:
            raise IndexError(idx)
        return self.data


class BytesAndIndex(Bytes):
    """Samples of ``size`` random bytes and their index."""

    def __getitem__(self, idx: int) -> tuple[bytes, int]:
        return super().__getitem__(idx), idx


class Tensors(Dataset[torch.Tensor]):
    """Tensors of ``size`` random bytes, there already: what fills a cache costs nothing else."""

    def __init__(self, length: int, size: int):
        self.length = length
        self.size = size
        self.data: list[torch.Tensor] = [*torch.randint(256, (PATTERNS, size), dtype=torch.uint8)]

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, idx: int) -> torch.Tensor:
        if idx >= self.length:
            raise IndexError(idx)
        return self.data[idx % PATTERNS]
