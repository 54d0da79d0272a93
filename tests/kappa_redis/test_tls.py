"""TLS by the servers themselves: a cluster, and a service with its sentinels."""

from __future__ import annotations

import pickle
import subprocess

import pytest

import kappacore
from kappacore.errors import InvalidOptionError
from support.valkey import programs, start_cluster, start_guarded, tls_options, wait_until

pytestmark = pytest.mark.slow
WORDS = [f"word {number}" for number in range(64)]


@pytest.fixture(scope="module")
def program():
    """A server that knows TLS; the wheel's does not."""
    found = programs().get("redis") or pytest.skip("redis-server is not installed")
    linked = subprocess.run(["ldd", found], capture_output=True, text=True, check=False).stdout
    return found if "libssl" in linked else pytest.skip("redis-server was built without TLS")


def open_dataset(url, options, **more):
    return kappacore.CachedDataset(
        WORDS, "redis", url=url, namespace="tls", **{"tls_ca": options["tls-ca-cert-file"], **more}
    )


def hits(ds):
    before = ds.stats()
    assert ds[:] == WORDS
    return (ds.stats() - before).hits


def check(url, options, **more):
    """Fill a cache, and read it here and in a copy; without the authority it is an error."""
    with open_dataset(url, options, **more) as ds:
        hits(ds)
        assert hits(ds) == len(WORDS)
        with pickle.loads(pickle.dumps(ds)) as copy:
            assert hits(copy) == len(WORDS)
    with pytest.raises(InvalidOptionError, match="Give the authority that signed its certificate"):
        open_dataset(url, options, tls_ca=None, **more)


@pytest.mark.filterwarnings("ignore:The cache backend 'redis' failed")
def test_sentinels_and_their_master(program, tmp_path):
    tls = tls_options(tmp_path)
    with start_guarded(program, tls=tls) as guarded:
        check(guarded.url, tls)
        with open_dataset(guarded.url, tls) as ds:
            guarded.fail_over_after(300)
            guarded.master.kill()
            wait_until(lambda: hits(ds) == len(WORDS))
        with pytest.raises(InvalidOptionError, match=r"has TLS. Begin url= with sentinels://"):
            kappacore.CachedDataset(WORDS, "redis", url=guarded.url.replace("ls:", "l:"))


def test_nodes_of_a_cluster(program, tmp_path):
    tls = {**tls_options(tmp_path), "tls-cluster": "yes"}
    with start_cluster(3, program, **tls) as nodes:
        check(nodes[1].url, tls, cluster=True)
        with pytest.raises(InvalidOptionError, match=r"has TLS. Begin url= with rediss://"):
            kappacore.CachedDataset(
                WORDS, "redis", url=nodes[1].url.replace("ss:", "s:"), cluster=True
            )
