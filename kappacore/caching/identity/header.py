"""The record beside the samples: it says whose they are, and whoever comes next compares."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from kappacore.caching.codec import default_codec
from kappacore.caching.engine.claims import CLAIM_TTL, claim_many, holding
from kappacore.caching.engine.cleanup import samples_in
from kappacore.errors import CorruptValueError

if TYPE_CHECKING:
    from collections.abc import Callable

    from kappacore.caching.backends.base import Buffer
    from kappacore.caching.codec import Codec
    from kappacore.caching.engine.client import Session
    from kappacore.caching.identity.determinism import Evidence
    from kappacore.caching.identity.namespace import Identity

__all__ = ["agree", "dataset_of"]

_WAIT = 0.001  # seconds between looks at a record that another process is writing


def agree(
    session: Session,
    codec: Codec,
    identity: Identity,
    length: int,
    prove: Callable[[], Evidence],
) -> Evidence | None:
    """Compare the namespace's record with ``identity``, or write it where there is none.

    It lies under the key behind the last sample. One process writes it, the others wait for it.

    Args:
        session: this process's use of the backend.
        codec: turns the record into bytes.
        identity: whose record it should be.
        length: number of samples.
        prove: called before a record is written; raises what speaks against it, and returns what
            the samples look like.

    Returns:
        What the record says the samples look like; None if the backend cannot keep even that.

    Raises:
        NamespaceMismatchError: if it is another dataset's.
    """
    evidence: Evidence | None = None
    while True:
        buffer = session.get_many([length])[0]
        corrupt = False
        if buffer is not None:
            try:
                record = codec.decode(buffer, length, identity.namespace)
            except CorruptValueError:
                corrupt = True
            else:
                identity.check(record)
                found: Evidence = record.get("samples") or {}
                return found
        if evidence is not None:  # written and lost: this backend keeps nothing for long
            return None
        if corrupt or claim_many(session, [length], CLAIM_TTL)[0]:
            with holding(session, [length]):
                evidence = prove()
                if not _write(session, codec, identity, length, evidence):
                    return None
        time.sleep(_WAIT)


def _write(
    session: Session, codec: Codec, identity: Identity, length: int, evidence: Evidence
) -> bool:
    record = {**identity.record(), "samples": evidence}
    pieces = codec.encode(record, length, identity.namespace)
    stored = session.put_many([(length, pieces)])
    if stored is not None and not stored[0]:
        session.fullness.note(sum(map(len, pieces)), session.info(), record=True)
    return stored is not None and stored[0]


def dataset_of(namespace: str, get: Callable[[int], Buffer | None]) -> str:
    """Return whose samples a namespace holds, for people; empty if nothing says.

    Args:
        namespace: its name.
        get: looks one key up.
    """
    key = samples_in(namespace)
    value = None if key is None else get(key)
    if key is None or value is None:
        return ""
    try:
        record = default_codec().decode(value, key, namespace)
    except CorruptValueError:  # half of it lost in a crash, or written by a codec of the user's
        return ""
    return str(record.get("dataset", "")) if isinstance(record, dict) else ""
