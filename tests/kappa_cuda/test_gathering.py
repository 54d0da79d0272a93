"""Index arithmetic of gathering, on the CPU: the same tensors, and bit for bit the same values."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kappa_cuda.gathering import can_gather, gather_ragged, gather_rows

SIZES = [8, 24, 44, 64, 300, 3072, 4099]


@pytest.fixture
def words():
    return torch.from_numpy(np.random.default_rng(0).integers(-(2**62), 2**62, 40_000))


def wanted(words, offset, nbytes):
    memory = words.numpy().view(np.uint8)
    pairs = zip(offset, np.broadcast_to(nbytes, len(offset)), strict=True)
    return np.concatenate([memory[start : start + size] for start, size in pairs])


@pytest.mark.parametrize("nbytes", SIZES)
@pytest.mark.parametrize("step", [64, 8])
def test_rows_at_one_distance(words, nbytes, step):
    distance = -(-nbytes // step) * step + step
    offset = step + distance * np.array([7, 0, 3, 3, 12])
    out = torch.zeros(5 * nbytes, dtype=torch.uint8)
    gather_rows(words, offset, nbytes, out.view(5, nbytes))
    assert np.array_equal(out.numpy(), wanted(words, offset, nbytes))


@pytest.mark.parametrize("nbytes", SIZES)
@pytest.mark.parametrize("step", [64, 8])
def test_rows_anywhere(words, nbytes, step):
    offset = step * np.random.default_rng(nbytes).integers(0, 200_000 // step, 50)
    out = torch.zeros((50, nbytes), dtype=torch.uint8)
    gather_rows(words, offset, nbytes, out)
    assert np.array_equal(out.numpy().reshape(-1), wanted(words, offset, nbytes))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.bool])
def test_rows_of_any_type(words, dtype):
    offset = np.array([640, 0, 64])
    out = torch.zeros((3, 4, 8), dtype=dtype)
    nbytes = 32 * out.element_size()
    gather_rows(words, offset, nbytes, out)
    found = out.view(-1).view(torch.uint8).numpy()
    assert np.array_equal(found, wanted(words, offset, nbytes))


def test_one_row_and_none(words):
    out = torch.zeros((1, 16), dtype=torch.uint8)
    gather_rows(words, np.array([128]), 16, out)
    assert np.array_equal(out.numpy()[0], wanted(words, [128], 16))
    gather_rows(words, np.array([], np.int64), 16, out[:0])
    gather_rows(words, np.array([0, 8]), 0, torch.zeros((2, 0)))


@pytest.mark.parametrize("largest", [10, 100, 20_000])
@pytest.mark.parametrize("unit", [1, 4, 8])
@pytest.mark.parametrize("step", [64, 8])
def test_ragged_values(words, largest, unit, step):
    generator = np.random.default_rng(largest)
    nbytes = unit * generator.integers(0, largest // unit + 1, 30)
    offset = step * generator.integers(0, 200_000 // step, 30)
    out = torch.zeros(int(nbytes.sum()), dtype=torch.uint8)
    gather_ragged(words, offset, nbytes, out)
    assert np.array_equal(out.numpy(), wanted(words, offset, nbytes))


def test_ragged_values_of_nothing(words):
    gather_ragged(words, np.array([0, 8]), np.array([0, 0]), torch.zeros(0))


def test_values_between_words_are_left_to_the_cpu():
    assert can_gather(np.array([0, 8, 64]))
    assert not can_gather(np.array([0, 12]))
