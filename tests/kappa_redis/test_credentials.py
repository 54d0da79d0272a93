"""Certificates, keys and users: what can be used, and what is said of the rest."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import pytest

import kappacore
from kappa_redis.backend import RedisBackend
from kappacore.errors import InvalidOptionError
from support.valkey import TLSProxy, certificate, programs, start_node

WORDS = ["one", "two", "three"]
PHRASE = "open-sesame"
READER = "on >x ~kappa:* +get +mget +type +scan +strlen +pttl"


@pytest.fixture(params=programs())
def alone(request):
    """A server of the test's own, of each kind that is installed."""
    with start_node(programs()[request.param]) as running:
        yield running


@pytest.fixture(scope="module")
def tls(node, tmp_path_factory):
    """A server that asks for a certificate: its URL, and a folder with certificates and keys."""
    folder = tmp_path_factory.mktemp("tls")
    cert, key = certificate(folder)
    words = ["openssl", "rsa", "-aes256", "-passout", f"pass:{PHRASE}", "-in", key]
    subprocess.run([*words, "-out", folder / "locked.pem"], check=True, capture_output=True)
    (folder / "trusted").mkdir()
    (folder / "trusted" / "authority.pem").write_bytes(cert.read_bytes())
    (folder / "unhashed").mkdir()
    (folder / "unhashed" / "authority.pem").write_bytes(cert.read_bytes())
    subprocess.run(["openssl", "rehash", folder / "trusted"], check=True, capture_output=True)
    proxy = TLSProxy(node.port, cert, key, client_ca=cert)
    yield f"rediss://localhost:{proxy.port}", folder
    proxy.close()


def files(folder, **names):
    return {name: folder / file for name, file in names.items()}


@pytest.mark.slow
def test_authorities_may_lie_in_a_folder(tls):
    url, folder = tls
    options = files(folder, tls_ca="trusted", tls_cert="cert.pem", tls_key="key.pem")
    with kappacore.CachedDataset(WORDS, "redis", url=url, namespace="folder", **options) as ds:
        assert list(ds) == list(ds) == WORDS
        assert ds.stats().hits == 3
        ds.clear()


@pytest.mark.slow
def test_a_locked_key_is_opened_by_its_pass_phrase_which_shows_nowhere(tls, caplog):
    caplog.set_level(logging.DEBUG)
    url, folder = tls
    options = files(folder, tls_ca="cert.pem", tls_cert="cert.pem", tls_key="locked.pem")
    for where in ({"tls_key_password": PHRASE}, {"url": f"{url}?ssl_password={PHRASE}"}):
        given = {"url": url, **options, **where}
        with kappacore.CachedDataset(WORDS, "redis", namespace="locked", **given) as ds:
            assert list(ds) == list(ds) == WORDS
            cache = ds._cache
            shown = [repr(ds), repr(cache.ref), str(cache.ref), ds.explain(), repr(cache.infos())]
            shown += [repr(vars(cache._open().client.backend)), repr(kappacore.backend("redis"))]
            assert PHRASE not in "".join(shown)
            ds.clear()
        assert PHRASE not in repr(kappacore.backend("redis", **given))
    assert PHRASE not in caplog.text


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ({"tls_ca": "unhashed"}, r"TLS folder '\S+unhashed' has no certificate .* openssl rehash"),
        ({"tls_ca": "none"}, r"The TLS file '\S+none' does not exist or is not a file"),
        ({"tls_cert": "trusted"}, r"The TLS file '\S+trusted' does not exist or is not a file"),
        ({"tls_ca": "key.pem"}, r"The TLS file '\S+key.pem' holds no certificates .* in PEM form"),
        ({"tls_key": "key.pem"}, r"tls_key= was given without tls_cert=. Give the certificate"),
        (
            {"tls_cert": "cert.pem", "tls_key": "locked.pem"},
            r"The key '\S+locked.pem' needs a pass phrase. Give it as tls_key_password=",
        ),
        (
            {"tls_cert": "cert.pem"},
            r"The certificate '\S+cert.pem' and the key '\S+cert.pem' cannot be used together",
        ),
    ],
)
def test_files_that_cannot_be_used_are_named(tls, names, expected):
    url, folder = tls
    with pytest.raises(InvalidOptionError, match=expected):
        kappacore.CachedDataset(WORDS, "redis", url=url, **files(folder, **names))


