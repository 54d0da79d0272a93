"""Sources must give the same sample at every read: a cache would freeze the first."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash

from kappacore.errors import (
    InvalidItemError,
    NondeterministicSourceError,
    UncacheableValueError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from kappacore.caching.backends.base import Buffer
    from kappacore.caching.codec import Codec
    from kappacore.caching.identity.header import SampleDigests
    from kappacore.caching.identity.namespace import Identity

    #: Reads samples at indices: a list, or an iterator where a sample may change when the next is
    #: read. A single one comes in a list.
    LoadSamples = Callable[[list[int]], Iterable[Any]]

_CANDIDATES = 8  # samples among which three are looked for that differ in size

_DRAWN = 2  # samples, beside the first, the middle and the last


@dataclass(frozen=True)
class Source:
    """Samples of a source in the form in which they would be stored, read anew by each call.

    Args:
        load: Reads the samples at a list of indices.
        codec: Turns samples into bytes.
        identity: What the source is.
    """

    load: LoadSamples
    codec: Codec
    identity: Identity

    def digest(self, idx: int) -> str:
        """Read a sample and return the digest of its value."""
        return self.digest_value(next(iter(self.load([idx]))), idx)

    def digest_value(self, value: Any, idx: int) -> str:
        """Return the digest of a sample that was read."""
        return _digest(self.encode_value(value, idx))

    def encode_value(self, value: Any, idx: int) -> list[Buffer]:
        """Return the bytes of a sample that was read, whatever its key and namespace."""
        try:
            return _encode_equal(self.codec, value)
        except UncacheableValueError as error:
            raise UncacheableValueError(
                f"Sample {idx} of {self.identity.description['dataset']}: {error}"
            ) from error


def value_digest(codec: Codec, value: Any) -> str:
    """Return the digest of a value, whatever its key and namespace."""
    return _digest(_encode_equal(codec, value))


def _encode_equal(codec: Codec, value: Any) -> list[Buffer]:
    """Return the bytes of a value, those of equal values being equal.

    The order of a dict is kept in a cache, but two with other orders are equal, and one made of a
    set has another order in every process.
    """
    pieces = codec.encode(value, 0)  # refuses what is too deep, or contains itself
    ordered = _with_dicts_in_order(codec, value)
    return pieces if ordered is value else codec.encode(ordered, 0)


def _with_dicts_in_order(codec: Codec, value: Any) -> Any:
    """Return a value with its dicts ordered by the bytes of their keys; itself if it has none."""
    kind = type(value)
    if kind is dict:
        keys = sorted(value, key=lambda key: b"".join(codec.encode(key, 0)))
        return {key: _with_dicts_in_order(codec, value[key]) for key in keys}
    if kind not in (list, tuple):
        return value
    parts = [_with_dicts_in_order(codec, part) for part in value]
    same = all(part is other for part, other in zip(parts, value, strict=True))
    return value if same else kind(parts)


def samples_looked_at(namespace: str, length: int) -> list[int]:
    """Return the indices of the samples that stand for all of a namespace: at most five.

    They are the first, the middle, the last, and two drawn from the namespace's name.
    """
    if not length:
        return []
    name = namespace.encode()
    drawn = [xxhash.xxh3_64_intdigest(name, number) % length for number in range(_DRAWN)]
    return sorted({0, length // 2, length - 1, *drawn})


def check_determinism(source: Source, length: int) -> SampleDigests:
    """Read a few samples twice and compare; random states are left as they were.

    Args:
        source: The source.
        length: Its number of samples.

    Returns:
        Digests of these samples.

    Raises:
        NondeterministicSourceError: If two reads of a sample differ.
    """
    digests: SampleDigests = {}
    with random_states_restored():
        for idx in samples_looked_at(source.identity.namespace, length):
            digests[idx] = source.digest(idx)
            if source.digest(idx) != digests[idx]:
                description = source.identity.description
                item = description["item"]
                what = "sample" if item == "sample" else f"item {item!r} of sample"
                raise NondeterministicSourceError(
                    f"The {what} {idx} of {description['dataset']} differs between two reads, so "
                    f"a cache would freeze whatever came first. Put the cache below the random "
                    f"part (random transforms come after it: transform=…, or a TransformWrapper "
                    f"above). check=False caches the first read all the same."
                )
        _check_batches(source, length)
    return digests


def _check_batches(source: Source, length: int) -> None:
    """Compare three samples read in a batch with the same read alone, if there is a batch form.

    They are not of one size where possible: a batch that is padded to its longest would look right.

    Raises:
        InvalidItemError: If one differs.
    """
    candidates = sorted({k * (length - 1) // (_CANDIDATES - 1) for k in range(_CANDIDATES)})
    if length < 2 or not _in_batches(source.load(candidates[:2])):
        return
    single = getattr(source.load, "single", None) or (lambda idx: next(iter(source.load([idx]))))
    alone = {idx: b"".join(source.encode_value(single(idx), idx)) for idx in candidates}
    by_size = sorted(candidates, key=lambda idx: len(alone[idx]))
    chosen = sorted({by_size[0], by_size[len(by_size) // 2], by_size[-1]})
    for idx, value in zip(chosen, source.load(chosen), strict=True):
        if source.digest_value(value, idx) != _digest([alone[idx]]):
            description = source.identity.description
            item = description["item"]
            form = "getitems_<item>" if item == "sample" else f"getitems_{item}"
            raise InvalidItemError(
                f"Sample {idx} of {description['dataset']} ({item!r}) is another one when it is "
                f"read in a batch with {chosen} than when it is read alone; a cache keeps what a "
                f"single read gives. Let {form} return each sample as it is alone (pad to the "
                f"longest of a batch in collate_fn), or leave it out."
            )


def _in_batches(samples: Iterable[Any]) -> bool:
    # Not by its class: the engine imports no torch, as datasets do.
    return getattr(samples, "partly_batched", False) or not isinstance(samples, Iterator)


def _digest(pieces: Iterable[Buffer]) -> str:
    digest = xxhash.xxh3_128()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


@contextmanager
def random_states_restored() -> Iterator[None]:
    """Leave the random generators of Python, numpy and torch as they were before the block."""
    python, numpy = random.getstate(), np.random.get_state()
    torch = sys.modules.get("torch")
    state = None if torch is None else torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        if torch is not None:
            torch.set_rng_state(state)
