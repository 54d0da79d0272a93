"""The global random generators, seeded for a while and then as they were before.

Those of torch (CPU), Python and numpy: transforms draw from any of them.
"""

from __future__ import annotations

import os
import random
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from numpy.random import MT19937, mtrand

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["random_states_kept", "seed_generators"]

_substitutes: list[MT19937] = []  # kept, as one takes long to make
_one_at_a_time = threading.RLock()


def seed_generators(seed: int) -> None:
    """Seed the global generators of torch (CPU), Python and numpy, within the block below."""
    torch.default_generator.manual_seed(seed)
    random.seed(seed)
    mtrand.seed(seed & 0xFFFFFFFF)


@contextmanager
def random_states_kept() -> Iterator[None]:
    """Let a block seed the global generators; afterwards they go on as if it had not been.

    The threads of a process take turns, for they have these generators in common.
    """
    with _one_at_a_time:
        torchs, pythons = torch.default_generator.get_state(), random.getstate()
        numpys = mtrand.get_state(legacy=False)
        generator = mtrand.get_bit_generator()
        # Another generator in its place is quicker than to put its state back.
        substitute = _substitutes.pop() if _substitutes else MT19937(0)
        mtrand.set_bit_generator(substitute)
        try:
            yield
        finally:
            mtrand.set_bit_generator(generator)
            if numpys["has_gauss"]:  # drawn in advance, and forgotten by the exchange
                mtrand.set_state(numpys)
            random.setstate(pythons)
            torch.default_generator.set_state(torchs)
            _substitutes.append(substitute)


def _forget_threads() -> None:
    """Let a forked process begin: a thread that had its turn is not in it."""
    global _one_at_a_time
    _one_at_a_time = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)
