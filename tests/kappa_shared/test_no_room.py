"""Memory or disk that is used up: samples are refused and served on, nothing is raised."""

from __future__ import annotations

import textwrap

import pytest

from support.caching import run_script
from support.mounts import may_mount, with_tmpfs

pytestmark = pytest.mark.slow

USE = """
    import warnings
    from kappacore.errors import CacheWarning
    from support.caching import load_bytes, open_cache

    def open_warned(**settings):
        # A cache whose limit is more than there is.
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            cache = open_cache(**settings)
            again = open_cache(**settings)  # who comes later is not told again
        again.close()
        (warning,) = caught
        assert str(warning.message).startswith("max_bytes='1GiB' is more than there is: "), warning
        return cache

    def use(cache, size=100_000, length=100):
        load = load_bytes(size=size)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in range(2):
                for start in range(0, length, 10):
                    batch = list(range(start, start + 10))
                    assert cache.fetch(batch, load) == load(batch)
        return [str(warning.message) for warning in caught]
"""


@pytest.fixture
def small(tmp_path, cache_folder):
    """Runs programs with their caches in a file system of a given size."""
    if not may_mount():
        pytest.skip("mounting needs root")

    def run(size, source):
        whole = textwrap.dedent(USE) + textwrap.dedent(source)
        return run_script(tmp_path, whole, prefix=with_tmpfs(cache_folder, f"size={size}"))

    return run


def test_a_file_system_that_is_full_refuses_samples_and_serves_on(small):
    out = small(
        "4m",
        """
        import os, shutil

        cache = open_warned(length=100, options={"max_bytes": "1GiB"})
        folder = os.environ["KAPPACORE_DIR"]
        with open(os.path.join(folder, "of-others"), "wb") as file:  # what was free is no more
            file.write(bytes(shutil.disk_usage(folder).free - 3_500_000))
        messages = use(cache)
        stats = cache.stats()
        assert len(messages) == 1 and "is full" in messages[0], messages
        print(stats.hits == stats.stores, stats.hits + stats.misses, stats.backend_errors)
        assert 10 <= stats.stores < 19, stats
        assert shutil.disk_usage(folder).free > 1_900_000  # half of what was there is left
        cache.close()
        """,
    )
    assert out == "True 200 0\n"


def test_a_small_dev_shm_is_said_once_with_the_flag_that_helps(tmp_path):
    """As in a container."""
    if not may_mount():
        pytest.skip("mounting needs root")
    out = run_script(
        tmp_path,
        textwrap.dedent(USE)
        + textwrap.dedent("""
        import os
        del os.environ["KAPPACORE_DIR"]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            cache = open_cache(length=1000)
            open_cache(length=1000).close()
        print(*[warning.message for warning in caught], sep="\\n")
        messages = use(cache, length=1000)
        stats = cache.stats()
        assert len(messages) == 1 and "is full" in messages[0], messages
        assert 300 < stats.stores < 336, stats
        assert (stats.hits, stats.misses) == (stats.stores, 2000 - stats.stores), stats
        """),
        prefix=with_tmpfs("/dev/shm", "size=64m"),
    )
    assert out == (
        "/dev/shm has only 64.0 MiB here, of which the shared cache takes at most 32.0 MiB. "
        "In a container, give it more: --shm-size=16g with Docker and Podman, a volume of medium "
        "Memory at /dev/shm with Kubernetes.\n"
    )


def test_processes_that_come_to_a_full_file_system_read_what_is_there(small):
    """As the workers of the second epoch do; they must not need room for themselves."""
    out = small(
        "2m",
        """
        import multiprocessing, os, shutil
        from pathlib import Path

        cache = open_cache(length=100, keep=60.0, options={"max_bytes": 1.0})
        use(cache)
        folder = Path(os.environ["KAPPACORE_DIR"])
        try:
            with open(folder / "rest", "wb", buffering=0) as file:
                while file.write(bytes(4096)):
                    pass
        except OSError:
            pass
        assert shutil.disk_usage(folder).free == 0
        stored = cache.stats().stores

        def read():
            mine = open_cache(length=100, keep=60.0, options={"max_bytes": 1.0})
            use(mine)
            assert mine.stats().hits >= 2 * stored
            mine.close()

        context = multiprocessing.get_context("fork")
        for _ in range(2):
            children = [context.Process(target=read, daemon=True) for _ in range(3)]
            for child in children:
                child.start()
            for child in children:
                child.join()
            print([child.exitcode for child in children])
        before = cache.stats()
        use(cache)
        print((cache.stats() - before).hits == 2 * stored)
        cache.close()
        """,
    )
    assert out == "[0, 0, 0]\n[0, 0, 0]\nTrue\n"


def test_too_little_room_for_anything_is_an_error_that_says_what_to_do(small):
    out = small(
        "64k",
        """
        from kappacore.errors import KappaError
        try:
            open_warned(length=100_000, options={"max_bytes": "1GiB"})
        except KappaError as error:
            print(type(error).__name__, error)
        """,
    )
    assert out.startswith("StorageError No room for the index of a shared cache in ")
    assert "raise --shm-size" in out


def test_room_for_the_index_alone_serves_from_the_source(small):
    out = small(
        "64k",
        """
        cache = open_warned(length=100, options={"max_bytes": "1GiB"})
        messages = use(cache)
        print(cache.stats().source_reads, cache.stats().backend_errors)
        print(len(messages), messages[0])
        """,
    )
    assert out.startswith("200 0\n1 The cache 'shared' is full: 0 of 100 samples (0%)")


def test_a_file_size_limit_refuses_samples_and_serves_on(tmp_path):
    out = run_script(
        tmp_path,
        USE
        + """
    import resource

    cache = open_cache(length=100, options={"max_bytes": "1GiB"})
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    messages = use(cache)
    stats = cache.stats()
    assert len(messages) == 1 and "is full" in messages[0], messages
    print(stats.stores, stats.hits, stats.refused, stats.backend_errors)
    cache.close()
    """,
    )
    assert out == "10 10 180 0\n"


def test_a_budget_refuses_samples_and_serves_on(tmp_path):
    out = run_script(
        tmp_path,
        USE
        + """
    cache = open_cache(length=100, options={"max_bytes": "1MiB"})
    messages = use(cache)
    stats = cache.stats()
    assert len(messages) == 1 and "is full" in messages[0], messages
    print(stats.stores, stats.hits, stats.refused, stats.backend_errors)
    cache.close()
    """,
    )
    assert out == "10 10 180 0\n"


def test_where_dev_shm_cannot_be_written_to_the_directory_for_temporary_files_is_used(tmp_path):
    if not may_mount():
        pytest.skip("mounting needs root")
    out = run_script(
        tmp_path,
        USE
        + """
    import os, tempfile
    from pathlib import Path

    del os.environ["KAPPACORE_DIR"]
    tempfile.tempdir = os.path.dirname(__file__)
    cache = open_cache(length=100, options={"max_bytes": "100MiB"})
    assert use(cache) == []
    stats = cache.stats()
    print(stats.hits, stats.source_reads, stats.corrupt)
    print(Path(cache.infos()[0].where).is_relative_to(tempfile.tempdir))
    cache.close()
    print(list(Path(tempfile.tempdir).glob("kappacore*")))
    """,
        prefix=with_tmpfs("/dev/shm", "ro"),
    )
    assert out == "100 100 0\nTrue\n[]\n"
