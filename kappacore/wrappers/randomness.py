"""Transforms whose randomness depends on the sample alone, not on workers, their number or order.

Transforms draw from the global generators of torch (CPU), Python and numpy, so these are seeded
for each sample and afterwards restored.
"""

from __future__ import annotations

import os
import random
import struct
import threading
from abc import abstractmethod
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
import xxhash
from numpy.random import MT19937, mtrand

from kappacore.datasets.base import KDDataset, KDWrapper
from kappacore.datasets.epochs import epoch_being_read
from kappacore.datasets.items import Item, find_item
from kappacore.datasets.own_generators import (
    OwnGenerator,
    seed_generator,
    warn_of_generators,
)
from kappacore.errors import InvalidOptionError
from kappacore.wrappers.options import as_integer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kappacore.datasets.ctx import Ctx, Ctxs

_pack = struct.Struct("<4Q").pack
_digest = xxhash.xxh3_64_intdigest


class RandomWrapper(KDWrapper):
    """Base of wrappers that call transforms with one item.

    Args:
        dataset: The dataset inside.
        item: The item to transform.
        transforms: The transforms, each callable with a value of the item.
        seed: A non-negative integer: each sample gets a seed derived from this, the epoch and the
            sample's index. None: transforms draw from the worker's generators.
        fixed: Whether to leave out the epoch, so that a sample is the same in every epoch.
        name: Key in the sample's ctx for what is drawn; default the class's ``_ctx_key``.
        is_random: Whether the transforms draw random numbers. By default True with a seed that is
            not fixed; without a seed, True if any transform's own ``is_random`` is.

    Raises:
        UnknownItemError: The dataset has no such item.
        InvalidOptionError: An option does not fit.
    """

    _ctx_key = ""

    def __init__(
        self,
        dataset: KDDataset,
        item: str,
        transforms: Sequence[Any],
        *,
        seed: int | None,
        fixed: bool,
        name: str | None,
        is_random: bool | None,
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
        find_item(dataset, item)
        self.item = item
        self.seed = None if seed is None else as_integer(seed, "seed", least=0)
        self.fixed = fixed
        self._name = name  # not public: it would hide an attribute `name` of the dataset
        self._seeds = None if self.seed is None else SampleSeeds(self.seed, len(dataset), fixed)
        if is_random is None:
            draws = any(bool(getattr(transform, "is_random", False)) for transform in transforms)
            is_random = draws if seed is None else not fixed
        self.is_random = is_random
        if seed is None:
            warn_of_generators(
                transforms,
                f"Pass seed=0 to {type(self).__name__}, which seeds it for each sample and epoch; "
                f"or draw from torch's global generator.",
            )

    @property
    def epoch(self) -> int:
        """The epoch of the samples being read, or else the one set last; initially 0."""
        return 0 if self._seeds is None else self._seeds.epoch

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, here and in all datasets inside; running workers see it too."""
        number = as_integer(epoch, "epoch", least=0)
        if self._seeds is not None:
            self._seeds.epoch = number
        super().set_epoch(number)

    def _kd_derived(self, name: str) -> Item | None:
        inner = super()._kd_derived(name)
        return inner if name != self.item or inner is None else self._transformed(inner)

    @abstractmethod
    def _transformed(self, inner: Item) -> Item:
        """Return the item as it is after the transforms."""


class RandomItem(Item):
    """An item seen through transforms: no column, no stored form, and unknown content.

    Args:
        inner: The item inside.
        seeds: The samples' seeds; None to leave the generators as they are.
        key: Key in the sample's ctx for the seed.
    """

    def __init__(self, inner: Item, seeds: SampleSeeds | None, key: str):
        self._inner = inner
        self._seeds = seeds
        self._key = key
        self.reads_samples = inner.reads_samples

    @abstractmethod
    def apply(self, idx: int, value: Any, ctx: Ctx | None) -> Any:
        """Return what the transforms make of one value, seeding the generators before each."""

    def get(self, idx: int, ctx: Ctx | None = None) -> Any:
        """Return the value at ``idx``."""
        value = self._inner.get(idx, ctx)
        if self._seeds is None:
            return self.apply(idx, value, ctx)
        with random_states_kept():
            return self.apply(idx, value, ctx)

    def get_batch(self, indices: Sequence[int], ctxs: Ctxs | None = None) -> list[Any]:
        """Return the values at ``indices``."""
        values = self._inner.get_batch(indices, ctxs)
        if ctxs is None:
            ctxs = [None] * len(values)
        samples = zip(indices, values, ctxs, strict=True)
        if self._seeds is None:
            return [self.apply(*sample) for sample in samples]
        with random_states_kept():
            return [self.apply(*sample) for sample in samples]

    def how_stacked(self) -> tuple[bool, str]:
        """Return that samples are transformed one by one."""
        return False, "sample by sample, as each is transformed by itself"

    def in_batches(self, raw: bool = False) -> bool:
        """Return whether the inner item is read in batches."""
        return self._inner.in_batches(raw)


def part_of(ctx: Ctx, name: str) -> Ctx:
    """Return the dict in a sample's ctx under a wrapper's name.

    Raises:
        InvalidOptionError: The value there is no dict.
    """
    part = ctx.setdefault(name, {})
    if isinstance(part, dict):
        return part
    raise InvalidOptionError(
        f"name={name!r}: the sample's ctx has a {type(part).__name__} under that key, where the "
        f"wrapper stores what it draws. Give the wrapper another name=."
    )


class SampleSeeds:
    """The seed of every sample: XXH3-64 of (seed, epoch, index, part), its upper 63 bits.

    The epoch is that of the samples being read, where their indices say it. Otherwise it is the one
    set last. That lies in anonymous shared memory: workers see what the main process sets, even if
    they were started before and by any method, and nothing is left of it afterwards.

    Args:
        seed: A non-negative integer.
        length: The number of samples; a negative index counts from the end.
        fixed: Whether the epoch is always 0.
    """

    def __init__(self, seed: int, length: int, fixed: bool):
        self._seed = seed
        self._length = length
        self._fixed = fixed
        self._share(torch.zeros(1, dtype=torch.int64, device="cpu"))

    def of(self, idx: int, part: int = 0) -> int:
        """Return the seed of a sample, or of a part of it, in this epoch."""
        epoch = 0 if self._fixed else self.epoch
        return _digest(_pack(self._seed, epoch, idx % self._length, part)) >> 1

    @property
    def epoch(self) -> int:
        """The epoch."""
        being_read = epoch_being_read()
        return int(self._epoch.item(0)) if being_read is None else being_read

    @epoch.setter
    def epoch(self, number: int) -> None:
        if epoch_being_read() is None:  # else a dataset inside is told, for this read alone
            self._epoch[0] = number

    def _share(self, tensor: torch.Tensor) -> None:
        self._tensor = tensor.share_memory_()  # type: ignore[no-untyped-call]  # again is no error
        self._epoch = self._tensor.numpy()  # several times as fast to read

    def __getstate__(self) -> tuple[int, int, bool, torch.Tensor]:
        return self._seed, self._length, self._fixed, self._tensor

    def __setstate__(self, state: tuple[int, int, bool, torch.Tensor]) -> None:
        self._seed, self._length, self._fixed, tensor = state
        self._share(tensor)


# ---- the global generators

_substitutes: list[MT19937] = []  # kept, as making one is slow
_one_at_a_time = threading.RLock()


def seed_generators(seed: int, own: Sequence[OwnGenerator] = ()) -> None:
    """Seed the global generators of torch (CPU), Python and numpy, and those of a transform.

    To be called within :func:`random_states_kept`.

    Args:
        seed: The seed.
        own: The transform's own generators: the first gets ``seed``, the next ``seed + 1``, …
    """
    torch.default_generator.manual_seed(seed)
    random.seed(seed)
    mtrand.seed(seed & 0xFFFFFFFF)
    for offset, generator in enumerate(own):
        seed_generator(generator, seed + offset)


@contextmanager
def random_states_kept() -> Iterator[None]:
    """Let a block seed the global generators, and restore their states after it.

    The threads of a process take turns, as they share these generators.
    """
    with _one_at_a_time:
        torchs, pythons = torch.default_generator.get_state(), random.getstate()
        numpys = mtrand.get_state(legacy=False)
        generator = mtrand.get_bit_generator()
        # Exchanging the bit generator is faster than restoring its state.
        substitute = _substitutes.pop() if _substitutes else MT19937(0)
        mtrand.set_bit_generator(substitute)
        try:
            yield
        finally:
            mtrand.set_bit_generator(generator)
            if numpys["has_gauss"]:  # a normal deviate drawn in advance, lost by the exchange
                mtrand.set_state(numpys)
            random.setstate(pythons)
            torch.default_generator.set_state(torchs)
            _substitutes.append(substitute)


def _renew_lock() -> None:
    """Replace the lock in a forked process: the thread that held it is not there."""
    global _one_at_a_time
    _one_at_a_time = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)
