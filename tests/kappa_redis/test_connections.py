"""The part of the suite that needs no processes, on every kind of connection."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

import kappacore
from kappacore.testing import CacheBackendSuite
from kappacore.testing.caching.sharing import ClaimTests
from kappacore.testing.caching.storing import LifetimeTests, NamespaceTests, ValueTests
from support.valkey import TLSProxy, certificate, start_node

PASSWORD = "s3cret/@:"
DOCS = Path(__file__).parents[2] / "docs" / "redis.md"
RIGHTS = re.search(r"> ACL SETUSER training (.*)", DOCS.read_text(encoding="utf-8"))[1]


@pytest.fixture(scope="module")
def guarded():
    with start_node(requirepass=PASSWORD) as running:
        yield running


@pytest.fixture(scope="module")
def tls(node, tmp_path_factory):
    cert, key = certificate(tmp_path_factory.mktemp("tls"))
    proxy = TLSProxy(node.port, cert, key, client_ca=cert)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", os.devnull)  # every connection would read 150 authorities
        yield proxy, cert, key
    proxy.close()


class Functional(ValueTests, NamespaceTests, LifetimeTests):
    backend = "redis"
    limit_option = None
    case = CacheBackendSuite.case
    store = CacheBackendSuite.store
    timeout = CacheBackendSuite.timeout


class TestTCP(Functional):
    @pytest.fixture
    def backend_options(self, node):
        return {"url": f"{node.url}/3"}


class TestTLS(Functional):
    @pytest.fixture
    def backend_options(self, tls):
        proxy, cert, key = tls
        url = f"rediss://localhost:{proxy.port}"
        return {"url": url, "tls_ca": cert, "tls_cert": cert, "tls_key": key}


class TestPassword(Functional):
    @pytest.fixture
    def backend_options(self, guarded):
        return {"url": guarded.url, "password": PASSWORD}


class TestUserOfAPrefix(Functional):
    """One with the rights that the documentation asks for, on keys of another prefix."""

    @pytest.fixture
    def backend_options(self, node):
        allow(node, RIGHTS)
        return {"url": node.url, "username": "training", "password": "pass", "prefix": "team:"}


class TestCluster(Functional, ClaimTests):
    @pytest.fixture
    def backend_options(self, cluster):
        return {"url": cluster[0].url, "cluster": True}


def test_a_user_of_a_cluster_needs_no_more_than_the_documentation_says(cluster):
    for node in cluster:
        allow(node, f"{RIGHTS} +cluster|slots +asking")
    options = {"username": "training", "password": "pass", "prefix": "team:"}
    url = cluster[0].url
    with kappacore.CachedDataset(
        ["a", "b"], "redis", url=url, cluster=True, namespace="rights", strict=True, **options
    ) as ds:
        assert list(ds) == ["a", "b"]
        assert list(ds) == ["a", "b"]
        assert ds.stats().hits == 2
        ds.clear()


def allow(node, rights):
    """Let the user ``training`` do something."""
    rights = rights.replace("~kappa:", "~team:").replace(">password", ">pass")
    with node.client() as client:
        client.execute_command("ACL", "SETUSER", "training", "reset", *rights.split())
