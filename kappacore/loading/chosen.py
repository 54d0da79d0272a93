"""Batches that a sampler chose for this rank."""

from __future__ import annotations

import contextlib
import threading
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import numpy as np

from kappacore.datasets.epochs import in_epochs
from kappacore.datasets.indexing import check_indices
from kappacore.loading.order import Rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = ["BatchesOfEpoch", "given_batches"]

_one_begins = threading.Lock()


def given_batches(
    batches: Iterable[Iterable[int]],
    length: int,
    rank: int,
    world_size: int,
    epoch: int,
    start: int = 0,
) -> Iterator[Rows]:
    """Yield the rows of batches that a sampler chose for this rank.

    Positions are those of a global batch to which every rank gives as many rows. Epochs are those
    that the indices say.

    Args:
        batches: Indices into the dataset, batch by batch.
        length: The number of samples of the dataset.
        rank: This rank.
        world_size: The number of ranks.
        epoch: The epoch of indices that do not say theirs.
        start: The position to begin at.
    """
    end = 0
    count = None
    for batch_number, batch in enumerate(batches, 1):
        if batch_number == 1:  # not before: it may depend on the epoch, which is set as it begins
            with contextlib.suppress(TypeError):
                count = len(batches)  # type: ignore[arg-type]
        parts = in_epochs(list(batch))
        indices = check_indices([index for _, part in parts for index in part], length, "Loader")
        epochs = np.repeat(
            [epoch if said is None else said for said, _ in parts], [len(part) for _, part in parts]
        )
        first, number = end, len(indices)
        end += number * world_size
        if first >= start and number:
            positions = np.arange(number) + (first + rank * number)
            yield Rows(indices, epochs, positions, end, batch_number == count)


class BatchesOfEpoch:
    """The batches that samplers choose in an epoch, from its beginning.

    The epoch is set as the first batch is asked for, not before: several iterators of a Loader
    may wait, and samplers count what they begin. What a state of the sampler's own says is left
    out, as the Loader's position counts from the beginning.
    """

    def __init__(self, epoch: int, batches: Iterable[Sequence[int]], *choosers: Any) -> None:
        self._epoch, self._batches = epoch, batches
        inside = [getattr(each, "sampler", None) for each in choosers]  # of torch's BatchSampler
        self._choosers = [*choosers, *inside]

    def _begin(self) -> None:
        for chooser in self._choosers:
            restart = getattr(chooser, "restart", None) or getattr(chooser, "set_epoch", None)
            if restart is not None:
                restart(self._epoch)

    def __len__(self) -> int:
        return len(self._batches)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Sequence[int]]:
        with _one_begins:
            self._begin()
            batches = iter(self._batches)
            first = list(islice(batches, 1))
        yield from chain(first, batches)
