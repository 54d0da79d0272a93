"""Which samples are in which batch: the global batch is drawn once, each rank takes its rows.

A *position* counts samples of all ranks in the order of the epoch. What a row is and draws depends
on (seed, epoch, position), so the number of ranks changes nothing as long as the global batch, the
batches of all ranks together, has the same size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kappacore.datasets.indexing import IntArray

__all__ = ["Rows", "count_batches", "draw_order", "global_batches"]


@dataclass(frozen=True)
class Rows:
    """The rows that this rank has in one global batch.

    Args:
        indices: Indices into the dataset, int64 of shape ``(N,)``.
        epochs: The epoch that each is read in, int64 of shape ``(N,)``.
        positions: Their positions in the epoch, int64 of shape ``(N,)``.
        end: The position at which the next global batch begins.
        last: Whether no other follows in this epoch; False where a sampler has no length.
    """

    indices: IntArray
    epochs: IntArray
    positions: IntArray
    end: int
    last: bool

    def __len__(self) -> int:
        return len(self.indices)


@dataclass(frozen=True)
class Share:
    """How a global batch is shared out.

    Args:
        batch_size: Rows of one rank.
        rank: This rank.
        world_size: The number of ranks.
        drop_last: Whether a last global batch that is not full is left out.
        pad: Whether it is filled up from the beginning of the epoch until all ranks have the same
            number of rows.
    """

    batch_size: int
    rank: int
    world_size: int
    drop_last: bool
    pad: bool

    @property
    def size(self) -> int:
        """The number of rows of a full global batch."""
        return self.batch_size * self.world_size

    def of(self, number: int) -> tuple[int, int]:
        """Return the first row and the end of this rank's part of ``number`` rows."""
        if number == self.size:
            return self.rank * self.batch_size, (self.rank + 1) * self.batch_size
        if self.drop_last:
            return 0, 0
        if self.pad:
            each = -(-number // self.world_size)
            return self.rank * each, (self.rank + 1) * each
        return number * self.rank // self.world_size, number * (self.rank + 1) // self.world_size


def draw_order(length: int, shuffle: bool, seed: int, epoch: int) -> IntArray:
    """Return the order of an epoch: indices into the dataset, of shape ``(length,)``."""
    if not shuffle:
        return np.arange(length)
    return np.random.Generator(np.random.PCG64([seed, epoch])).permutation(length)


def global_batches(order: IntArray, share: Share, epoch: int, start: int = 0) -> Iterator[Rows]:
    """Yield this rank's rows of each global batch.

    Args:
        order: The order of the epoch.
        epoch: The epoch.
        share: How a global batch is shared out.
        start: The position to begin at.
    """
    for first in range(start, len(order), share.size):
        end = min(first + share.size, len(order))
        begin, stop = share.of(end - first)
        if begin < stop:
            positions = np.arange(first + begin, first + stop)
            last = end + (share.size if share.drop_last else 1) > len(order)
            indices = order[positions % len(order)]
            yield Rows(indices, np.full_like(indices, epoch), positions, end, last)


def count_batches(length: int, share: Share) -> int:
    """Return the number of batches that :func:`global_batches` yields from the beginning on."""
    full, rest = divmod(length, share.size)
    begin, stop = share.of(rest)
    return full + (begin < stop)
