"""What all samplers share: epochs, ranks, and states from which an epoch goes on.

An order is drawn for all ranks together and depends on (seed, epoch) alone; rank ``r`` of ``W``
takes every ``W``-th entry from the ``r``-th on. A *position* counts entries of all ranks. So a
state saved on any number of ranks continues on any other.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
import xxhash
from torch.utils.data import DistributedSampler, Sampler

from kappacore._warn import warn
from kappacore.datasets.epochs import tell_epoch, with_epoch
from kappacore.errors import (
    DatasetTypeError,
    InvalidOptionError,
    LateEpochWarning,
    LostStateWarning,
    SamplerStateError,
)
from kappacore.samplers.ranks import check_rank, find_rank
from kappacore.wrappers.options import as_integer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kappacore.datasets.indexing import IntArray

__all__ = [
    "EpochSampler",
    "IndexSampler",
    "Place",
    "digest_of",
    "epoch_generator",
    "length_of",
    "warn_of_loss",
]

T = TypeVar("T")

_CHUNK = 4096  # entries that are Python objects at a time


@dataclass
class Place:
    """Where an iteration is, or where the next one begins.

    Args:
        epoch: Its epoch.
        position: The number of entries that are done, counted over all ranks.
        begun: Whether an iteration began here.
        ended: Whether it came to its end.
        loaded: Whether a state says so.
    """

    epoch: int
    position: int = 0
    begun: bool = False
    ended: bool = False
    loaded: bool = False


class EpochSampler(Sampler[T], Generic[T]):
    """Entries in an order that the seed and the epoch determine, shared out to the ranks.

    Each iteration that was begun is one epoch, and the next one is the next epoch, unless
    :meth:`set_epoch` says otherwise. As it begins, it sets the epoch of its dataset, so that
    samples draw anew as well, and a run that goes on from a state draws what it would have drawn.

    Args:
        seed: A non-negative integer.
        rank: This rank, with ``world_size``; by default that of torch.distributed, of torchrun or
            of SLURM, looked up when it is needed.
        world_size: The number of ranks.
        pad: Whether the last entries are filled up from the beginning of the order until all ranks
            have as many. False: each entry exactly once over all ranks.

    Raises:
        InvalidOptionError: An option does not fit.
    """

    def __init__(
        self,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
        pad: bool = True,
    ) -> None:
        self.seed = as_integer(seed, "seed", least=0)
        check_rank(rank, world_size)
        self.pad = bool(pad)
        self._given_rank = (rank, world_size)
        self._place = Place(0)

    @abstractmethod
    def _draw(self, epoch: int) -> tuple[IntArray, Callable[[IntArray], list[T]]]:
        """Return the order of an epoch for all ranks, and what turns a part of it into entries."""

    def _facts(self) -> dict[str, Any]:
        """Return what a state must have in common with the sampler that continues from it."""
        return {"sampler": type(self).__name__, "seed": self.seed}

    @property
    def epoch(self) -> int:
        """The epoch of the iteration that runs, or of the next one if none was begun."""
        return self._place.epoch + self._place.ended

    def set_epoch(self, epoch: int) -> None:
        """Let the next iteration be this epoch, from its beginning.

        After :meth:`load_state_dict`, the state's own epoch goes on where the state was saved. Any
        other epoch drops the state, and a ``LostStateWarning`` says so; :meth:`restart` does it
        without.

        Unless an iteration runs, the dataset is told at once: workers get it as they start.

        Args:
            epoch: From 0.

        Raises:
            InvalidOptionError: It is not a non-negative integer.
        """
        number = as_integer(epoch, "epoch", least=0)
        if self._place.begun or number != self._place.epoch:
            if self._place.loaded:
                warn_of_loss(number, self._place.epoch)
            self.restart(number)
        else:
            self._tell_dataset()

    def restart(self, epoch: int) -> None:
        """Let the next iteration be this epoch from its beginning, whatever state was loaded.

        Args:
            epoch: From 0.
        """
        runs = self._place.begun and not self._place.ended
        self._place = Place(as_integer(epoch, "epoch", least=0))
        if not runs:
            self._tell_dataset()

    def state_dict(self) -> dict[str, Any]:
        """Return where the iteration is, for :meth:`load_state_dict`; plain data."""
        return self._state(Place(self.epoch, 0 if self._place.ended else self._place.position))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Let the next iteration go on where a state was saved, on any number of ranks.

        Args:
            state: What :meth:`state_dict` returned.

        Raises:
            SamplerStateError: It is the state of another sampler, seed or dataset.
        """
        for name, own in self._facts().items():
            if name not in state or state[name] != own:
                raise SamplerStateError(
                    f"the state has {name}={state.get(name)!r}, this {type(self).__name__} has "
                    f"{name}={own!r}: its order is another one. Make the sampler as it was when "
                    f"the state was saved, or start anew with set_epoch."
                )
        epoch = as_integer(state.get("epoch"), "epoch", least=0)
        position = as_integer(state.get("position"), "position", least=0)
        self._place = Place(epoch, position, loaded=True)
        self._tell_dataset()

    def _share_of(self, number: int) -> int:
        """Return how many of ``number`` entries this rank has."""
        rank, world_size = find_rank(*self._given_rank)
        return -(-(number - (0 if self.pad else rank)) // world_size)

    def __iter__(self) -> Iterator[T]:
        return _Iteration(self)

    def _state(self, place: Place) -> dict[str, Any]:
        return {**self._facts(), "epoch": place.epoch, "position": place.position}

    def _begin(self) -> Place:
        """Begin this epoch where it is, or the next one if this one was begun."""
        if self._place.begun:
            self._place = Place(self._place.epoch + 1)
        self._place.begun, self._place.loaded = True, False
        self._tell_dataset()
        return self._place

    def _tell_dataset(self) -> None:
        tell_epoch(getattr(self, "dataset", None), self._place.epoch)

    def _entries(self, place: Place) -> Iterator[T]:
        rank, world_size = find_rank(*self._given_rank)
        order, entries = self._draw(place.epoch)
        order = share(order, place.position, rank, world_size, self.pad)
        late = False
        for start in range(0, len(order), _CHUNK):
            for entry in entries(order[start : start + _CHUNK]):
                place.position += world_size
                if self._place is not place and not late:
                    late = self._warn_if_late(place)
                yield entry
        place.ended = True

    def _warn_if_late(self, place: Place) -> bool:
        """Warn if an epoch was set while the iteration of another one goes on; return whether."""
        late = not self._place.begun and self._place.epoch != place.epoch
        if late:
            warn(
                f"set_epoch({self._place.epoch}) came while an iteration of epoch {place.epoch} "
                f"runs, which goes on with the order of epoch {place.epoch}; and so do the draws "
                f"of its dataset. Set the epoch before the iteration begins. Lightning, where it "
                f"resumes, sets it too late for the workers of a DataLoader: set it in "
                f"train_dataloader, as docs/recipes/lightning.md shows.",
                LateEpochWarning,
            )
        return late


class _Iteration(Iterator[T]):
    """One iteration of a sampler.

    Its state is that of torchdata's loaders. It differs from the sampler's once the last entry was
    taken: what is left of this epoch is nothing, while the sampler's next iteration is a whole one.
    """

    def __init__(self, sampler: EpochSampler[T]) -> None:
        self._sampler = sampler
        self._place: Place | None = None  # an iterator that is never used begins no epoch
        self._rest: Iterator[T] = iter(())

    def __next__(self) -> T:
        if self._place is None:
            self._begin()
        return next(self._rest)

    def _begin(self) -> None:
        self._place = self._sampler._begin()
        self._rest = self._sampler._entries(self._place)

    def state_dict(self) -> dict[str, Any]:
        return self._sampler._state(self._place or self._sampler._place)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._sampler.load_state_dict(state)
        self._place = None
        if state["position"]:
            self._begin()


class IndexSampler(EpochSampler[int], DistributedSampler[int]):  # type: ignore[override]
    """Indices of samples; see :class:`EpochSampler`.

    A derived class defines ``order``. It is one of torch's distributed samplers for trainers that
    ask, such as Lightning, which would otherwise share its indices out a second time.

    Args:
        dataset: What is sampled.
        length: The number of indices of an epoch, of all ranks.
        seed: See :class:`EpochSampler`.
        rank: See :class:`EpochSampler`.
        world_size: See :class:`EpochSampler`.
        pad: See :class:`EpochSampler`.
    """

    def __init__(
        self,
        dataset: Any,
        length: int,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
        pad: bool = True,
    ) -> None:
        super().__init__(seed, rank, world_size, pad)
        self.dataset = dataset
        self.length = length

    @abstractmethod
    def order(self, epoch: int) -> IntArray:
        """Return the indices of an epoch, of all ranks; of shape ``(length,)``.

        Args:
            epoch: From 0.

        Returns:
            (length,) int64.
        """

    def indices(self, epoch: int) -> IntArray:
        """Return this rank's indices of an epoch.

        Args:
            epoch: From 0.

        Returns:
            (N,) int64, N as on the other ranks, or one less with ``pad=False``.
        """
        rank, world_size = find_rank(*self._given_rank)
        return share(self.order(epoch), 0, rank, world_size, self.pad)

    def _draw(self, epoch: int) -> tuple[IntArray, Callable[[IntArray], list[int]]]:
        return self.order(epoch), lambda part: with_epoch(part.tolist(), epoch)

    def __len__(self) -> int:
        """Return the number of this rank's indices of an epoch."""
        return self._share_of(self.length)

    def _facts(self) -> dict[str, Any]:
        return {**super()._facts(), "length": self.length}


def warn_of_loss(epoch: int, loaded: int) -> None:
    """Warn that a loaded state is dropped.

    Args:
        epoch: The epoch that was set.
        loaded: That of the state.
    """
    warn(
        f"set_epoch({epoch}) came after load_state_dict with a state of epoch {loaded}, which is "
        f"dropped: the next iteration is epoch {epoch} from its beginning. Lightning's Fabric "
        f"counts epochs from 0 in every run: leave this DataLoader out of setup_dataloaders. If "
        f"you mean it, call restart({epoch}) instead.",
        LostStateWarning,
    )


def share(order: IntArray, start: int, rank: int, world_size: int, pad: bool) -> IntArray:
    """Return a rank's entries of an order, from a position on.

    Args:
        order: The order for all ranks.
        start: Where to begin, counted over all ranks.
        rank: This rank.
        world_size: The number of ranks.
        pad: Whether to fill up from the beginning of the order, so that all ranks have as many.
    """
    mine = order[start + rank :: world_size]
    rest = max(len(order) - start, 0) % world_size
    if not pad or not 0 < rest <= rank:
        return mine
    following = start + rank + len(mine) * world_size
    return np.append(mine, order[following % len(order)])


def epoch_generator(seed: int, epoch: int) -> np.random.Generator:
    """Return the generator from which the order of an epoch is drawn."""
    return np.random.Generator(np.random.PCG64([seed, epoch]))


def digest_of(values: np.ndarray[Any, Any]) -> str:
    """Return a digest of an array that an order depends on; for states."""
    return xxhash.xxh3_64_hexdigest(np.ascontiguousarray(values).data)


def length_of(dataset: Any, owner: str) -> int:
    """Return the number of samples of a dataset.

    Args:
        dataset: Anything that has a length.
        owner: The class that needs it, for the error message.

    Raises:
        DatasetTypeError: It has no length.
        InvalidOptionError: It has no samples.
    """
    if not hasattr(dataset, "__len__"):
        raise DatasetTypeError(
            f"{owner} needs a dataset that has a length; got a {type(dataset).__name__}."
        )
    length = len(dataset)
    if not length:
        raise InvalidOptionError(f"{owner} cannot sample from a dataset without samples.")
    return length
