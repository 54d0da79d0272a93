"""Many caches in one process, whose open files have a limit."""

from __future__ import annotations

import pytest

from support.caching import run_script

COUNT = """
    import os, resource, sys
    from pathlib import Path
    from support.caching import load_bytes, open_cache, open_files

    def open_number(number):
        cache = open_cache(fingerprint=str(number), options={"max_bytes": "1MiB"})
        assert cache.fetch([1], load_bytes()) == load_bytes()([1])
        assert cache.fetch([1], load_bytes()) == load_bytes()([1])
        return cache

    open_number(-1).close()  # what is opened once stays so, such as files of modules
"""


@pytest.mark.slow
def test_a_cache_keeps_at_most_five_files_open_beside_eight_for_all(tmp_path):
    out = run_script(
        tmp_path,
        COUNT
        + """
    before = open_files()
    caches = [open_number(number) for number in range(20)]
    opened = open_files() - before
    for cache in caches:
        cache.clear()
        cache.fetch([1, 2], load_bytes())
    print(opened <= 5 * 20 + 8, open_files() - before == opened)
    for cache in caches:
        cache.close()
    print(open_files() - before)
    """,
    )
    assert out == "True True\n0\n"


@pytest.mark.slow
def test_two_hundred_caches_are_open_under_a_limit_of_1024(tmp_path):
    out = run_script(
        tmp_path,
        COUNT
        + """
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))
    caches = [open_number(number) for number in range(200)]
    print(len(caches), sum(cache.stats().hits for cache in caches))
    for cache in caches:
        cache.close()
    """,
    )
    assert out == "200 200\n"
