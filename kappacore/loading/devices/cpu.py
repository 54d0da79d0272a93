"""The CPU: batches stay where they were made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from kappacore.datasets.gathering import gather
from kappacore.loading.devices.base import Device

if TYPE_CHECKING:
    from kappacore.locations import BatchLocation

__all__ = ["CPU"]


class CPU(Device):
    """The memory of this process."""

    def __init__(self, index: int | None) -> None:  # noqa: ARG002 - there is one
        self.device = torch.device("cpu")

    def gather(self, location: BatchLocation, out: torch.Tensor) -> bool:
        """Gather by one operation."""
        gather(location, [], out)
        return True

    @classmethod
    def count(cls) -> int:
        """Return 1."""
        return 1
