from __future__ import annotations

import os
import socket
import time
import uuid

import pytest

from kappa_redis.backend import RedisBackend


@pytest.fixture
def backends(node):
    name = f"claims{uuid.uuid4().hex}.sample.sample.10.v1"
    return [RedisBackend(name, 10, url=node.url) for _ in range(2)]


def test_claimants_are_named(backends):
    first, second = backends
    before = time.time()
    assert first.claim_many([1, 2], 30) == [True, True]
    after = time.time()
    found = second.claimants([0, 1])
    assert found[0] is None
    assert (found[1].pid, found[1].host) == (os.getpid(), socket.gethostname())
    assert before - 0.01 <= found[1].since <= after + 0.01  # in milliseconds
    assert "python" in found[1].command


def test_a_claim_without_end_is_void(backends, node):
    first, second = backends
    assert first.claim_many([1, 2, 3], 30) == [True, True, True]
    with node.client() as client:
        names = sorted(client.scan_iter(f"kappa:{first._namespace.name}:c:*"))
        client.persist(names[0])
        client.pexpire(names[1], 40_000)
    assert second.claim_many([1, 2, 3], 30) == [False, False, False]
    assert second.claim_many([1, 2, 3], 30) == [True, True, False]


def test_a_claim_is_renewed_for_longer(backends):
    first, second = backends
    assert first.claim_many([1], 0.3) == [True]
    assert first.claim_many([1], 30) == [True]
    time.sleep(0.5)
    assert second.claim_many([1], 30) == [False]
    assert second.claim_many([1], 30) == [False]
