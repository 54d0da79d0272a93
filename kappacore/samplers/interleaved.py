"""Training and evaluations in one stream of batches, so that no loader starts in between."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from torch.utils.data import Sampler

from kappacore.datasets.epochs import with_epoch
from kappacore.errors import InvalidOptionError, SamplerStateError
from kappacore.samplers.base import IndexSampler, warn_of_loss
from kappacore.samplers.distributed import DistributedSampler
from kappacore.samplers.ranks import find_rank
from kappacore.samplers.sources import samples_of
from kappacore.wrappers.mix import MixWrapper
from kappacore.wrappers.options import as_integer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from kappacore.datasets.indexing import IntArray

__all__ = ["Interleaved", "InterleavedSampler"]


@dataclass(frozen=True)
class Interleaved:
    """A dataset to be read in between, and when.

    Args:
        dataset: A dataset, which is read once over all ranks in its order, or a sampler of one.
        every_n_epochs: After every so manieth epoch of the main dataset.
        every_n_updates: After every so manieth of its batches.
        every_n_samples: Whenever so many of its samples, of all ranks, were read since the last
            multiple. At least one of the three is required.
        batch_size: Of each rank; by default that of the main dataset.
    """

    dataset: Any
    every_n_epochs: int | None = None
    every_n_updates: int | None = None
    every_n_samples: int | None = None
    batch_size: int | None = None

    def __post_init__(self) -> None:
        given = {name: value for name, value in vars(self).items() if name != "dataset"}
        for name, value in given.items():
            if value is not None:
                as_integer(value, name, least=1)
        if all(given[name] is None for name in given if name != "batch_size"):
            raise InvalidOptionError(
                "Interleaved needs every_n_epochs=, every_n_updates= or every_n_samples=; got none."
            )


class InterleavedSampler(Sampler[list[int]]):
    """Batches of a main dataset, and whole passes over others in between; for ``batch_sampler=``.

    One loader reads all of it, so workers read ahead into an evaluation and out of it. Its dataset
    is :attr:`dataset`, whose item ``source`` is 0 for the main dataset, and 1, 2, … for the others.
    An epoch here is one of the main dataset; an iteration is the whole run.

    Args:
        main: The main dataset, which is shuffled, or a sampler of it.
        batch_size: Samples of a batch, of each rank.
        interleaved: What is read in between. Where several are due, they come in this order.
        epochs: How long the run is: so many epochs.
        updates: Or so many batches of the main dataset.
        samples: Or until so many of its samples, of all ranks, were read. Exactly one is required.
        drop_last: Whether to leave out the last batch of an epoch that is not full.
        seed: Of the order of the main dataset.
        rank: This rank, with ``world_size``; by default that of torch.distributed, of torchrun or
            of SLURM.
        world_size: The number of ranks.

    Attributes:
        dataset: All datasets as one :class:`kappacore.wrappers.MixWrapper`.

    Raises:
        InvalidOptionError: An option does not fit.
        DatasetTypeError: A dataset is no ``KDDataset``; see :func:`as_kd`.

    Example::

        sampler = InterleavedSampler(train, 64, [Interleaved(test, every_n_epochs=1)], epochs=10)
        data = ModeWrapper(sampler.dataset, "x class source")
        for x, label, source in DataLoader(data, batch_sampler=sampler, num_workers=8):
            if source[0] == 0:
                ...  # an update
    """

    def __init__(
        self,
        main: Any,
        batch_size: int,
        interleaved: Sequence[Interleaved] = (),
        *,
        epochs: int | None = None,
        updates: int | None = None,
        samples: int | None = None,
        drop_last: bool = True,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        self.batch_size = as_integer(batch_size, "batch_size", least=1)
        self.interleaved = tuple(interleaved)
        self.drop_last = bool(drop_last)
        self._given_rank = (rank, world_size)
        self._main = (
            main
            if _is_ours(main)
            else DistributedSampler(main, seed=seed, rank=rank, world_size=world_size)
        )
        self._others = [
            each.dataset
            if _is_ours(each.dataset)
            else DistributedSampler(
                each.dataset, shuffle=False, pad=False, rank=rank, world_size=world_size
            )
            for each in self.interleaved
        ]
        parts = [samples_of(sampler.dataset) for sampler in (self._main, *self._others)]
        self.dataset = MixWrapper(parts)
        self._offsets = np.cumsum([0, *map(len, parts)]).tolist()
        lengths = {"epochs": epochs, "updates": updates, "samples": samples}
        given = {name: value for name, value in lengths.items() if value is not None}
        if len(given) != 1:
            names = " and ".join(f"{name}=" for name in given) or "none"
            raise InvalidOptionError(
                f"InterleavedSampler takes one of epochs=, updates= and samples=; got {names}."
            )
        ((self._unit, value),) = given.items()
        self._end = as_integer(value, self._unit, least=1)
        if self.drop_last and len(self._main) < self.batch_size:
            raise InvalidOptionError(
                f"batch_size={batch_size} is more than the {len(self._main)} samples that a rank "
                f"has of an epoch, so no batch would be full. Use a smaller one, or "
                f"drop_last=False."
            )
        self._done = (0, 0)  # batches of the main dataset, and of the others since the last of them
        self._begun = False
        self._loaded = False  # whether a state says where the next iteration begins

    @property
    def updates_per_epoch(self) -> int:
        """The number of batches of the main dataset in an epoch."""
        length = len(self._main)
        return length // self.batch_size if self.drop_last else -(-length // self.batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Let the next iteration begin with this epoch of the main dataset.

        After :meth:`load_state_dict`, the state's own epoch goes on where the state was saved. Any
        other epoch drops the state, and a ``LostStateWarning`` says so; :meth:`restart` does it
        without.
        """
        number, own = as_integer(epoch, "epoch", least=0), self._done[0] // self.updates_per_epoch
        if self._begun or number != own:
            if self._loaded:
                warn_of_loss(number, own)
            self.restart(number)

    def restart(self, epoch: int) -> None:
        """Let the next iteration begin with this epoch, whatever state was loaded."""
        updates = epoch * self.updates_per_epoch
        self._done = updates, self._number_due(np.array([updates]))  # what was due was read
        self._begun = self._loaded = False

    def state_dict(self) -> dict[str, Any]:
        """Return where the iteration is, for :meth:`load_state_dict`; plain data."""
        return {**self._facts(), "updates": self._done[0], "since": self._done[1]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Let the next iteration go on where a state was saved, in an evaluation too.

        Args:
            state: What :meth:`state_dict` returned.

        Raises:
            SamplerStateError: It is the state of another run: another seed, dataset, batch size or
                number of ranks.
        """
        for name, own in self._facts().items():
            if name not in state or state[name] != own:
                raise SamplerStateError(
                    f"the state has {name}={state.get(name)!r}, this InterleavedSampler has "
                    f"{name}={own!r}: its batches are others. Make the sampler as it was when the "
                    f"state was saved, or start anew with set_epoch."
                )
        updates = as_integer(state.get("updates"), "updates", least=0)
        self._done = updates, as_integer(state.get("since"), "since", least=0)
        self._begun, self._loaded = False, True

    def __len__(self) -> int:
        """Return the number of this rank's batches in the whole run."""
        updates = np.arange(1, self._updates() + 1)
        return len(updates) + self._number_due(updates)

    def __iter__(self) -> Iterator[list[int]]:
        updates, since = (0, 0) if self._begun else self._done
        self._begun, self._loaded = True, False
        end = self._updates()
        epoch, order = -1, np.empty(0, np.int64)
        while True:
            for batch in self._in_between(updates, since):
                since += 1
                self._done = updates, since
                yield batch
            if updates >= end:
                return
            if updates // self.updates_per_epoch != epoch:
                epoch = updates // self.updates_per_epoch
                order = self._main.indices(epoch)
            first = updates % self.updates_per_epoch * self.batch_size
            updates, since = updates + 1, 0
            self._done = updates, since
            yield with_epoch(order[first : first + self.batch_size].tolist(), epoch)

    def _in_between(self, updates: int, start: int) -> Iterator[list[int]]:
        """Yield the batches due after so many updates, from the ``start``-th on."""
        if not updates:
            return
        for number, each in enumerate(self.interleaved):
            if not self._is_due(each, updates):
                continue
            size = each.batch_size or self.batch_size
            epoch = (updates - 1) // self.updates_per_epoch
            order = self._others[number].indices(epoch) + self._offsets[number + 1]
            batches = self._batches_of(number)
            for batch in range(start, batches):
                yield with_epoch(order[batch * size : (batch + 1) * size].tolist(), epoch)
            start = max(start - batches, 0)

    def _number_due(self, updates: IntArray) -> int:
        """Return the number of batches of the others that are due after any of these updates."""
        return sum(
            int(self._is_due(each, updates).sum()) * self._batches_of(number)
            for number, each in enumerate(self.interleaved)
        )

    def _batches_of(self, number: int) -> int:
        size = self.interleaved[number].batch_size or self.batch_size
        return -(-len(self._others[number]) // size)

    def _is_due(self, each: Interleaved, updates: Any) -> Any:
        """Return whether it is due after so many updates; of an array of them too."""
        epochs, step = np.divmod(updates, self.updates_per_epoch)
        due = np.zeros_like(updates, dtype=bool)
        if each.every_n_epochs:
            due = due | ((step == 0) & (epochs % each.every_n_epochs == 0))
        if each.every_n_updates:
            due = due | (updates % each.every_n_updates == 0)
        if each.every_n_samples:
            now, before = self._samples(updates), self._samples(updates - 1)
            due = due | (now // each.every_n_samples > before // each.every_n_samples)
        return due

    def _samples(self, updates: Any) -> Any:
        """Return the number of samples of all ranks in so many updates."""
        world_size = find_rank(*self._given_rank)[1]
        epochs, step = np.divmod(updates, self.updates_per_epoch)
        return (epochs * self._epoch_samples() + step * self.batch_size) * world_size

    def _epoch_samples(self) -> int:
        return min(self.updates_per_epoch * self.batch_size, len(self._main))

    def _updates(self) -> int:
        """Return the number of updates of the whole run."""
        if self._unit == "updates":
            return self._end
        if self._unit == "epochs":
            return self._end * self.updates_per_epoch
        each = -(-self._end // find_rank(*self._given_rank)[1])
        epochs, rest = divmod(each, self._epoch_samples())
        return epochs * self.updates_per_epoch + -(-rest // self.batch_size)

    def _facts(self) -> dict[str, Any]:
        return {
            "sampler": type(self).__name__,
            "world_size": find_rank(*self._given_rank)[1],
            "batch_size": self.batch_size,
            "main": self._main._facts(),
            "others": [sampler._facts() for sampler in self._others],
        }


def _is_ours(given: Any) -> bool:
    """Return whether it is a sampler that knows its ranks."""
    return isinstance(given, IndexSampler)
