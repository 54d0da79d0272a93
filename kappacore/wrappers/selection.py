"""What wrappers have in common that choose or reorder samples by a rule."""

from __future__ import annotations

from kappacore.datasets.subset import KDSubset

__all__ = ["SelectionWrapper"]


class SelectionWrapper(KDSubset):
    """A subset whose indices follow from a rule, in the class that derives from this.

    It behaves as :class:`kappacore.KDSubset`: however deeply nested, a sample is one look-up away.
    Where the rule leaves no sample, beginning an epoch on it is an error that says so.
    """

    _kd_chooses = True
