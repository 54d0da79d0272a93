"""A server that is down when a job starts costs time; an address that can never answer is an error.

Nothing is served from such a server, or stored in it, before the namespace's identity is proved.
"""

from __future__ import annotations

import signal
import socket
import time
from functools import partial

import pytest
from torch.utils.data import DataLoader

import kappacore
from kappacore.caching.engine import client as engine
from kappacore.errors import CacheWarning, InvalidOptionError, NamespaceMismatchError
from support.stalls import repeated_where_stalled
from support.valkey import Proxy, TLSProxy, certificate, free_port, start_node, wait_until

LENGTH = 24


class Source:
    """Samples without a fingerprint: the namespace's name alone says what they are."""

    def __init__(self, mark=b"a"):
        self.mark = mark

    def __len__(self):
        return LENGTH

    def __getitem__(self, idx):
        return self.mark * 50, idx

    def all(self):
        return [self[idx] for idx in range(LENGTH)]


@pytest.fixture(autouse=True)
def tried_again_soon(monkeypatch):
    """Seconds for which the engine leaves a failing backend alone."""
    monkeypatch.setattr(engine, "_RETRY_AFTER", 0.2)


def redis_at(url, timeout=None, **options):
    times = {"timeout": timeout, "connect_timeout": timeout}
    return kappacore.backend("redis", url=url, **times, **options)


def open_while_down(url, *, tiers=0, timeout=None):
    """Open a cache, which says once that its server is down."""
    redis = redis_at(url, timeout)
    backends = [redis, ["memory", redis], [redis, "memory"]]
    with pytest.warns(CacheWarning, match="The cache backend 'redis' failed"):
        return kappacore.CachedDataset(Source(), backends[tiers], namespace="named")


