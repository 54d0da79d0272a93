"""Options: what is refused and what it says, and that credentials show nowhere."""

from __future__ import annotations

import logging
import pickle
import re
import traceback

import pytest

import kappacore
from kappa_redis import RedisDataset
from kappa_redis.backend import RedisBackend
from kappacore.errors import CacheWarning, InvalidOptionError, UnknownOptionError
from support.valkey import TLSProxy, certificate, free_port, start_node

WORDS = ["one", "two", "three"]
PASSWORD = "very-s3cret"


@pytest.fixture(scope="module")
def guarded():
    with start_node(requirepass=PASSWORD) as running:
        yield running


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            {"url": "localhost:6379"},
            r"url= is not the address of a Redis server; expected redis://host",
        ),
        ({"url": "redis://:pass:word@host:port"}, r"url= is not the address of a Redis server"),
        ({"url": "unix://"}, r"url= is not the address of a Redis server"),
        ({"url": 7}, r"url= is a int, not the address of a Redis server; expected redis://host"),
        ({"ttl": 0}, r"ttl=0 would drop entries at once. Give a duration such as '3d', or None"),
        ({"ttl": "soon"}, r"ttl='soon' is not a duration"),
        ({"max_value_bytes": "1GiB"}, r"max_value_bytes='1GiB' is more than the 512.0 MiB that"),
        ({"max_value_bytes": "big"}, r"max_value_bytes='big' is not a size"),
        ({"timeout": 0}, r"timeout=0 is not a positive number of seconds"),
        ({"connect_timeout": "1"}, r"connect_timeout='1' is not a positive number of seconds"),
        ({"prefix": "a{b}"}, r"prefix='a\{b\}' is not valid. Use up to 64 characters out of"),
        ({"tls_ca": "ca.pem"}, r"A tls_ option was given, but url='redis://127.0.0.1:\d+' does"),
        ({"url": "rediss://h", "tls_ca": "no.pem"}, r"The TLS file 'no.pem' does not exist or is"),
        (
            {"url": "rediss://h", "tls_key": "no.pem"},
            r"a file. Give tls_key= the path of a file in",
        ),
        ({"url": "unix:///s", "cluster": True}, r"cluster=True needs a node's host and port, but"),
        ({"url": "redis://h/2", "cluster": True}, r"names the database 2, but a cluster has only"),
        ({"url": "redis://h?foo=1&bar=s3cret"}, r"and after the question mark 'bar', 'foo', which"),
        ({"url": "redis://h/words"}, r"url= is not the address of a Redis server"),
        ({"url": "redis://h/0/1"}, r"url= is not the address of a Redis server"),
        ({"url": "redis://:12#34@h"}, r"characters of a password percent-encoded"),
        ({"url": "redis://:12?34@h"}, r"characters of a password percent-encoded"),
        ({"max_bytes": "1GiB"}, r"max_bytes='1GiB' limits a private Redis server, but url= or"),
    ],
)
def test_what_cannot_be_used_is_refused_and_said(node, options, expected):
    with pytest.raises(InvalidOptionError, match=expected):
        kappacore.CachedDataset(WORDS, "redis", namespace="words", **{"url": node.url, **options})


def test_an_unknown_option_is_refused_with_those_there_are(node):
    with pytest.raises(UnknownOptionError, match=r"no option 'tls'.* Its options: url, cluster, u"):
        kappacore.CachedDataset(WORDS, "redis", url=node.url, tls=True)


def test_a_server_alone_is_not_taken_for_a_cluster(node):
    expected = r"cluster=True was given, but the Redis server redis://\S+ is not part of a cluster"
    with pytest.raises(InvalidOptionError, match=expected):
        kappacore.CachedDataset(WORDS, "redis", url=node.url, cluster=True)


def test_a_node_of_a_cluster_is_not_taken_for_a_server_alone(cluster):
    expected = r"The Redis server redis://\S+ is part of a cluster. Give cluster=True"
    for each in cluster:
        with pytest.raises(InvalidOptionError, match=expected):
            kappacore.CachedDataset(WORDS, "redis", url=each.url)


@pytest.mark.parametrize("password", [None, "wrong", 1234])
def test_who_is_not_let_in_is_told_so(guarded, password):
    expected = rf"server {guarded.url} rejects this login .* Give the right password="
    with pytest.raises(InvalidOptionError, match=expected):
        kappacore.CachedDataset(WORDS, "redis", url=guarded.url, password=password)


