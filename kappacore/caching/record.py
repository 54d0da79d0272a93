"""The record beside the samples: it says whose they are, and whoever comes next compares."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from kappacore.caching.session import CLAIM_TTL
from kappacore.errors import CorruptValueError, NamespaceMismatchError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kappacore.caching.codec import Codec
    from kappacore.caching.namespace import Identity
    from kappacore.caching.session import Session

__all__ = ["agree", "compare"]

_WAIT = 0.001  # seconds between looks at a record that another process is writing
_LOOKED_AT, _COMPARED = 256, 2  # entries


def agree(session: Session, codec: Codec, identity: Identity, length: int) -> bool:
    """Compare the namespace's record with ``identity``, or write it where there is none.

    It lies under the key behind the last sample. One process writes it, the others wait for it.

    Returns:
        False if the backend cannot keep even the record.

    Raises:
        NamespaceMismatchError: if it is another dataset's.
    """
    written = False
    while True:
        buffer = session.get_many([length])[0]
        if buffer is not None:
            try:
                identity.check(codec.decode(buffer, length, identity.namespace))
            except CorruptValueError:
                return _write(session, codec, identity, length)
            return True
        if written:  # and lost again: this backend keeps nothing for long
            return False
        if session.claim_many([length], CLAIM_TTL)[0]:
            try:
                written = _write(session, codec, identity, length)
                if not written:
                    return False
            finally:
                session.release_many([length])
        time.sleep(_WAIT)


def compare(
    session: Session,
    codec: Codec,
    identity: Identity,
    length: int,
    load: Callable[[list[int]], Sequence[Any]],
) -> None:
    """Compare two entries with the source, where no fingerprint says what they are.

    Raises:
        NamespaceMismatchError: if one of them differs.
    """
    keys = range(0, length, max(1, length // _LOOKED_AT))
    buffers = session.get_many(keys)
    found = [(key, buffer) for key, buffer in zip(keys, buffers, strict=True) if buffer]
    for key, buffer in found[:: max(1, len(found) - 1)][:_COMPARED]:
        pieces = codec.encode(load([key])[0], key, identity.digest_name)
        if b"".join(pieces) != bytes(buffer):
            raise NamespaceMismatchError(
                f"The cache namespace {identity.namespace!r} holds other samples than this "
                f"dataset: sample {key} differs. Either it was filled from another dataset (give "
                f"this one another namespace=), or the dataset returns something new at each read "
                f"(cache what is below the random part). check=False skips this comparison."
            )


def _write(session: Session, codec: Codec, identity: Identity, length: int) -> bool:
    pieces = codec.encode(identity.record(), length, identity.namespace)
    stored = session.put_many([(length, pieces)])
    if stored is not None and not stored[0]:
        session.refused(sum(map(len, pieces)))
    return stored is not None and stored[0]
