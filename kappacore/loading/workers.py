"""Samples read by the worker processes of torch's DataLoader."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader, Dataset

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kappacore.loading.plan import Plan
    from kappacore.loading.reader import Columns, Reader

__all__ = ["read_in_workers"]


class _Batches(Dataset[Any]):
    """Batches of a dataset, each by the indices of its rows and what is wanted of them."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def __getitem__(self, request: Any) -> Columns:
        return self._reader.read(*request)


def read_in_workers(
    reader: Reader, plans: Iterator[Plan], workers: int, seed: int
) -> Iterator[tuple[Plan, Columns]]:
    """Return an iterator over batches that processes read; they start here, and end with it.

    Each process has two batches in hand, as in torch.

    Args:
        reader: Reads the samples, in the processes.
        plans: How each batch is read; planned when it is begun.
        workers: The number of processes.
        seed: Their generators are seeded from it.
    """
    begun: deque[Plan] = deque()

    def requests() -> Iterator[Any]:
        for plan in plans:
            begun.append(plan)
            yield plan.rows.indices, plan.rows.epochs, plan.wanted

    loader: DataLoader[Any] = DataLoader(
        _Batches(reader),
        batch_size=None,
        sampler=requests(),
        num_workers=workers,
        collate_fn=_unchanged,
        generator=torch.Generator().manual_seed(seed),
    )
    columns = iter(loader)  # processes are forked before a thread is started

    def pairs() -> Iterator[tuple[Plan, Columns]]:
        try:
            for each in columns:
                yield begun.popleft(), each
        finally:  # after an error too, whose traceback would keep them
            getattr(columns, "_shutdown_workers", int)()

    return pairs()


def _unchanged(columns: Any) -> Any:
    return columns
