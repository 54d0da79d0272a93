"""Nodes of a cluster as people write them: several addresses, and other ones for use from outside.

The nodes tell each other's addresses as they know them. Behind a router that translates addresses
(NAT), or a tunnel, these cannot be reached: ``address_remap`` then says which address to use.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from kappacore.errors import InvalidOptionError

#: A host and a port.
Place = tuple[str, int]
Remap = Callable[[Place], Place]

_LISTS = re.compile(r"(?P<head>(?:redis|valkey)s?://(?:[^/?]*@)?)(?P<hosts>[^/?@]*)(?P<tail>.*)")
_PLACE = re.compile(r"(?:\[(?P<ip>[^\[\]]+)\]|(?P<host>[^\[\]:/@?,=\s]+)):(?P<port>\d{1,5})")
_REMAP = (
    "expected a mapping such as {'10.0.0.5:6379': 'cache.example.org:7001'}, the text "
    "'10.0.0.5:6379=cache.example.org:7001,…', or a module's function that takes and returns a "
    "pair of host and port"
)


def split(url: object) -> list[Any]:
    """Return the URLs of a list, and of each that names several hosts, one for each host.

    Raises:
        InvalidOptionError: If there is none, or a host is empty.
    """
    urls: list[Any] = []
    for each in url if isinstance(url, list | tuple) else [url]:
        found = _LISTS.fullmatch(each) if isinstance(each, str) else None
        if found is None or "," not in found["hosts"]:
            urls.append(each)
            continue
        hosts = found["hosts"].split(",")
        if not all(hosts):
            raise InvalidOptionError(f"url= has an empty host in {found['hosts']!r}.")
        urls += [f"{found['head']}{host}{found['tail']}" for host in hosts]
    if not urls:
        raise InvalidOptionError(
            "url= is an empty list. Give the URL of at least one node of the cluster, as "
            "url=['redis://node1:6379', 'redis://node2:6379']."
        )
    return urls


def check_alike(first: dict[str, Any], other: dict[str, Any]) -> None:
    """Check that a URL differs from the first one in host and port alone, or says no more.

    Args:
        first: What the first URL says.
        other: What the other URL says.

    Raises:
        InvalidOptionError: If it says anything else; no value is repeated.
    """
    differing = {name for name in other.keys() - {"host", "port"} if other[name] != first.get(name)}
    if other.get("connection_class") is not first.get("connection_class"):
        differing = differing - {"connection_class"} | {"scheme"}
    if differing:
        raise InvalidOptionError(
            f"url= names nodes of one cluster that differ in more than host and port "
            f"({', '.join(sorted(differing))}). Say the rest in the first URL, or as options."
        )


def show(place: Place) -> str:
    """Return a host and a port as in a URL."""
    host, port = place
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def read_remap(given: object) -> Remap:
    """Return the function that says where a node is, seen from here.

    Raises:
        InvalidOptionError: If the option is none of the kinds there are.
    """
    if given is None:
        return as_told
    if isinstance(given, str):
        pairs = [pair.partition("=") for pair in given.split(",")]
        given = {inside: outside for inside, _, outside in pairs}
    if isinstance(given, Mapping):
        table = {_place(inside): _place(outside) for inside, outside in given.items()}
        return lambda place: table.get(place, place)
    if callable(given):
        return partial(_asked, given)
    raise InvalidOptionError(f"address_remap= is a {type(given).__name__}; {_REMAP}.")


def as_told(place: Place) -> Place:
    """Return where a node is: where the others say."""
    return place


def _place(text: object) -> Place:
    found = _PLACE.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise InvalidOptionError(f"address_remap= has {text!r} for a host and a port; {_REMAP}.")
    return found["ip"] or found["host"], int(found["port"])


def _asked(remap: Callable[[Place], Any], place: Place) -> Place:
    match answer := remap(place):
        case (str(host), int(port)):
            return host, port
    raise InvalidOptionError(f"address_remap= returned {answer!r} for {place!r}; {_REMAP}.")
