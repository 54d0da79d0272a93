"""Which servers an address stands for: one, the master that sentinels name, or a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kappa_redis.servers.cluster import Cluster
from kappa_redis.servers.master import WatchedServer
from kappa_redis.servers.server import Server

if TYPE_CHECKING:
    from kappa_redis.servers.address import Address


def open_server(address: Address) -> Server:
    """Return the server at an address; it connects when the first command is sent."""
    if address.sentinels is not None:
        return WatchedServer(address, address.sentinels)
    return Cluster(address) if address.cluster else Server(address)