def read_on(ds):
    """Read for a minute; each sample is right."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert ds[3] == ds.dataset[3]
        time.sleep(0.02)


@pytest.mark.parametrize("tiers", [0, 1, 2], ids=["alone", "behind", "in front"])
def test_a_named_cache_reads_the_source_until_its_server_answers(tiers):
    with start_node() as node:
        node.kill()
        with open_while_down(node.url, tiers=tiers) as ds:
            tier = {0: None, 1: 1, 2: 0}[tiers]
            for _ in range(2):
                assert ds[:] == ds.dataset.all()
                assert [ds[idx] for idx in range(LENGTH)] == ds.dataset.all()
            assert ds.stats(tier).stores == 0
            assert ds.stats(tier).backend_errors >= 1
            node.start()
            time.sleep(0.3)
            ds.prefill(progress=False)
            assert ds[:] == ds.dataset.all()
            with node.client() as client:
                assert client.dbsize() == LENGTH + 3  # the header, the generation and the index
            if not tiers:
                before = ds.stats()
                assert ds[:] == ds.dataset.all()
                assert (ds.stats() - before).hits == LENGTH


@pytest.mark.parametrize("tiers", [0, 1], ids=["alone", "behind"])
def test_what_others_stored_is_compared_before_it_is_served(tiers):
    with start_node() as node:
        with kappacore.CachedDataset(
            Source(b"other"), "redis", url=node.url, namespace="named"
        ) as other:
            other.prefill(progress=False)
        node.send(signal.SIGSTOP)
        with open_while_down(node.url, tiers=tiers, timeout=0.2) as ds:
            assert ds[:] == ds.dataset.all()
            node.send(signal.SIGCONT)
            with pytest.raises(NamespaceMismatchError, match="sample 0 differs"):
                read_on(ds)
        with node.client() as client:
            assert client.keys("*:c:*") == []  # nor claimed
        with kappacore.CachedDataset(
            Source(b"other"), "redis", url=node.url, namespace="named"
        ) as other:
            assert other[:] == other.dataset.all()
            assert other.stats().hits == LENGTH  # nobody has stored anything else


@pytest.mark.parametrize("context", ["fork", "forkserver"])
def test_workers_of_a_cache_whose_server_is_down_find_it_when_it_is_back(context):
    with start_node() as node:
        node.kill()
        with open_while_down(node.url) as ds:
            loader = DataLoader(
                ds,
                4,
                num_workers=2,
                collate_fn=list,
                multiprocessing_context=context,
                persistent_workers=True,
            )
            assert [sample for batch in loader for sample in batch] == ds.dataset.all()
            assert ds.stats().stores == 0
            node.start()
            wait_until(partial(all_hit, ds, loader))
            del loader  # ends its workers


def all_hit(ds, loader):
    before = ds.stats()
    assert [sample for batch in loader for sample in batch] == ds.dataset.all()
    return (ds.stats() - before).hits == LENGTH


def test_a_column_is_read_from_the_source_until_the_server_answers():
    class Labels(kappacore.KDDataset):
        def __len__(self):
            return LENGTH

        def getitem_class(self, idx, ctx=None):
            return idx % 3

    def labels(ds):
        return list(kappacore.ClassFilterWrapper(ds, [1]).indices)

    with start_node() as node:
        node.kill()
        with pytest.warns(CacheWarning, match="The cache backend 'redis' failed"):
            ds = kappacore.CacheWrapper(
                Labels(), redis_at(node.url), items="class", namespace="labels"
            )
        expected = labels(Labels())
        assert labels(ds) == expected
        node.start()
        time.sleep(0.3)
        assert labels(ds) == expected
        reads = ds.stats().source_reads
        assert labels(ds) == expected
        assert ds.stats().source_reads == reads
        ds.close()


@pytest.mark.parametrize(
    "url", ["redis://127.0.0.1:{port}", "redis://127.0.0.1:{silent}", "unix://{folder}/none"]
)
def test_refused_silent_and_no_socket_are_down_and_strict_raises(url, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        number = silent.getsockname()[1]
        url = url.format(port=free_port(), silent=number, folder=tmp_path)
        with open_while_down(url, timeout=0.2) as ds:
            assert ds[1] == ds.dataset[1]
        with pytest.raises(Exception, match=r"[Rr]efused|Timeout|No such file") as raised:
            kappacore.CachedDataset(Source(), redis_at(url, 0.2), namespace="named", strict=True)
        assert type(raised.value).__module__ == "redis.exceptions"


def test_a_proxy_of_tls_whose_server_is_down_is_down(tmp_path):
    cert, key = certificate(tmp_path)
    for proxy in (Proxy(0), TLSProxy(free_port(), cert, key)):
        with open_while_down(f"rediss://127.0.0.1:{proxy.port}?ssl_ca_certs={cert}") as ds:
            assert ds[1] == ds.dataset[1]
        proxy.close()


@pytest.mark.parametrize("down", [True, False])
def test_a_name_that_cannot_be_resolved_now_is_down_and_an_unknown_one_an_error(monkeypatch, down):
    def getaddrinfo(host, *_, **__):  # in place of a name server
        raise socket.gaierror(socket.EAI_AGAIN if down else socket.EAI_NONAME, "sorry")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    if down:
        with open_while_down("redis://cache.example:6379") as ds:
            assert ds[1] == ds.dataset[1]
    else:
        with pytest.raises(InvalidOptionError, match=r"'cache.example' is unknown .*sorry"):
            kappacore.CachedDataset(Source(), redis_at("redis://cache.example:6379"))


@repeated_where_stalled
def test_addresses_that_can_never_answer_are_errors_at_the_start(node, tmp_path):
    proxy = TLSProxy(node.port, *certificate(tmp_path))
    hidden = f"redis://127.0.0.1:{free_port()},127.0.0.1:{proxy.port}"
    for url, timeout, expected in (
        ("redis://a..b:6379", None, r"host 'a..b' is unknown"),
        (f"{node.url}/4000", None, r"has no such database \(DB index is out of range\)"),
        # A server without TLS waits for more of what it takes for a command.
        (node.url.replace("redis:", "rediss:"), 0.3, r"has no TLS. Begin url= with redis://"),
        (f"redis://127.0.0.1:{proxy.port}", None, r"has TLS. Begin url= with rediss://"),
        (hidden, None, r"has TLS. Begin url= with"),
    ):
        backend = redis_at(url, timeout, cluster="," in url)
        with pytest.raises(InvalidOptionError, match=expected):
            kappacore.CachedDataset(Source(), backend, namespace="named")
    proxy.close()


def test_a_server_that_takes_none_from_other_machines_is_an_error_at_the_start():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outside:
        try:
            outside.connect(("192.0.2.1", 9))  # sends nothing
        except OSError as error:
            pytest.skip(f"this machine has no address for others: {error}")
        host = outside.getsockname()[0]
    with start_node(bind="*") as node:
        url = f"redis://{host}:{node.port}"
        for _ in range(3):
            with pytest.raises(InvalidOptionError, match="takes no connections from other m"):
                kappacore.CachedDataset(Source(), redis_at(url), namespace="named")
