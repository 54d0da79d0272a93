"""The device ``cuda``."""

from __future__ import annotations

import itertools
import threading
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import torch

from kappa_cuda.gathering import PlacedRows, can_gather, gather_ragged, gather_rows
from kappa_cuda.registry import registry
from kappacore.errors import MissingDependencyError
from kappacore.plugin_api import Device, format_size

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kappa_cuda.registry import Region
    from kappacore.plugin_api import BatchLocation

__all__ = ["CUDA"]

_users = itertools.count()
_UNUSED = 64  # batches after which a region is unregistered that a new one may have replaced
_decoding = threading.Lock()  # nvJPEG fails in two threads: "resource already mapped"


class CUDA(Device):
    """An NVIDIA GPU, which reads the memory of a cache itself.

    Batches are made on a stream of their own; the loop's stream waits for an event of each. Memory
    of caches is registered with CUDA once per process. Where the driver refuses, and for what is
    not in memory, batches are copied from pinned memory.

    Args:
        index: Its number; None: the current device.
    """

    def __init__(self, index: int | None) -> None:
        self.device = torch.device("cuda", torch.cuda.current_device() if index is None else index)
        self._user = next(_users)
        self._stream: torch.cuda.Stream | None = None
        self._batches = 0
        self._used: dict[int, tuple[memoryview, int]] = {}  # by id: a region, its last batch
        self._words: dict[int, torch.Tensor] = {}  # by address
        #: What was found for batches that were located together; None if nothing serves them all.
        self._placed: WeakKeyDictionary[BatchLocation, tuple[PlacedRows, memoryview] | None]
        self._placed = WeakKeyDictionary()
        self._end = weakref.finalize(self, _end, self._user, self.device)

    @classmethod
    def count(cls) -> int:
        """Return the number of GPUs that torch can use."""
        return torch.cuda.device_count() if torch.cuda.is_available() else 0

    @classmethod
    def why_none(cls) -> str:
        """Return why torch can use none."""
        if torch.version.cuda is None:
            return f"torch {torch.__version__} is built without CUDA"
        return "torch.cuda.is_available() is False; nvidia-smi shows whether the driver works"

    # ---- making a batch

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Make this stream the current one."""
        if self._stream is None:
            self._stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        self._batches += 1
        with (
            torch.cuda.device(self.device),
            torch.cuda.stream(self._stream),
            torch.cuda.nvtx.range("kappacore batch"),
        ):
            yield

    def host_memory(self, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        """Return pinned memory."""
        return torch.empty(shape, dtype=dtype, pin_memory=True)

    def upload(self, column: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        """Copy a column through pinned memory, which torch keeps until it was read."""
        if column.device == self.device and out is None:
            return column
        if column.is_cpu and not column.is_pinned():
            column = column.pin_memory()
        if out is not None:
            return out.copy_(column, non_blocking=True)
        return column.to(self.device, non_blocking=True)

    def gather(self, location: BatchLocation, out: torch.Tensor) -> bool:
        """Gather values that lie in registered memory at multiples of 8 bytes."""
        if location.whole is not None and self._gather_part(location.whole, location.first, out):
            return True
        parts = self._parts(location)
        if parts is None:
            return False
        nbytes = location.nbytes.item(0) if len(location) else 0
        for region, rows in parts:
            words = self._words_of(region)
            if len(parts) == 1:
                gather_rows(words, location.offset, nbytes, out)
                break
            part = torch.empty((len(rows), *out.shape[1:]), dtype=out.dtype, device=self.device)
            gather_rows(words, location.offset[rows], nbytes, part)
            out.index_copy_(0, self.upload(torch.from_numpy(rows)), part)
        return True

    def _gather_part(self, whole: BatchLocation, first: int, out: torch.Tensor) -> bool:
        """Gather rows of batches that were located together; False if that is not possible.

        What is found for one of the batches, and the index on the GPU, serve all of them.
        """
        if whole not in self._placed:
            parts = None
            if whole.uniform is not None and not len(whole.missing) and whole.nbytes.item(0):
                parts = self._parts(whole)
            self._placed[whole] = None
            if parts is not None and len(parts) == 1:
                ((region, _),) = parts
                rows = PlacedRows(self._words_of(region), whole.offset, whole.nbytes.item(0))
                self._placed[whole] = rows, region.memory
        placed = self._placed[whole]
        if placed is None:
            return False
        rows, memory = placed
        self._used[id(memory)] = memory, self._batches
        rows.gather(first, out)
        return True

    def gather_ragged(self, location: BatchLocation, out: torch.Tensor) -> bool:
        """Gather values that lie in one registered region at multiples of 8 bytes."""
        parts = self._parts(location)
        if parts is None or len(parts) > 1:
            return False
        for region, _ in parts:
            gather_ragged(self._words_of(region), location.offset, location.nbytes, out)
        return True

    def decode(self, files: Sequence[torch.Tensor]) -> list[torch.Tensor | None] | None:
        """Decode JPEGs with nvJPEG, through torchvision.

        Raises:
            MissingDependencyError: torchvision is not installed.
        """
        try:
            from torchvision.io import ImageReadMode, decode_jpeg
        except ImportError as error:
            raise MissingDependencyError(
                "decode='device' needs torchvision on CUDA: pip install 'kappa-cuda[decode]'."
            ) from error

        def decoded(some: list[torch.Tensor]) -> list[torch.Tensor]:
            found = decode_jpeg(some, mode=ImageReadMode.RGB, device=self.device)
            return [image.permute(1, 2, 0) for image in found]

        def one(file: torch.Tensor) -> torch.Tensor | None:
            try:
                return decoded([file])[0]
            except RuntimeError:  # no JPEG, or one that nvJPEG does not know: for the CPU
                return None

        with _decoding, torch.cuda.nvtx.range("kappacore decode"):
            try:
                return [*decoded(list(files))]
            except RuntimeError:
                return [one(file) for file in files]

    # ---- handing it over

    def finish(self) -> torch.cuda.Event:
        """Return an event behind what was begun."""
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record(self._stream)
        return event

    def take(self, mark: torch.cuda.Event, tensors: Sequence[torch.Tensor]) -> None:
        """Let the current stream wait for the event, and torch know that it uses the tensors."""
        current = torch.cuda.current_stream(self.device)
        current.wait_event(mark)
        for tensor in tensors:
            if tensor.is_cuda:
                tensor.record_stream(current)

    def release(self) -> torch.cuda.Event:
        """Return an event behind what the current stream was given so far."""
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self.device))
        return event

    def wait(self, mark: torch.cuda.Event | None) -> None:
        """Let this stream wait for an event."""
        if mark is not None and self._stream is not None:
            self._stream.wait_event(mark)

    # ---- for people and for the end

    def explain(self) -> list[str]:
        """Return the GPU, and how much of the caches it reads itself."""
        lines = [f"{self.device} ({torch.cuda.get_device_name(self.device)})"]
        registered, refused = registry.explain(self._user)
        if registered:
            lines.append(f"{format_size(registered)} of caches registered: the GPU reads them")
        lines += [f"a cache is read through pinned memory: {reason}" for reason in refused]
        return lines

    def close(self) -> None:
        """Wait for what was begun, and unregister what nobody else uses."""
        self._words.clear()
        self._placed.clear()
        self._used.clear()
        self._end()
        self._user = next(_users)  # it may be used again
        self._end = weakref.finalize(self, _end, self._user, self.device)

    # ---- registered memory

    def _parts(
        self, location: BatchLocation
    ) -> list[tuple[Region, np.ndarray[Any, np.dtype[np.int64]]]] | None:
        """Return each region that is used, with its rows; None if one cannot be gathered from."""
        if not can_gather(location.offset):
            return None
        parts = []
        for number in np.unique(location.region).tolist():
            memory = location.regions[number]
            if id(memory) not in self._used:
                self._unregister_unused()
            self._used[id(memory)] = memory, self._batches
            region = registry.cover(memory, location.filled[number], self._user)
            rows = np.flatnonzero(location.region == number)
            ends = location.offset[rows] + location.nbytes[rows]
            if -(-int(ends.max()) // 64) * 64 > region.end:
                return None
            parts.append((region, rows))
        return parts

    def _words_of(self, region: Region) -> torch.Tensor:
        words = self._words.get(region.address)
        if words is None or len(words) != region.end // 8:
            words = self._words[region.address] = region.words(self.device)
        return words

    def _unregister_unused(self) -> None:
        """Let go of regions that were not used for a while, as after a cache was cleared."""
        unused = [memory for memory, last in self._used.values() if last < self._batches - _UNUSED]
        if unused:
            self._placed.clear()
        if unused and self._stream is not None:
            self._stream.synchronize()
        for memory in unused:
            del self._used[id(memory)]
            self._words.pop(np.frombuffer(memory, np.uint8).ctypes.data, None)
            registry.release(self._user, memory)


def _end(user: int, device: torch.device) -> None:
    """Unregister a device's regions, once nothing reads them any more."""
    torch.cuda.synchronize(device)
    registry.release(user)
