"""Selecting samples by a rule: random orders, fractions, classes; without a loop over samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from kappacore.datasets.subset import KDSubset
from kappacore.errors import InvalidOptionError
from kappacore.wrappers.options import as_fraction, as_integer

if TYPE_CHECKING:
    from kappacore.datasets.indexing import IntArray

_WIDEST = 1 << 16


class SelectionWrapper(KDSubset):
    """A subset whose indices are computed by the class that derives from this.

    It behaves as :class:`kappacore.KDSubset`: however deeply nested, a sample is one look-up away.
    If the rule leaves no sample, starting an epoch raises an error that says so.
    """

    _kd_selects = True


class FractionWrapper(SelectionWrapper):
    """A selection from one fraction of a number of samples to another.

    A derived class defines ``_select``; see :class:`PercentFilterWrapper` for the options.
    """

    def __init__(
        self,
        dataset: Any,
        from_fraction: float | None = None,
        to_fraction: float | None = None,
        ceil_from_index: bool = False,
        ceil_to_index: bool = False,
        *,
        from_percent: float | None = None,
        to_percent: float | None = None,
    ):
        first_name, first = _either("from", from_fraction, from_percent, 0.0)
        last_name, last = _either("to", to_fraction, to_percent, 1.0)
        self.from_fraction = as_fraction(first, first_name)
        self.to_fraction = as_fraction(last, last_name)
        if self.from_fraction > self.to_fraction:
            raise InvalidOptionError(
                f"{first_name}={first!r} is above {last_name}={last!r}; expected a range that "
                f"begins before it ends."
            )
        self.ceil_from_index = ceil_from_index
        self.ceil_to_index = ceil_to_index
        super().__init__(dataset, self._select(dataset))

    @property
    def from_percent(self) -> float:
        """KappaData's name of ``from_fraction``."""
        return self.from_fraction

    @property
    def to_percent(self) -> float:
        """KappaData's name of ``to_fraction``."""
        return self.to_fraction

    def _select(self, dataset: Any) -> IntArray:
        raise NotImplementedError

    def _bounds(self, counts: Any) -> tuple[Any, Any]:
        """Return the first and the last index (exclusive) for numbers of samples."""
        first = _scaled(counts, self.from_fraction, up=self.ceil_from_index)
        last = _scaled(counts, self.to_fraction, up=self.ceil_to_index)
        return first, last


def _either(end: str, fraction: Any, percent: Any, default: float) -> tuple[str, Any]:
    """Return the name that an option was given by, ours or KappaData's, and its value."""
    if percent is None:
        return f"{end}_fraction", default if fraction is None else fraction
    if fraction is not None:
        raise InvalidOptionError(
            f"{end}_percent= is KappaData's name of {end}_fraction=; got both. "
            f"Pass {end}_fraction= only."
        )
    return f"{end}_percent", percent


def _scaled(counts: Any, fraction: float, up: bool) -> Any:
    """Return ``fraction * counts`` rounded down or up; 0.29 of 100 is 29, despite float errors."""
    products = np.round(np.multiply(fraction, counts), 6)
    return (np.ceil if up else np.floor)(products).astype(np.int64)


def permutation(length: int, seed: int | None) -> IntArray:
    """Return a random order of ``length`` samples; see :class:`ShuffleWrapper`.

    Raises:
        InvalidOptionError: ``seed`` is neither None nor a non-negative integer.
    """
    if seed is None:
        return np.random.permutation(length)
    return np.random.default_rng(as_integer(seed, "seed", least=0)).permutation(length)


class Groups(NamedTuple):
    """The samples of each class.

    Attributes:
        classes: The labels that occur, ascending; shape ``(C,)``.
        order: The samples, sorted by class, in their order within each; shape ``(N,)``.
        starts: Where each class starts in ``order``; shape ``(C,)``.
        counts: How many samples each class has, at least 1; shape ``(C,)``.
    """

    classes: IntArray
    order: IntArray
    starts: IntArray
    counts: IntArray

    def take(self, first: IntArray, last: IntArray) -> IntArray:
        """Return the samples ``first`` to ``last`` (exclusive) of each class, by class.

        Beyond the end of a class it continues at the beginning of that class.
        """
        wanted = last - first
        group = np.repeat(np.arange(len(self.counts)), wanted)
        within = np.arange(wanted.sum()) - np.repeat(np.cumsum(wanted) - wanted - first, wanted)
        samples: IntArray = self.order[self.starts[group] + within % self.counts[group]]
        return samples


def group_by_class(labels: IntArray) -> Groups:
    """Group the samples by their labels.

    Args:
        labels: Any integers, negative ones too; shape ``(N,)``.
    """
    if not len(labels):
        none = np.empty(0, np.int64)
        return Groups(none, none, none, none)
    lowest = int(labels.min())
    span = int(labels.max()) - lowest + 1
    codes: np.ndarray[Any, Any] = labels
    if span <= _WIDEST:
        narrow = np.min_scalar_type(span - 1)  # numpy uses radix sort, several times as fast
        codes = (labels - lowest).astype(narrow)
        counts = np.bincount(codes, minlength=span)
        occurring = np.flatnonzero(counts)
        classes, counts = occurring + lowest, counts[occurring]
    else:
        classes, counts = np.unique(labels, return_counts=True)
    order = np.argsort(codes, kind="stable")
    return Groups(classes, order, np.cumsum(counts) - counts, counts)


def sort_distinct(samples: IntArray, length: int) -> IntArray:
    """Return distinct indices below ``length`` in ascending order, faster than by sorting them."""
    mask = np.zeros(length, dtype=bool)
    mask[samples] = True
    return np.flatnonzero(mask)


def apportion(exact: Any, number: int) -> IntArray:
    """Round sizes to integers that sum to ``number``, by largest remainder.

    Args:
        exact: The exact sizes, of shape ``(P,)``; they sum to about ``number``.
        number: What is shared out.

    Returns:
        The sizes, of shape ``(P,)``.
    """
    exact = np.round(exact, 6)
    sizes: IntArray = np.floor(exact).astype(np.int64)
    by_remainder = np.argsort(sizes - exact, kind="stable")
    sizes[by_remainder[: number - sizes.sum()]] += 1
    return sizes
