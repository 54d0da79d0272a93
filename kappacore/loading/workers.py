"""Columns read by the worker processes of torch's DataLoader."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader, Dataset

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kappacore.loading.order import Rows
    from kappacore.loading.reader import Columns, Reader

__all__ = ["read_in_workers"]


class _Batches(Dataset[Any]):
    """Batches of a dataset, each by the indices of its rows."""

    def __init__(self, reader: Reader, skipped: tuple[int, ...]) -> None:
        self._reader = reader
        self._skipped = skipped

    def __getitem__(self, indices: Any) -> Columns:
        return self._reader.read(indices, self._skipped)


def read_in_workers(
    reader: Reader, batches: Iterator[Rows], skipped: tuple[int, ...], workers: int, seed: int
) -> Iterator[tuple[Rows, Columns]]:
    """Return an iterator over batches that processes read; they start here, and end with it.

    Each process has two batches in hand, as in torch.

    Args:
        reader: Reads the columns, in the processes.
        batches: The rows of each batch.
        skipped: Positions of the items that need not be read.
        workers: The number of processes.
        seed: Their generators are seeded from it.
    """
    begun: deque[Rows] = deque()

    def indices() -> Iterator[Any]:
        for rows in batches:
            begun.append(rows)
            yield rows.indices

    loader: DataLoader[Any] = DataLoader(
        _Batches(reader, skipped),
        batch_size=None,
        sampler=indices(),
        num_workers=workers,
        collate_fn=_unchanged,
        generator=torch.Generator().manual_seed(seed),
    )
    columns = iter(loader)  # processes are forked before a thread is started

    def pairs() -> Iterator[tuple[Rows, Columns]]:
        try:
            for each in columns:
                yield begun.popleft(), each
        finally:  # after an error too, whose traceback would keep them
            getattr(columns, "_shutdown_workers", int)()

    return pairs()


def _unchanged(columns: Any) -> Any:
    return columns
