"""What an epoch is of a dataset or of another sampler: one order, the same on every rank."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from torch.utils.data import BatchSampler, DistributedSampler, Sampler

from kappacore.datasets.mode import ModeWrapper
from kappacore.datasets.own_generators import find_generators
from kappacore.errors import InvalidOptionError
from kappacore.samplers.base import EpochSampler, IndexSampler, epoch_generator, length_of
from kappacore.wrappers.randomness import random_states_kept, seed_generators

if TYPE_CHECKING:
    from kappacore.datasets.indexing import IntArray

__all__ = ["Source", "samples_of"]


class Source:
    """The order of each epoch of a dataset, shuffled or not, or of a sampler.

    Args:
        given: A dataset or a sampler.
        shuffle: Whether to shuffle a dataset; None: yes. A sampler has an order of its own.
        seed: Of the order.
        owner: The class that needs it, for error messages.

    Raises:
        InvalidOptionError: ``shuffle`` is given with a sampler, or the sampler does not fit.
        DatasetTypeError: The dataset has no length.
    """

    def __init__(self, given: Any, shuffle: bool | None, seed: int, owner: str) -> None:
        self.given = given
        self.seed = seed
        self.shuffle = shuffle is None or bool(shuffle)
        self._owner = owner
        if isinstance(given, Sampler):
            self._check(given, shuffle)
        self.length = given.length if isinstance(given, IndexSampler) else length_of(given, owner)
        self.dataset = _dataset_of(given)

    def order(self, epoch: int) -> IntArray:
        """Return the indices of an epoch, of all ranks; of shape ``(length,)``."""
        if isinstance(self.given, IndexSampler):
            return self.given.order(epoch)
        if isinstance(self.given, Sampler):
            return self._iterate(self.given, epoch)
        if not self.shuffle:
            return np.arange(self.length)
        return epoch_generator(self.seed, epoch).permutation(self.length)

    def facts(self) -> dict[str, Any]:
        """Return what the order depends on, besides the seed; for states."""
        facts = {"length": self.length, "shuffle": self.shuffle}
        inner = self.given._facts() if isinstance(self.given, EpochSampler) else None
        return {**facts, "of": inner}

    def _iterate(self, sampler: Sampler[Any], epoch: int) -> IntArray:
        """Read a sampler to its end, its generators seeded, so that every rank draws the same."""
        set_epoch = getattr(sampler, "set_epoch", None)
        if set_epoch is not None:
            set_epoch(epoch)
        seed = int(epoch_generator(self.seed, epoch).integers(2**62))
        with random_states_kept():
            seed_generators(
                seed,
                [g for v in getattr(sampler, "__dict__", {}).values() for g in find_generators(v)],
            )
            order = np.fromiter(sampler, np.int64)
        if len(order) != self.length:
            raise InvalidOptionError(
                f"{self._owner}: the {type(sampler).__name__} has a length of {self.length} and "
                f"gave {len(order)} indices; expected as many."
            )
        return order

    def _check(self, sampler: Sampler[Any], shuffle: bool | None) -> None:
        name = type(sampler).__name__
        if shuffle is not None:
            raise InvalidOptionError(
                f"shuffle={shuffle!r} is for a dataset; a {name} has its own order. Leave it out."
            )
        if isinstance(sampler, DistributedSampler) and not isinstance(sampler, IndexSampler):
            raise InvalidOptionError(
                f"{self._owner} takes the sampler of all samples; a {name} of torch gives those "
                f"of one rank. Pass its dataset, or a sampler that knows no ranks."
            )
        if isinstance(sampler, BatchSampler) or not hasattr(sampler, "__len__"):
            kind = "batches" if isinstance(sampler, BatchSampler) else "indices without end"
            raise InvalidOptionError(
                f"{self._owner} takes a sampler of single indices that ends; a {name} gives {kind}."
            )


def _dataset_of(given: Any) -> Any:
    """Return the dataset that a sampler names, as torch's and ours do; a dataset is itself."""
    if not isinstance(given, Sampler):
        return given
    return getattr(given, "dataset", getattr(given, "data_source", None))


def samples_of(dataset: Any) -> Any:
    """Return the dataset whose items can be asked for: the one inside a ``ModeWrapper``."""
    return dataset.dataset if isinstance(dataset, ModeWrapper) else dataset
