"""The backend `shared` beside other caches that DataLoader workers can share, in one run.

Samples are tensors of one size, as stocaching needs it. Peers that are not installed are left out;
`make bench` installs them. A plain dict, filled before the workers fork, is the fastest that a
cache can be, and of no use when it is not. Run it on a machine that does nothing else;
`--scaling` goes from 1 to 16 workers.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import statistics
import tempfile
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xxhash
from torch.utils.data import DataLoader, Dataset

import kappacore
from kappa_shared import SharedDictDataset
from kappa_shared.backend import SharedBackend

if TYPE_CHECKING:
    from collections.abc import Callable

BATCH = 64
SIZES = (1_000, 100_000, 150_528)  # the last one is an image of (3, 224, 224)
PATTERNS = 16  # different samples


class Tensors(Dataset[torch.Tensor]):
    """Tensors of ``size`` random bytes, there already: what fills a cache costs nothing else."""

    def __init__(self, length: int, size: int):
        self.length = length
        self.size = size
        self.data: list[torch.Tensor] = [*torch.randint(256, (PATTERNS, size), dtype=torch.uint8)]

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, idx: int) -> torch.Tensor:
        if idx >= self.length:
            raise IndexError(idx)
        return self.data[idx % PATTERNS]


# ---- the peers, each as its documentation has it


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
    "shared, copy=False": lambda source: SharedDictDataset(source, copy=False),
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


# ---- the clock


def seconds_per_hit(dataset: Any, rounds: int) -> float:
    best = float("inf")
    for _ in range(rounds):
        started = time.perf_counter()
        for idx in range(len(dataset)):
            dataset[idx]
        best = min(best, time.perf_counter() - started)
    return best / len(dataset)


def epochs(dataset: Any, workers: int, rounds: int, collate: Any = len) -> tuple[float, float]:
    """Return samples per second of the first epoch, its workers' start included, and the best."""
    if isinstance(dataset, Lmdb):
        dataset.rest()
    loader = DataLoader(
        dataset, BATCH, num_workers=workers, collate_fn=collate, persistent_workers=True
    )
    started = time.perf_counter()
    sum(1 for _ in loader)
    first = time.perf_counter() - started
    best = float("inf")
    for _ in range(rounds):
        started = time.perf_counter()
        sum(1 for _ in loader)
        best = min(best, time.perf_counter() - started)
    return len(dataset) / first, len(dataset) / best


def compare(names: list[str], size: int, samples: int, rounds: int) -> None:
    source = Tensors(samples, size)
    print(
        f"\n{samples} tensors of {size:,} bytes: fill, hot hit, hot epochs of a DataLoader; "
        f"samples/s in thousands; (ratio to {names[0]})"
    )
    print(
        f"{'':27}{'fill, 2 workers':>17}{'per hit, µs':>17}{'1 worker':>17}{'2 workers':>17}"
        f"{'2, collated':>17}"
    )
    base: list[float] = []
    for name in names:
        fill, _ = epochs(PEERS[name](source), 2, 0)
        dataset = PEERS[name](source)
        for idx in range(samples):
            dataset[idx]
            if not torch.equal(dataset[idx], source[idx]):
                raise RuntimeError(f"{name}: sample {idx} came back changed")
        hit = seconds_per_hit(dataset, rounds)
        rates = [
            epochs(dataset, 1, rounds)[1],
            epochs(dataset, 2, rounds)[1],
            epochs(dataset, 2, rounds, torch.utils.data.default_collate)[1],
        ]
        values = [fill, 1 / hit, *rates]
        base = base or values
        shown = [fill / 1e3, hit * 1e6, *(rate / 1e3 for rate in rates)]
        cells = [
            f"{figure:9.1f} ({value / first:5.1f})"
            for figure, value, first in zip(shown, values, base, strict=True)
        ]
        print(f"{name:27}" + " ".join(cells))
        close(dataset)


def close(dataset: Any) -> None:
    if isinstance(dataset, kappacore.CachedDataset):
        dataset.close()


# ---- a hit beside its parts


class Bytes(Dataset[bytes]):
    """Samples of ``size`` bytes."""

    def __init__(self, length: int, size: int):
        self.length = length
        self.data = os.urandom(size)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, idx: int) -> bytes:
        return self.data


