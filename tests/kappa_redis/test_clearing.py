"""What clearing ends: also what is on its way, and what nobody can find again."""

from __future__ import annotations

import signal

import pytest
from torch.utils.data import DataLoader

import kappacore
from kappa_redis.backend import RedisBackend
from kappacore.errors import CacheWarning, NamespaceMismatchError
from support.caching import namespaces_in, run_script, start_script
from support.valkey import start_node

WORDS = ["one", "two", "three"]


@pytest.fixture
def alone():
    """A server of the test's own."""
    with start_node() as running:
        yield running


def size(nodes):
    total = 0
    for node in nodes:
        with node.client() as client:
            total += client.dbsize()
    return total


@pytest.mark.parametrize("notices", [False, True])
def test_what_was_loaded_before_a_clear_is_not_stored_after_it(node, notices):
    loading, clearing = (RedisBackend("late", 10, url=node.url) for _ in range(2))
    loading.put(0, [b"first"])
    assert loading.claim_many([1, 2], 30) == [True, True]
    clearing.clear()
    if notices:
        assert loading.get(0) is None
    assert loading.claim_many([1, 2], 30) == [True, True]  # renewed
    assert loading.put_many([(1, [b"old"]), (3, [b"new"])]) == [True, True]
    assert clearing.get_many([1, 3]) == [None, b"new"]
    loading.release_many([1, 2])
    assert clearing.claim_many([1, 2], 30) == [True, True]
    clearing.release_many([1, 2])
    assert loading.claim_many([1], 30) == [True]
    assert loading.put(1, [b"new"])
    assert clearing.get(1) == b"new"
    loading.release_many([1])
    clearing.clear()
    loading.close()
    clearing.close()


def test_claims_that_were_never_given_back_cost_one_value_and_not_all(alone):
    backend = RedisBackend("lost", 10, url=alone.url)
    backend.put(0, [b"first"])
    backend.claim_many([1], 30)
    alone.kill()  # and with it the generation
    alone.start()
    for _ in range(2):
        assert backend.get(1) is None
        backend.claim_many([1], 30)
        assert backend.put(1, [b"value"])
        backend.release_many([1])
    assert backend.get(1) == b"value"
    backend.close()


def test_private_samples_go_with_the_last_process_that_uses_them(alone, cache_folder):
    first = kappacore.CachedDataset(WORDS, "redis", url=alone.url)
    second = kappacore.CachedDataset(WORDS, "redis", url=alone.url)
    for ds in (first, second):
        assert [word for batch in DataLoader(ds, num_workers=1) for word in batch] == WORDS
    held = size([alone])
    first.close()  # whose workers are gone
    assert 0 < size([alone]) < held
    assert list(second) == WORDS
    assert second.stats().source_reads == 3
    second.close()
    assert size([alone]) == 0
    assert namespaces_in(cache_folder) == []


OWNER = """
import sys, time
import kappacore

ds = kappacore.CachedDataset(["one"] * 50, "redis", url=sys.argv[1], cluster=sys.argv[2] == "yes")
assert list(ds) == ["one"] * 50
if sys.argv[3:]:
    print("read", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("kind", ["server", "cluster"])
def test_private_samples_go_with_a_program_that_just_ends(alone, cluster, tmp_path, kind):
    nodes = cluster if kind == "cluster" else [alone]
    before = size(nodes)
    run_script(tmp_path, OWNER, nodes[0].url, "yes" if kind == "cluster" else "no", warm=True)
    assert size(nodes) == before


@pytest.mark.slow
def test_private_samples_of_a_killed_program_go_when_somebody_comes(alone, tmp_path, cache_folder):
    owner = start_script(tmp_path, OWNER, alone.url, "no", "wait", warm=True)
    assert owner.stdout.readline() == "read\n"
    owner.kill()
    owner.communicate()
    assert size([alone]) > 50
    alone.send(signal.SIGSTOP)  # who comes now can do nothing about it, and nothing is wrong
    with pytest.warns(CacheWarning, match="'redis' failed"):
        ds = kappacore.CachedDataset(WORDS, "redis", url=alone.url, cluster=False, timeout=0.3)
    assert list(ds) == WORDS
    alone.send(signal.SIGCONT)
    ds.close()
    with kappacore.CachedDataset(WORDS, "redis", url=alone.url, cluster=False):
        assert size([alone]) < 10
    assert size([alone]) == 0
    assert namespaces_in(cache_folder) == []


def test_a_private_server_that_is_killed_leaves_no_note_of_what_it_held(tmp_path, cache_folder):
    script = OWNER.replace(", url=sys.argv[1]", "").replace('sys.argv[2] == "yes"', "False")
    owner = start_script(tmp_path, script, "", "", "wait", warm=True)
    assert owner.stdout.readline() == "read\n"
    owner.kill()
    owner.communicate()
    assert not [name for name in namespaces_in(cache_folder) if "/lifetimes/" in name]
    kappacore.CachedDataset(WORDS, "redis").close()  # tidies up what the owner has counted


def test_entries_whose_record_was_lost_are_served_to_nobody(alone):
    options = {"url": alone.url, "namespace": "words", "keep": True}
    with kappacore.CachedDataset(WORDS, "redis", **options) as ds:
        assert list(ds) == WORDS
    with alone.client() as client:
        (record,) = client.scan_iter("kappa:*:v:*:3")
        client.delete(record)
        with kappacore.CachedDataset(["uno", "due", "tre"], "redis", **options) as ds:
            assert list(ds) == ["uno", "due", "tre"]
            assert ds.stats().hits == 0
        assert client.exists(record)
        with (
            kappacore.CachedDataset(WORDS, "redis", **options) as ds,
            pytest.raises(NamespaceMismatchError, match=r"'words\.\S+' holds other samples than"),
        ):
            ds[0]
