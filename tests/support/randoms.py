"""Transforms that draw random numbers; importable in spawned workers."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch


class Draw:
    """Gives what the generators of torch, Python and numpy draw, and leaves it in the ctx."""

    def __call__(self, value: Any, ctx: dict[str, Any] | None = None) -> tuple[Any, ...]:
        drawn = (
            int(torch.randint(10**9, ())),
            random.randrange(10**9),
            int(np.random.randint(10**9)),
        )
        if ctx is not None:
            ctx["drawn"] = drawn[0]
        return (value, *drawn)


def draw_one(value: Any) -> int:
    """Return what torch's generator draws."""
    del value
    return int(torch.randint(10**9, ()))
