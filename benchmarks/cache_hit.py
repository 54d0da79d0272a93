"""Time of a hit: `shared` and `memory` beside KappaData 0.0.8's SharedDictDataset, in one run.

Samples are (bytes, int) of 100 KB, all cached before the clock starts. `make bench` installs what
this needs; run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import os
import time
from typing import TYPE_CHECKING, Any

from torch.utils.data import DataLoader, Dataset

if TYPE_CHECKING:
    from collections.abc import Callable

import kappacore
from kappa_shared import SharedDictDataset


class Bytes(Dataset[tuple[bytes, int]]):
    """Samples of ``size`` random bytes and their index."""

    def __init__(self, length: int, size: int):
        self.length = length
        self.data = os.urandom(size)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, idx: int) -> tuple[bytes, int]:
        if idx >= self.length:
            raise IndexError(idx)
        return self.data, idx


def seconds_per_hit(dataset: Any, rounds: int) -> float:
    best = float("inf")
    for _ in range(rounds):
        started = time.perf_counter()
        for idx in range(len(dataset)):
            dataset[idx]
        best = min(best, time.perf_counter() - started)
    return best / len(dataset)


def samples_per_second(dataset: Any, rounds: int) -> float:
    loader = DataLoader(
        dataset, batch_size=64, num_workers=2, collate_fn=len, persistent_workers=True
    )
    best = float("inf")
    for turn in range(rounds + 1):
        started = time.perf_counter()
        total = sum(loader)
        if turn:  # the first one starts the workers
            best = min(best, time.perf_counter() - started)
        if total != len(dataset):
            raise RuntimeError(f"{total} samples came of {len(dataset)}")
    return len(dataset) / best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--bytes", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    source = Bytes(arguments.samples, arguments.bytes)

    # KappaData first: opening one of our caches tunes the process's allocator, for all in it.
    makers: dict[str, Callable[[], Any]] = {}
    try:
        import kappadata
    except ImportError:
        print("KappaData 0.0.8 is not installed (`make bench` does it): no ratios against it.")
    else:
        makers["KappaData 0.0.8 SharedDict"] = lambda: kappadata.SharedDictDataset(source)
    makers["shared"] = lambda: SharedDictDataset(source)
    makers["shared, copy=False"] = lambda: SharedDictDataset(source, copy=False)
    makers["memory"] = lambda: kappacore.CachedDataset(source, "memory")

    print(
        f"{arguments.samples} samples of {arguments.bytes} bytes, all cached; best of "
        f"{arguments.rounds}; ratios against {next(iter(makers))}"
    )
    print(f"{'':28}{'per hit':>12}{'ratio':>9}{'DataLoader, 2 workers':>26}{'ratio':>9}")
    first: tuple[float, float] | None = None
    for name, make in makers.items():
        dataset = make()
        for idx in range(len(source)):
            if dataset[idx] != source[idx]:
                raise RuntimeError(f"sample {idx} came back changed")
        hit = seconds_per_hit(dataset, arguments.rounds)
        rate = samples_per_second(dataset, arguments.rounds)
        first = first or (hit, rate)
        print(
            f"{name:28}{hit * 1e6:9.1f} µs{first[0] / hit:8.1f}x"
            f"{rate:16,.0f} samples/s{rate / first[1]:8.1f}x"
        )
        if isinstance(dataset, kappacore.CachedDataset):
            dataset.close()


if __name__ == "__main__":
    main()
