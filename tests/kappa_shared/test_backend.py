"""The backend `shared`: values that instances and processes share, and where they lie."""

from __future__ import annotations

import os

import pytest

import kappacore
from kappa_shared.backend import SharedBackend
from kappacore.errors import (
    CacheClosedError,
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


def test_a_backend_that_cannot_be_opened_is_not_in_use(monkeypatch, cache_folder):
    def no_room(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", no_room)
    with pytest.raises(StorageError, match="No room for the index"):
        SharedBackend("test", 10, max_bytes="1MiB")
    assert namespaces_in(cache_folder) == []


# ---- by name


def test_the_old_name_is_an_alias():
    cache = open_cache("shared-dict", options={"max_bytes": "1MiB"})
    same = open_cache("shared", options={"max_bytes": "1MiB"})
    cache.fetch([1], load_bytes())
    same.fetch([1], load_bytes())
    assert (same.stats().hits, same.stats().source_reads) == (1, 1)
    cache.close()
    same.close()


def test_an_unknown_option_is_refused_with_those_there_are():
    expected = r"cache backend 'shared' has no option 'max_size'.* Its options: max_bytes, path\."
    with pytest.raises(UnknownOptionError, match=expected):
        open_cache("shared", options={"max_size": 1})


@pytest.mark.slow
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


# ---- its folder


def test_another_folder_can_be_given(tmp_path, cache_folder):
    backend = SharedBackend("test", 10, max_bytes="1MiB", path=tmp_path)
    assert namespaces_in(tmp_path) == [f"kappacore-{os.getuid()}/shared/test"]
    assert namespaces_in(cache_folder) == []
    backend.put(1, [b"on disk"])
    same = SharedBackend("test", 10, path=str(tmp_path))
    assert same.get(1) == b"on disk"
    assert same.verify_always  # a disk may lose or change data
    assert not SharedBackend("test", 10).verify_always
    same.close()
    backend.close()
    assert namespaces_in(tmp_path) == []


def test_a_folder_that_does_not_exist_is_made_closed_to_others(tmp_path):
    backend = SharedBackend("test", 10, max_bytes="1MiB", path=tmp_path / "new")
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
    backend.close()


def test_a_folder_whose_parent_does_not_exist_is_refused(tmp_path):
    expected = (
        rf"^Cannot use the folder .*new: {tmp_path}/nowhere does not exist\. Set KAPPACORE_DIR"
    )
    with pytest.raises(StorageError, match=expected):
        SharedBackend("test", 10, path=tmp_path / "nowhere" / "new")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["", 3])
def test_what_is_no_path_is_not_taken_for_the_current_folder(path, cache_folder):
    with pytest.raises(InvalidOptionError, match=r"^path=.* is not a folder\. Give one that"):
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
