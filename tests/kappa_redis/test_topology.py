"""A cluster that lives: nodes die and are replaced, slots move, and addresses are not as told."""

from __future__ import annotations

import pickle
import signal
import time

import pytest
from redis.crc import key_slot

import kappacore
from kappa_redis.backend import RedisBackend
from kappa_redis.entries.layout import Layout
from kappa_redis.servers import cluster as cluster_module
from kappa_redis.servers import topology
from kappacore.errors import InvalidOptionError
from support.stalls import repeated_where_stalled
from support.valkey import (
    NEVER,
    fail_over_after,
    free_port,
    programs,
    start_cluster,
    wait_until,
)

SLOTS = 16384
LENGTH, BATCH = 256, 16
HALF = {"cluster-require-full-coverage": "no"}


class Source:
    """Samples that are known to be right."""

    mark = b"a"

    def __len__(self):
        return LENGTH

    def __getitem__(self, idx):
        return self.mark * 500, idx

    def sample_fingerprint(self):
        return "topology"


@pytest.fixture(params=programs())
def program(request):
    return programs()[request.param]


@pytest.fixture
def _new_process(monkeypatch):
    """One that knows no cluster yet."""
    monkeypatch.setattr(topology, "_last_answers", {})


def open_dataset(url, namespace="topology", source=None, **options):
    return kappacore.CachedDataset(
        source or Source(), "redis", namespace=namespace, **{"url": url, "cluster": True, **options}
    )


def read_epoch(ds):
    """Read all samples in batches, each of which is right; return what that cost."""
    before = ds.stats()
    for start in range(0, LENGTH, BATCH):
        batch = list(range(start, start + BATCH))
        assert ds.__getitems__(batch) == [ds.dataset[idx] for idx in batch]
    return ds.stats() - before


def read_until_all_hit(ds):
    """Read epoch after epoch until one is served by the cluster; return how long that took."""
    return wait_until(lambda: read_epoch(ds).hits == LENGTH)


