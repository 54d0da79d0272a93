"""A hit of the backend `shared`, beside its parts."""

from __future__ import annotations

import os

import xxhash

from benchmarks._report import record
from benchmarks._samples import Bytes
from benchmarks._timing import seconds_per_call
from kappa_shared import SharedDictDataset
from kappa_shared.backend import SharedBackend


def floor(samples: int, rounds: int) -> None:
    size = 100_000
    source = Bytes(samples, size)
    dataset = SharedDictDataset(source, namespace="floor")
    dataset.prefill(progress=False)
    again = SharedDictDataset(source, namespace="floor")  # maps and checks everything anew
    first = seconds_per_call(again.__getitem__, samples, 1)
    views = SharedDictDataset(source, namespace="floor", copy=False)
    block = memoryview(os.urandom(samples * size))
    pieces = [block[start : start + size] for start in range(0, len(block), size)]
    arena = dataset_arena(samples, size)
    figures = {
        "copy of 100 KB": seconds_per_call(lambda idx: bytes(pieces[idx]), samples, rounds),
        "digest of 100 KB": seconds_per_call(
            lambda idx: xxhash.xxh3_64_intdigest(pieces[idx]), samples, rounds
        ),
        "Arena.get": seconds_per_call(arena.get, samples, rounds),
        "first hit (digest, page faults)": first,
        "hit": seconds_per_call(dataset.__getitem__, samples, rounds),
        "hit, copy=False": seconds_per_call(views.__getitem__, samples, rounds),
    }
    print(f"\nBytes of 100 KB through CachedDataset, {samples} of them; µs")
    record("A hit and its parts", {name: each * 1e6 for name, each in figures.items()}, "µs")
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
