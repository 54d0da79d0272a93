"""Credentials that change while a job runs: they are asked for at each connection."""

from __future__ import annotations

import pickle

import pytest

import kappacore
from kappacore.caching.engine import client as engine
from kappacore.errors import CacheWarning, InvalidOptionError
from support.valkey import programs, start_cluster, start_node, wait_until

WORDS = ["one", "two", "three"]
OLD, NEW = "old-s3cret", "new-s3cret"

_current = OLD
_asked = 0


def current():
    """Return the password; pickled by name."""
    global _asked
    _asked += 1
    return _current


def login():
    return "training", _current


@pytest.fixture(autouse=True)
def tried_again_soon(monkeypatch):
    monkeypatch.setattr(engine, "_RETRY_AFTER", 0.1)
    monkeypatch.setitem(globals(), "_current", OLD)


@pytest.fixture(params=programs())
def alone(request):
    with start_node(programs()[request.param]) as running:
        allow([running], f">{OLD}")
        yield running


def allow(nodes, *rules):
    for node in nodes:
        with node.client() as client:
            client.execute_command("ACL", "SETUSER", "training", "on", "~kappa:*", "+@all", *rules)


def rotate(nodes, tell):
    """Change the password, and end all connections."""
    allow(nodes, f">{NEW}", f"<{OLD}")
    tell(NEW)
    for node in nodes:
        with node.client() as client:
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


def read_until_all_hit(ds):
    def all_hit():
        before = ds.stats()
        assert list(ds) == WORDS
        return (ds.stats() - before).hits == len(WORDS)

    wait_until(all_hit)


@pytest.mark.parametrize("kind", ["file", "function", "function of both", "cluster"])
@pytest.mark.filterwarnings("ignore:The cache backend 'redis' failed")
def test_a_new_password_is_used_by_the_next_connection(request, tmp_path, kind):
    with start_cluster() if kind == "cluster" else start_node() as running:
        nodes = running if kind == "cluster" else [running]
        allow(nodes, f">{OLD}")
        file = tmp_path / "password"

        def tell(password):
            file.write_text(f"{password}\n")
            globals()["_current"] = password

        tell(OLD)
        file.write_text(f"\ufeff{OLD}\r\n", encoding="utf-8")  # as some editors do
        options = {
            "file": {"username": "training", "password_file": file},
            "function": {"username": "training", "credentials": current},
            "function of both": {"credentials": login},
            "cluster": {"username": "training", "password_file": str(file), "cluster": True},
        }[kind]
        with kappacore.CachedDataset(
            WORDS, "redis", url=nodes[0].url, namespace="rotated", **options
        ) as ds:
            assert list(ds) == list(ds) == WORDS
            asked = _asked
            assert list(ds) == WORDS
            assert _asked == asked  # once a connection
            rotate(nodes, tell)
            read_until_all_hit(ds)
            pickled = pickle.dumps(ds)
            assert OLD.encode() not in pickled
            assert NEW.encode() not in pickled
            assert list(pickle.loads(pickled)) == WORDS
            shown = [repr(ds), repr(ds._cache.ref), ds.explain()]
            shown += [repr(vars(ds._cache._open().client.backend))]
            assert not [text for text in shown if OLD in text or NEW in text or "training" in text]


def test_a_password_that_is_not_there_for_now_costs_no_sample(alone, tmp_path):
    file = tmp_path / "password"
    file.write_text(OLD)
    options = {"url": alone.url, "username": "training", "password_file": file}
    with kappacore.CachedDataset(WORDS, "redis", namespace="words", **options) as ds:
        assert list(ds) == WORDS
        rotate([alone], lambda _: file.unlink())
        expected = r"password_file='\S+password' cannot be read: .*No such file"
        with pytest.warns(CacheWarning, match=expected):
            found = list(ds)
        assert found == list(ds) == WORDS
        file.write_text(NEW)
        read_until_all_hit(ds)


def broken():
    raise OSError("the vault is closed")


def nothing():
    return None


def binary():
    return b"\xff"


def numbered():
    return 7, OLD


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"credentials": binary}, r"credentials= returned bytes that are not UTF-8"),
        ({"credentials": numbered}, r"credentials= returned a tuple, not a password or a pair"),
        ({"password_file": "none"}, r"password_file='none' cannot be read: .*No such file"),
        ({"password_file": "{empty}"}, r"password_file='\S+empty' holds no password"),
        ({"credentials": broken}, r"credentials= raised OSError: the vault is closed"),
        ({"credentials": nothing}, r"credentials= returned a NoneType, not a password or a pair"),
        ({"credentials": "abc"}, r"credentials= is a str, not a function that returns a password"),
        ({"credentials": current, "password": "x"}, r"password= and credentials= were given"),
        ({"credentials": current, "password_file": "x"}, r"password_file= and credentials= were"),
        ({"password_file": "x", "url": "redis://:pw@h"}, r"password_file= and a password in url="),
    ],
)
def test_what_gives_no_password_is_said_at_the_start(node, tmp_path, options, expected):
    (tmp_path / "empty").touch()
    given = {
        name: value.format(empty=tmp_path / "empty") if isinstance(value, str) else value
        for name, value in options.items()
    }
    with pytest.raises(InvalidOptionError, match=expected):
        kappacore.CachedDataset(WORDS, "redis", **{"url": node.url, **given})


def test_a_wrong_password_of_a_provider_is_told(alone):
    with pytest.raises(InvalidOptionError, match=r"rejects this login .* Give the right") as caught:
        kappacore.CachedDataset(
            WORDS, "redis", url=alone.url.replace("//", "//nobody@"), credentials=current
        )
    assert OLD not in str(caught.value)
    assert "nobody" not in str(caught.value)
