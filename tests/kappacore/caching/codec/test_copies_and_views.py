"""Who owns the memory of what was decoded."""

from __future__ import annotations

import contextlib
import gc
import mmap
import tracemalloc
import weakref
from typing import Any

import numpy as np
import pytest
import torch

from kappacore.caching.codec import Codec, default_codec
from kappacore.errors import InvalidOptionError
from support.codec_values import assert_identical, corpus


def stored(value: Any) -> memoryview:
    """Return the stored value in a buffer as aligned and as writable as shared memory."""
    data = b"".join(default_codec().encode(value, 7))
    memory = mmap.mmap(-1, len(data))
    memory[:] = data
    return memoryview(memory)


def decode(buffer: Any, **options: Any) -> Any:
    return default_codec().decode(buffer, 7, **options)


class Points:
    """What keeps its numbers in a tensor, made of the array that it is given."""

    def __init__(self, array: Any) -> None:
        self.tensor = torch.from_numpy(array)

    def arrays(self) -> Any:
        return self.tensor.numpy()


SAMPLE = {
    "image": torch.arange(48, dtype=torch.uint8).reshape(3, 4, 4),
    "half": torch.arange(6).to(torch.bfloat16),
    "boxes": np.arange(8, dtype=np.float32).reshape(2, 4),
    "jpeg": b"\xff\xd8" * 50,
    "short": b"ab",
    "buffer": bytearray(b"xyz"),
    "empty": np.zeros((0, 4)),
}


@pytest.mark.parametrize("name", corpus())
def test_copies_outlive_the_buffer_and_do_not_change_it(name: str) -> None:
    value = corpus()[name]
    buffer = stored([value])
    before = bytes(buffer)
    back = decode(buffer)
    buffer[:] = bytes(len(buffer))
    assert_identical([value], back)
    buffer[:] = before


def test_decoded_arrays_and_tensors_are_writable_and_independent() -> None:
    buffer = stored(SAMPLE)
    before = bytes(buffer)
    first, second = decode(buffer), decode(buffer)
    first["image"].zero_()
    first["half"] += 1
    first["boxes"][:] = -1
    first["buffer"][:] = b"000"
    assert first["empty"].flags.writeable
    assert bytes(buffer) == before
    assert_identical(second, decode(buffer))
    assert_identical(SAMPLE, second)


@pytest.mark.parametrize(
    "value", [np.arange(5), np.zeros(3, [("a", "i4")]), torch.arange(5), torch.tensor(1.0)]
)
def test_a_single_array_is_writable_and_independent(value: Any) -> None:
    buffer = stored(value)
    before = bytes(buffer)
    back = decode(buffer)
    back[...] = 7 if not getattr(back.dtype, "names", None) else (7,)
    assert bytes(buffer) == before
    if isinstance(value, np.ndarray):
        assert back.flags.writeable


def test_the_arrays_of_a_sample_share_one_allocation() -> None:
    back = decode(stored({"a": np.arange(1000), "b": torch.arange(1000), "c": np.ones(10)}))
    assert back["a"].base is back["c"].base
    start = back["a"].__array_interface__["data"][0]
    assert back["b"].data_ptr() == start + 8000
    assert back["c"].__array_interface__["data"][0] == start + 16000


def test_decoding_takes_one_copy_and_no_more() -> None:
    buffer = stored({"a": np.zeros(1_000_000, np.uint8), "b": np.zeros(500_000, np.uint8)})
    tracemalloc.start()
    back = decode(buffer)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert back["a"].nbytes == 1_000_000
    assert 1_500_000 <= peak < 1_510_000


@pytest.mark.parametrize("name", corpus())
def test_in_a_buffer_of_its_own_a_value_is_what_a_copy_is(name: str) -> None:
    value = corpus()[name]
    for sample in (value, [value, value]):
        buffer = bytearray(b"").join(default_codec().encode(sample, 7))
        back = decode(buffer, copy="own")
        assert_identical(sample, back)
        writes_everywhere(back)
        assert_identical(sample, decode(b"".join(default_codec().encode(sample, 7))))


def test_large_data_stays_in_a_buffer_of_its_own() -> None:
    for sample in (SAMPLE["boxes"], SAMPLE["image"], SAMPLE):
        buffer = bytearray(b"").join(default_codec().encode(sample, 7))
        back = decode(buffer, copy="own")
        memory = np.frombuffer(buffer, np.uint8)
        parts = [back["boxes"], back["image"]] if isinstance(back, dict) else [back]
        for part in parts:
            assert np.shares_memory(memory, np.asarray(part))
            part[...] = 1


