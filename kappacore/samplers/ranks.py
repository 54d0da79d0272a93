"""Which rank this is: as given, of torch.distributed, or of the environment."""

from __future__ import annotations

import os
import sys

import torch.distributed

from kappacore._ranks import global_rank
from kappacore.errors import InvalidOptionError

__all__ = ["check_rank", "find_rank"]


def check_rank(rank: int | None, world_size: int | None) -> None:
    """Raise InvalidOptionError unless both are None, or ``0 <= rank < world_size``."""
    if rank is None and world_size is None:
        return
    whole = type(rank) is int and type(world_size) is int
    if not whole or not 0 <= rank < world_size:  # type: ignore[operator]
        raise InvalidOptionError(
            f"rank={rank!r}, world_size={world_size!r}: expected both, as in rank=0, "
            f"world_size=4, or neither, to take them from torch.distributed or the environment."
        )


def find_rank(rank: int | None, world_size: int | None) -> tuple[int, int]:
    """Return (rank, number of ranks), looked up when it is needed: groups are made late.

    Args:
        rank: As the user gave it; None: that of torch.distributed, of torchrun or of SLURM.
        world_size: As for ``rank``.

    Raises:
        InvalidOptionError: There are several ranks, but nothing says which one this is; or
            accelerate shares out what this rank gets.
    """
    found = _find_rank(rank, world_size)
    if found[1] > 1 and "accelerate.data_loader" in sys.modules:
        _refuse_accelerate(*found)
    return found


def _find_rank(rank: int | None, world_size: int | None) -> tuple[int, int]:
    if rank is not None and world_size is not None:
        return rank, world_size
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    found = global_rank()
    if found is None and os.environ.get("WORLD_SIZE", "1") not in ("", "0", "1"):
        raise InvalidOptionError(
            f"WORLD_SIZE={os.environ['WORLD_SIZE']} says that several ranks run, but "
            f"RANK={os.environ.get('RANK', '')!r} does not say which one this is, so each would "
            f"read everything. Iterate after torch.distributed.init_process_group(), or pass "
            f"rank= and world_size=."
        )
    return found or (0, 1)


def _refuse_accelerate(rank: int, world_size: int) -> None:
    """Raise if accelerate asks for the indices, to share them out to the ranks itself.

    It wraps what it is given without a word, so only the frames of the callers tell.
    """
    frame = sys._getframe()
    while frame := frame.f_back:  # type: ignore[assignment]
        if frame.f_globals.get("__name__") != "accelerate.data_loader":
            continue
        owner = type(frame.f_locals.get("self")).__name__
        if owner in ("BatchSamplerShard", "DataLoaderDispatcher"):
            raise InvalidOptionError(
                f"this sampler gives the samples of rank {rank} of {world_size} alone, and "
                f"accelerate shares them out to the ranks again, so that most are never read. "
                f"Leave the DataLoader out of accelerator.prepare; or make the sampler with "
                f"rank=0, world_size=1, and let accelerate share out what it gives."
            )
