"""What a machine may forbid, and what may happen to the files of a cache in use."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import textwrap
from pathlib import Path

import pytest

from kappa_shared.backend import SharedBackend
from kappacore.errors import CacheWarning, StorageError
from support.caching import load_bytes, namespaces_in, open_cache, start_script
from support.kills import run_in_child
from support.mounts import may_mount, with_tmpfs
from support.noflock import without_fallocate


@pytest.mark.parametrize("umask", [0o177, 0o277, 0o777])
def test_a_umask_may_take_all_rights(umask, monkeypatch):
    with tempfile.TemporaryDirectory(dir="/dev/shm") as base:
        os.chmod(base, 0o777)  # noqa: PTH101 - whoever the child is
        open_cache(options={"max_bytes": "1MiB"}).close()  # imports what the child may not read
        monkeypatch.setenv("KAPPACORE_DIR", base)

        def use():
            if os.getuid() == 0:
                os.setuid(12345)
            os.umask(umask)
            caches = [open_cache(options={"max_bytes": "1MiB"}, keep=100.0) for _ in range(2)]
            for cache in caches:
                assert cache.fetch([1, 2], load_bytes()) == load_bytes()([1, 2])
                cache.clear()
                assert cache.fetch([1, 2], load_bytes()) == load_bytes()([1, 2])
            assert caches[0].stats().backend_errors == 0
            for cache in caches:
                cache.close()

        assert [run_in_child(use) for _ in range(2)] == [0, 0]


@pytest.mark.slow
@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL])
def test_a_file_system_without_fallocate_takes_zeros(tmp_path, number):
    program = """
        from support.caching import load_bytes, open_cache

        cache = open_cache(options={"max_bytes": "1MiB"}, length=100_000)
        for _ in range(2):
            assert cache.fetch([1, 2], load_bytes()) == load_bytes()([1, 2])
        print(cache.stats().hits, cache.stats().backend_errors)
        cache.close()
        """
    env = without_fallocate(tmp_path / "nofallocate.so", number)
    with start_script(tmp_path, program, env=env) as process:
        out, err = process.communicate(timeout=250)
    assert (out, err) == ("2 0\n", "")


@pytest.mark.slow
def test_without_fallocate_missing_room_is_an_error_and_no_bus_error(tmp_path, cache_folder):
    if not may_mount():
        pytest.skip("mounting needs root")
    program = """
        from kappacore.errors import KappaError
        from support.caching import open_cache
        try:
            open_cache(options={"max_bytes": "16KiB"}, length=100_000)
        except KappaError as error:
            print(error)
        """
    env = without_fallocate(tmp_path / "nofallocate.so", errno.ENOSYS)
    small = with_tmpfs(cache_folder, "size=64k")
    with start_script(tmp_path, program, env=env, prefix=small) as process:
        out, err = process.communicate(timeout=250)
    assert out.startswith("No room for the index of a shared cache in ")
    assert err == ""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_processes_share_a_cache_beside_the_folder_of_somebody_else(cache_folder):
    taken = cache_folder / f"kappacore-{os.getuid()}"
    taken.mkdir(mode=0o700)
    os.chown(taken, 12345, -1)
    cache = open_cache(options={"max_bytes": "1MiB"})
    assert cache.fetch([1], load_bytes()) == load_bytes()([1])

    def read():
        same = open_cache(options={"max_bytes": "1MiB"})
        assert same.fetch([1], load_bytes()) == load_bytes()([1])
        assert same.stats().hits == 1
        same.close()

    assert run_in_child(read) == 0
    assert [info.namespace for info in SharedBackend.namespaces()] == [cache.identity.namespace]
    cache.close()
    assert namespaces_in(cache_folder) == []
    assert list(cache_folder.iterdir()) == [taken]


def test_a_folder_that_is_removed_under_a_job_costs_nothing_and_clear_says_which(cache_folder):
    cache = open_cache(options={"max_bytes": "1MiB"})
    assert cache.fetch([1], load_bytes()) == load_bytes()([1])
    shutil.rmtree(cache_folder / f"kappacore-{os.getuid()}")
    for _ in range(2):
        assert cache.fetch([1, 2], load_bytes()) == load_bytes()([1, 2])
    assert (cache.stats().hits, cache.stats().backend_errors) == (3, 0)
    expected = r"^The shared cache in .* is in use, but its file index was removed or replaced"
    with pytest.raises(StorageError, match=expected):
        cache.clear()
    fresh = open_cache(options={"max_bytes": "1MiB"})  # such as of the next epoch's worker
    assert fresh.fetch([1], load_bytes()) == load_bytes()([1])
    fresh.close()
    cache.close()
    assert namespaces_in(cache_folder) == []


def test_files_that_are_removed_one_by_one_are_named_in_a_warning(cache_folder):
    cache = open_cache(options={"max_bytes": "1MiB"})
    assert cache.fetch([1], load_bytes()) == load_bytes()([1])
    other = SharedBackend(cache.identity.namespace, 12)
    other.clear()
    for path in other.arena.folder.glob("data-*"):
        path.unlink()
    with pytest.warns(CacheWarning, match=r"its file data-\w+ was removed or replaced"):
        assert cache.fetch([1, 2], load_bytes()) == load_bytes()([1, 2])
    other.close()
    cache.close()


# ---- the limit of open files

LIMITED = """
    import os, resource, warnings
    from kappacore.errors import CacheWarning, KappaError
    from support.caching import load_bytes, open_cache, open_files

    warnings.simplefilter("error")
    open_cache(options={"max_bytes": "1MiB"}).close()
    load = load_bytes()

    def limit(spare):
        resource.setrlimit(resource.RLIMIT_NOFILE, (open_files() - 1 + spare, 4096))

    said, worked = [], 0
    for spare in range(12):
        limit(spare)
        try:
            cache = open_cache(options={"max_bytes": "1MiB"})
        except KappaError as error:
            said.append(str(error))
        else:
            worked += 1
            limit(0)
            try:
                for _ in range(3):
                    assert cache.fetch([1, 2], load) == load([1, 2])
            except CacheWarning as warning:
                said.append(str(warning))
            cache.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
    wrong = [text for text in said if "RLIMIT_NOFILE" not in text or "ulimit -n" not in text]
    print(len(said) > 3, worked > 3, wrong)
    """


@pytest.mark.slow
def test_too_many_open_files_is_an_error_that_names_the_limit(tmp_path, cache_folder):
    with start_script(tmp_path, textwrap.dedent(LIMITED)) as process:
        out, err = process.communicate(timeout=250)
    assert (out, err) == ("True True []\n", ""), out + err
    assert sorted(Path(cache_folder).rglob("*")) == []
