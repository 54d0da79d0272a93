"""Sentinels: they say which server is the master, and the cache follows it."""

from __future__ import annotations

import signal
import time

import pytest
from torch.utils.data import DataLoader

import kappacore
from kappa_redis.servers import master
from kappa_redis.servers.address import read_address
from kappacore.cli import main
from kappacore.errors import CacheWarning, InvalidOptionError
from support.valkey import TLSProxy, certificate, free_port, programs, start_guarded, wait_until

LENGTH = 12
FOLLOWED = 15.0  # seconds after the sentinel's own failover; it is asked every second


class Source:
    def __len__(self):
        return LENGTH

    def __getitem__(self, idx):
        return b"%d" % idx

    def all(self):
        return [self[idx] for idx in range(LENGTH)]


@pytest.fixture(scope="module")
def guarded():
    with start_guarded() as running:
        yield running


def open_dataset(url, namespace="followed"):
    return kappacore.CachedDataset(Source(), "redis", url=url, namespace=namespace)


@pytest.fixture
def _left_alone(monkeypatch):
    """A dead master is, for so long that a cache which waited for that would follow too late."""
    monkeypatch.setattr(master, "_PAUSE", 10 * FOLLOWED)


def leave_a_dead_master_alone(_worker):
    master._PAUSE = 10 * FOLLOWED


def hits(ds, loader=None):
    """Read an epoch, compare it, and return the hits."""
    before = ds.stats()
    found = [x for batch in loader for x in batch] if loader else list(ds)
    assert found == ds.dataset.all()
    return (ds.stats() - before).hits


def kill_master(guarded, ds, loader=None):
    """Kill the master, and return how much later than the sentinel the cache followed."""
    guarded.fail_over_after(300)
    guarded.master.kill()
    failed_over = 0.0
    start = time.monotonic()

    def followed():
        nonlocal failed_over
        if not failed_over and guarded.named() != guarded.master.port:
            failed_over = time.monotonic() - start
        found = hits(ds, loader)
        return bool(failed_over) and found == LENGTH

    return wait_until(followed) - failed_over


@pytest.mark.slow
@pytest.mark.parametrize("program", programs())
@pytest.mark.usefixtures("_left_alone")
@pytest.mark.filterwarnings("ignore:The cache backend 'redis' failed")
def test_the_cache_follows_the_master(program):
    with start_guarded(programs()[program]) as guarded:
        url = guarded.url.replace("//", f"//127.0.0.1:{free_port()},")  # one that is down
        with open_dataset(url) as ds:
            assert hits(ds) == 0
            assert hits(ds) == LENGTH
            with guarded.replica.client() as client:
                wait_until(lambda: client.dbsize() == LENGTH + 3)  # header, generation, index
            assert kill_master(guarded, ds) < FOLLOWED
            guarded.master.start()  # as a master, until the sentinel sees it
            ds.clear()
            assert hits(ds) == 0
            with guarded.master.client() as client:
                assert "cmdstat_set" not in client.info("commandstats")
            with guarded.replica.client() as client:
                assert client.dbsize() == LENGTH + 3


@pytest.mark.slow
@pytest.mark.parametrize("context", ["fork", "forkserver"])
@pytest.mark.usefixtures("_left_alone")
@pytest.mark.filterwarnings("ignore:The cache backend 'redis' failed")
def test_workers_follow_the_master(context):
    with start_guarded() as guarded, open_dataset(guarded.url) as ds:
        loader = DataLoader(
            ds,
            2,
            num_workers=2,
            collate_fn=list,
            multiprocessing_context=context,
            persistent_workers=True,
            worker_init_fn=leave_a_dead_master_alone,
        )
        hits(ds, loader)
        assert hits(ds, loader) == LENGTH
        with guarded.replica.client() as client:
            wait_until(lambda: client.dbsize() == LENGTH + 3)
        assert kill_master(guarded, ds, loader) < FOLLOWED
        del loader  # ends its workers


@pytest.mark.slow
@pytest.mark.parametrize("program", programs())
def test_a_master_that_hung_and_was_replaced_is_not_written_to(program):
    with start_guarded(programs()[program]) as guarded, open_dataset(guarded.url) as ds:
        hits(ds)
        guarded.fail_over_after(300)
        guarded.master.send(signal.SIGSTOP)
        wait_until(lambda: guarded.named() != guarded.master.port)
        guarded.fail_over_after()
        guarded.master.send(signal.SIGCONT)
        with guarded.master.client() as client:
            assert client.info("replication")["role"] == "master"  # for some seconds more
            calls = client.info("commandstats")["cmdstat_set"]["calls"]
            time.sleep(1)
            ds.clear()
            assert hits(ds) == 0
            assert client.info("commandstats")["cmdstat_set"]["calls"] == calls
        assert ds.stats().backend_errors == 0


@pytest.mark.slow
@pytest.mark.parametrize("program", programs())
def test_a_planned_failover_costs_no_sample(program):
    with start_guarded(programs()[program]) as guarded, open_dataset(guarded.url) as ds:
        hits(ds)
        with guarded.replica.client() as client:
            wait_until(lambda: client.dbsize() == LENGTH + 3)  # header, generation, index
        with guarded.sentinel.client() as client:
            client.execute_command("SENTINEL", "FAILOVER", "words")
        while guarded.named() == guarded.master.port:
            assert hits(ds) == LENGTH
        for _ in range(5):
            ds.clear()
            assert hits(ds) == 0
            time.sleep(0.1)
        assert (ds.stats().refused, ds.stats().backend_errors) == (0, 0)


