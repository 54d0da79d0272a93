"""Several datasets mixed by weight, anew in each epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kappacore.errors import InvalidOptionError
from kappacore.samplers.base import IndexSampler, epoch_generator
from kappacore.samplers.sources import samples_of
from kappacore.wrappers.mix import Mix, MixWrapper

if TYPE_CHECKING:
    from kappacore.datasets.indexing import IntArray

__all__ = ["MixSampler"]


class MixSampler(IndexSampler):
    """Samples of several datasets in proportion to weights, drawn anew in each epoch.

    In each epoch every dataset has its part of ``length``, to within one sample, in a random order.
    Its samples occur as often as each other, or once more.

    Args:
        dataset: A ``MixWrapper`` without weights of its own, a ``KDConcatDataset`` or torch's
            ``ConcatDataset``; or a ``ModeWrapper`` of one.
        weights: One number for each dataset, from 0 on; they need not sum to 1. By default their
            lengths.
        length: The number of samples of an epoch, of all ranks; by default that of all datasets.
        seed: A non-negative integer.
        rank: This rank, with ``world_size``; by default that of torch.distributed, of torchrun or
            of SLURM.
        world_size: The number of ranks.
        pad: Whether all ranks get as many samples, the last ones a second time.

    Raises:
        InvalidOptionError: As for :class:`kappacore.wrappers.MixWrapper`; or ``dataset`` is none of
            these.

    Example::

        train = ModeWrapper(MixWrapper([photos, sketches]), "x class source")
        loader = DataLoader(train, 64, sampler=MixSampler(train, weights=[0.9, 0.1]))
    """

    def __init__(
        self,
        dataset: Any,
        weights: Any = None,
        length: int | None = None,
        *,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
        pad: bool = True,
    ) -> None:
        owner = type(self).__name__
        self._mix = Mix([len(each) for each in _parts(dataset, owner)], weights, length, owner)
        total = int(self._mix.counts.sum())
        super().__init__(dataset, total, seed, rank, world_size, pad)

    def order(self, epoch: int) -> IntArray:
        """Return the indices of an epoch, of all ranks.

        Args:
            epoch: From 0.
        """
        return self._mix.draw(epoch_generator(self.seed, epoch))

    def _facts(self) -> dict[str, Any]:
        return {**super()._facts(), "counts": self._mix.counts.tolist()}


def _parts(dataset: Any, owner: str) -> list[Any]:
    inner = samples_of(dataset)
    whole = inner
    if isinstance(inner, MixWrapper):
        if not inner.is_whole:
            raise InvalidOptionError(
                f"{owner} draws from all samples of the datasets, and this MixWrapper has chosen "
                f"some by its own weights or length. Make it without: MixWrapper([a, b])."
            )
        whole = inner.dataset
    parts = getattr(whole, "datasets", None)
    if not isinstance(parts, (list, tuple)) or len(whole) != sum(map(len, parts)):
        raise InvalidOptionError(
            f"{owner} needs several datasets as one: MixWrapper([a, b]); got a "
            f"{type(inner).__name__}."
        )
    return list(parts)
