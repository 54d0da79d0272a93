"""Servers that the tests of this folder share; each test stores under names of its own."""

from __future__ import annotations

import pytest

from kappa_redis.servers import address
from support.valkey import programs, start_cluster, start_node


@pytest.fixture(scope="session")
def node():
    with start_node() as running:
        yield running


@pytest.fixture(scope="session")
def redis_node():
    """A server of Redis, where it is installed."""
    with start_node(programs()["redis"]) as running:
        yield running


@pytest.fixture(scope="session")
def cluster():
    with start_cluster() as nodes:
        yield nodes


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """Time-outs that no machine reaches; tests of servers that hang give shorter ones."""
    monkeypatch.setattr(address, "_TIMEOUTS", {"timeout": 60.0, "connect_timeout": 60.0})


@pytest.fixture(autouse=True)
def _no_server_from_outside(monkeypatch):
    monkeypatch.delenv("KAPPA_REDIS_URL", raising=False)
