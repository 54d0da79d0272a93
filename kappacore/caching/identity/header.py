"""The header of a namespace: whose samples these are, compared by everyone who opens it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kappacore.caching.codec import default_codec
from kappacore.caching.identity.namespace import samples_in
from kappacore.errors import CorruptValueError, NamespaceMismatchError

if TYPE_CHECKING:
    from collections.abc import Callable

    from kappacore.caching.backends.base import Buffer
    from kappacore.caching.codec import Codec
    from kappacore.caching.identity.namespace import Identity

#: Digests of a few samples, by index.
SampleDigests = dict[int, str]


@dataclass(frozen=True)
class NamespaceHeader:
    """What is stored under the key behind the last sample.

    Args:
        parts: The fingerprint and the description of the dataset, part by part.
        digests: Digests of a few samples; none where its writer was not to read any.
        stamp: Tells this header from all others. It is part of the digest of every value, so
            values stored under another header are misses.
    """

    parts: dict[str, Any]
    digests: SampleDigests
    stamp: str

    @classmethod
    def of(cls, identity: Identity, digests: SampleDigests, stamp: str) -> NamespaceHeader:
        """Return the header that belongs to an identity."""
        parts = {"fingerprint": identity.fingerprint, **identity.description}
        return cls(parts, digests, stamp)

    @classmethod
    def decode(cls, codec: Codec, buffer: Buffer, key: int, namespace: str) -> NamespaceHeader:
        """Return the header that was stored.

        Raises:
            CorruptValueError: If the stored bytes are damaged.
        """
        found = codec.decode(buffer, key, namespace)
        parts = found if isinstance(found, dict) else {"header": found}
        return cls(parts, parts.pop("samples", None) or {}, parts.pop("stamp", ""))

    def encode(self, codec: Codec, key: int, namespace: str) -> list[Buffer]:
        """Turn the header into bytes."""
        stored = {**self.parts, "samples": self.digests, "stamp": self.stamp}
        return codec.encode(stored, key, namespace)

    def check(self, identity: Identity) -> None:
        """Compare a stored header with the identity of the dataset at hand.

        Raises:
            NamespaceMismatchError: If it is another dataset's; the message says what differs.
        """
        found, own = self.parts, NamespaceHeader.of(identity, {}, "").parts
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