def test_encoding_refers_to_the_memory_of_the_value() -> None:
    array, tensor, data = np.zeros(100_000), torch.zeros(100_000), b"x" * 100_000
    pieces = default_codec().encode({"a": array, "t": tensor, "d": data}, 0)
    assert any(piece is data for piece in pieces)
    views = [np.frombuffer(piece, np.uint8) for piece in pieces if len(piece) > 50_000]
    assert any(np.shares_memory(view, array) for view in views)
    assert any(np.shares_memory(view, tensor.numpy()) for view in views)
    assert default_codec().encode(data, 0)[1] is data
    assert default_codec().encode((data, 3), 0)[1] is data
    transposed = default_codec().encode(array.reshape(100, 1000).T, 0)
    assert np.shares_memory(np.frombuffer(transposed[1], np.uint8), array)


# ---- copy=False


@pytest.mark.parametrize("copy", [False, "unsafe"])
def test_views_refer_to_the_buffer_and_arrays_are_read_only(copy: Any) -> None:
    buffer = stored(SAMPLE)
    back = decode(buffer, copy=copy)
    memory = np.frombuffer(buffer, np.uint8)
    assert np.shares_memory(memory, back["boxes"])
    assert np.shares_memory(memory, back["image"].numpy()) is (copy == "unsafe")
    assert np.shares_memory(memory, np.frombuffer(back["jpeg"], np.uint8))
    assert_identical(SAMPLE["boxes"], back["boxes"])
    assert_identical(SAMPLE["image"], back["image"])
    assert_identical(SAMPLE["half"], back["half"])
    assert not back["empty"].flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        back["boxes"][...] = 1
    with pytest.raises(ValueError, match="WRITEABLE"):
        back["boxes"].flags.writeable = True
    for name in ("jpeg", "short", "buffer"):
        assert type(back[name]) is memoryview
        assert back[name].readonly
        assert back[name] == SAMPLE[name]


def writes_everywhere(value: Any) -> None:
    """Write to whatever of a value can be written."""
    if isinstance(value, torch.Tensor):
        value.fill_(7)
    elif isinstance(value, np.ndarray):
        with contextlib.suppress(ValueError):  # read-only
            value[...] = np.ones(1, value.dtype)
    elif isinstance(value, np.void):
        with contextlib.suppress(ValueError):
            value[value.dtype.names[0]] = 1
    elif isinstance(value, memoryview):
        with contextlib.suppress(TypeError):
            value[:] = bytes(len(value))
    elif isinstance(value, bytearray):
        value[:] = bytes(len(value))
    elif isinstance(value, dict):
        for part in value.values():
            writes_everywhere(part)
        value.clear()
    elif isinstance(value, list | tuple):
        for part in value:
            writes_everywhere(part)
    elif hasattr(value, "putpixel"):
        value.putpixel((0, 0), 7)


RECORDS = np.zeros(3, np.dtype([("id", "<i4"), ("box", "<f8", (2, 2))], align=True))
WRITABLE = {
    "tensor": torch.arange(5.0),
    "scalar tensor": torch.tensor(3.0),
    "bfloat16": torch.ones(3, dtype=torch.bfloat16),
    "channels last": torch.rand(1, 3, 4, 4).to(memory_format=torch.channels_last),
    "nested": {
        "a": [torch.ones(3), {"b": (torch.zeros(2), np.ones(3))}],
        "c": bytearray(b"x" * 99),
    },
    "array, then tensor": [np.ones(3), torch.ones(3), {torch.ones(2)}],
    "tensor in a set, then array": [{torch.ones(2)}, np.ones(3), torch.ones(3)],
    "records": RECORDS,
    "record": [RECORDS[0], RECORDS],
    "fortran": np.asfortranarray(np.ones((2, 3))),
    "bytes": b"x" * 200,
}


@pytest.mark.parametrize("name", WRITABLE)
def test_nothing_that_is_written_to_a_view_reaches_the_cache(name: str) -> None:
    buffer = stored([WRITABLE[name]])
    before = bytes(buffer)
    alone = stored(WRITABLE[name])
    for memory in (buffer, alone):
        start = bytes(memory)
        writes_everywhere(decode(memory, copy=False))
        assert bytes(memory) == start
    assert bytes(buffer) == before


