"""Several datasets mixed by weight."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from kappacore.datasets.base import KDConcatDataset, KDDataset
from kappacore.errors import InvalidOptionError
from kappacore.wrappers.options import as_integer, as_weights
from kappacore.wrappers.selection import SelectionWrapper, apportion

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kappacore.datasets.indexing import IntArray


class MixWrapper(SelectionWrapper):
    """Several datasets as one, in proportion to weights; item ``source`` is where a sample is from.

    Without ``weights`` and ``length`` it has every sample once, one dataset after another.
    Otherwise each dataset has its part of ``length``, to within one sample, all in one random order
    that is drawn once. Its samples occur as often as each other, or once more: a dataset that has
    fewer than its part is repeated. :class:`kappacore.samplers.MixSampler` draws in each epoch.

    Args:
        dataset: The datasets, as a list or a ``KDConcatDataset``; as there, the items are those
            that all of them have.
        weights: One number for each dataset, from 0 on; they need not sum to 1. By default their
            lengths.
        length: The number of samples; by default that of all datasets.
        seed: A non-negative integer.

    Raises:
        InvalidOptionError: The weights are negative, not finite, all zero or of another number than
            the datasets; or a dataset with a weight has no samples.

    Example::

        mix = MixWrapper([photos, sketches], weights=[0.9, 0.1], length=100_000)
        for x, label, source in ModeWrapper(mix, "x class source"):
            ...
    """

    def __init__(
        self,
        dataset: KDDataset | Iterable[KDDataset],
        weights: Any = None,
        length: int | None = None,
        seed: int = 0,
    ):
        if not isinstance(dataset, KDConcatDataset):
            dataset = KDConcatDataset([dataset] if isinstance(dataset, KDDataset) else dataset)
        self.is_whole = weights is None and length is None
        if self.is_whole:
            indices = np.arange(len(dataset))
        else:
            mix = Mix(
                [len(each) for each in dataset.datasets], weights, length, type(self).__name__
            )
            indices = mix.draw(np.random.default_rng(as_integer(seed, "seed", least=0)))
        super().__init__(dataset, indices)

    def getall_source(self) -> IntArray:
        """Return the number of the dataset that each sample is from."""
        ends = np.cumsum([len(each) for each in self.dataset.datasets])
        return np.searchsorted(ends, self.indices, side="right")


class Mix:
    """How many samples of each dataset a mix has.

    Args:
        lengths: The number of samples of each dataset.
        weights: One number for each dataset; None: their lengths.
        length: The number of samples of the mix; None: of all datasets.
        owner: The class that needs it, for error messages.

    Raises:
        InvalidOptionError: See :class:`MixWrapper`.
    """

    def __init__(self, lengths: list[int], weights: Any, length: int | None, owner: str):
        shares = as_weights(lengths if weights is None else weights, len(lengths), owner)
        empty = (shares > 0) & (np.array(lengths) == 0)
        if empty.any():
            raise InvalidOptionError(
                f"{owner}: dataset {int(empty.argmax())} has a weight of "
                f"{shares[empty.argmax()]:g}, and no samples. Leave it out."
            )
        self.lengths = lengths
        number = sum(lengths) if length is None else as_integer(length, "length", least=1)
        self.counts = apportion(shares / shares.sum() * number, number)

    def draw(self, generator: np.random.Generator) -> IntArray:
        """Return indices into the datasets, one after another, in a random order."""
        drawn, offset = [], 0
        for length, count in zip(self.lengths, self.counts.tolist(), strict=True):
            if count:
                passes = np.tile(np.arange(offset, offset + length), (-(-count // length), 1))
                drawn.append(generator.permuted(passes, axis=1).ravel()[:count])
            offset += length
        return generator.permutation(np.concatenate(drawn))
