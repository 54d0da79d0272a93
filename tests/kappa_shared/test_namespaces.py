"""Namespaces of the backend `shared`: listed, removed, collected and kept."""

from __future__ import annotations

import math
import os
import time

import pytest

from kappa_shared.backend import SharedBackend
from support.caching import load_bytes, namespaces_in, open_cache


def test_namespaces_are_listed_without_being_used(cache_folder):
    assert list(SharedBackend.namespaces()) == []
    assert list(cache_folder.iterdir()) == []
    one = open_cache(length=7, options={"max_bytes": "1MiB"}, keep=3600.0)
    one.fetch([1, 2], load_bytes())
    two = SharedBackend("two", 3, max_bytes="1MiB")
    (first, second) = SharedBackend.namespaces(max_bytes="1GiB")
    assert (first.namespace, second.namespace) == (one.identity.namespace, "two")
    assert (first.dataset, second.dataset) == ("Tests", "")
    assert (first.entries, second.entries) == (3, 0)  # with the record
    assert (first.capacity, second.capacity) == (2**20, 2**20)
    assert (first.users, second.users) == (1, 1)
    assert first.last_used == pytest.approx(time.time(), abs=60)
    assert first.kept_until == pytest.approx(time.time() + 3600, abs=60)
    assert second.kept_until == 0
    one.close()
    two.close()
    (left,) = SharedBackend.namespaces()
    assert (left.namespace, left.users, left.entries) == (one.identity.namespace, 0, 3)
    assert SharedBackend.remove(left.namespace)


def test_what_another_version_or_a_kill_left_is_listed_and_can_be_removed(cache_folder):
    SharedBackend("old", 3, max_bytes="1MiB", keep=math.inf).close()
    (index,) = cache_folder.glob("kappacore-*/shared/old/index")
    index.write_bytes(b"KAPARENA of another version")
    (info,) = SharedBackend.namespaces()
    assert (info.namespace, info.entries, info.capacity) == ("old", 0, None)
    assert info.dataset.startswith("? (another version's")
    assert info.kept_until == math.inf
    assert SharedBackend.remove("old")
    assert namespaces_in(cache_folder) == []


def test_what_is_in_use_by_another_version_stays_as_it_is(cache_folder):
    user = SharedBackend("test", 10, max_bytes="1MiB")
    (index,) = cache_folder.glob("kappacore-*/shared/test/index")
    index.write_bytes(b"KAPARENA of another version")
    assert not SharedBackend.remove("test")
    assert index.read_bytes() == b"KAPARENA of another version"
    user.close()


def test_a_namespace_in_use_is_emptied_for_its_users_and_one_that_is_not_goes(cache_folder):
    user = SharedBackend("test", 10, max_bytes="1MiB", keep=math.inf)
    user.put(1, [b"x"])
    assert SharedBackend.remove("test")
    assert user.get(1) is None
    assert user.put(1, [b"y"])
    user.close()
    assert namespaces_in(cache_folder) == [f"kappacore-{os.getuid()}/shared/test"]
    assert SharedBackend.remove("test")
    assert list(cache_folder.iterdir()) == []
    assert not SharedBackend.remove("test")


def test_only_what_nobody_uses_nor_keeps_is_collected(cache_folder):
    used = SharedBackend("used", 1, max_bytes="1MiB")
    SharedBackend("kept", 1, max_bytes="1MiB", keep=math.inf).close()
    (cache_folder / f"kappacore-{os.getuid()}" / "shared" / "left").mkdir()
    assert SharedBackend.collect() == ["left"]
    used.close()
    assert SharedBackend.remove("kept")


@pytest.mark.parametrize("read", [lambda cache: cache.get(1), lambda cache: cache.get_many([1])])
def test_use_is_noted_every_minute_so_that_a_kill_does_not_shorten_a_kept_life(monkeypatch, read):
    backend = SharedBackend("test", 10, max_bytes="1MiB", keep=3600)
    users = backend.arena.folder / "users"
    hour_ago = time.time() - 3600
    os.utime(users, (hour_ago, hour_ago))
    read(backend)
    assert users.stat().st_mtime == pytest.approx(hour_ago)
    monkeypatch.setattr(backend, "_note_at", backend._note_at - 61)
    read(backend)
    assert users.stat().st_mtime == pytest.approx(time.time(), abs=60)
    backend.close()
    assert SharedBackend.remove("test")
