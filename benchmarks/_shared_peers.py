"""Caches that DataLoader workers can share, each peer as its documentation has it."""

from __future__ import annotations

import contextlib
import io
import tempfile
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import Dataset

from benchmarks._samples import Tensors
from kappa_shared import SharedDictDataset

if TYPE_CHECKING:
    from collections.abc import Callable


class PlainDict(Dataset[torch.Tensor]):
    """A dict of this process; workers have what was in it when they were forked."""

    def __init__(self, source: Tensors):
        self.source = source
        self.samples: dict[int, torch.Tensor] = {}

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, idx: int) -> torch.Tensor:
        sample = self.samples.get(idx)
        if sample is None:
            sample = self.samples[idx] = self.source[idx].clone()
        return sample


class Stocaching(PlainDict):
    """One shared tensor of all samples, and a byte each that says whether it is there."""

    def __init__(self, source: Tensors):
        from stocaching import SharedCache

        self.source = source
        with contextlib.redirect_stdout(io.StringIO()):
            self.cache = SharedCache(
                size_limit_gib=64, dataset_len=len(source), data_dims=(source.size,)
            )

    def __getitem__(self, idx: int) -> torch.Tensor:
        sample: torch.Tensor | None = self.cache.get_slot(idx)
        if sample is None:
            sample = self.source[idx]
            self.cache.set_slot(idx, sample)
        return sample


class Ultra(PlainDict):
    """A dict in each process, kept alike by a stream of pickles in shared memory."""

    def __init__(self, source: Tensors):
        from UltraDict import UltraDict

        self.source = source
        room = len(source) * (source.size + 1000) + 2**20
        self.samples = UltraDict(buffer_size=room, full_dump_size=room)


class Lmdb(PlainDict):
    """A file in memory that is mapped; a value is copied out of it."""

    def __init__(self, source: Tensors):
        self.source = source
        self.folder = tempfile.TemporaryDirectory(dir="/dev/shm")
        self.environment: Any = None

    def rest(self) -> None:
        """Close the file, which must not be open where a process forks."""
        if self.environment is not None:
            self.environment.close()
            self.environment = None

    def __getitem__(self, idx: int) -> torch.Tensor:
        if self.environment is None:
            import lmdb

            size = 2 * len(self.source) * (self.source.size + 4096) + 2**20
            self.environment = lmdb.open(
                self.folder.name, map_size=size, sync=False, metasync=False, readahead=False
            )
        key = idx.to_bytes(8, "big")
        with self.environment.begin(buffers=True) as transaction:
            if (value := transaction.get(key)) is not None:
                return torch.frombuffer(bytearray(value), dtype=torch.uint8)
        sample = self.source[idx]
        with self.environment.begin(write=True) as transaction:
            transaction.put(key, sample.numpy().tobytes())
        return sample


def kappadata(source: Tensors) -> Any:
    from kappadata import SharedDictDataset as KappaData

    return KappaData(source)


# KappaData first: the others are compared with it. Opening one of our caches tunes the process's
# allocator, and installed() opens all: the peers gain from that too.
PEERS: dict[str, Callable[[Tensors], Any]] = {
    "KappaData 0.0.8 SharedDict": kappadata,
    "UltraDict": Ultra,
    "LMDB": Lmdb,
    "stocaching (views)": Stocaching,
    "plain dict (no fill)": PlainDict,
    "shared": SharedDictDataset,
    "shared, copy='unsafe'": lambda source: SharedDictDataset(source, copy="unsafe"),
}


def installed() -> list[str]:
    found = []
    for name, make in PEERS.items():
        try:
            make(Tensors(1, 8))[0]
        except ImportError as error:  # noqa: PERF203 - one by one
            print(f"{name} is left out: {error}")
        else:
            found.append(name)
    return found
