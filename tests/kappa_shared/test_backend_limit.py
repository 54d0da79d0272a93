"""max_bytes: how much the backend `shared` may hold, and what is said where there is less."""

from __future__ import annotations

import pytest

from kappa_shared import budget
from kappa_shared.backend import SharedBackend
from kappacore.errors import CacheWarning, InvalidOptionError
from kappacore.machine.space import available_memory, disk_space
from support.caching import namespaces_in


@pytest.mark.parametrize("max_bytes", ["1MiB", "1024 KiB", 2**20, "1048576"])
def test_the_limit_is_written_as_people_do(max_bytes):
    backend = SharedBackend("sizes", 1, max_bytes=max_bytes)
    assert backend.info().capacity == 2**20
    backend.close()


@pytest.mark.parametrize(("max_bytes", "share"), [(None, 0.8), (0.25, 0.25)])
def test_a_fraction_is_of_what_is_free(max_bytes, share, cache_folder):
    free = min(disk_space(cache_folder)[1], available_memory())
    backend = SharedBackend("sizes", 1, max_bytes=max_bytes)
    assert backend.info().capacity == pytest.approx(share * free, rel=0.2)
    backend.close()


def test_what_a_cache_takes_already_counts_as_room_for_it():
    """A fraction means the same for the first process and for those that come when it is full."""
    first = SharedBackend("sizes", 1, max_bytes=0.5)
    first.put(0, [bytes(2**26)])
    second = SharedBackend("sizes", 1, max_bytes=0.5)
    assert second.info().capacity == pytest.approx(first.info().capacity, rel=0.02)
    first.close()
    second.close()


@pytest.mark.parametrize(
    ("limits", "cause"),
    [
        ({"the available memory": 2**30}, "the available memory leaves 1.0 GiB"),
        ({"the available memory": 2**50, "the memory limit of this job": 2**30}, "of this job lea"),
    ],
)
def test_a_limit_above_what_there_is_is_lowered_and_said_once(monkeypatch, limits, cause):
    monkeypatch.setattr(budget, "memory_limits", lambda: limits)
    with pytest.warns(CacheWarning, match=rf"max_bytes='64GiB' is more .*{cause}.* 768.0 MiB;"):
        backend = SharedBackend("sizes", 1, max_bytes="64GiB")
    assert backend.info().capacity == 768 * 2**20
    second = SharedBackend("sizes", 1, max_bytes="64GiB")
    second.close()
    backend.close()


def test_a_limit_above_what_there_is_is_said_again_in_the_next_run_of_a_kept_cache(monkeypatch):
    monkeypatch.setattr(budget, "memory_limits", lambda: {"the available memory": 2**30})
    for _ in range(2):
        with pytest.warns(CacheWarning, match="is more than there is"):
            SharedBackend("sizes", 1, max_bytes="64GiB", keep=3600).close()
    assert SharedBackend.remove("sizes")


def test_two_caches_that_are_filled_at_the_same_time_leave_something_together(monkeypatch):
    """Such as those for training and validation, both opened when all was free."""
    caches = []

    def limits():
        taken = sum(cache.info().bytes for cache in caches)
        return {"the memory limit of this job": 100 * 2**20 - taken}

    monkeypatch.setattr(budget, "memory_limits", limits)
    caches += [SharedBackend("train", 100)]
    caches += [SharedBackend("val", 100)]
    assert sum(cache.info().capacity for cache in caches) == 100 * 2**20
    for key in range(60):
        for cache in caches:
            cache.put(key, [bytes(2**20)])
    assert 40 * 2**20 < sum(cache.info().bytes for cache in caches) < 85 * 2**20
    assert all(cache.info().full for cache in caches)
    for cache in caches:
        cache.close()


def test_a_share_of_everything_leaves_something_for_batches_without_a_word(monkeypatch):
    monkeypatch.setattr(budget, "memory_limits", lambda: {"the available memory": 100 * 2**20})
    backend = SharedBackend("sizes", 1, max_bytes=1.0)
    assert backend.info().capacity == 50 * 2**20
    backend.close()


@pytest.mark.parametrize("max_bytes", ["plenty", 0, -1, 1.5, True, "10 GB!"])
def test_a_limit_that_is_no_size_is_refused_and_leaves_nothing(max_bytes, cache_folder):
    expected = rf"max_bytes={max_bytes!r} is not a size. Give bytes as a positive integer"
    with pytest.raises(InvalidOptionError, match=expected):
        SharedBackend("sizes", 1, max_bytes=max_bytes)
    assert namespaces_in(cache_folder) == []