def holder_of(nodes, name):
    """Return the node that holds a key in a new cluster, and its slot."""
    slot = key_slot(name.encode())
    return nodes[slot * len(nodes) // SLOTS], slot


def run(node, *command):
    with node.client() as client:
        return client.execute_command(*command)


# ---- spread


@pytest.mark.parametrize("nodes", [3, 9, 20])
def test_no_node_holds_more_than_a_quarter_above_its_part(nodes):
    layout = Layout("kappa:", "spread", topology.cluster_tags())
    for length in (200, 1000, 10_000):
        held = [0] * nodes
        for key in range(length):
            held[key_slot(layout.claim(key).encode()) * nodes // SLOTS] += 1
        assert max(held) <= 1.25 * length / nodes, (length, held)


# ---- nodes that die


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The cache backend 'redis' failed")
@pytest.mark.parametrize(
    ("kind", "number"),
    [("valkey", signal.SIGKILL), ("valkey", signal.SIGSTOP), ("redis", signal.SIGKILL)],
    ids=["valkey-killed", "valkey-hung", "redis-killed"],
)
@repeated_where_stalled
def test_reads_of_the_source_stop_soon_after_a_replica_has_taken_over(monkeypatch, kind, number):
    """And not when the node would be tried again: after 20 times the time-out that it cost."""
    monkeypatch.setattr(cluster_module, "_NODE_PATIENCE", 1000)
    monkeypatch.setattr(cluster_module, "_LONGEST_PAUSE", 1000)
    program = programs().get(kind) or pytest.skip(f"{kind} is not installed")
    timeout = 0.5 if number == signal.SIGSTOP else None
    with (
        start_cluster(3, program, replicas=1) as nodes,
        open_dataset(nodes[1].url, timeout=timeout) as ds,
    ):
        read_epoch(ds)
        assert read_epoch(ds).hits == LENGTH
        fail_over_after(nodes, 1000)
        nodes[0].send(number)

        def taken_over():
            stats = read_epoch(ds)
            assert stats.hits + stats.source_reads == LENGTH
            return nodes[0].port not in ports(nodes[1]) and is_up(nodes[1])

        wait_until(taken_over)
        assert read_until_all_hit(ds) < 15  # it asks twice a second
        assert read_epoch(ds).backend_errors == 0


def ports(node):
    """Return the ports of the nodes that hold slots."""
    return {primary[1] for _, _, primary, *_ in run(node, "CLUSTER", "SLOTS")}


def is_up(node):
    return run(node, "CLUSTER INFO")["cluster_state"] == "ok"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The cache backend 'redis' failed")
def test_the_node_with_the_header_costs_its_own_samples_like_any_other():
    with start_cluster(**HALF) as nodes, open_dataset(nodes[0].url) as ds:
        read_epoch(ds)
        layout = Layout("kappa:", "topology", topology.cluster_tags())
        holder, _ = holder_of(nodes, layout.claim(LENGTH))
        holder.kill()
        read_epoch(ds)
        time.sleep(0.6)
        for _ in range(2):
            stats = read_epoch(ds)
            assert LENGTH / 3 < stats.hits < LENGTH
            assert (stats.corrupt, stats.backend_errors) == (0, 0)
        holder.start()
        read_until_all_hit(ds)


@pytest.mark.usefixtures("_new_process")
def test_one_of_several_nodes_is_enough(cluster):
    dead = f"redis://127.0.0.1:{free_port()}"
    hosts = [url.removeprefix("redis://") for url in (dead, cluster[2].url)]
    for url in ([dead, cluster[2].url], (dead, cluster[2].url), f"redis://{','.join(hosts)}"):
        topology._last_answers.clear()
        with open_dataset(url, "seeds") as ds:
            read_epoch(ds)
            assert read_epoch(ds).hits == LENGTH
            assert dead in ds.explain()
            ds.clear()


@pytest.mark.slow
@pytest.mark.usefixtures("_new_process")
@pytest.mark.filterwarnings("ignore:The cache backend 'redis' failed")
def test_workers_begin_with_all_nodes_that_were_known():
    with start_cluster(replicas=1) as nodes:
        for node in nodes:
            run(node, "CONFIG", "SET", "masterauth", "s3cret", "requirepass", "s3cret")
            node.options["requirepass"] = "s3cret"
        url = nodes[0].url.replace("//", "//default:s3cret@")
        with open_dataset(url) as ds:
            read_epoch(ds)
            options = RedisBackend.prepare(url=url, cluster=True)
            assert sorted(options["url"]) == sorted(node.url for node in nodes)
            pickled = pickle.dumps(ds)
        fail_over_after(nodes, 1000)
        nodes[0].kill()
        topology._last_answers.clear()
        with pickle.loads(pickled) as ds:
            read_until_all_hit(ds)


# ---- slots that move


class Move:
    """The way of one slot from a node to another, key by key, as redis-cli does it."""

    def __init__(self, nodes, name):
        self.source, self.slot = holder_of(nodes, name)
        self.target = nodes[(nodes.index(self.source) + 1) % len(nodes)]
        self._nodes = nodes
        self._ids = [run(node, "CLUSTER", "MYID") for node in (self.source, self.target)]
        run(self.target, "CLUSTER", "SETSLOT", self.slot, "IMPORTING", self._ids[0])
        run(self.source, "CLUSTER", "SETSLOT", self.slot, "MIGRATING", self._ids[1])

    def move(self, most):
        """Move some of the keys; return how many."""
        keys = run(self.source, "CLUSTER", "GETKEYSINSLOT", self.slot, most)
        for key in keys:
            run(self.source, "MIGRATE", "127.0.0.1", self.target.port, key, 0, NEVER)
        return len(keys)

    def finish(self):
        while self.move(100):
            pass
        for node in (self.target, self.source, *self._nodes):
            run(node, "CLUSTER", "SETSLOT", self.slot, "NODE", self._ids[1])


@pytest.mark.slow
def test_a_slot_that_moves_key_by_key_costs_no_sample(program):
    tag = topology.cluster_tags()[0]
    with start_cluster(3, program) as nodes, open_dataset(nodes[2].url) as ds:
        read_epoch(ds)
        move = Move(nodes, tag)
        for most in (0, 1, 1):
            move.move(most)
            stats = read_epoch(ds)
            assert (stats.hits, stats.backend_errors) == (LENGTH, 0)
        with open_dataset(nodes[0].url, "meanwhile") as other:
            stats = read_epoch(other)
            assert (stats.stores, stats.backend_errors) == (LENGTH, 0)
            stats = read_epoch(other)
            assert (stats.hits, stats.backend_errors) == (LENGTH, 0)
            move.finish()
            for each in (ds, other):
                stats = read_epoch(each)
                assert (stats.hits, stats.backend_errors) == (LENGTH, 0)


@pytest.mark.slow
def test_what_was_cleared_while_a_slot_moves_is_not_served(program):
    changing = Source()
    with (
        start_cluster(3, program) as nodes,
        open_dataset(nodes[2].url, source=changing, check=False) as ds,
        open_dataset(nodes[0].url, source=changing, check=False) as other,
    ):
        move = Move(nodes, topology.cluster_tags()[0])
        for step in range(8):
            read_epoch(ds)
            assert read_epoch(other).hits == LENGTH
            move.move(1)
            changing.mark = b"%d" % step
            ds.clear()
            assert read_epoch(other).source_reads == LENGTH
        move.finish()
        assert read_epoch(other).hits == read_epoch(ds).hits == LENGTH
        ds.clear()
        assert read_epoch(other).hits == 0


# ---- addresses that are not as told


def to_loopback(place):
    """Stands for a router; pickled by name."""
    host, port = place
    return ("127.0.0.1" if host.endswith(".invalid") else host), port


def nowhere(place):
    return place[0]


@pytest.fixture
def hidden(cluster):
    """A cluster whose nodes tell each other names that nobody can resolve here."""
    for number, node in enumerate(cluster):
        run(node, "CONFIG", "SET", "cluster-announce-hostname", f"node-{number}.invalid")
        run(node, "CONFIG", "SET", "cluster-preferred-endpoint-type", "hostname")
    expected = {b"node-0", b"node-1", b"node-2"}
    wait_until(lambda: all(names(node) == expected for node in cluster))
    yield cluster
    for node in cluster:
        run(node, "CONFIG", "SET", "cluster-preferred-endpoint-type", "ip")


def names(node):
    return {primary[0].partition(b".")[0] for _, _, primary in run(node, "CLUSTER", "SLOTS")}


@pytest.mark.usefixtures("_new_process")
def test_nodes_are_reached_at_other_addresses_than_they_tell(hidden):
    url = hidden[0].url
    table = {
        f"node-{number}.invalid:{node.port}": f"127.0.0.1:{node.port}"
        for number, node in enumerate(hidden)
    }
    text = ",".join(f"{inside}={outside}" for inside, outside in table.items())
    for options in (
        {"address_remap": table},
        {"address_remap": text},
        {"address_remap": to_loopback},
        {"url": f"{url}?address_remap={text}"},
    ):
        topology._last_answers.clear()
        with open_dataset(**{"url": url, "namespace": "hidden", **options}) as ds:
            read_epoch(ds)
            with pickle.loads(pickle.dumps(ds)) as copy:
                stats = read_epoch(copy)
                assert (stats.hits, stats.backend_errors) == (LENGTH, 0)
            ds.clear()


@pytest.mark.usefixtures("_new_process")
def test_a_node_that_does_not_know_its_address_has_that_it_was_asked_at(cluster):
    for node in cluster:
        run(node, "CONFIG", "SET", "cluster-preferred-endpoint-type", "unknown-endpoint")
    with open_dataset(cluster[0].url, "unknown") as ds:
        read_epoch(ds)
        assert read_epoch(ds).hits == LENGTH
        ds.clear()
    for node in cluster:
        run(node, "CONFIG", "SET", "cluster-preferred-endpoint-type", "ip")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"url": []}, r"url= is an empty list. Give the URL of at least one node"),
        ({"url": ["redis://a", 7]}, r"url= is a int, not the address of a Redis server"),
        ({"url": "redis://a:1,,b:2"}, r"url= has an empty host in 'a:1,,b:2'"),
        ({"url": "redis://a:1,b:x"}, r"url= is not the address of a Redis server"),
        (
            {"url": ["redis://a", "redis://b"], "cluster": False},
            r"url= names 2 servers, which is for the nodes of one cluster. Give cluster=True, or",
        ),
        (
            {"url": ["redis://:pw1@a", "redis://:pw2@b?db=1", "rediss://c"]},
            r"names nodes of one cluster that differ in more than host and port \(db, password\)\.",
        ),
        ({"url": ["redis://a", "rediss://c"]}, r"more than host and port \(scheme\)\. Say the re"),
        ({"address_remap": {}, "cluster": False}, r"address_remap= was given, which is for the"),
        ({"address_remap": 7}, r"address_remap= is a int; expected a mapping such as \{'10.0"),
        ({"address_remap": {"a": "b:1"}}, r"address_remap= has 'a' for a host and a port; expe"),
        ({"address_remap": "a:1=b"}, r"address_remap= has 'b' for a host and a port; expected"),
        ({"address_remap": nowhere}, r"address_remap= returned '127.0.0.1' for \('127.0.0.1', "),
    ],
)
@pytest.mark.usefixtures("_new_process")
def test_addresses_that_cannot_be_used_are_refused_and_said(cluster, options, expected):
    with pytest.raises(InvalidOptionError, match=expected) as caught:
        open_dataset(**{"url": cluster[0].url, "cluster": True, **options})
    assert "pw" not in str(caught.value).replace("password", "")
