from __future__ import annotations

import math
import os
import time

import pytest

import kappacore
from kappa_shared import budget
from kappa_shared.backend import SharedBackend
from kappacore.caching.sizes import available_memory, disk_space
from kappacore.errors import (
    CacheClosedError,
    CacheWarning,
    InvalidOptionError,
    StorageError,
    UnknownOptionError,
)
from support.caching import load_bytes, namespaces_in, open_cache, open_files, run_script


@pytest.fixture
def backend():
    opened = SharedBackend("test", 10, max_bytes="1MiB")
    yield opened
    opened.close()


def test_values_are_found_by_another_instance_of_the_same_namespace(backend):
    same, other = SharedBackend("test", 10), SharedBackend("other", 10)
    assert backend.put_many([(1, [b"a", b"b"]), (2, [b"c"])]) == [True, True]
    assert [bytes(value) for value in same.get_many([1, 2])] == [b"ab", b"c"]
    assert same.get(1) == b"ab"
    assert other.get_many([1, 2]) == [None, None]
    other.clear()
    assert same.get(1) == b"ab"
    same.close()
    other.close()


def test_an_unrelated_process_finds_the_values(backend, tmp_path):
    backend.put(3, [b"hello"])
    out = run_script(
        tmp_path,
        """
        from kappa_shared.backend import SharedBackend

        backend = SharedBackend("test", 10)
        print(bytes(backend.get(3)).decode(), backend.get(4))
        backend.put(4, [b"back"])
        """,
    )
    assert out == "hello None\n"
    assert backend.get(4) == b"back"


def test_a_held_buffer_outlives_the_backend_and_its_files(cache_folder):
    backend = SharedBackend("test", 10, max_bytes="1MiB")
    backend.put(1, [b"held" * 1000])
    held = backend.get(1)
    backend.close()
    assert namespaces_in(cache_folder) == []
    assert held == b"held" * 1000


def test_info_says_how_full_it_is(backend, cache_folder):
    backend.put(1, [b"x" * 1000])
    info = backend.info()
    assert (info.namespace, info.entries, info.capacity, info.full) == ("test", 1, 2**20, False)
    assert 1000 <= info.bytes < 1200
    assert info.where == str(cache_folder / f"kappacore-{os.getuid()}" / "shared" / "test")


def test_a_closed_backend_says_so():
    backend = SharedBackend("test", 10, max_bytes="1MiB")
    backend.close()
    backend.close()
    for use in (lambda: backend.get(1), lambda: backend.put(1, [b""]), backend.info, backend.clear):
        with pytest.raises(CacheClosedError, match=r"The shared cache 'test' was closed\. Open a"):
            use()


def test_closing_and_forgetting_leave_no_file_open():
    before = open_files()
    for _ in range(5):
        backend = SharedBackend("test", 10, max_bytes="1MiB")
        backend.put(1, [b"x"])
        backend.get(1)
        backend.close()
    del backend
    assert open_files() == before


# ---- options


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


def test_an_unknown_option_is_refused_with_those_there_are():
    expected = r"cache backend 'shared' has no option 'max_size'.* Its options: max_bytes, path\."
    with pytest.raises(UnknownOptionError, match=expected):
        open_cache("shared", options={"max_size": 1})


def test_another_folder_can_be_given(tmp_path, cache_folder):
    backend = SharedBackend("test", 10, max_bytes="1MiB", path=tmp_path)
    assert namespaces_in(tmp_path) == [f"kappacore-{os.getuid()}/shared/test"]
    assert namespaces_in(cache_folder) == []
    backend.put(1, [b"on disk"])
    same = SharedBackend("test", 10, path=str(tmp_path))
    assert same.get(1) == b"on disk"
    assert same.verify_always  # a disk forgets and changes what memory does not
    assert not SharedBackend("test", 10).verify_always
    same.close()
    backend.close()
    assert namespaces_in(tmp_path) == []


def test_a_folder_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(StorageError, match=r"Cannot use the folder .*nowhere"):
        SharedBackend("test", 10, path=tmp_path / "nowhere")


@pytest.mark.parametrize("path", ["", 3])
def test_what_is_no_path_is_not_taken_for_the_current_folder(path, cache_folder):
    with pytest.raises(InvalidOptionError, match=r"^path=.* is no folder\. Give one that exists"):
        SharedBackend("test", 10, path=path)
    assert namespaces_in(cache_folder) == []


def test_a_folder_open_to_others_is_refused(cache_folder):
    (cache_folder / f"kappacore-{os.getuid()}").mkdir(mode=0o755)
    with pytest.raises(StorageError, match=r"is open to other users \(mode 755, expected 700\)"):
        open_cache("shared")
    (cache_folder / f"kappacore-{os.getuid()}").chmod(0o700)


def test_files_are_nobody_elses_to_read(backend, cache_folder):
    backend.put(1, [b"secret"])
    files = [path for path in cache_folder.rglob("*") if path.is_file()]
    assert len(files) >= 4
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}


def test_the_old_name_is_an_alias():
    cache = open_cache("shared-dict", options={"max_bytes": "1MiB"})
    same = open_cache("shared", options={"max_bytes": "1MiB"})
    cache.fetch([1], load_bytes())
    same.fetch([1], load_bytes())
    assert (same.stats().hits, same.stats().source_reads) == (1, 1)
    cache.close()
    same.close()


def test_another_system_is_told_what_to_use(tmp_path):
    out = run_script(
        tmp_path,
        """
        import multiprocessing.util, sys, tempfile
        import numpy, xxhash
        import kappacore.plugins

        sys.modules["fcntl"] = None  # as on Windows
        sys.platform = "win32"
        from kappa_shared.backend import SharedBackend

        uses = [lambda: SharedBackend("test", 10), SharedBackend.namespaces, SharedBackend.collect]
        for use in uses:
            try:
                use()
            except kappacore.KappaError as error:
                print(error)
        """,
    )
    expected = (
        "The cache backend 'shared' needs Linux; this is win32. Use the backend 'memory' here.\n"
    )
    assert out == 3 * expected


def test_using_it_by_name_needs_no_import_of_torch(tmp_path):
    out = run_script(
        tmp_path,
        """
        import sys
        from support.caching import load_bytes, open_cache

        cache = open_cache("shared", options={"max_bytes": "1MiB"})
        cache.fetch([1], load_bytes())
        print("torch" in sys.modules)
        """,
    )
    assert out == "False\n"


def test_the_plugin_lists_it_by_scope():
    info = kappacore.plugins.find("backend", "shared")
    assert (info.scope, info.target) == ("machine", "kappa_shared.backend:SharedBackend")


# ---- without an instance


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
    assert first.last_used == pytest.approx(time.time(), abs=5)
    assert first.kept_until == pytest.approx(time.time() + 3600, abs=5)
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
    assert users.stat().st_mtime == pytest.approx(time.time(), abs=5)
    backend.close()
    assert SharedBackend.remove("test")


def test_a_backend_that_cannot_be_opened_is_not_in_use(monkeypatch, cache_folder):
    def no_room(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", no_room)
    with pytest.raises(StorageError, match="No room for the index"):
        SharedBackend("test", 10, max_bytes="1MiB")
    assert namespaces_in(cache_folder) == []