def test_arrays_of_views_stay_read_only_beside_what_is_copied() -> None:
    for value in ([{b"k" * 99}, {torch.ones(2)}, np.ones(3)], [np.ones(3), {torch.ones(2)}]):
        arrays = [part for part in decode(stored(value), copy=False) if type(part) is np.ndarray]
        assert [array.flags.writeable for array in arrays] == [False]


def test_a_decoder_gets_no_array_of_which_it_could_make_a_tensor_in_the_cache() -> None:
    codec = Codec()
    codec.register_type(Points, Points.arrays, Points)
    for value in (Points(np.arange(4.0)), [np.ones(3), Points(np.arange(4.0))]):
        memory = bytearray(b"".join(codec.encode(value, 7)))
        before = bytes(memory)
        back = codec.decode(memory, 7, copy=False)
        (back[1] if isinstance(back, list) else back).tensor.add_(1)
        assert bytes(memory) == before


@pytest.mark.parametrize("copy", [None, 0, 1, "", "safe", "UNSAFE", b"unsafe", np.False_, []])
def test_any_other_copy_is_an_error(copy: Any) -> None:
    with pytest.raises(InvalidOptionError, match="'unsafe'"):
        decode(stored([1]), copy=copy)


def test_views_of_bare_bytes_and_of_bytes_with_an_int() -> None:
    for value in (b"x" * 100, (b"x" * 100, 5)):
        back = decode(stored(value), copy=False)
        view = back if isinstance(back, memoryview) else back[0]
        assert view == b"x" * 100
        assert view.readonly
        assert isinstance(back, memoryview) or back[1] == 5


@pytest.mark.filterwarnings("error")
def test_tensors_of_read_only_memory_come_without_a_warning() -> None:
    data = b"".join(default_codec().encode([torch.arange(100.0)], 7))
    for copy in (False, "unsafe"):
        back = decode(data, copy=copy)[0]
        assert torch.equal(back, torch.arange(100.0))


@pytest.mark.slow
def test_a_view_keeps_the_memory_alive() -> None:
    class Memory(bytearray):
        pass

    memory = Memory(b"".join(default_codec().encode([np.arange(1000), torch.arange(1000)], 7)))
    gone = weakref.ref(memory)
    array, tensor = decode(memory, copy="unsafe")
    del memory
    gc.collect()
    assert gone() is not None
    assert_identical(np.arange(1000), array)
    del array
    gc.collect()
    assert torch.equal(tensor, torch.arange(1000))
    del tensor
    gc.collect()
    assert gone() is None


def test_a_badly_aligned_buffer_is_copied_and_its_arrays_are_read_only_too() -> None:
    data = b"".join(default_codec().encode(SAMPLE, 7))
    memory = bytearray(len(data) + 64)
    start = -np.frombuffer(memory, np.uint8).__array_interface__["data"][0] % 64 + 1
    memory[start : start + len(data)] = data
    back = decode(memoryview(memory)[start : start + len(data)], copy=False)
    assert_identical(SAMPLE["image"], back["image"])
    assert_identical(SAMPLE["boxes"], back["boxes"])
    assert back["boxes"].flags.aligned
    with pytest.raises(ValueError, match="read-only"):
        back["boxes"][0] = 1


def test_keys_and_elements_are_bytes_also_in_views() -> None:
    value = {b"k" * 100: 1, (b"l" * 100, b"m"): {b"n" * 100, frozenset({b"o"})}}
    assert_identical(value, decode(stored(value), copy=False))


BUFFERS = {
    "bytes": bytes,
    "bytearray": bytearray,
    "memoryview": memoryview,
    "array": lambda data: np.frombuffer(data, np.uint8),
    "two dimensions": lambda data: memoryview(data).cast("B", (len(data) // 4, 4)),
    "floats": lambda data: memoryview(data).cast("f"),
    "with gaps": lambda data: np.repeat(np.frombuffer(data, np.uint8), 2)[::2],
    "records": lambda data: np.frombuffer(data, [("a", "u1"), ("b", "u1", 3)]),
}


@pytest.mark.parametrize("kind", BUFFERS)
def test_decoding_takes_any_buffer(kind: str) -> None:
    value = [np.arange(5), b"x" * 100, torch.ones(3)]
    data = b"".join(default_codec().encode(value, 7))
    assert len(data) % 4 == 0
    assert_identical(value, decode(BUFFERS[kind](data)))
