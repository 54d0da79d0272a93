"""What many entries cost the backend `shared`: its hits, attaching to it, starting a worker."""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np
from torch.utils.data import DataLoader

from benchmarks._report import record
from benchmarks._samples import Bytes
from benchmarks._timing import seconds_per_call
from kappa_shared import SharedDictDataset
from kappa_shared.backend import SharedBackend


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
        hit = seconds_per_call(lambda turn: dataset[order[turn]], len(order), rounds)  # noqa: B023
        base = base or hit
        record("A hit of 64 bytes as the cache grows", {f"{length:,} entries": hit * 1e6}, "µs")
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
