"""Time of a hit: `shared` and `memory` beside KappaData 0.0.8's SharedDictDataset, in one run.

Samples are (bytes, int) of 100 KB, all cached before the clock starts. `make bench` installs what
this needs; run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from torch.utils.data import DataLoader

if TYPE_CHECKING:
    from collections.abc import Callable

import kappacore
from benchmarks._kappadata import kappadata
from benchmarks._report import record
from benchmarks._samples import BytesAndIndex
from benchmarks._timing import BATCH, seconds_per_hit, shortest
from kappa_shared import SharedDictDataset


def samples_per_second(dataset: Any, rounds: int) -> float:
    loader = DataLoader(dataset, BATCH, num_workers=2, collate_fn=len, persistent_workers=True)

    def epoch() -> None:
        if (total := sum(loader)) != len(dataset):
            raise RuntimeError(f"{total} samples came of {len(dataset)}")

    epoch()  # starts the workers
    return len(dataset) / shortest(epoch, rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--bytes", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    source = BytesAndIndex(arguments.samples, arguments.bytes)

    # KappaData first: opening one of our caches tunes the process's allocator, for all in it.
    makers: dict[str, Callable[[], Any]] = {}
    if (theirs := kappadata()) is not None:
        makers["KappaData 0.0.8 SharedDict"] = lambda: theirs.SharedDictDataset(source)
    makers["shared"] = lambda: SharedDictDataset(source)
    makers["shared, copy=False"] = lambda: SharedDictDataset(source, copy=False)
    makers["memory"] = lambda: kappacore.CachedDataset(source, "memory")

    print(
        f"{arguments.samples} samples of {arguments.bytes} bytes, all cached; best of "
        f"{arguments.rounds}; ratios against {next(iter(makers))}"
    )
    print(f"{'':28}{'per hit':>12}{'ratio':>9}{'DataLoader, 2 workers':>26}{'ratio':>9}")
    first: tuple[float, float] | None = None
    hits: dict[str, float] = {}
    rates: dict[str, float] = {}
    for name, make in makers.items():
        dataset = make()
        for idx in range(len(source)):
            if dataset[idx] != source[idx]:
                raise RuntimeError(f"sample {idx} came back changed")
        hit = seconds_per_hit(dataset, arguments.rounds)
        rate = samples_per_second(dataset, arguments.rounds)
        first = first or (hit, rate)
        hits[name], rates[name] = hit * 1e6, rate
        print(
            f"{name:28}{hit * 1e6:9.1f} µs{first[0] / hit:8.1f}x"
            f"{rate:16,.0f} samples/s{rate / first[1]:8.1f}x"
        )
        if isinstance(dataset, kappacore.CachedDataset):
            dataset.close()
    case, peer = f"(bytes, int) of {arguments.bytes:,} bytes", next(iter(makers))
    record(f"A hit, {case}", hits, "µs", peer)
    record(f"DataLoader with 2 workers, {case}", rates, "samples/s", peer)


if __name__ == "__main__":
    main()
