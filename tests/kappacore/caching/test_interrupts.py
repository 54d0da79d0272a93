"""Ctrl-C at any moment of what a program does with a cache, and the program goes on."""

from __future__ import annotations

import gc
import os
import threading
import time

import pytest

from kappacore import register_cache_backend
from kappacore.caching.backends.base import CacheBackend
from kappacore.caching.engine import claims
from kappacore.plugins import unregister_cache_backend
from support.caching import load_bytes, namespaces_in, open_cache, open_files
from support.interrupts import interrupted_before, interrupts

pytest.importorskip("kappa_shared")
# An interrupt in a destructor is reported, and cannot be raised.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
PACKAGES = ("kappacore", "kappa_shared")
OPTIONS = {"shared": {"max_bytes": "32MiB"}, "two-methods": {}}
LENGTH = 60_000
EVERY = os.environ.get("KAPPACORE_EVERY_BYTECODE")  # for a full sweep, which takes minutes


class TwoMethods(CacheBackend):
    """Keeps values where all instances of this process see them."""

    scope = "machine"
    values: dict[tuple[str, int], bytes] = {}  # noqa: RUF012

    def __init__(self, namespace, length):
        self.namespace = namespace

    def get(self, key):
        return self.values.get((self.namespace, key))

    def put(self, key, value):
        self.values[self.namespace, key] = b"".join(value)
        return True

    def clear(self):
        self.values.clear()


class Network(TwoMethods):
    """The same with claims that have to be renewed, as those among machines."""

    scope = "network"
    claims: dict[tuple[str, int], tuple[Network, float]] = {}  # noqa: RUF012

    def claim_many(self, keys, ttl):
        now, granted = time.monotonic(), []
        for key in keys:
            owner, until = self.claims.get((self.namespace, key), (self, 0))
            free = (owner is self or until < now) and self.get(key) is None
            if free:
                self.claims[self.namespace, key] = (self, now + ttl)
            granted.append(free)
        return granted

    def release_many(self, keys):
        for key in keys:
            if self.claims.get((self.namespace, key), (None, 0))[0] is self:
                del self.claims[self.namespace, key]


@pytest.fixture(params=["shared", "two-methods"])
def backend(request):
    register_cache_backend("two-methods")(TwoMethods)
    yield request.param
    unregister_cache_backend("two-methods")
    TwoMethods.values.clear()


def new_cache(backend):
    return open_cache(backend, length=LENGTH, options=OPTIONS[backend])


def sweep(call, check, *, step):
    """Interrupt calls before one bytecode each; check what is left after each of them.

    Args:
        call: what is interrupted; called with a number that differs each time.
        check: called with that number afterwards.
        step: how many bytecodes lie between those that are tried.
    """
    number, reached = 0, True
    while reached:
        try:
            with interrupted_before(number, *PACKAGES) as was_interrupted:
                call(number)
        except KeyboardInterrupt:
            pass
        check(number)
        reached = was_interrupted()
        number += 1 if EVERY else step
    assert number > 10 * step, "hardly anything was interrupted"


def no_threads():
    return [each.name for each in threading.enumerate() if each.name.startswith("kappacore")] == []


def read_everywhere(number, *caches):
    for cache in caches:
        assert cache.fetch([number], load_bytes()) == load_bytes()([number])


@pytest.mark.slow
def test_a_fetch_of_a_missing_sample(backend):
    cache, other = new_cache(backend), new_cache(backend)
    read_everywhere(LENGTH - 1, cache, other)
    gc.collect()  # of earlier tests
    files = open_files()

    def check(number):
        read_everywhere(number, other, cache)  # or waits for ever
        assert no_threads()
        assert open_files() == files

    sweep(lambda number: cache.fetch_one(number, load_bytes()), check, step=23)
    cache.close()
    other.close()


@pytest.mark.slow
def test_a_fetch_with_claims_that_a_thread_renews(monkeypatch):
    ttl = 0.3
    monkeypatch.setattr(claims, "CLAIM_TTL", ttl)
    register_cache_backend("network")(Network)
    cache = open_cache("network", length=LENGTH)
    other = open_cache("network", length=LENGTH)
    read_everywhere(LENGTH - 1, cache, other)
    threads = threading.active_count()

    def check(number):
        began = time.monotonic()
        read_everywhere(number, other, cache)
        assert time.monotonic() - began < 100 * ttl
        while threading.active_count() > threads:
            assert time.monotonic() - began < 100 * ttl
            time.sleep(0.01)

    sweep(lambda number: cache.fetch_one(number, load_bytes()), check, step=61)
    cache.close()
    other.close()
    unregister_cache_backend("network")
    Network.values.clear()


@pytest.mark.slow
def test_a_fetch_whose_error_is_kept(backend):
    """As an interactive session keeps its last one."""
    cache, other = new_cache(backend), new_cache(backend)
    read_everywhere(LENGTH - 1, cache, other)
    gc.collect()  # of earlier tests
    files = open_files()
    numbers = iter(range(LENGTH))
    number = 0

    def call():
        nonlocal number
        number = next(numbers)
        cache.fetch([number], load_bytes())

    for _error in interrupts(call):
        read_everywhere(number, other, cache)
        assert no_threads()
        assert open_files() == files
    assert number > 50
    cache.close()
    other.close()


@pytest.mark.slow
def test_opening_and_closing(backend, cache_folder):
    other = new_cache(backend)
    read_everywhere(LENGTH - 1, other)
    gc.collect()  # of earlier tests
    files = open_files()

    def use(number):
        new_cache(backend).close()

    def check(number):
        gc.collect()
        assert open_files() == files
        cache = new_cache(backend)
        read_everywhere(number, cache, other)
        cache.close()

    sweep(use, check, step=401)
    other.close()
    gc.collect()
    assert namespaces_in(cache_folder) == []


@pytest.mark.slow
def test_clearing(backend):
    cache, other = new_cache(backend), new_cache(backend)
    read_everywhere(LENGTH - 1, cache, other)
    gc.collect()  # of earlier tests
    files = open_files()

    def clear(number):
        cache.clear()
        cache.fetch_one(number, load_bytes())

    def check(number):
        read_everywhere(number, other, cache)
        assert open_files() == files

    sweep(clear, check, step=307)
    cache.close()
    other.close()
