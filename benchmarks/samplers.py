"""Samplers at the size of ImageNet, beside torch's and KappaData 1.4.15's in the same run.

Of each: making it, its first index, a whole epoch of indices (milliseconds, best of a few), and by
how much the process grew meanwhile (a process of its own for each). KappaData's are measured where
``--kappadata`` names a folder that has it::

    pip install --no-deps --target FOLDER kappadata==1.4.15
    python -m benchmarks.samplers --kappadata FOLDER
"""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import resource
import sys
import time
import types
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import DistributedSampler, RandomSampler, WeightedRandomSampler

import kappacore
from benchmarks._report import record
from kappacore import samplers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SAMPLES, CLASSES = 1_281_167, 1000


class Labelled(kappacore.KDDataset):
    """Labels in memory, as both packages ask for them."""

    def __init__(self, labels: np.ndarray[Any, Any]):
        self.labels = labels
        self.n_classes = CLASSES

    def __len__(self) -> int:
        return len(self.labels)

    def getitem_class(self, idx: int) -> int:
        return self.labels.item(idx)  # type: ignore[no-any-return]

    def getall_class(self) -> np.ndarray[Any, Any]:
        return self.labels

    def getdim_class(self) -> int:
        return CLASSES


def cases(number: int, peers: str | None) -> Iterator[tuple[str, Callable[[], Any]]]:
    generator = np.random.default_rng(0)
    dataset = Labelled(generator.integers(0, CLASSES, number))
    weights = generator.random(number)
    lengths = generator.integers(1, 512, number)
    tensor = torch.from_numpy(weights)
    ranks: dict[str, Any] = {"rank": 0, "world_size": 1}
    yield "WeightedSampler", lambda: samplers.WeightedSampler(dataset, weights, **ranks)
    yield "  torch's", lambda: WeightedRandomSampler(tensor, number)  # type: ignore[arg-type]
    yield (
        "WeightedSampler, without replacement",
        lambda: samplers.WeightedSampler(dataset, weights, replacement=False, **ranks),
    )
    yield (
        "  torch's",
        lambda: WeightedRandomSampler(tensor, number, replacement=False),  # type: ignore[arg-type]
    )
    if peers:
        weighted = kappadata(peers, "weighted_sampler").WeightedSampler
        yield "  KappaData's", lambda: weighted(dataset, tensor)
    yield (
        "WeightedSampler, by class",
        lambda: samplers.WeightedSampler(dataset, by="class", **ranks),
    )
    yield "ClassBalancedSampler", lambda: samplers.ClassBalancedSampler(dataset, **ranks)
    if peers:
        balanced = kappadata(peers, "class_balanced_sampler").ClassBalancedSampler
        yield "  KappaData's", lambda: balanced(dataset)
    yield "DistributedSampler", lambda: samplers.DistributedSampler(dataset, **ranks)
    yield "  torch's", lambda: DistributedSampler(dataset, 1, 0)
    yield "  torch's RandomSampler", lambda: RandomSampler(dataset)
    yield "InfiniteSampler", lambda: samplers.InfiniteSampler(dataset, **ranks)
    yield (
        "MixSampler",
        lambda: samplers.MixSampler(dataset + dataset, [3, 1], length=number, **ranks),
    )
    yield (
        "BucketBatchSampler, batches of 32",
        lambda: samplers.BucketBatchSampler(dataset, lengths, 32, **ranks),
    )
    yield (
        "BucketBatchSampler, of 16,384 tokens",
        lambda: samplers.BucketBatchSampler(dataset, lengths, max_tokens=16_384, **ranks),
    )


def kappadata(folder: str, name: str) -> Any:
    """Import a file of KappaData without the package, which would import torchvision."""
    if "kappadata" not in sys.modules:
        for package in ("kappadata", "kappadata.samplers", "kappadata.utils"):
            module = types.ModuleType(package)
            module.__path__ = [str(Path(folder, *package.split(".")))]
            sys.modules[package] = module
    return importlib.import_module(f"kappadata.samplers.{name}")


def measure(make: Callable[[], Any], number: int, results: Any) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    best = [float("inf")] * 3
    grown = 0
    for turn in range(3):
        start = time.perf_counter()
        sampler = make()
        made = time.perf_counter()
        iterator = islice(iter(sampler), number)
        next(iterator)
        first = time.perf_counter()
        for _ in iterator:
            pass
        end = time.perf_counter()
        best = [
            min(pair) for pair in zip(best, (made - start, first - made, end - made), strict=True)
        ]
        if turn == 0:
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    results.put([1000 * seconds for seconds in best] + [grown / 1024])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--kappadata", metavar="FOLDER")
    args = parser.parse_args()
    number = SAMPLES // 20 if args.small else SAMPLES
    fork = multiprocessing.get_context("fork")
    torch.set_num_threads(1)
    print(f"{number} samples; {'ms to':>31} make, first index, whole epoch; MiB")
    ours = ""
    for name, make in cases(number, args.kappadata):
        results = fork.SimpleQueue()
        child = fork.Process(target=measure, args=(make, number, results))
        child.start()
        made, first, epoch, grown = results.get()
        child.join()
        peer = name.startswith(" ")
        ours = ours if peer else name
        measured = {"made": made, "first index": first, "whole epoch": epoch}
        for what, value in measured.items():
            record(
                f"{ours}, {what}, {number:,} samples",
                {name.strip() * peer or "kappacore": value},
                "ms",
            )
        print(f"{name:38} {made:9.1f} {first:9.1f} {epoch:9.1f} {grown:8.0f}", flush=True)


if __name__ == "__main__":
    main()
