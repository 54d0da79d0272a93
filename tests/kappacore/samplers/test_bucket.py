from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kappacore.datasets import ModeWrapper
from kappacore.errors import InvalidOptionError, MissingLabelsError, UnknownItemError
from kappacore.samplers import BucketBatchSampler
from support.numbers import Numbers


class Words(Numbers):
    def __init__(self):
        super().__init__(6)

    def getall_tokens(self):
        return [3, 1, 2, 3, 1, 2]


LENGTHS = list(range(1, 12))


def test_batches_are_pinned():
    assert list(BucketBatchSampler(range(11), LENGTHS, 3, pool=6)) == [
        [0, 2, 3], [1, 5, 8], [9, 10], [4, 6, 7],
    ]  # fmt: skip
    assert list(BucketBatchSampler(range(11), LENGTHS, max_tokens=12, pool=6)) == [
        [7], [6], [0, 2, 3], [10], [1, 5], [9], [8], [4],
    ]  # fmt: skip
    plain = BucketBatchSampler(range(4), [3, 1, 2, 1], 2, shuffle=False)
    assert list(plain) == [[1, 3], [2, 0]]


def by_brute_force(lengths, order, pool, batch_size, max_tokens):
    """Return the batches of an order, not shuffled, sample by sample."""
    batches = []
    for start in range(0, len(order), pool):
        batch = []
        for sample in sorted(order[start : start + pool], key=lambda sample: lengths[sample]):
            tokens = (len(batch) + 1) * lengths[sample]
            if batch and (len(batch) == batch_size or tokens > (max_tokens or tokens)):
                batches.append(batch)
                batch = []
            batch.append(sample)
        batches.append(batch)
    return batches


@pytest.mark.slow
@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=60),
    st.integers(1, 20),
    st.integers(1, 8),
    st.sampled_from([None, 30, 45, 100]),
    st.booleans(),
)
def test_batches_are_those_of_a_reference(lengths, pool, batch_size, max_tokens, shuffle):
    number = len(lengths)
    options = {"pool": pool, "max_tokens": max_tokens, "shuffle": shuffle}
    sampler = BucketBatchSampler(range(number), lengths, batch_size, **options)
    generator = np.random.Generator(np.random.PCG64([0, 0]))
    order = generator.permutation(number).tolist() if shuffle else list(range(number))
    expected = by_brute_force(lengths, order, pool, batch_size, max_tokens)
    if shuffle:
        expected = [expected[place] for place in generator.permutation(len(expected))]
    assert len(sampler) == len(expected)
    assert list(sampler) == expected
    full = BucketBatchSampler(range(number), lengths, batch_size, pool=pool, drop_last=True)
    assert {len(batch) for batch in full} <= {batch_size}


def test_little_is_padded():
    lengths = np.random.default_rng(0).integers(1, 500, 10_000)
    sampler = BucketBatchSampler(lengths, lengths, max_tokens=16_384)
    batches = list(sampler)
    padded = sum(len(batch) * lengths[batch].max() for batch in batches)
    assert lengths.sum() / padded > 0.95
    assert len(sampler) == len(batches)
    assert sorted(index for batch in batches for index in batch) == list(range(10_000))


def test_lengths_may_be_an_item():
    dataset = Words()
    by_name = BucketBatchSampler(ModeWrapper(dataset, "x"), "tokens", 2)
    assert list(by_name) == list(BucketBatchSampler(range(6), [3, 1, 2, 3, 1, 2], 2))
    with pytest.raises(UnknownItemError, match="words"):
        BucketBatchSampler(dataset, "words", 2)
    with pytest.raises(MissingLabelsError, match=r"item 'x' of Numbers is known only by reading"):
        BucketBatchSampler(Numbers(3), "x", 2)


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ([1, 2], r"of int64 of shape \(2,\), the least 1; .*one for each of 3 samples"),
        ([1, 0, 2], r"the least 0; expected positive integers"),
        ([1, -1, 2], r"the least -1"),
        ([1.0, 2.0, float("nan")], r"array of float64"),
        (["a", "b", "c"], r"array of <U1"),
    ],
)
def test_what_is_no_length_is_refused(lengths, message):
    with pytest.raises(InvalidOptionError, match=message):
        BucketBatchSampler(range(3), lengths, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"takes batch_size= or max_tokens=; got neither"),
        ({"batch_size": 0}, r"^batch_size=0"),
        ({"max_tokens": 0}, r"^max_tokens=0"),
        ({"max_tokens": 2}, r"^max_tokens=2, but sample 1 has 3\."),
        ({"batch_size": 2, "pool": 0}, r"^pool=0"),
        ({"max_tokens": 9, "drop_last": True}, r"^drop_last=True does not go with max_tokens"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises(InvalidOptionError, match=message):
        BucketBatchSampler(range(3), [1, 3, 2], **options)