def test_sentinels_that_do_not_answer_are_down(guarded):
    for port, number in ((free_port(), 1), (guarded.sentinel.port, 0)):
        url = f"sentinel://127.0.0.1:{port}/words"
        if number:
            with pytest.warns(CacheWarning, match=r"failed: .*no sentinel answers \(127.0.0.1:\d"):
                ds = open_dataset(url, "down")
        else:
            ds = open_dataset(url, "down")
        with ds:
            hits(ds)
            assert hits(ds) == (0 if number else LENGTH)


@pytest.mark.slow
def test_a_master_is_used_on_while_no_sentinel_answers():
    with start_guarded() as guarded, open_dataset(guarded.url) as ds:
        hits(ds)
        guarded.sentinel.kill()
        time.sleep(1.1)  # until they are asked
        assert hits(ds) == LENGTH
        assert ds.stats().backend_errors == 0


def test_what_only_the_user_can_mend_is_an_error_at_the_start(guarded):
    sentinel = f"127.0.0.1:{guarded.sentinel.port}"
    for url, expected in (
        (f"sentinel://{sentinel}/other", r"knows no service 'other'; it knows 'words'. Give the"),
        (f"sentinel://127.0.0.1:{guarded.master.port}/words", r"is no sentinel, but a server"),
        (f"redis://{sentinel}", r"If it is a sentinel, give url='sentinel://"),
        ("sentinel://a..b,c..d/words", r"the host 'a..b' is unknown"),
        (f"sentinel://{sentinel}/words/4000", r"no such database"),
        (f"sentinel://me:secret@{sentinel}/words", r"rejects this login"),
    ):
        with pytest.raises(InvalidOptionError, match=expected) as raised:
            open_dataset(url)
        assert "secret" not in str(raised.value)


def test_an_unknown_service_is_an_error_for_a_user_with_the_fewest_rights(guarded):
    rights = "on >x ~* &* +sentinel|get-master-addr-by-name +sentinel|master"
    with guarded.sentinel.client() as client:
        client.execute_command("ACL", "SETUSER", "few", "reset", *rights.split())
    url = guarded.url.replace("words", "other") + "?sentinel_username=few&sentinel_password=x"
    with pytest.raises(InvalidOptionError, match=r"no service 'other'\. Give the right name"):
        open_dataset(url)


def test_a_scheme_that_the_sentinels_do_not_speak_is_an_error_at_the_start(guarded, tmp_path):
    proxy = TLSProxy(guarded.sentinel.port, *certificate(tmp_path))
    for url, expected in (
        (guarded.url.replace("sentinel", "sentinels"), r"has no TLS. Begin url= with sentinel://"),
        (f"sentinel://127.0.0.1:{proxy.port}/words", r"has TLS. Begin url= with sentinels://"),
    ):
        with pytest.raises(InvalidOptionError, match=expected):
            open_dataset(f"{url}?socket_timeout=0.3&socket_connect_timeout=0.3")
    proxy.close()


@pytest.mark.slow
def test_sentinels_with_a_password(capsys):
    with start_guarded(requirepass="secret") as guarded:
        with pytest.raises(InvalidOptionError, match=r"Give the right sentinel_password="):
            open_dataset(guarded.url)
        with pytest.raises(InvalidOptionError, match=r"Give the right sentinel_pass") as raised:
            open_dataset(f"{guarded.url}?sentinel_password=guess")
        assert "guess" not in str(raised.value)
        with open_dataset(f"{guarded.url}?sentinel_password=secret") as ds:
            hits(ds)
            assert hits(ds) == LENGTH
            assert "secret" not in ds.explain()
            options = ["--backend", "redis", "--opt", f"url={guarded.url}"]
            options += ["--opt", "sentinel_password=secret"]
            assert main(["cache", "ls", *options]) == 0
            assert main(["cache", "info", *options]) == 0
            assert guarded.url in capsys.readouterr().out


@pytest.mark.parametrize(
    ("url", "options", "expected"),
    [
        ("sentinel://a:1,b:2", {}, r"names sentinels, and no service. Give url='sentinel://host:"),
        ("sentinel:///words", {}, r"url= is not the address of a Redis server"),
        ("sentinel://a:b/words", {}, r"url= is not the address of a Redis server"),
        ("sentinel://a/words", {"cluster": True}, r"cluster=True was given, but url=.* sentinels"),
        ("redis://a", {"sentinel_password": "b"}, r"url= names no sentinels"),
    ],
)
def test_addresses_of_sentinels_that_cannot_be_used_are_refused(url, options, expected):
    with pytest.raises(InvalidOptionError, match=expected):
        read_address(url, **options)


@pytest.mark.parametrize("scheme", ["sentinel", "redis+sentinel", "rediss+sentinel", "sentinels"])
def test_an_address_of_sentinels_is_taken_apart(scheme):
    address = read_address(
        f"{scheme}://me:pw@a,[::1]:7/words/3?socket_timeout=2&sentinel_password=x"
    )
    s = "s" * ("ss" in scheme or scheme.endswith("ls"))
    assert address.url == f"sentinel{s}://a:26379,[::1]:7/words/3"
    sentinels = address.sentinels
    assert (sentinels.hosts, sentinels.service) == ((("a", 26379), ("::1", 7)), "words")
    assert (address.arguments["db"], address.arguments["username"]) == (3, "me")
    assert address.arguments["socket_timeout"] == sentinels.arguments["socket_timeout"] == 2
    assert sentinels.arguments["password"] == "x"
    assert "username" not in sentinels.arguments
