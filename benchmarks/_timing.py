"""How the benchmarks take their times: what is compared takes turns, and the best round counts."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

from torch.utils.data import DataLoader

from benchmarks._report import record

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

BATCH = 64


def best_of(functions: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Return the shortest time of each function in seconds, their rounds taking turns."""
    best = dict.fromkeys(functions, float("inf"))
    for _ in range(rounds):
        for name, function in functions.items():
            started = time.perf_counter()
            function()
            best[name] = min(best[name], time.perf_counter() - started)
    return best


def shortest(function: Callable[[], Any], rounds: int) -> float:
    return best_of({"": function}, rounds)[""]


def seconds_per_call(call: Callable[[int], Any], number: int, rounds: int) -> float:
    def calls() -> None:
        for idx in range(number):
            call(idx)

    return shortest(calls, rounds) / number


def seconds_per_hit(dataset: Any, rounds: int) -> float:
    def hits() -> None:
        for idx in range(len(dataset)):
            dataset[idx]

    return shortest(hits, rounds) / len(dataset)


def seconds_per_epoch(
    datasets: dict[str, Any], rounds: int, workers: int = 2, collate: Any = None
) -> dict[str, float]:
    """Return the time of each dataset's best epoch through a DataLoader that keeps its workers."""
    epochs = {}
    for name, dataset in datasets.items():
        loader = DataLoader(
            dataset, BATCH, num_workers=workers, collate_fn=collate, persistent_workers=True
        )
        epochs[name] = partial(drain, loader)
        drain(loader)  # starts the workers
    return best_of(epochs, rounds)


def drain(loader: DataLoader[Any]) -> None:
    for _ in loader:
        pass


def table(case: str, seconds: dict[str, float], per_second: str | None = None) -> None:
    """Print a line for each, and record them; ratios are against the first."""
    peer = next(iter(seconds))
    first = seconds[peer]
    if per_second is None:
        record(case, {name: each * 1e3 for name, each in seconds.items()}, "ms", peer)
    else:
        rates = {name: 1 / each for name, each in seconds.items()}
        record(case, rates, f"{per_second}/s", peer)
    print(case)
    for name, each in seconds.items():
        value = f"{each * 1e3:12.3f} ms"
        if per_second is not None:
            value = f"{1 / each:12,.0f} {per_second}/s"
        print(f"  {name:44}{value}{first / each:9.1f}x")
