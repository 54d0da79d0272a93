"""``DeviceSuite``: what every device must do, as tests."""

from __future__ import annotations

import mmap
import os
import tempfile
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest
import torch

import kappacore
from kappacore.datasets import KDDataset
from kappacore.loading.devices.open import open_device
from kappacore.locations import BatchLocation, Layout

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kappacore.loading.devices.base import Device

_PAGE = mmap.PAGESIZE
_DTYPES = ("|u1", "<i2", "<f4", "<i8", "|b1")


class DeviceSuite:
    """Tests a device; derive from it in a test module and name the device.

    What a device says that it cannot do is skipped. The suite takes a few seconds.

    Attributes:
        device: The name of the device, installed or registered in code before the tests run.

    Example::

        class TestAcme(DeviceSuite):
            device = "acme"
    """

    device: ClassVar[str]

    @pytest.fixture
    def opened(self) -> Iterator[Device]:
        """The device, opened as a Loader does."""
        opened = open_device(self.device)
        yield opened
        opened.close()

    @pytest.fixture
    def memory(self) -> Iterator[Memory]:
        """Memory as a cache has it: a mapped file that readers cannot write."""
        memory = Memory(64 * _PAGE)
        yield memory
        memory.close()

    # ---- bringing columns there

    @pytest.mark.parametrize("dtype", [torch.uint8, torch.bfloat16, torch.int64, torch.bool])
    def test_a_column_is_uploaded(self, opened: Device, dtype: torch.dtype) -> None:
        column = (torch.arange(4000).reshape(40, 10, 10) % 7).to(dtype)
        with opened.reading():
            found = opened.upload(column)
            out = torch.empty(column.shape, dtype=dtype, device=opened.device)
            assert opened.upload(column, out) is out
            mark = opened.finish()
        opened.take(mark, [found, out])
        for each in (found, out):
            assert each.device.type == opened.device.type
            assert torch.equal(each.cpu(), column)

    def test_an_uploaded_column_may_be_written_again(self, opened: Device) -> None:
        column = torch.zeros(1 << 20)
        found = []
        for number in range(4):
            with opened.reading():
                column.fill_(number)
                out = torch.empty(column.shape, device=opened.device)
                found.append(opened.upload(column, out))
                mark = opened.finish()
        opened.take(mark, found)
        spans = [(each.min().item(), each.max().item()) for each in found]
        assert spans == [(0, 0), (1, 1), (2, 2), (3, 3)]

    # ---- gathering

    @pytest.mark.parametrize("dtype", _DTYPES)
    @pytest.mark.parametrize("shape", [(), (3,), (32, 32, 3), (7, 5, 1), (0, 4)])
    @pytest.mark.parametrize("step", [64, 8, 1], ids=["lines", "words", "bytes"])
    def test_values_are_gathered(
        self, opened: Device, memory: Memory, dtype: str, shape: tuple[int, ...], step: int
    ) -> None:
        values = [memory.put(_value(number, dtype, shape), step) for number in range(9)]
        rows = [3, 3, 0, 8, 5, 1, 7]
        location = memory.locate(values, rows)
        wanted = torch.from_numpy(np.stack([values[row].array for row in rows]))
        found = gathered(opened, location, wanted)
        assert torch.equal(found.cpu(), wanted)

    def test_values_at_one_distance_are_gathered(self, opened: Device, memory: Memory) -> None:
        values = [memory.put(_value(number, "|u1", (16, 16, 3)), 64) for number in range(30)]
        for rows in ([29, 0, 7, 7], [*range(30)], [4]):
            wanted = torch.from_numpy(np.stack([values[row].array for row in rows]))
            assert torch.equal(gathered(opened, memory.locate(values, rows), wanted).cpu(), wanted)

    def test_values_of_several_regions_are_gathered(self, opened: Device, memory: Memory) -> None:
        other = Memory(8 * _PAGE)
        try:
            values = [
                (memory if number % 2 else other).put(_value(number, "<f4", (11,)), 64)
                for number in range(6)
            ]
            location = memory.locate(values, [5, 0, 1, 2], beside=other)
            wanted = torch.from_numpy(np.stack([values[row].array for row in [5, 0, 1, 2]]))
            assert torch.equal(gathered(opened, location, wanted).cpu(), wanted)
        finally:
            opened.close()
            other.close()

    def test_what_is_stored_later_is_gathered_too(self, opened: Device, memory: Memory) -> None:
        values: list[Value] = []
        for number in range(20):
            values += [memory.put(_value(number, "|u1", (40, 50)), 64)]
            rows = [number, number // 2]
            wanted = torch.from_numpy(np.stack([values[row].array for row in rows]))
            found = gathered(opened, memory.locate(values, rows), wanted)
            assert torch.equal(found.cpu(), wanted)

    @pytest.mark.parametrize("step", [64, 1], ids=["lines", "bytes"])
    def test_ragged_values_are_gathered(self, opened: Device, memory: Memory, step: int) -> None:
        values = [memory.put(_value(number, "<f4", (number % 5, 4)), step) for number in range(12)]
        rows = [11, 5, 5, 0, 3, 8]
        wanted = torch.from_numpy(np.concatenate([values[row].array.reshape(-1) for row in rows]))
        with opened.reading():
            out = torch.empty(wanted.shape, device=opened.device)
            location = memory.locate(values, rows)
            if not opened.gather_ragged(location, out):
                pytest.skip(f"{self.device} does not gather ragged values")
            mark = opened.finish()
        opened.take(mark, [out])
        assert torch.equal(out.cpu(), wanted)

    # ---- handing over, and the end

    def test_a_fixed_buffer_is_written_once_the_loop_has_used_it(self, opened: Device) -> None:
        out = torch.empty(1 << 20, device=opened.device)
        sums, released = [], None
        for number in range(6):
            with opened.reading():
                opened.wait(released)
                opened.upload(torch.full(out.shape, float(number)), out)
                mark = opened.finish()
            opened.take(mark, [out])
            sums.append(out.mean())
            released = opened.release()
        assert [each.item() for each in sums] == [0, 1, 2, 3, 4, 5]

    def test_it_can_be_closed_twice(self, opened: Device) -> None:
        opened.close()
        opened.close()

    def test_it_explains_itself_in_lines(self, opened: Device) -> None:
        assert all(isinstance(line, str) and line for line in opened.explain())

    # ---- with a Loader

    @pytest.mark.parametrize("buffers", ["fresh", "ring"])
    def test_a_loader_gives_what_it_gives_on_the_cpu(self, buffers: str) -> None:
        options: dict[str, Any] = {
            "mode": "x boxes class",
            "batch_size": 8,
            "shuffle": True,
            "items": {
                "x": {"mean": 0.5, "std": 0.25, "layout": "channels_last"},
                "boxes": {"ragged": "jagged"},
            },
        }
        with kappacore.CacheWrapper(
            _Shapes(), "memory", items="x boxes", namespace=kappacore.PRIVATE
        ) as ds:
            for epoch in range(2):
                with (
                    kappacore.Loader(ds, device=self.device, buffers=buffers, **options) as there,
                    kappacore.Loader(ds, **options) as here,
                ):
                    there.set_epoch(epoch)
                    here.set_epoch(epoch)
                    for found, wanted in zip(there, here, strict=True):
                        torch.testing.assert_close(found["x"].cpu(), wanted["x"])
                        assert torch.equal(found["class"].cpu(), wanted["class"])
                        for one, other in zip(found["boxes"], wanted["boxes"], strict=True):
                            assert torch.equal(one.cpu(), other)


class _Shapes(KDDataset):
    """Images of one size, and boxes."""

    def __len__(self) -> int:
        return 44

    def getitem_x(self, idx: int) -> np.ndarray[Any, Any]:
        return _value(idx, "|u1", (32, 32, 3))

    def getitem_boxes(self, idx: int) -> np.ndarray[Any, Any]:
        return _value(idx, "<f4", (idx % 4, 4))

    def getitem_class(self, idx: int) -> int:
        return idx


class Value:
    """A value in memory."""

    def __init__(self, array: np.ndarray[Any, Any], memory: Memory, offset: int) -> None:
        self.array, self.memory, self.offset = array, memory, offset


class Memory:
    """A mapped file that grows by values.

    Args:
        size: Its size in bytes.
    """

    def __init__(self, size: int) -> None:
        self._file = tempfile.TemporaryFile(dir=_folder())  # noqa: SIM115 - closed below
        self._file.truncate(size)
        self._writable = mmap.mmap(self._file.fileno(), size)
        self._readable = mmap.mmap(self._file.fileno(), size, prot=mmap.PROT_READ)
        self.region = memoryview(self._readable)
        self.filled = 0

    def put(self, array: np.ndarray[Any, Any], step: int) -> Value:
        """Store a value behind the others, at a multiple of ``step`` and of no more."""
        offset = -(-self.filled // 64) * 64 + (0 if step == 64 else step)
        data = array.tobytes()
        self._writable[offset : offset + len(data)] = data
        self.filled = offset + len(data)
        return Value(array, self, offset)

    def locate(
        self, values: Sequence[Value], rows: Sequence[int], beside: Memory | None = None
    ) -> BatchLocation:
        """Return where the values of some rows lie, here or in another memory."""
        memories = [self] if beside is None else [self, beside]
        layouts = [Layout("numpy", each.array.dtype.str, each.array.shape) for each in values]
        known = list(dict.fromkeys(layouts))
        columns = [
            (
                memories.index(values[row].memory),
                values[row].offset,
                values[row].array.nbytes,
                known.index(layouts[row]),
            )
            for row in rows
        ]
        region, offset, nbytes, layout = np.array(columns, np.int64).T.copy()
        return BatchLocation(
            regions=tuple(memory.region for memory in memories),
            filled=tuple(memory.filled for memory in memories),
            region=region,
            offset=offset,
            nbytes=nbytes,
            layout=layout,
            layouts=known,
            missing=np.empty(0, np.int64),
        )

    def close(self) -> None:
        """Let go of the file; the mappings go with the last who reads them."""
        self._file.close()


def gathered(device: Device, location: BatchLocation, like: torch.Tensor) -> torch.Tensor:
    """Return what a device gathers, in memory for a batch like another one."""
    with device.reading():
        out = torch.empty(like.shape, dtype=like.dtype, device=device.device)
        if not device.gather(location, out):
            pytest.skip(f"{type(device).__name__} does not gather such values")
        mark = device.finish()
    device.take(mark, [out])
    return out


def _value(number: int, dtype: str, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    generator = np.random.default_rng(number)
    if dtype == "|b1":
        return generator.integers(0, 2, shape).astype(bool)
    return np.asarray(generator.integers(0, 100, shape)).astype(dtype)


def _folder() -> str | None:
    """Return a folder in memory, as that of the backend ``shared``, if there is one."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 - a file without a name
