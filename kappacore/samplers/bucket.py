"""Batches of samples of similar length."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Any

import numpy as np

from kappacore.datasets.epochs import with_epoch
from kappacore.datasets.items import as_array, find_item
from kappacore.errors import InvalidOptionError, MissingLabelsError
from kappacore.samplers.base import EpochSampler, digest_of, epoch_generator, length_of
from kappacore.samplers.sources import samples_of
from kappacore.wrappers.options import as_integer

if TYPE_CHECKING:
    from collections.abc import Callable

    from kappacore.datasets.indexing import IntArray

__all__ = ["BucketBatchSampler"]


class BucketBatchSampler(EpochSampler[list[int]]):
    """Batches of samples of similar length, so that little is padded; for ``batch_sampler=``.

    Each epoch is shuffled and cut into pools. Each pool is sorted by length and cut into batches,
    and the batches of all pools are shuffled and shared out to the ranks.

    Args:
        dataset: The dataset, or a ``ModeWrapper`` of it.
        lengths: The length of each sample, such as its number of tokens: an array or a list of
            positive integers, or the name of an item that can be read without the samples.
        batch_size: The number of samples of a batch, or the most that ``max_tokens`` may give.
        max_tokens: The most tokens of a batch as it is padded: its number of samples times the
            length of the longest. One of the two is required.
        pool: The number of samples of a pool. The larger, the less padding and the less random.
        drop_last: Whether to leave out the last batch of a pool where it has fewer samples than
            ``batch_size``; not with ``max_tokens``.
        shuffle: Whether to shuffle. False: the dataset's order, but for the sorting in pools.
        seed: A non-negative integer.
        rank: This rank, with ``world_size``; by default that of torch.distributed, of torchrun or
            of SLURM.
        world_size: The number of ranks.
        pad: Whether all ranks get as many batches, the last ones a second time. False: every batch
            exactly once over all ranks, as for an evaluation.

    Raises:
        InvalidOptionError: An option does not fit: lengths that are not positive integers or of
            another number than the samples, or a sample that is longer than ``max_tokens``.
        UnknownItemError: The dataset has no such item.

    Example::

        batches = BucketBatchSampler(train, "length", max_tokens=16_384)
        loader = DataLoader(train, batch_sampler=batches, collate_fn=pad_and_stack)
    """

    def __init__(
        self,
        dataset: Any,
        lengths: Any,
        batch_size: int | None = None,
        *,
        max_tokens: int | None = None,
        pool: int = 8192,
        drop_last: bool = False,
        shuffle: bool = True,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
        pad: bool = True,
    ) -> None:
        super().__init__(seed, rank, world_size, pad)
        owner = type(self).__name__
        if batch_size is None and max_tokens is None:
            raise InvalidOptionError(f"{owner} takes batch_size= or max_tokens=; got neither.")
        if drop_last and max_tokens is not None:
            raise InvalidOptionError(
                "drop_last=True does not go with max_tokens=, where batches are of any size. "
                "Leave it out."
            )
        self.dataset = dataset
        number = length_of(dataset, owner)
        self.batch_size = (
            number if batch_size is None else as_integer(batch_size, "batch_size", least=1)
        )
        self.max_tokens = (
            None if max_tokens is None else as_integer(max_tokens, "max_tokens", least=1)
        )
        self.pool = as_integer(pool, "pool", least=1)
        self.drop_last = bool(drop_last)
        self.shuffle = bool(shuffle)
        self._lengths = _check_lengths(_column(dataset, lengths, owner), number, owner)
        if self.max_tokens is not None and (longest := self._lengths.max()) > self.max_tokens:
            raise InvalidOptionError(
                f"max_tokens={max_tokens}, but sample {self._lengths.argmax()} has {longest}. "
                f"Raise max_tokens, or leave out what is longer with SubsetWrapper."
            )
        self._digest = digest_of(self._lengths)
        self._counted = (-1, 0)  # (epoch, number of batches)

    def __len__(self) -> int:
        """Return the number of this rank's batches in the epoch that runs, or else the next one.

        With ``max_tokens`` it differs from epoch to epoch.
        """
        if self._counted[0] != self.epoch:
            self._draw(self.epoch)
        return self._share_of(self._counted[1])

    def _draw(self, epoch: int) -> tuple[IntArray, Callable[[IntArray], list[list[int]]]]:
        generator = epoch_generator(self.seed, epoch)
        number = len(self._lengths)
        samples = generator.permutation(number) if self.shuffle else np.arange(number)
        pools = np.arange(number) // self.pool
        samples = samples[np.lexsort((self._lengths[samples], pools))]
        starts, ends = self._cut(self._lengths[samples])
        order = generator.permutation(len(starts)) if self.shuffle else np.arange(len(starts))
        self._counted = epoch, len(starts)

        def batches(part: IntArray) -> list[list[int]]:
            bounds = zip(starts[part].tolist(), ends[part].tolist(), strict=True)
            return [with_epoch(samples[start:end].tolist(), epoch) for start, end in bounds]

        return order, batches

    def _cut(self, lengths: IntArray) -> tuple[IntArray, IntArray]:
        """Return where batches start and end in samples whose lengths ascend within each pool."""
        number = len(lengths)
        if self.max_tokens is None:
            within = min(self.pool, number)
            starts = np.arange(0, number, self.pool)[:, None] + np.arange(
                0, within, self.batch_size
            )
            starts = starts[starts < number]
            ends = np.minimum(starts + self.batch_size, (starts // self.pool + 1) * self.pool)
            ends = np.minimum(ends, number)
            full = ends - starts == self.batch_size
            return (starts[full], ends[full]) if self.drop_last else (starts, ends)
        return self._cut_by_tokens(lengths.tolist(), self.max_tokens)

    def _cut_by_tokens(self, lengths: list[int], most: int) -> tuple[IntArray, IntArray]:
        bounds = [0]
        while (start := bounds[-1]) < len(lengths):
            pool_end = min((start // self.pool + 1) * self.pool, len(lengths))
            last = min(start + min(self.batch_size, most // lengths[start]), pool_end)
            fits = bisect_right(  # the lengths ascend, so the tokens of a batch do
                range(start, last), most, key=lambda end: (end + 1 - start) * lengths[end]
            )
            bounds.append(start + fits)
        return np.array(bounds[:-1]), np.array(bounds[1:])

    def _facts(self) -> dict[str, Any]:
        names = ("batch_size", "max_tokens", "pool", "drop_last", "shuffle")
        options = {name: getattr(self, name) for name in names}
        return {**super()._facts(), **options, "lengths": self._digest}


def _column(dataset: Any, lengths: Any, owner: str) -> Any:
    if not isinstance(lengths, str):
        return lengths
    inner = samples_of(dataset)
    column = find_item(inner, lengths).get_all()
    if column is None:
        raise MissingLabelsError(
            f"{owner} needs the lengths of all samples, and item {lengths!r} of "
            f"{type(inner).__name__} is known only by reading each. Define getall_{lengths}, or "
            f"pass an array."
        )
    return column


def _check_lengths(column: Any, number: int, owner: str) -> IntArray:
    array = as_array(column)
    if array.shape != (number,) or array.dtype.kind not in "iu" or array.min() < 1:
        low = f", the least {array.min()}" if array.size and array.dtype.kind in "iuf" else ""
        raise InvalidOptionError(
            f"lengths= of {owner} is an array of {array.dtype} of shape {array.shape}{low}; "
            f"expected positive integers, one for each of {number} samples."
        )
    return array.astype(np.int64)
