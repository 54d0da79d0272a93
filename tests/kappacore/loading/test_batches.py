"""A batch is what default_collate makes of the samples of a ModeWrapper, with names."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch.utils.data import DataLoader, default_collate

import kappacore
from kappacore.errors import UnknownItemError
from kappacore.loading import Batch
from support.loading import Photos, equal, expected
from support.numbers import Numbers

MODES = [
    "x",
    "array",
    "tensor",
    "class",
    "weight",
    "name",
    "parts",
    "index",
    "x class name",
    "index tensor parts weight",
    "ctx.seen x",
]


@pytest.mark.parametrize("prefetch", [0, 2])
@pytest.mark.parametrize("mode", MODES)
def test_a_batch_equals_default_collate(mode, prefetch):
    dataset = Numbers(10) if "ctx" in mode else Photos(10)
    batches = list(kappacore.Loader(dataset, mode, batch_size=4, prefetch=prefetch))
    assert len(batches) == 3
    for batch, first in zip(batches, range(0, 10, 4), strict=True):
        assert equal(batch, expected(dataset, mode, range(first, min(first + 4, 10))))


def test_images_are_bytes_of_height_width_and_channels():
    (x,) = kappacore.Loader(Photos(4), "x", batch_size=4)
    assert (x.shape, x.dtype) == ((4, 5, 6, 3), torch.uint8)


@pytest.mark.parametrize(
    "dataset",
    [
        kappacore.KDSubset(Photos(10), [3, 3, 9]),
        kappacore.KDConcatDataset([Photos(2), Photos(3)]),
        kappacore.RepeatWrapper(Photos(2), 2),
        kappacore.as_kd([(torch.ones(2) * k, k) for k in range(5)], items=("x", "class")),
    ],
)
def test_batches_of_wrapped_datasets(dataset):
    (batch,) = kappacore.Loader(dataset, "x class", batch_size=8)
    assert equal(batch, expected(dataset, "x class", range(len(dataset))))


# ---- names


@pytest.fixture
def batch():
    (batch,) = kappacore.Loader(Numbers(3), "x y ctx.seen", batch_size=3)
    return batch


def test_a_batch_is_a_tuple_that_answers_to_names(batch):
    x, y, seen = batch
    assert isinstance(batch, tuple)
    assert batch["x"] is x is batch[0]
    assert (batch["y"] is y, batch["ctx.seen"] is seen) == (True, True)
    assert batch[1:] == (y, seen)
    assert repr(batch).startswith("Batch(x=tensor([ 0, 10, 20])")


def test_an_unknown_name_is_an_error_that_lists_the_names(batch):
    with pytest.raises(UnknownItemError, match=r"no item 'z'; its items are: x, y, ctx\.seen"):
        batch["z"]


def test_an_item_is_replaced_by_name(batch):
    other = batch.replace(y=torch.zeros(3))
    assert other["y"].sum() == 0
    assert other["x"] is batch["x"]
    with pytest.raises(UnknownItemError, match="no item 'z'"):
        batch.replace(z=1)


@pytest.mark.parametrize(
    "same", [copy.copy, copy.deepcopy, lambda batch: pickle.loads(pickle.dumps(batch))]
)
def test_a_batch_can_be_copied_and_pickled(batch, same):
    twin = same(batch)
    assert isinstance(twin, Batch)
    assert torch.equal(twin["y"], batch["y"])


def test_a_batch_rebuilt_by_its_type_keeps_its_names(batch):
    assert type(batch)([each + 1 for each in batch])["y"].tolist() == [1, 2, 3]


def test_batches_collate_and_are_pinned_as_tuples(batch):
    x, _, _ = default_collate([batch, batch])
    assert x.shape == (2, 3)
    assert len(next(iter(DataLoader([batch], batch_size=None)))) == 3


# ---- ctx and collate_fn


def test_the_ctx_is_collated_like_a_dict_item():
    loader = kappacore.Loader(Numbers(4), "x", batch_size=4, return_ctx=True)
    ((x, ctx),) = loader
    assert x.tolist() == [0, 10, 20, 30]
    assert ctx["seen"].tolist() == [0, 1, 2, 3]
    torchs = DataLoader(kappacore.ModeWrapper(Numbers(4), "x", return_ctx=True), batch_size=4)
    assert equal([x, ctx], next(iter(torchs)))


def test_all_items_of_a_sample_share_a_ctx():
    (batch,) = kappacore.Loader(Numbers(3), "ctx.seen x", batch_size=3)
    assert batch["ctx.seen"].tolist() == [0, 1, 2]


def test_collate_fn_gets_the_samples():
    loader = kappacore.Loader(Numbers(5), "x y", batch_size=3, collate_fn=list)
    assert list(loader) == [[(0, 0), (10, 1), (20, 2)], [(30, 3), (40, 4)]]
    bare = kappacore.Loader(Numbers(2), "x", batch_size=3, collate_fn=tuple, return_ctx=True)
    ((batch, ctx),) = bare
    assert batch == (0, 10)
    assert ctx["seen"].tolist() == [0, 1]


def test_a_batch_is_never_written_again():
    loader = kappacore.Loader(Photos(40), "x", batch_size=4)
    batches = list(loader)
    copies = [batch.clone() for batch in batches]
    list(loader)
    assert equal(batches, copies)
    assert len({batch.data_ptr() for batch in batches}) == 10
