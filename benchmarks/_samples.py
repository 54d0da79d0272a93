"""Samples that cost nothing: what is left is what their cache takes."""

from __future__ import annotations

import os
from typing import Any

from torch.utils.data import Dataset


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
