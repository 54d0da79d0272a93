from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader

from kappacore.datasets import KDSubset, ModeWrapper, as_kd
from kappacore.errors import UnknownItemError, UseModeWrapperError
from kappacore.wrappers import TransformWrapper
from support.numbers import BatchNumbers, Numbers, PlusOne, add_one
from support.workers import workers


def stack():
    """One of each: adapted samples, a concatenation, subsets, wrappers."""
    pairs = as_kd([(10 * idx, idx % 10) for idx in range(20)], items=("x", "y"))
    total = pairs + PlusOne(BatchNumbers(20)) + KDSubset(Numbers(40), range(20, 40))
    subset = KDSubset(KDSubset(total, range(1, 60)), range(0, 59, 2))
    return TransformWrapper(subset, add_one)


def load(mode, **options):
    wrapper = ModeWrapper(stack(), mode)
    return [batch.tolist() for column in DataLoader(wrapper, **options) for batch in column]


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_workers_read_the_same_samples(method):
    expected = load("x y index", batch_size=8)
    assert load("x y index", batch_size=8, **workers(method)) == expected
    assert expected[0] == [11, 31, 51, 71, 91, 111, 131, 151]


def test_a_ctx_is_collated_with_its_sample():
    wrapper = ModeWrapper(Numbers(), "x", return_ctx=True)
    loader = DataLoader(wrapper, batch_size=5, num_workers=1)
    (_, first), (second, ctx) = loader
    assert torch.equal(first["seen"], torch.arange(5))
    assert torch.equal(second, torch.arange(50, 100, 10))
    assert torch.equal(ctx["seen"], torch.arange(5, 10))


def test_the_ctx_of_samples_read_whole_is_collated_without_them():
    wrapper = ModeWrapper(as_kd([(1, 2)] * 4), "x class", return_ctx=True)
    (((x, label), ctx),) = DataLoader(wrapper, batch_size=4)
    assert (x.tolist(), label.tolist()) == ([1] * 4, [2] * 4)
    assert dict(ctx) == {}


def test_a_loader_reads_each_batch_at_once():
    dataset = BatchNumbers(6)
    list(DataLoader(ModeWrapper(dataset, "x"), batch_size=3))
    assert dataset.calls == [("getitems", [0, 1, 2]), ("getitems", [3, 4, 5])]


def test_a_loader_without_batches_gives_samples():
    loader = DataLoader(ModeWrapper(Numbers(3), "x y"), batch_size=None)
    assert [tuple(sample) for sample in loader] == [(0, 0), (10, 1), (20, 2)]


def first_error(loader):
    """Return the first error; the rest is read too, which lets the workers end at once."""
    error = None
    batches = iter(loader)
    while True:
        try:
            next(batches)
        except StopIteration:  # noqa: PERF203
            return error
        except Exception as caught:
            error = error or caught


def test_a_dataset_without_a_mode_fails_in_the_worker_with_the_reason():
    error = first_error(DataLoader(Numbers(2), num_workers=1))
    assert isinstance(error, UseModeWrapperError)
    assert "ModeWrapper" in str(error)


def test_an_error_in_a_worker_keeps_its_type_and_message():
    error = first_error(DataLoader(ModeWrapper(Numbers(2), "ctx.crop"), num_workers=1))
    assert isinstance(error, UnknownItemError)
    assert "in DataLoader worker" in str(error)
    assert "has no key 'crop'" in str(error)
