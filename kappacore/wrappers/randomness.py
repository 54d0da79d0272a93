"""Randomness that depends on the sample alone: not on workers, their number or their order."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import torch
import xxhash

from kappacore.datasets.base import KDDataset, KDWrapper
from kappacore.errors import InvalidOptionError
from kappacore.wrappers.options import as_whole

if TYPE_CHECKING:
    from kappacore.datasets.ctx import Ctx

__all__ = ["RandomWrapper", "SampleSeeds", "ctx_for", "part_of"]

_pack = struct.Struct("<4Q").pack
_digest = xxhash.xxh3_64_intdigest


class RandomWrapper(KDWrapper):
    """What wrappers have in common that draw random numbers.

    Args:
        dataset: The dataset inside.
        seed: An integer from 0 on: each sample gets a seed of its own, from this, the epoch and
            its index, for the generators of torch (CPU), Python and numpy. None: the worker's.
        fixed: Whether the epoch is left out, so that a sample is the same in every epoch.
        name: Where in the sample's ctx to put what was drawn.

    Raises:
        InvalidOptionError: An option does not fit.
    """

    _ctx_key = ""  # the name that is used where none is given

    def __init__(
        self, dataset: KDDataset, *, seed: int | None, fixed: bool, name: str | None
    ) -> None:
        super().__init__(dataset)
        if fixed and seed is None:
            raise InvalidOptionError(
                "fixed=True needs a seed, from which each sample draws the same in every epoch: "
                "seed=0."
            )
        if name is not None and (not isinstance(name, str) or len(name.split()) != 1):
            raise InvalidOptionError(
                f"name={name!r}: expected a word, the key in the sample's ctx for what was drawn."
            )
        self.seed = None if seed is None else as_whole(seed, "seed", least=0)
        self.fixed = fixed
        self._name = name  # not public: it would hide a name that the dataset has
        self._seeds = None if self.seed is None else SampleSeeds(self.seed, len(dataset), fixed)

    @property
    def epoch(self) -> int:
        """The epoch that :meth:`set_epoch` has set last, in any process; 0 at first."""
        return 0 if self._seeds is None else self._seeds.epoch

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch begins, also to workers that are already running, and to all inside."""
        number = as_whole(epoch, "epoch", least=0)
        if self._seeds is not None:
            self._seeds.epoch = number
        super().set_epoch(number)


class SampleSeeds:
    """The seed of every sample: XXH3-64 of (seed, epoch, index, part), its upper 63 bits.

    The epoch lies in shared memory without a name, so that what the main process sets is seen by
    workers started before, however they were started, and nothing is left of it afterwards.

    Args:
        seed: From 0 on.
        length: The number of samples; a negative index counts from the end.
        fixed: Whether the epoch is always 0.
    """

    def __init__(self, seed: int, length: int, fixed: bool):
        self._seed = seed
        self._length = length
        self._fixed = fixed
        self._share(torch.zeros(1, dtype=torch.int64, device="cpu"))

    def of(self, idx: int, part: int = 0) -> int:
        """Return the seed of a sample in this epoch, or of a part of it."""
        epoch = 0 if self._fixed else self._epoch.item(0)
        return _digest(_pack(self._seed, epoch, idx % self._length, part)) >> 1

    @property
    def epoch(self) -> int:
        """The epoch."""
        return int(self._epoch.item(0))

    @epoch.setter
    def epoch(self, number: int) -> None:
        self._epoch[0] = number

    def _share(self, tensor: torch.Tensor) -> None:
        self._tensor = tensor.share_memory_()  # type: ignore[no-untyped-call]  # again is no error
        self._epoch = self._tensor.numpy()  # several times as fast to read

    def __getstate__(self) -> tuple[int, int, bool, torch.Tensor]:
        return self._seed, self._length, self._fixed, self._tensor

    def __setstate__(self, state: tuple[int, int, bool, torch.Tensor]) -> None:
        self._seed, self._length, self._fixed, tensor = state
        self._share(tensor)


def ctx_for(ctx: Ctx | None, name: str | None) -> Ctx | None:
    """Return what a transform gets as ctx: the sample's, or its own part of that."""
    return ctx if ctx is None or name is None else part_of(ctx, name)


def part_of(ctx: Ctx, name: str) -> Ctx:
    """Return the part of a sample's ctx under a wrapper's name.

    Raises:
        InvalidOptionError: Something else is there.
    """
    part = ctx.setdefault(name, {})
    if isinstance(part, dict):
        return part
    raise InvalidOptionError(
        f"name={name!r}: the sample's ctx has a {type(part).__name__} under that key, where what "
        f"the wrapper draws belongs. Give the wrapper another name=."
    )
