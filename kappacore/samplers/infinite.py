"""Epoch after epoch without an end."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kappacore.datasets.epochs import with_epoch
from kappacore.samplers.base import EpochSampler, Place, warn_of_loss
from kappacore.samplers.ranks import find_rank
from kappacore.samplers.sources import Source
from kappacore.wrappers.options import as_integer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kappacore.datasets.indexing import IntArray

__all__ = ["InfiniteSampler"]

_CHUNK = 4096


class InfiniteSampler(EpochSampler[int]):
    """The epochs of a dataset or a sampler, one after another without an end or a gap.

    Batches reach across the borders of epochs, and so do the turns of the ranks: every rank reads
    the same number of samples, and each sample occurs once before any occurs again. An iteration
    begins where the last one stopped.

    Args:
        source: A dataset, or a sampler that chooses for all ranks; see :class:`DistributedSampler`.
        shuffle: Whether to shuffle a dataset, which is the default.
        seed: A non-negative integer.
        rank: This rank, with ``world_size``; by default that of torch.distributed, of torchrun or
            of SLURM.
        world_size: The number of ranks.

    Raises:
        InvalidOptionError: An option does not fit, or the sampler does not.
        DatasetTypeError: The dataset has no length.
    """

    def __init__(
        self,
        source: Any,
        shuffle: bool | None = None,
        *,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        super().__init__(seed, rank, world_size)
        self._source = Source(source, shuffle, seed, type(self).__name__)
        self.dataset = self._source.dataset
        self.length = self._source.length

    @property
    def epoch(self) -> int:
        """The epoch of the next index."""
        return self._place.position // self.length

    def set_epoch(self, epoch: int) -> None:
        """Let the next iteration begin with this epoch.

        After :meth:`load_state_dict`, the state's own epoch goes on where the state was saved. Any
        other epoch drops the state, and a ``LostStateWarning`` says so; :meth:`restart` does it
        without.
        """
        number = as_integer(epoch, "epoch", least=0)
        if self._place.begun or number != self.epoch:
            if self._place.loaded:
                warn_of_loss(number, self.epoch)
            self.restart(number)

    def restart(self, epoch: int) -> None:
        """Let the next iteration begin with this epoch, whatever state was loaded."""
        self._place = Place(epoch, epoch * self.length)

    def state_dict(self) -> dict[str, Any]:
        """Return where the iteration is, for ``load_state_dict``; plain data."""
        return {**super().state_dict(), "epoch": self.epoch}

    def __iter__(self) -> Iterator[int]:
        place = self._place = replace(self._place, begun=True, loaded=False)
        rank, world_size = find_rank(*self._given_rank)
        while True:
            epoch, start = divmod(place.position + rank, self.length)
            order = self._source.order(epoch)[start::world_size]
            for first in range(0, len(order), _CHUNK):
                for index in with_epoch(order[first : first + _CHUNK].tolist(), epoch):
                    place.position += world_size
                    yield index

    def _draw(self, epoch: int) -> tuple[IntArray, Callable[[IntArray], list[int]]]:
        return self._source.order(epoch), lambda part: with_epoch(part.tolist(), epoch)

    def _facts(self) -> dict[str, Any]:
        return {**super()._facts(), **self._source.facts()}
