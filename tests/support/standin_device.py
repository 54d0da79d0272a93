"""A device for tests that has no memory of its own and believes nothing.

It checks every address that it is given, and that what it reads, writes and hands over is used at
its time only: from being begun in the thread that reads ahead until the mark was taken.
"""

from __future__ import annotations

import threading
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import xxhash

from kappacore.datasets.gathering import gather, gather_ragged
from kappacore.plugin_api import Device

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kappacore.plugin_api import BatchLocation


class StandIn(Device):
    """Register it as a device, make a Loader on it, and iterate: what is wrong raises."""

    #: Calls, by name, of all instances.
    calls: ClassVar[list[str]] = []
    #: Whether it gathers itself.
    gathers: ClassVar[bool] = True

    def __init__(self, index: int | None) -> None:
        self.device = torch.device("cpu")
        self.index = index
        self.closed = False
        self._thread: int | None = None  # the one that is within reading()
        self._marks = 0
        self._begun: list[tuple[weakref.ref[Any], str]] = []  # locations and their digests
        self._unfinished: dict[int, list[tuple[weakref.ref[Any], str]]] = {}
        #: Fixed buffers that the loop has, by address.
        self._in_use: dict[int, weakref.ref[torch.Tensor]] = {}
        self._fixed = False  # whether this batch is put into such
        self._taken: set[int] = set()  # of the last batch
        self._released: dict[int, set[int]] = {}

    @classmethod
    def count(cls) -> int:
        return 2

    @contextmanager
    def reading(self) -> Iterator[None]:
        assert not self.closed
        assert self._thread is None, "two batches at once"
        self._thread = threading.get_ident()
        self._fixed = False
        try:
            yield
        finally:
            self._thread = None

    def upload(self, column: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        self._note("upload")
        if out is None:
            return column.clone()
        self._check_out(out)
        return out.copy_(column)

    def gather(self, location: BatchLocation, out: torch.Tensor) -> bool:
        self._note("gather")
        self._check_location(location)
        assert location.uniform is not None
        assert location.uniform.axes is None
        assert out.is_contiguous()
        if not self.gathers:
            return False
        self._check_out(out)
        gather(location, [], out)
        return True

    def gather_ragged(self, location: BatchLocation, out: torch.Tensor) -> bool:
        self._note("gather_ragged")
        self._check_location(location)
        assert out.ndim == 1
        assert out.nbytes == location.nbytes.sum()
        if not self.gathers:
            return False
        out.copy_(torch.as_tensor(gather_ragged(location, []).values))
        return True

    def finish(self) -> int:
        self._note("finish")
        self._marks += 1
        self._unfinished[self._marks] = self._begun
        self._begun = []
        return self._marks

    def take(self, mark: int, tensors: Sequence[torch.Tensor]) -> None:
        for reference, digest in self._unfinished.pop(mark):
            location = reference()
            assert location is not None, "let go before the batch was taken"
            assert _digest(location) == digest, "changed before the batch was taken"
        self._taken = {tensor.data_ptr() for tensor in tensors if tensor.numel()}
        for tensor in tensors:
            whole = tensor if tensor._base is None else tensor._base
            self._in_use[tensor.data_ptr()] = weakref.ref(whole)

    def release(self) -> int:
        self._note("release", inside=False)
        self._marks += 1
        self._released[self._marks] = self._taken
        return self._marks

    def wait(self, mark: int | None) -> None:
        self._note("wait")
        self._fixed = True
        if mark is not None:
            for address in self._released.pop(mark):
                self._in_use.pop(address, None)

    def close(self) -> None:
        assert self._thread is None
        self.closed = True

    # ---- checks

    def _note(self, call: str, inside: bool = True) -> None:
        assert not self.closed, f"{call} after close"
        assert inside == (self._thread == threading.get_ident()), f"{call} in the wrong thread"
        self.calls.append(call)

    def _check_out(self, out: torch.Tensor) -> None:
        user = self._in_use.get(out.data_ptr())
        alive = user is not None and user() is not None
        assert not (self._fixed and alive), "written while the loop uses it"

    def _check_location(self, location: BatchLocation) -> None:
        assert not len(location.missing)
        for region, offset, size in zip(
            location.region, location.offset, location.nbytes, strict=True
        ):
            assert offset >= 0
            assert offset + size <= location.filled[region] <= len(location.regions[region])
        assert all(region.readonly for region in location.regions)
        self._begun.append((weakref.ref(location), _digest(location)))


def _digest(location: BatchLocation) -> str:
    hasher = xxhash.xxh3_64()
    for region, offset, size in zip(
        location.region.tolist(), location.offset.tolist(), location.nbytes.tolist(), strict=True
    ):
        hasher.update(location.regions[region][offset : offset + size])
    return hasher.hexdigest()
