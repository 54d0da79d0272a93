"""Backends that outlive processes and leave it to the engine how long their entries stay."""

from __future__ import annotations

import os
import time

import pytest

import kappacore
from kappacore import CachedDataset
from kappacore.errors import NamespaceMismatchError
from support.cache_sources import Samples
from support.caching import namespaces_in, start_script

pytest.importorskip("kappa_lmdb.backend")

KILLED = """
    import sys, time
    from kappacore import CachedDataset
    from support.cache_sources import Samples

    cached = CachedDataset(Samples(sys.argv[1]), "lmdb", path=sys.argv[2], check=False)
    list(cached)
    print("read", flush=True)
    time.sleep(60)
    """


@pytest.fixture
def options(tmp_path):
    return {"path": str(tmp_path / "lmdb"), "namespace": "n", "check": False}


def test_entries_go_with_the_last_user(log, options, cache_folder):
    with CachedDataset(Samples(log), "lmdb", **options) as first:
        list(first)
        with CachedDataset(Samples(log), "lmdb", **options) as second:
            list(second)
        assert first.explain().count("10 of 10 samples") == 1
    with CachedDataset(Samples(log), "lmdb", **options) as third:
        assert "0 of 10 samples" in third.explain()
    assert namespaces_in(cache_folder) == []


def test_the_longest_wish_counts_and_runs_out(log, options, cache_folder):
    source = Samples(log)
    with CachedDataset(source, "lmdb", keep=1000, **options) as cached:
        list(cached)
    with CachedDataset(source, "lmdb", **options) as cached:  # without a wish of its own
        list(cached)
    with CachedDataset(source, "lmdb", **options) as cached:
        list(cached)
    assert source.log.count() == dict.fromkeys(range(10), 1)
    (users,) = cache_folder.glob("kappacore-*/lifetimes/*/users")
    os.utime(users, (time.time() - 1001,) * 2)
    with CachedDataset(source, "lmdb", **options) as cached:
        assert "0 of 10 samples" in cached.explain()


@pytest.mark.slow
def test_what_killed_processes_left_goes_when_the_place_is_opened_next(tmp_path, log, options):
    lmdb = pytest.importorskip("lmdb")
    for _ in range(3):  # private namespaces, which nobody will open again
        process = start_script(tmp_path, KILLED, log, options["path"], warm=True)
        assert process.stdout.readline() == "read\n", process.stderr.read()
        process.kill()
        process.communicate()
    with CachedDataset(Samples(log), "lmdb", **options) as cached:
        list(cached)
    with lmdb.open(options["path"], max_dbs=1000) as env, env.begin() as transaction:
        names = [key for key, _ in transaction.cursor()]
        held = [transaction.stat(env.open_db(name, transaction))["entries"] for name in names]
    assert sum(held) == 0


def test_a_newcomer_keeps_its_entries_when_the_last_one_leaves(log, options, monkeypatch):
    """Who leaves clears while nobody can join, so a newcomer comes before or after."""
    backend = kappacore.backend("lmdb", path=options.pop("path")).load()
    clear = backend.clear
    late = []

    def slow_clear(self):
        process = start_late()
        clear(self)
        late.append(process)

    def start_late():
        import threading

        def join():
            with CachedDataset(Samples(log), ref, **options) as cached:
                list(cached)
                time.sleep(0.5)
                with pytest.raises(NamespaceMismatchError):
                    CachedDataset(Samples(log, seed=1), ref, namespace="n")[0]
                results.append(list(cached) == [cached.dataset.sample(i) for i in range(10)])

        thread = threading.Thread(target=join)
        thread.start()
        time.sleep(0.2)
        return thread

    results: list[bool] = []
    ref = kappacore.backend("lmdb", path=str(log.parent / "lmdb"))
    cached = CachedDataset(Samples(log), ref, **options)
    list(cached)
    monkeypatch.setattr(backend, "clear", slow_clear)
    cached.close()
    monkeypatch.setattr(backend, "clear", clear)
    late[0].join()
    assert results == [True]
