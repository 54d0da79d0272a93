"""What the user does to a sample reaches neither the cache nor another sample."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kappacore import CachedDataset, CacheWrapper, as_kd
from kappacore.errors import InvalidOptionError
from support.caching import RecordingBackend, load_bytes, open_cache
from support.recording import load


def test_a_sample_named_twice_is_read_once_and_given_as_independent_objects(cache):
    first, second, third = cache.fetch([4, 4, 4], load)
    assert RecordingBackend.take_calls()[3] == ("load", [4])
    assert first == second == third
    first.append("changed")
    assert second == third == [4, b"x" * 50]
    one, two = cache.fetch([4, 4], load)
    one.append("changed")
    assert two == [4, b"x" * 50]
    assert cache.fetch([4], load) == [[4, b"x" * 50]]


def test_what_the_user_does_to_a_sample_does_not_reach_the_cache(cache):
    cache.fetch([4], load)[0].append("changed")
    cache.fetch([4], load)[0].append("changed")
    assert cache.fetch([4], load) == [[4, b"x" * 50]]


def test_copy_false_gives_read_only_views():
    cache = open_cache("memory", copy=False)
    cache.fetch([1], load_bytes())
    ((view, number),) = cache.fetch([1], load_bytes())
    cache.clear()
    cache.close()
    assert type(view) is memoryview
    assert view.readonly
    assert (bytes(view), number) == load_bytes()([1])[0]


@pytest.mark.parametrize("backend", ["memory", "shared"])
def test_samples_given_twice_as_views_share_nothing_that_can_be_changed(backend):
    def load(indices):
        return [{"image": b"x" * 50, "boxes": [idx]} for idx in indices]

    cache = open_cache(backend, copy=False)
    cache.fetch([1], load)
    for _ in range(2):
        one, other, two = cache.fetch([1, 1, 2], load)
        one["boxes"].append("changed")
        assert (other["boxes"], two["boxes"]) == ([1], [2])
    cache.close()


def load_tensors(indices):
    return [{"x": torch.full((4,), float(idx)), "y": np.full(4, idx)} for idx in indices]


def write_to(sample):
    sample["x"].add_(1)
    with pytest.raises(ValueError, match="read-only"):
        sample["y"][:] = 9


@pytest.mark.parametrize("backend", ["memory", "shared"])
def test_what_is_written_to_a_tensor_stays_there_and_that_it_is_copied_is_said_once(
    backend, caplog
):
    for _ in range(2):
        cache = open_cache(backend, copy=False)
        cache.fetch([1, 3], load_tensors)
        for _ in range(3):
            write_to(cache.fetch_one(3, load_tensors))
            for sample in cache.fetch([1, 3], load_tensors):
                write_to(sample)
        assert float(cache.fetch_one(3, load_tensors)["x"][0]) == 3
        said = [record.message for record in caplog.records if "copy='unsafe'" in record.message]
        assert len(said) == 1
        caplog.clear()
        cache.close()


def test_nothing_is_said_where_no_tensor_is_copied(caplog):
    for copy, read in ((False, load_bytes()), (True, load_tensors), ("unsafe", load_tensors)):
        cache = open_cache("memory", copy=copy)
        cache.fetch([1], read)
        cache.fetch([1], read)
        cache.close()
    assert not [record for record in caplog.records if "tensor" in record.message]


@pytest.mark.parametrize("backend", ["memory", "shared"])
def test_unsafe_tensors_lie_in_the_cache(backend):
    cache = open_cache(backend, copy="unsafe")
    cache.fetch([1], load_tensors)
    one, other = (cache.fetch_one(1, load_tensors) for _ in range(2))
    assert one["x"].data_ptr() == other["x"].data_ptr()
    first, second = cache.fetch([1, 1], load_tensors)
    assert torch.equal(first["x"], second["x"])
    cache.close()


@pytest.mark.parametrize("copy", [None, 0, 1, "yes", "Unsafe"])
def test_another_copy_is_an_error_before_anything_is_opened(copy):
    with pytest.raises(InvalidOptionError, match="copy="):
        CachedDataset([1], "memory", copy=copy)
    with pytest.raises(InvalidOptionError, match="copy="):
        CacheWrapper(as_kd([1], items=["x"]), "memory", copy=copy)