def test_a_wrong_pass_phrase_is_said_and_not_shown(tls):
    url, folder = tls
    options = files(folder, tls_ca="cert.pem", tls_cert="cert.pem", tls_key="locked.pem")
    with pytest.raises(InvalidOptionError, match=r"the pass phrase in tls_key_pass") as caught:
        kappacore.CachedDataset(WORDS, "redis", url=url, tls_key_password="wrong-one", **options)
    assert "wrong-one" not in str(caught.value)


def test_nobody_is_asked_for_a_pass_phrase(tls):
    """OpenSSL asks on the terminal of the process, so it gets one."""
    import pty

    url, folder = tls
    script = (
        "import sys, kappa_redis.servers.address as a, redis\n"
        "given = dict(tls_cert=sys.argv[1] + '/cert.pem', tls_key=sys.argv[1] + '/locked.pem')\n"
        "try:\n    address = a.read_address(sys.argv[2], **given)\n"
        "except Exception as error:\n    print(type(error).__name__)\n"
        "else:\n    redis.Redis(connection_pool=redis.ConnectionPool(\n"
        "        connection_class=address.connection_class, **address.arguments)).ping()\n"
    )
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-c", script, folder, url],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=250,
        start_new_session=True,
        check=False,
    )
    os.close(theirs)
    os.close(ours)
    assert done.stdout == b"InvalidOptionError\n"


@pytest.mark.parametrize("rights", [READER, READER.replace(" +scan", "")])
def test_a_user_that_may_only_read_is_a_reader(alone, caplog, rights):
    options = {"url": alone.url, "namespace": "words"}
    reader = {**options, "username": "reader", "password": "x"}
    with alone.client() as client:
        client.execute_command("ACL", "SETUSER", "reader", "reset", *rights.split())
        client.config_set("maxmemory", "100mb")  # of which it has enough
    with kappacore.CachedDataset(WORDS, "redis", **reader) as ds:  # there is nothing yet
        assert list(ds) == list(ds) == WORDS
        assert (ds.stats().stores, ds.stats().backend_errors) == (0, 0)
    assert "may only read" in caplog.text
    with kappacore.CachedDataset(WORDS, "redis", **options) as ds:
        assert list(ds) == WORDS
    with kappacore.CachedDataset(WORDS, "redis", strict=True, **reader) as ds:
        assert list(ds) == WORDS
        assert (ds.stats().hits, ds.stats().backend_errors) == (3, 0)
        assert "redis" in ds.explain()
        with pytest.raises(Exception, match=r"(?i)permission"):
            ds.clear()
        before = ds.stats()
        assert list(ds) == WORDS
        assert (ds.stats() - before).hits == 3  # nothing has ended
    with alone.client() as client:
        before = client.info("commandstats")
        backend = RedisBackend("words.sample.sample.3.v2", 5, **reader_of(reader))
        for _ in range(3):
            assert None not in backend.get_many([0, 1, 2])
            assert backend.claim_many([0], 5) == [True]
            assert backend.put(0, [b"value"]) is False
        after = client.info("commandstats")
        backend.close()
        refused = "cmdstat_pexpire"
        assert after.get(refused) == before.get(refused)  # nothing more is tried


def reader_of(options):
    return {name: value for name, value in options.items() if name != "namespace"}


def test_a_user_that_loses_the_right_to_write_reads_on(alone):
    with alone.client() as client:
        client.execute_command("ACL", "SETUSER", "reader", *f"{READER} +@all".split())
        options = {"url": alone.url, "username": "reader", "password": "x"}
        with kappacore.CachedDataset(WORDS, "redis", namespace="words", **options) as ds:
            assert list(ds) == WORDS
            client.execute_command("ACL", "SETUSER", "reader", "-@write", "+get", "+mget")
            assert list(ds) == list(ds) == WORDS
            before = ds.stats()
            assert list(ds) == WORDS
            assert (ds.stats() - before).hits == 3
