"""Random draws for a whole batch, which depend on (seed, epoch, position) of each row alone.

Every number is a hash of these and of which draw it is: SplitMix64's finalizer (Steele, Lea and
Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014), in torch's integers, so that
all devices give the same. No generator is kept, and none of the program's is touched.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
import xxhash

from kappacore.wrappers.randomness import random_states_kept, seed_generators

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kappacore.datasets.indexing import IntArray

__all__ = ["Draw"]

_GOLDEN = 0x9E3779B97F4A7C15
_BITS = 24  # of a float32's significand


class Draw:
    """The draws of one batch, given to ``transform(batch, draw)``.

    Each method gives one row for each sample. What a row draws depends on the seed, the epoch and
    the sample's position in it, and on which call of this batch it is: not on the number of ranks.

    Attributes:
        params: What is put here comes back in the batch's ctx (``return_ctx=True``).
        positions: Positions of the rows in the epoch, counted over all ranks.
        device: Where draws are made.

    Example::

        def flip(batch, draw):
            flipped = draw.rand() < 0.5
            draw.params["flipped"] = flipped
            x = torch.where(flipped[:, None, None, None], batch["x"].flip(-1), batch["x"])
            return batch.replace(x=x)
    """

    def __init__(self, seed: int, epoch: int, positions: IntArray, device: torch.device) -> None:
        self.params: dict[str, Any] = {}
        self.positions = positions
        self.device = device
        self._stream = f"{seed}/{epoch}"
        self._calls = 0

    def __len__(self) -> int:
        return len(self.positions)

    def rand(self, *shape: int) -> torch.Tensor:
        """Return float32 numbers, uniform in [0, 1).

        Args:
            *shape: The shape of a row; without it, one number each.

        Returns:
            On ``device``, of shape ``(N, *shape)``.
        """
        return _fractions(self._hashes(math.prod(shape))).reshape(len(self), *shape)

    def randn(self, *shape: int) -> torch.Tensor:
        """Return normally distributed float32 numbers, by the method of Box and Muller (1958).

        Args:
            *shape: The shape of a row; without it, one number each.

        Returns:
            On ``device``, of shape ``(N, *shape)``.
        """
        number = math.prod(shape)
        fractions = _fractions(self._hashes(2 * number))
        radius = (-2 * (1 - fractions[:, :number]).log()).sqrt()
        angle = 2 * math.pi * fractions[:, number:]
        return (radius * angle.cos()).reshape(len(self), *shape)

    def randint(self, low: int, high: int, *shape: int) -> torch.Tensor:
        """Return integers, uniform from ``low`` to ``high - 1``.

        Args:
            low: The lowest.
            high: One above the highest, at most 2**31 above ``low``.
            *shape: The shape of a row; without it, one number each.

        Returns:
            int64 on ``device``, of shape ``(N, *shape)``.

        Raises:
            ValueError: ``high`` is not above ``low``, or too far above.
        """
        span = high - low
        if not 0 < span <= 2**31:
            raise ValueError(f"randint({low}, {high}): expected high to be 1 to 2**31 above low.")
        hashes = _shifted(self._hashes(math.prod(shape)), 33)  # 31 bits
        return (low + (hashes * span >> 31)).reshape(len(self), *shape)

    @contextmanager
    def seeded(self) -> Iterator[int]:
        """Seed the generators of torch, numpy and Python in a block, and restore them after it.

        For transforms that draw by themselves (kornia, torchvision). What they draw depends on the
        seed, the epoch and the position of this rank's first row, so it changes with the number of
        ranks, unlike the draws above.

        Yields:
            The seed.
        """
        self._calls += 1
        seed = self._digest(f"{self.positions[0]}") >> 1
        devices = [self.device] if self.device.type == "cuda" else []
        with random_states_kept(), torch.random.fork_rng(devices, enabled=bool(devices)):
            seed_generators(seed)
            for _ in devices:
                torch.cuda.manual_seed(seed)
            yield seed

    def _hashes(self, number: int) -> torch.Tensor:
        """Return 64 random bits for each of ``number`` draws of each row."""
        self._calls += 1
        base = _signed(self._digest(""))
        positions = torch.from_numpy(self.positions)
        if self.device.type == "cuda":  # without waiting for the device
            positions = positions.pin_memory()
        positions = positions.to(self.device, non_blocking=True)
        rows = _mixed(positions * _signed(_GOLDEN) + base)
        draws = torch.arange(1, number + 1, device=self.device)
        return _mixed(rows[:, None] + draws * _signed(_GOLDEN))

    def _digest(self, part: str) -> int:
        return xxhash.xxh3_64_intdigest(f"{self._stream}/{self._calls}/{part}".encode())


def _mixed(values: torch.Tensor) -> torch.Tensor:
    values = (values ^ _shifted(values, 30)) * _signed(0xBF58476D1CE4E5B9)
    values = (values ^ _shifted(values, 27)) * _signed(0x94D049BB133111EB)
    return values ^ _shifted(values, 31)


def _fractions(hashes: torch.Tensor) -> torch.Tensor:
    return _shifted(hashes, 64 - _BITS).float() * 2.0**-_BITS


def _shifted(values: torch.Tensor, bits: int) -> torch.Tensor:
    """Shift to the right as unsigned integers."""
    return (values >> bits) & ((1 << (64 - bits)) - 1)


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value
