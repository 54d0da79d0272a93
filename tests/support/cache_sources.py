"""Datasets whose reads are counted over all processes; importable in spawned workers."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import torch.utils.data

from kappacore.datasets import KDDataset
from support.caching import Log

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

__all__ = [
    "SMALL",
    "BatchItems",
    "BatchSamples",
    "Images",
    "Labels",
    "RandomImages",
    "Samples",
    "Stream",
]

#: Options of a cache where reads are counted: it does not look at its source before.
SMALL: dict[str, Any] = {"max_bytes": "1MiB", "check": False}


def _content(idx: int, seed: int, size: int) -> bytes:
    return bytes([idx % 251, seed % 251]) * (size // 2)


class Samples(torch.utils.data.Dataset[Any]):
    """Samples ``(bytes, int)``, as a plain PyTorch dataset gives them.

    Args:
        log: file where the indices that were read are noted.
        length: number of samples.
        seed: another one gives other content.
        size: of the bytes.
        delay: of each read, in seconds.
    """

    classes = ("cat", "dog")

    def __init__(
        self,
        log: str | os.PathLike[str],
        length: int = 10,
        *,
        seed: int = 0,
        size: int = 100,
        delay: float = 0.0,
    ) -> None:
        self.log = Log(log)
        self.length = length
        self.seed = seed
        self.size = size
        self.delay = delay
        self.targets = [idx % 2 for idx in range(length)]

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, idx: int) -> Any:
        if not 0 <= idx < self.length:
            raise IndexError(idx)
        self.log.add(idx)
        time.sleep(self.delay)
        return self.sample(idx)

    def sample(self, idx: int) -> Any:
        """Return what is at ``idx`` without reading it."""
        return (_content(idx, self.seed, self.size), idx)


class BatchSamples(Samples):
    """The same, read in batches; notes each batch by its length, negated."""

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        self.log.add(-len(indices))
        return [self.sample(idx) for idx in indices]


class BatchItems(KDDataset):
    """The same as item x of a ``KDDataset``, whose batch form is declared."""

    def __init__(self, log: str | os.PathLike[str], length: int = 10) -> None:
        self.source = BatchSamples(log, length)
        self.log = self.source.log

    def __len__(self) -> int:
        return len(self.source)

    def getitems_x(self, indices: Sequence[int]) -> list[Any]:
        return self.source.__getitems__(indices)

    def sample(self, idx: int) -> Any:
        """Return what is at ``idx`` without reading it."""
        return self.source.sample(idx)


class Images(KDDataset):
    """Item x has a raw form, as images in files have; item class does not.

    Args:
        log: file where reads of x are noted by index, and decodings by ``-1 - index``.
        length: number of samples.
        seed: another one gives other content.
        known: whether the content is identified by fingerprints.
    """

    n_classes = 2

    def __init__(
        self, log: str | os.PathLike[str], length: int = 10, *, seed: int = 0, known: bool = False
    ) -> None:
        self.log = Log(log)
        self.length = length
        self.seed = seed
        self.known = known
        self.closed = False

    def __len__(self) -> int:
        return self.length

    def getraw_x(self, idx: int) -> bytes:
        self.log.add(idx)
        return _content(idx, self.seed, 100)

    def decode_x(self, raw: bytes, ctx: dict[str, Any] | None = None) -> torch.Tensor:
        self.log.add(-1 - raw[0])
        if ctx is not None:
            ctx["raw"] = len(raw)
        return torch.frombuffer(bytearray(raw), dtype=torch.uint8)

    def getitem_class(self, idx: int) -> int:
        return idx % 2

    def getall_class(self) -> list[int]:
        return [idx % 2 for idx in range(self.length)]

    def fingerprint(self, item: str, raw: bool = False) -> str | None:
        return f"images {self.seed} {item} {raw}" if self.known else None

    def close(self) -> None:
        self.closed = True

    def reads(self) -> dict[int, int]:
        """Return how often each x was read from the source."""
        return {idx: count for idx, count in self.log.count().items() if idx >= 0}

    def decodings(self) -> int:
        """Return how often an x was decoded."""
        return sum(count for idx, count in self.log.count().items() if idx < 0)


class Labels(KDDataset):
    """Item class alone, one read a label; nothing gives them all at once.

    Args:
        log: file where the indices that were read are noted.
        labels: the labels.
        known: whether they are identified by a fingerprint.
    """

    def __init__(
        self, log: str | os.PathLike[str], labels: Sequence[Any], *, known: bool = True
    ) -> None:
        self.log = Log(log)
        self.labels = labels
        self.known = known

    def __len__(self) -> int:
        return len(self.labels)

    def getitem_class(self, idx: int) -> Any:
        self.log.add(idx)
        return self.labels[idx]

    def fingerprint(self, item: str, raw: bool = False) -> str | None:
        return f"labels {self.labels} {item} {raw}" if self.known else None


class RandomImages(Images):
    """Images that say that they are random."""

    is_random = True


class Stream(torch.utils.data.IterableDataset[int]):
    """Has no indices."""

    def __iter__(self) -> Iterator[int]:
        return iter(range(3))
