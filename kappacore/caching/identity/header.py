"""The header of a namespace: whose samples these are, compared by everyone who opens it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from kappacore.caching.codec import default_codec
from kappacore.caching.identity.namespace import samples_in
from kappacore.errors import CorruptValueError, NamespaceMismatchError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from kappacore.caching.backends.base import BackendInfo, Buffer
    from kappacore.caching.codec import Codec
    from kappacore.caching.identity.namespace import Identity

__all__ = [
    "Entries",
    "KeyClaims",
    "NamespaceHeader",
    "SampleDigests",
    "dataset_of",
    "read_or_write_header",
]

_WAIT = 0.001  # seconds between looks at a header that another process is writing

#: Digests of a few samples, by index.
SampleDigests = dict[int, str]


class Entries(Protocol):
    """The entries of one namespace, as bytes: what is asked here of the engine's store."""

    name: str
    codec: Codec
    identity: Identity
    length: int

    @property
    def failing(self) -> bool: ...
    def info(self) -> BackendInfo | None: ...
    def get_buffers(self, keys: Sequence[int]) -> list[Buffer | None]: ...
    def put_header(self, pieces: Sequence[Buffer]) -> bool: ...


class KeyClaims(Protocol):
    """Claims on keys, so that one process writes and the others wait."""

    def hold_claims(self, keys: list[int]) -> AbstractContextManager[list[int]]: ...


@dataclass(frozen=True)
class NamespaceHeader:
    """What is stored under the key behind the last sample.

    Args:
        parts: The fingerprint and the description of the dataset, part by part.
        digests: Digests of a few samples.
    """

    parts: dict[str, Any]
    digests: SampleDigests

    @classmethod
    def of(cls, identity: Identity, digests: SampleDigests | None = None) -> NamespaceHeader:
        """Return the header that belongs to an identity."""
        return cls({"fingerprint": identity.fingerprint, **identity.description}, digests or {})

    @classmethod
    def decode(cls, codec: Codec, buffer: Buffer, key: int, namespace: str) -> NamespaceHeader:
        """Return the header that was stored.

        Raises:
            CorruptValueError: If the stored bytes are damaged.
        """
        found = codec.decode(buffer, key, namespace)
        parts = found if isinstance(found, dict) else {"header": found}
        return cls(parts, parts.pop("samples", None) or {})

    def encode(self, codec: Codec, key: int, namespace: str) -> list[Buffer]:
        """Turn the header into bytes."""
        return codec.encode({**self.parts, "samples": self.digests}, key, namespace)

    def check(self, identity: Identity) -> None:
        """Compare a stored header with the identity of the dataset at hand.

        Raises:
            NamespaceMismatchError: If it is another dataset's; the message says what differs.
        """
        found, own = self.parts, NamespaceHeader.of(identity).parts
        if found.get("fingerprint", "") == identity.fingerprint:
            return
        differences = "".join(
            f"\n  {part}: the cache has {found.get(part)!r}, this dataset has {own.get(part)!r}"
            for part in {**own, **found}
            if found.get(part) != own.get(part)
        )
        raise NamespaceMismatchError(
            f"The cache namespace {identity.namespace!r} holds samples of another dataset:"
            f"{differences}\n"
            f"Give this dataset another namespace=."
        )


def read_or_write_header(
    entries: Entries, claims: KeyClaims, prove: Callable[[], SampleDigests]
) -> SampleDigests | None:
    """Compare a namespace's header with the identity of its user, or write it if there is none.

    One process writes it; the others wait.

    Args:
        entries: The entries of the namespace.
        claims: Claims on their keys.
        prove: Called before a header is written. Raises if the source cannot be cached; returns
            digests of a few of its samples.

    Returns:
        The digests in the header; None if the backend cannot keep even a header.

    Raises:
        NamespaceMismatchError: If the namespace is another dataset's.
    """
    codec, identity, key = entries.codec, entries.identity, entries.length
    digests: SampleDigests | None = None
    while True:
        buffer = entries.get_buffers([key])[0]
        corrupt = False
        if buffer is not None:
            try:
                header = NamespaceHeader.decode(codec, buffer, key, identity.namespace)
            except CorruptValueError:
                corrupt = True
            else:
                header.check(identity)
                return header.digests
        if digests is not None:  # written and lost: this backend keeps nothing for long
            return None
        with claims.hold_claims([key]) as claimed:
            if claimed or corrupt:
                digests = prove()
                header = NamespaceHeader.of(identity, digests)
                if not entries.put_header(header.encode(codec, key, identity.namespace)):
                    return None
        time.sleep(_WAIT)


def dataset_of(namespace: str, get: Callable[[int], Buffer | None]) -> str:
    """Return the name of the dataset whose samples a namespace holds; empty if unknown.

    Args:
        namespace: The name of the namespace.
        get: Looks one key up.
    """
    key = samples_in(namespace)
    value = None if key is None else get(key)
    if key is None or value is None:
        return ""
    try:
        header = NamespaceHeader.decode(default_codec(), value, key, namespace)
    except CorruptValueError:  # half of it lost in a crash, or written by a codec of the user's
        return ""
    return str(header.parts.get("dataset", ""))
