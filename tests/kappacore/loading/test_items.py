"""``items=``, ``resident=`` and ``buffers="ring"``: what the Loader does with columns."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

import kappacore
from kappacore.errors import LoadingError
from kappacore.loading import Jagged
from support.loading import Photos, equal, expected
from support.numbers import Numbers


def column(dataset, name="x", batch_size=4, **options):
    (batch,) = kappacore.Loader(dataset, name, batch_size, items={name: options})
    return batch


def plain(name="x"):
    return expected(Photos(4), name, range(4))


def test_dtype_casts_and_scales_nothing():
    assert torch.equal(column(Photos(4), dtype=torch.float32), plain().float())
    assert column(Photos(4), "class", dtype=torch.int32).dtype == torch.int32


def test_mean_and_std_are_torchvisions():
    """``(x / 255 - mean) / std`` for each channel."""
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    found = column(Photos(4), mean=mean, std=std)
    wanted = (plain().double() / 255 - torch.tensor(mean)) / torch.tensor(std)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), wanted, atol=1e-5, rtol=1e-5)
    half = column(Photos(4), mean=mean, std=std, dtype=torch.bfloat16)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.double(), wanted, atol=2e-2, rtol=1e-2)


def test_mean_and_std_of_numbers_are_in_their_own_units():
    found = column(Numbers(4), mean=10, std=10)
    torch.testing.assert_close(found, torch.tensor([-1.0, 0.0, 1.0, 2.0]))


@pytest.mark.parametrize("size", [(5, 6), (3, 3)])
def test_mean_and_std_find_the_channels(size):
    found = column(Photos(4, size), mean=(0, 0, 1), layout="channels_first")
    assert found[:, 2].max() <= 0 <= found[:, :2].min()


def test_mean_of_other_channels_is_refused():
    with pytest.raises(LoadingError, match=r"2 numbers, but .* has no 2 channels"):
        column(Photos(4), mean=(0, 1))


@pytest.mark.parametrize("layout", ["channels_last", "channels_first"])
@pytest.mark.parametrize("more", [{}, {"mean": 0.5}, {"dtype": torch.float16}])
def test_layout_is_the_memory_format_of_nchw(layout, more):
    formats = {"channels_last": torch.channels_last, "channels_first": torch.contiguous_format}
    found = column(Photos(4), layout=layout, **more)
    assert found.shape == (4, 3, 5, 6)
    assert found.is_contiguous(memory_format=formats[layout])
    if not more:
        assert torch.equal(found.permute(0, 2, 3, 1), plain())


def test_a_layout_is_for_images():
    with pytest.raises(LoadingError, match=r"a column of shape \(4,\) cannot be taken for images"):
        column(Photos(4), "class", layout="channels_last")


def test_resize_is_interpolation_with_antialiasing():
    found = column(Photos(4, (40, 60)), resize=(20, 15))
    images = expected(Photos(4, (40, 60)), "x", range(4)).permute(0, 3, 1, 2).float()
    wanted = F.interpolate(images, (20, 15), mode="bilinear", antialias=True)
    assert (found.shape, found.dtype) == ((4, 20, 15, 3), torch.uint8)
    assert (found.permute(0, 3, 1, 2) - wanted).abs().max() <= 0.51


def test_crop_is_the_middle_after_resize():
    found = column(Photos(4, (9, 8)), crop=(3, 4))
    assert torch.equal(found, expected(Photos(4, (9, 8)), "x", range(4))[:, 3:6, 2:6])
    assert column(Photos(4), resize=(9, 9), crop=(7, 5)).shape == (4, 7, 5, 3)
    with pytest.raises(LoadingError, match=r"crop=\(9, 9\) is larger than an image of \(5, 6\)"):
        column(Photos(4), crop=(9, 9))


@pytest.mark.parametrize("options", [{"resize": (7, 8)}, {"crop": (4, 4)}])
def test_images_of_several_sizes_become_one(options):
    found = column(Photos(4), "mixed", **options)
    assert found.shape == (4, *next(iter(options.values())), 3)
    assert [row.unique().tolist() for row in found] == [[0], [1], [2], [3]]


# ---- ragged


def test_jagged_is_values_and_offsets():
    boxes = column(Photos(10), "boxes", 10, ragged="jagged")
    assert isinstance(boxes, Jagged)
    assert boxes.values.shape == (sum(k % 4 for k in range(10)), 4)
    assert boxes.offsets.tolist() == np.cumsum([0, *(k % 4 for k in range(10))]).tolist()
    for row in range(10):
        own = boxes.values[boxes.offsets[row] : boxes.offsets[row + 1]]
        assert own.tolist() == [[row] * 4] * (row % 4)


def test_jagged_values_can_be_cast():
    boxes = column(Photos(10), "boxes", 10, ragged="jagged", dtype=torch.float16)
    assert boxes.values.dtype == torch.float16


def test_pad_puts_zeros_behind():
    boxes = column(Photos(4), "boxes", ragged="pad")
    assert boxes.shape == (4, 3, 4)
    assert boxes[2].tolist() == [[2] * 4, [2] * 4, [0] * 4]
    mixed = column(Photos(4), "mixed", ragged="pad")
    assert mixed.shape == (4, 5, 6, 3)
    assert mixed[2, 4].sum() == 0


def test_rows_of_a_jagged_item_are_counted_by_a_transform():
    loader = kappacore.Loader(
        Photos(4),
        "boxes",
        4,
        items={"boxes": {"ragged": "jagged"}},
        transform=lambda boxes, draw: Jagged(boxes.values, boxes.offsets[:-1]),
    )
    with pytest.raises(LoadingError, match="one item of 3 rows"):
        next(iter(loader))


# ---- resident columns


@pytest.mark.parametrize("buffers", ["fresh", "ring"])
@pytest.mark.parametrize("name", ["class", "weight", "array", "x"])
def test_a_resident_column_is_read_once(name, buffers):
    dataset = Photos(10)
    loader = kappacore.Loader(dataset, f"index {name}", 4, resident=name, buffers=buffers)
    first = [loaded[name].clone() for loaded in loader]
    dataset.length = 0  # nothing is read any more but the order
    dataset.length = 10
    for number, batch in enumerate(loader):
        rows = range(4 * number, min(10, 4 * number + 4))
        assert equal(batch[name], expected(Photos(10), name, rows))
        assert equal(first[number], batch[name])


def test_a_resident_column_reads_no_sample_where_there_is_a_column():
    class Column(Photos):
        def getitem_class(self, idx):
            raise AssertionError("read")

        def getall_class(self):
            return torch.arange(10)

    loader = kappacore.Loader(Column(10), "class", 10, resident=["class"])
    assert next(iter(loader)).tolist() == [*range(10)]


# ---- buffers


@pytest.mark.parametrize("prefetch", [0, 1, 3])
@pytest.mark.parametrize("options", [{}, {"mean": 0.5, "layout": "channels_last"}])
def test_a_ring_has_prefetch_and_one_buffers(prefetch, options):
    loader = kappacore.Loader(
        Photos(42), "x index", 4, buffers="ring", prefetch=prefetch, items={"x": options}
    )
    addresses, numbers = [], []
    for batch in loader:
        addresses.append((batch["x"].data_ptr(), batch["index"].data_ptr()))
        numbers.append(batch["index"].tolist())
    assert len(set(addresses)) == prefetch + 1
    assert addresses[: prefetch + 1] * 2 == addresses[: 2 * prefetch + 2]
    assert [each for batch in numbers for each in batch] == [*range(42)]


def test_a_batch_in_a_ring_stays_until_the_next_is_asked_for():
    fresh = list(kappacore.Loader(Photos(42), "x", 4))
    ring = kappacore.Loader(Photos(42), "x", 4, buffers="ring", prefetch=2)
    for batch, wanted in zip(ring, fresh, strict=True):
        assert torch.equal(batch, wanted)


def test_two_iterations_have_rings_of_their_own():
    loader = kappacore.Loader(Photos(12), "x", 4, buffers="ring")
    for one, other in zip(loader, loader, strict=True):
        assert one.data_ptr() != other.data_ptr()
        assert torch.equal(one, other)


def test_the_next_iteration_has_the_same_ring_behind_the_batch_that_is_still_held():
    loader = kappacore.Loader(Photos(40), "index", 4, buffers="ring", prefetch=2)
    addresses = set()
    for left in (5, 10, 3, 10):
        for number, batch in enumerate(loader, 1):
            addresses.add(batch.data_ptr())
            if number == left:
                break
        copy = batch.clone()
        iterator = iter(loader)  # reads ahead at once
        time.sleep(0.05)
        assert torch.equal(batch, copy)
        del iterator
    assert len(addresses) == 3
