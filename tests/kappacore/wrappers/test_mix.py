from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import ConcatDataset, DataLoader

import kappacore
from kappacore.datasets import KDConcatDataset, KDSubset, ModeWrapper, as_kd
from kappacore.errors import DatasetTypeError, InvalidOptionError, SamplerStateError
from kappacore.samplers import MixSampler
from kappacore.wrappers import MixWrapper
from support.labelled import Labelled
from support.numbers import Numbers


def test_orders_are_pinned():
    mix = MixWrapper([Numbers(3), Numbers(5)], [2, 1], 9)
    assert mix.indices.tolist() == [1, 5, 2, 7, 2, 1, 4, 0, 0]
    assert mix.getall_source().tolist() == [0, 1, 0, 1, 0, 0, 1, 0, 0]
    sampler = MixSampler(MixWrapper([Numbers(3), Numbers(5)]), [2, 1], 9)
    assert [*sampler] == [1, 5, 2, 7, 2, 1, 4, 0, 0]
    assert [*sampler] == [7, 2, 4, 6, 2, 0, 0, 1, 1]


def test_without_weights_it_has_every_sample_once_with_its_source():
    mix = MixWrapper([Numbers(2), Numbers(3)])
    assert [*ModeWrapper(mix, "x y source")] == [
        (0, 0, 0), (10, 1, 0), (0, 0, 1), (10, 1, 1), (20, 2, 1),
    ]  # fmt: skip
    assert [*ModeWrapper(KDSubset(mix, [4, 0]), "x source")] == [(20, 1), (0, 0)]
    assert [*ModeWrapper(MixWrapper(Numbers(2) + Numbers(1)), "source")] == [0, 0, 1]
    assert [*ModeWrapper(MixWrapper(Numbers(2)), "source")] == [0, 0]


@pytest.mark.slow
@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(0, 5)), min_size=1, max_size=4).filter(
        lambda pairs: any(weight for _, weight in pairs)
    ),
    st.integers(1, 50),
    st.integers(0, 3),
)
def test_every_dataset_has_its_part_and_its_samples_evenly(pairs, length, seed):
    lengths, weights = zip(*pairs, strict=True)
    datasets = [Numbers(number) for number in lengths]
    whole = MixWrapper(datasets)
    fixed = MixWrapper(datasets, weights, length, seed)
    sampler = MixSampler(whole, weights, length, seed=seed)
    for indices in (fixed.indices, np.array([*sampler])):
        assert len(indices) == length
        sources = whole.getall_source()[indices]
        for number, (size, weight) in enumerate(pairs):
            part = indices[sources == number]
            assert abs(len(part) - length * weight / sum(weights)) < 1
            times = np.bincount(part, minlength=len(whole))[whole.getall_source() == number]
            assert times.sum() == len(part)
            assert np.ptp(times) <= (len(part) % size > 0)
    assert fixed.getall_source().tolist() == whole.getall_source()[fixed.indices].tolist()


def test_a_mix_goes_through_loaders_wrappers_and_labels():
    mix = MixWrapper([Labelled([0, 1]), Labelled([1, 1, 1])], [1, 1], 8, seed=2)
    x, label, source = next(iter(DataLoader(ModeWrapper(mix, "x class source"), batch_size=8)))
    assert sorted(source.tolist()) == [0] * 4 + [1] * 4
    assert label[source == 1].tolist() == [1] * 4
    assert sorted(x[source == 0].tolist()) == [0, 0, 10, 10]
    kept = kappacore.ClassFilterWrapper(mix, valid_classes=[0], label="class")
    assert set(ModeWrapper(kept, "source")) == {0}
    again = MixWrapper([mix, Labelled([0])])
    assert [*ModeWrapper(again, "source")] == [0] * 8 + [1]


def test_a_sampler_draws_from_all_samples_of_what_holds_datasets():
    orders = [
        [*MixSampler(dataset, [1, 3], 8)]
        for dataset in (
            MixWrapper([Numbers(3), Numbers(5)]),
            ModeWrapper(MixWrapper([Numbers(3), Numbers(5)]), "x source"),
            KDConcatDataset([Numbers(3), Numbers(5)]),
            ConcatDataset([range(3), range(5)]),
        )
    ]
    assert orders == [orders[0]] * 4
    assert len(MixSampler(ConcatDataset([range(3), range(5)]))) == 8


def test_ranks_and_states_are_those_of_all_samplers():
    def make(**options):
        return MixSampler(ConcatDataset([range(3), range(5)]), [1, 2], 11, **options)

    everything = [*make(rank=0, world_size=1)]
    parts = [[*make(rank=rank, world_size=3, pad=False)] for rank in range(3)]
    assert parts == [everything[rank::3] for rank in range(3)]
    other = MixSampler(ConcatDataset([range(3), range(5)]), [2, 1], 11)
    with pytest.raises(SamplerStateError, match=r"has counts=\[4, 7\], this MixSampler has"):
        other.load_state_dict(make().state_dict())


@pytest.mark.parametrize("make", [MixWrapper, lambda d, **o: MixSampler(ConcatDataset(d), **o)])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": [1]}, r"has the shape \(1,\); expected one for each of 2"),
        ({"weights": [1, -1]}, r"has -1\.0 at 1"),
        ({"weights": [0, 0]}, r"sum to 0"),
        ({"weights": [1, float("nan")]}, r"has nan at 1"),
        ({"length": 0}, r"^length=0"),
    ],
)
def test_weights_and_lengths_that_are_none_are_refused(make, options, message):
    with pytest.raises(InvalidOptionError, match=message):
        make([Numbers(2), Numbers(3)], **options)


def test_a_dataset_without_samples_has_no_weight():
    assert MixWrapper([Numbers(2), Numbers(0)], [1, 0], 4).getall_source().tolist() == [0] * 4
    with pytest.raises(InvalidOptionError, match=r"dataset 1 has a weight of 2, and no samples"):
        MixWrapper([Numbers(2), Numbers(0)], [1, 2], 4)


def test_what_is_no_mix_is_refused():
    with pytest.raises(InvalidOptionError, match=r"this MixWrapper has chosen some"):
        MixSampler(MixWrapper([Numbers(2), Numbers(3)], [1, 1]))
    with pytest.raises(InvalidOptionError, match=r"needs several datasets as one: .* a Numbers"):
        MixSampler(Numbers(3))
    with pytest.raises(DatasetTypeError, match=r"needs a KDDataset; got a list"):
        MixWrapper([[1, 2], [3]])
    with pytest.raises(InvalidOptionError, match=r"^seed=-1"):
        MixWrapper([Numbers(2)], [1], seed=-1)


def test_an_item_that_one_of_them_lacks_is_in_none():
    mix = MixWrapper([Numbers(2), as_kd([1], items=("x",))])
    assert [*ModeWrapper(mix, "x")] == [0, 10, 1]
    with pytest.raises(AttributeError, match="y"):
        ModeWrapper(mix, "y")
