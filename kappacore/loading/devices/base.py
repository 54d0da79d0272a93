"""The interface of devices: where the batches of a Loader are made."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kappacore.locations import BatchLocation

__all__ = ["Device"]


class Device(ABC):
    """Where the batches of a Loader go.

    Only ``__init__`` and :meth:`count` must be defined; what a device cannot do goes through the
    CPU, by :meth:`upload`. A Loader opens one instance. Its thread that reads ahead calls the
    methods, one at a time and within :meth:`reading`; those that say so are called by the thread
    that iterates.

    Args:
        index: Which one, as in ``"cuda:1"``; None: the current one.

    Attributes:
        device: Where its tensors are.

    Example::

        class CUDA(Device):
            def __init__(self, index):
                self.device = torch.device("cuda", torch.cuda.current_device())
    """

    device: torch.device

    @abstractmethod
    def __init__(self, index: int | None) -> None: ...

    @classmethod
    @abstractmethod
    def count(cls) -> int:
        """Return how many such devices this machine has."""

    @classmethod
    def why_none(cls) -> str:
        """Return why there is none, for an error message; empty if that is all there is to say."""
        return ""

    # ---- making a batch

    def reading(self) -> contextlib.AbstractContextManager[Any]:
        """Return the context in which a batch is made, such as a stream of its own."""
        return contextlib.nullcontext()

    def upload(self, column: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        """Return a column of the CPU's memory on the device.

        Args:
            column: It may be written again once this has returned.
            out: Where to put it; None for new memory, or the column itself if it is there already.
        """
        if out is not None:
            return out.copy_(column)
        return column.to(self.device)

    def host_memory(self, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        """Return new memory of the CPU for a column that is uploaded next.

        Args:
            shape: Of the column, ``(N, …)``.
            dtype: Of its values.
        """
        return torch.empty(tuple(shape), dtype=dtype)

    def gather(self, location: BatchLocation, out: torch.Tensor) -> bool:  # noqa: ARG002
        """Copy the values of a batch straight from the memory of a cache.

        Args:
            location: Where they lie; all are there, of one layout in C order. It is held until the
                batch was taken, as is the memory: only the device knows when it has been read.
            out: Where they go, on the device: contiguous, of shape ``(N, …)``.

        Returns:
            False if the device cannot; the CPU gathers them then, and :meth:`upload` is called.
        """
        return False

    def gather_ragged(self, location: BatchLocation, out: torch.Tensor) -> bool:  # noqa: ARG002
        """Copy values of different shapes, one after another.

        Args:
            location: As for :meth:`gather`, but the layouts differ in their shapes.
            out: Where their numbers go, of one dimension.

        Returns:
            As for :meth:`gather`.
        """
        return False

    def decode(self, files: Sequence[torch.Tensor]) -> list[torch.Tensor | None] | None:  # noqa: ARG002
        """Return JPEGs decoded, as ``(H, W, C)`` uint8 each.

        Args:
            files: The bytes of each.

        Returns:
            None if the device cannot decode; an entry is None if it cannot decode that file.
        """
        return None

    # ---- handing it over

    def finish(self) -> Any:
        """Return a mark for what was begun so far in :meth:`reading`; None if it is done."""
        return None

    def take(self, mark: Any, tensors: Sequence[torch.Tensor]) -> None:  # noqa: B027 - optional
        """Let the thread that iterates, which calls this, use tensors once ``mark`` is reached.

        Args:
            mark: What :meth:`finish` returned.
            tensors: Those of the batch.
        """

    def release(self) -> Any:
        """Return a mark for the uses of a batch that the thread that iterates has begun so far."""
        return None

    def wait(self, mark: Any) -> None:  # noqa: B027 - optional
        """Let what follows in :meth:`reading` begin once a mark of :meth:`release` is reached.

        Args:
            mark: What :meth:`release` returned.
        """

    # ---- for people and for the end

    def explain(self) -> list[str]:
        """Return lines on how batches reach the device."""
        return []

    def close(self) -> None:  # noqa: B027 - optional
        """Wait for what was begun and release all resources. May be called twice."""
