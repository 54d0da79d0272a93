"""The backend `shared` beside other caches that DataLoader workers can share, in one run.

Samples are tensors of one size, as stocaching needs it. Peers that are not installed are left out;
`make bench` installs them. A plain dict, filled before the workers fork, is the fastest that a
cache can be, and of no use when it is not. Run it on a machine that does nothing else;
`--scaling` goes from 1 to 16 workers.
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

import torch
from torch.utils.data import DataLoader, default_collate

import kappacore
from benchmarks._report import record
from benchmarks._samples import Tensors
from benchmarks._shared_growth import grow
from benchmarks._shared_hit import floor
from benchmarks._shared_peers import PEERS, Lmdb, installed
from benchmarks._timing import BATCH, drain, seconds_per_epoch, seconds_per_hit, shortest

COLUMNS = ("Filling, 2 workers", "A hit", "1 worker", "2 workers", "2 workers, collated")
SIZES = (1_000, 100_000, 150_528)  # the last one is an image of (3, 224, 224)


def fill_rate(dataset: Any) -> float:
    """Return samples per second of the first epoch, its workers' start included."""
    loader = DataLoader(dataset, BATCH, num_workers=2, collate_fn=len, persistent_workers=True)
    return len(dataset) / shortest(partial(drain, loader), 1)


def hot_rate(dataset: Any, workers: int, rounds: int, collate: Any = len) -> float:
    """Return samples per second of the best epoch."""
    if isinstance(dataset, Lmdb):
        dataset.rest()
    return len(dataset) / seconds_per_epoch({"": dataset}, rounds, workers, collate)[""]


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
    table: dict[str, list[float]] = {}
    for name in names:
        fill = fill_rate(PEERS[name](source))
        dataset = PEERS[name](source)
        for idx in range(samples):
            dataset[idx]
            if not torch.equal(dataset[idx], source[idx]):
                raise RuntimeError(f"{name}: sample {idx} came back changed")
        hit = seconds_per_hit(dataset, rounds)
        rates = [
            hot_rate(dataset, 1, rounds),
            hot_rate(dataset, 2, rounds),
            hot_rate(dataset, 2, rounds, default_collate),
        ]
        values = [fill, 1 / hit, *rates]
        base = base or values
        table[name] = [fill, hit * 1e6, *rates]
        shown = [fill / 1e3, hit * 1e6, *(rate / 1e3 for rate in rates)]
        cells = [
            f"{figure:9.1f} ({value / first:5.1f})"
            for figure, value, first in zip(shown, values, base, strict=True)
        ]
        print(f"{name:27}" + " ".join(cells))
        close(dataset)
    for column, what in enumerate(COLUMNS):
        found = {name: row[column] for name, row in table.items()}
        unit = "µs" if column == 1 else "samples/s"
        record(f"{what}, tensors of {size:,} bytes", found, unit, names[0])


def close(dataset: Any) -> None:
    if isinstance(dataset, kappacore.CachedDataset):
        dataset.close()


def scale(names: list[str], samples: int, rounds: int) -> None:
    source = Tensors(samples, 100_000)
    counts = [1, 2, 4, 8, 16]
    print(f"\n{samples} tensors of 100,000 bytes, hot epochs; samples/s in thousands")
    print(f"{'workers':27}" + "".join(f"{count:10}" for count in counts))
    for name in names:
        dataset = PEERS[name](source)
        for idx in range(samples):
            dataset[idx]
        rates = [hot_rate(dataset, workers, rounds) / 1e3 for workers in counts]
        values = {f"{count} workers": 1e3 * rate for count, rate in zip(counts, rates, strict=True)}
        record(f"Workers of a DataLoader, {name}", values, "samples/s")
        print(f"{name:27}" + "".join(f"{rate:10.1f}" for rate in rates))
        close(dataset)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--small", action="store_true", help="try it out: few samples, one size")
    parser.add_argument("--brief", action="store_true", help="one size alone, 500 samples")
    parser.add_argument("--scaling", action="store_true", help="only: 1 to 16 workers")
    arguments = parser.parse_args()
    samples, rounds = arguments.samples, arguments.rounds
    if arguments.small:
        samples, rounds = 200, 2
    if arguments.brief:
        samples = 500
    one_size = arguments.small or arguments.brief
    torch.set_num_threads(1)
    names = installed()
    if arguments.scaling:
        scale([names[0], *names[-2:]], samples, rounds)
        return
    for size in SIZES[1:2] if one_size else SIZES:
        compare(names, size, samples, rounds)
    if arguments.brief:
        return
    floor(samples, rounds)
    grow([1_000, 10_000] if arguments.small else [1_000, 10_000, 100_000, 1_000_000], rounds)


if __name__ == "__main__":
    main()