@pytest.mark.parametrize("password", ["1234", 1234, b"1234"])
def test_a_password_may_be_a_number_or_bytes(node, password):
    with node.client() as client:
        client.execute_command("ACL", "SETUSER", "number", "on", ">1234", "~kappa:*", "+@all")
    options = {"url": node.url, "username": "number", "password": password}
    with kappacore.CachedDataset(WORDS, "redis", **options) as ds:
        assert list(ds) == list(ds) == WORDS


def test_a_user_is_told_which_commands_it_lacks(node):
    with node.client() as client:
        rights = "on >x ~kappa:* +@all -unlink -scan -strlen"
        client.execute_command("ACL", "SETUSER", "few", "reset", *rights.split())
    expected = (
        r"This user of the Redis server redis://\S+ may not run STRLEN, UNLINK, SCAN on keys "
        r"that begin with 'kappa:'. Let an administrator allow it: ACL SETUSER <name> ~kappa:\* "
        r"\+strlen \+unlink \+scan\."
    )
    with pytest.raises(InvalidOptionError, match=expected):
        kappacore.CachedDataset(WORDS, "redis", url=node.url, username="few", password="x")


def test_a_user_that_may_not_choose_a_database_is_told_so(node):
    with node.client() as client:
        rights = "on >x ~kappa:* +@all -select"
        client.execute_command("ACL", "SETUSER", "first", "reset", *rights.split())
    expected = r"server redis://\S+/3 refuses this user \(.*'select' command\)\. Let an admin"
    with pytest.raises(InvalidOptionError, match=expected):
        kappacore.CachedDataset(WORDS, "redis", url=f"{node.url}/3", username="first", password="x")


@pytest.mark.slow
def test_a_certificate_that_nobody_vouches_for_is_refused(node, tmp_path):
    cert, key = certificate(tmp_path)
    proxy = TLSProxy(node.port, cert, key)
    url = f"rediss://localhost:{proxy.port}"
    expected = rf"TLS with the Redis server {url} fails: .* Give the authority that signed its"
    with pytest.raises(InvalidOptionError, match=expected):
        kappacore.CachedDataset(WORDS, "redis", url=url)
    with kappacore.CachedDataset(
        WORDS, "redis", namespace="unverified", url=url, tls_verify=False
    ) as ds:
        assert list(ds) == WORDS
        ds.clear()
    proxy.close()


@pytest.mark.slow
def test_what_is_wrong_with_a_certificate_is_said(node, tmp_path):
    for names, client_ca, expected in (
        ("DNS:elsewhere", None, r"Give the name that the certificate has in url="),
        ("IP:127.0.0.1", tmp_path / "cert.pem", r"Give a client's certificate that the server"),
    ):
        cert, key = certificate(tmp_path, names)
        proxy = TLSProxy(node.port, cert, key, client_ca)
        for _ in range(5):  # whichever comes first, the server's refusal or its end
            with pytest.raises(InvalidOptionError, match=expected):
                kappacore.CachedDataset(
                    WORDS, "redis", url=f"rediss://127.0.0.1:{proxy.port}", tls_ca=cert
                )
        proxy.close()


def test_a_password_shows_nowhere_but_in_what_workers_get(guarded, caplog, tmp_path):
    caplog.set_level(logging.DEBUG)
    url = f"redis://default:{PASSWORD}@127.0.0.1:{guarded.port}"
    for options in (
        {"url": url},
        {"url": f"{guarded.url}?password={PASSWORD}"},
        {"url": guarded.socket_url, "username": "default", "password": PASSWORD},
    ):
        with kappacore.CachedDataset(WORDS, "redis", namespace="guarded", **options) as ds:
            assert list(ds) == WORDS
            cache = ds._cache
            shown = [repr(ds), repr(cache.ref), str(cache.ref), ds.explain(), repr(cache.infos())]
            shown += [repr(vars(cache._open().client.backend)), str(ds.stats())]
            assert not [text for text in shown if PASSWORD in text]
            assert list(pickle.loads(pickle.dumps(ds))) == WORDS
            with guarded.client() as client:
                names = client.scan_iter("kappa:*", _type="string")
                stored = b"".join(client.get(name) or b"" for name in names)
            assert PASSWORD.encode() not in stored
    assert PASSWORD not in caplog.text


