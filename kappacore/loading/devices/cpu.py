"""The CPU: batches stay where they were made."""

from __future__ import annotations

import torch

from kappacore.loading.devices.base import Device

__all__ = ["CPU"]


class CPU(Device):
    """The memory of this process."""

    def __init__(self, index: int | None) -> None:  # noqa: ARG002 - there is one
        self.device = torch.device("cpu")

    @classmethod
    def count(cls) -> int:
        """Return 1."""
        return 1