def floor(samples: int, rounds: int) -> None:
    size = 100_000
    source = Bytes(samples, size)
    dataset = SharedDictDataset(source, namespace="floor")
    dataset.prefill(progress=False)
    again = SharedDictDataset(source, namespace="floor")  # maps and checks everything anew
    first = each(again.__getitem__, samples, 1)
    views = SharedDictDataset(source, namespace="floor", copy=False)
    block = memoryview(os.urandom(samples * size))
    pieces = [block[start : start + size] for start in range(0, len(block), size)]
    arena = dataset_arena(samples, size)
    figures = {
        "copy of 100 KB": each(lambda idx: bytes(pieces[idx]), samples, rounds),
        "digest of 100 KB": each(
            lambda idx: xxhash.xxh3_64_intdigest(pieces[idx]), samples, rounds
        ),
        "Arena.get": each(arena.get, samples, rounds),
        "first hit (digest, page faults)": first,
        "hit": each(dataset.__getitem__, samples, rounds),
        "hit, copy=False": each(views.__getitem__, samples, rounds),
    }
    print(f"\nBytes of 100 KB through CachedDataset, {samples} of them; µs")
    for name, seconds in figures.items():
        print(f"{name:35}{seconds * 1e6:9.2f}")
    over = figures["hit"] - figures["copy of 100 KB"]
    print(f"{'a hit without its copy':35}{over * 1e6:9.2f}")
    arena.close()
    for cache in (dataset, again, views):
        cache.close()


def dataset_arena(samples: int, size: int) -> SharedBackend:
    backend = SharedBackend("bench-arena", samples)
    value = os.urandom(size)
    for idx in range(samples):
        backend.put(idx, [value])
    return backend


def each(call: Callable[[int], Any], number: int, rounds: int) -> float:
    best = float("inf")
    for _ in range(rounds):
        started = time.perf_counter()
        for idx in range(number):
            call(idx)
        best = min(best, time.perf_counter() - started)
    return best / number


# ---- many entries


def grow(lengths: list[int], rounds: int) -> None:
    print("\nBytes of 64 B, as the cache grows; µs per hit, ms else")
    print(
        f"{'entries':>10}{'hit':>9}{'ratio':>8}{'attach':>9}{'worker, none':>15}"
        f"{'worker, cached':>16}{'adds':>8}"
    )
    base = 0.0
    for length in lengths:
        source = Bytes(length, 64)
        dataset = SharedDictDataset(source, namespace="grow")
        for start in range(0, length, 10_000):
            dataset.__getitems__(list(range(start, min(start + 10_000, length))))
        order = np.random.default_rng(0).permutation(length)[:20_000].tolist()
        order *= max(1, 20_000 // len(order))
        hit = each(lambda turn: dataset[order[turn]], len(order), rounds)  # noqa: B023
        base = base or hit
        namespace = SharedBackend.namespaces()
        name = next(info.namespace for info in namespace if info.namespace.startswith("grow."))
        attach = statistics.median(attach_seconds(name, length) for _ in range(11))
        # Alternating, for the start of a process depends on what the machine does beside.
        starts = [(start_seconds(source), start_seconds(dataset)) for _ in range(15)]
        plain, cached = (statistics.median(times) for times in zip(*starts, strict=True))
        adds = statistics.median(after - before for before, after in starts)
        print(
            f"{length:10,}{hit * 1e6:9.2f}{hit / base:8.2f}{attach * 1e3:9.2f}{plain * 1e3:15.1f}"
            f"{cached * 1e3:16.1f}{adds * 1e3:8.1f}"
        )
        dataset.close()


def attach_seconds(namespace: str, length: int) -> float:
    started = time.perf_counter()
    backend = SharedBackend(namespace, length + 2)  # the engine's two keys more
    seconds = time.perf_counter() - started
    backend.close()
    return seconds


def start_seconds(dataset: Any) -> float:
    """Return how long it takes to start a worker and to have a first batch from it."""
    loader = DataLoader(dataset, 8, num_workers=1, collate_fn=len)
    started = time.perf_counter()
    batches = iter(loader)
    next(batches)
    seconds = time.perf_counter() - started
    del batches
    return seconds


# ---- many workers


def scale(names: list[str], samples: int, rounds: int) -> None:
    source = Tensors(samples, 100_000)
    counts = [1, 2, 4, 8, 16]
    print(f"\n{samples} tensors of 100,000 bytes, hot epochs; samples/s in thousands")
    print(f"{'workers':27}" + "".join(f"{count:10}" for count in counts))
    for name in names:
        dataset = PEERS[name](source)
        for idx in range(samples):
            dataset[idx]
        rates = [epochs(dataset, workers, rounds)[1] / 1e3 for workers in counts]
        print(f"{name:27}" + "".join(f"{rate:10.1f}" for rate in rates))
        close(dataset)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--small", action="store_true", help="try it out: few samples, one size")
    parser.add_argument("--scaling", action="store_true", help="only: 1 to 16 workers")
    arguments = parser.parse_args()
    samples = 200 if arguments.small else arguments.samples
    rounds = 2 if arguments.small else arguments.rounds
    torch.set_num_threads(1)
    names = installed()
    if arguments.scaling:
        scale([names[0], *names[-2:]], samples, rounds)
        return
    for size in SIZES[1:2] if arguments.small else SIZES:
        compare(names, size, samples, rounds)
    floor(samples, rounds)
    grow([1_000, 10_000] if arguments.small else [1_000, 10_000, 100_000, 1_000_000], rounds)


if __name__ == "__main__":
    main()