@pytest.mark.parametrize(
    "url", ["redis://:{}@host/1", "redis://me:{}@host", "rediss://host?db=1&password={}&x=1"]
)
@pytest.mark.parametrize("password", [PASSWORD, f"p@{PASSWORD}", f"{PASSWORD}:@", f"a/{PASSWORD}'"])
def test_a_password_does_not_show_in_a_choice(url, password):
    shown = repr(kappacore.backend("redis", url=url.format(password)))
    assert PASSWORD not in shown
    assert "host" in shown


def test_a_password_shows_in_no_error(guarded, caplog):
    with guarded.client() as client:
        client.execute_command("ACL", "SETUSER", "default", f">{PASSWORD}2")
    wrong = f"{PASSWORD}-but-wrong"
    backend = RedisBackend("errors", 10, url=guarded.url, password=wrong)
    try:
        backend.get(1)
    except Exception:
        text = traceback.format_exc()
    backend.close()
    assert "invalid username-password pair" in text
    assert wrong not in text


def test_a_username_shows_nowhere_either(node, caplog):
    caplog.set_level(logging.DEBUG)
    with node.client() as client:
        for name, rights in (("jane-doe", "+@all"), ("john-doe", "+@all -get -mget -set")):
            client.execute_command(
                "ACL", "SETUSER", name, "reset", *f"on >x ~kappa:* {rights}".split()
            )
    url = node.url.replace("://", "://jane-doe:x@")
    for options in ({"url": node.url, "username": "jane-doe", "password": "x"}, {"url": url}):
        with kappacore.CachedDataset(WORDS, "redis", namespace="users", **options) as ds:
            assert list(ds) == WORDS
            shown = [
                repr(ds),
                repr(ds._cache.ref),
                ds.explain(),
                repr(vars(ds._cache._open().client)),
            ]
            assert not [text for text in shown if "jane-doe" in text]
    with pytest.raises(InvalidOptionError) as caught:
        kappacore.CachedDataset(WORDS, "redis", url=url.replace("jane", "john"))
    text = "".join(traceback.format_exception(caught.value))
    assert "john-doe" not in text + caplog.text
    assert "jane-doe" not in caplog.text


def test_what_a_server_repeats_of_a_password_is_taken_out():
    """As one does that has no such command."""
    with start_node(**{"rename-command": "AUTH nothing"}) as node:
        backend = RedisBackend("errors", 10, url=node.url, username="u", password=PASSWORD)
        with pytest.raises(Exception, match=r"unknown command .AUTH., .*'\*\*\*'") as caught:
            backend.get(1)
        backend.close()
        shown = "".join(traceback.format_exception(caught.value))
        assert PASSWORD not in shown
        with pytest.raises(InvalidOptionError) as refused:
            kappacore.CachedDataset(WORDS, "redis", url=node.url, password=PASSWORD)
        assert PASSWORD not in "".join(traceback.format_exception(refused.value))


def test_a_server_that_is_not_there_costs_its_time_and_not_the_run():
    url = f"redis://127.0.0.1:{free_port()}"
    with pytest.warns(CacheWarning, match=r"The cache backend 'redis' failed: .*refused"):
        ds = kappacore.CachedDataset(_Identified(), "redis", url=url)
    assert list(ds) == WORDS
    assert ds.stats().source_reads == len(WORDS)
    ds.close()


class _Identified:
    def __len__(self):
        return len(WORDS)

    def __getitem__(self, idx):
        return WORDS[idx]

    def sample_fingerprint(self):
        return "words"


def test_the_environment_names_the_server(node, monkeypatch):
    monkeypatch.setenv("KAPPA_REDIS_URL", f"{node.url}/5")
    with kappacore.CachedDataset(WORDS, "redis", namespace="environment") as ds:
        assert ds[0] == "one"
        assert re.search(rf"{node.url}/5", ds.explain())
        ds.clear()


def test_the_old_name_takes_host_and_port(node):
    def shout(word):
        return word.upper()

    with RedisDataset(WORDS, host="127.0.0.1", port=node.port, transform=shout) as ds:
        assert [ds[0], ds[2]] == ["ONE", "THREE"]
        assert f"redis://127.0.0.1:{node.port}" in ds.explain()
        ds.clear()
    with RedisDataset(WORDS, shout, port=node.port, namespace="old-name") as ds:
        assert "redis://localhost:" in ds.explain()
        ds.clear()
    expected = r"host='::1' and port=7 were given beside url=, which names the server too"
    with pytest.raises(InvalidOptionError, match=expected):
        RedisDataset(WORDS, host="::1", port=7, url=node.url)
