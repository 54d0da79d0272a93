"""What a cache on a server costs: readers' time and CPU, memory a key, clearing and opening."""

from __future__ import annotations

import multiprocessing
import os
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import redis

import kappacore
from benchmarks._samples import Bytes, BytesAndIndex
from benchmarks._timing import BATCH, shortest
from kappa_redis.backend import RedisBackend
from kappacore.sizes import format_size

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.valkey import Node

    Readers = dict[str, Callable[[], object]]

FOREIGN = (0, 200_000, 1_000_000)  # keys of others
SIZES = {10_000: 512, 100_000: 256, 1_000_000: 64}  # bytes of a sample: samples
READERS = (1, 4)
KEYS = {100: 50_000, 10_000: 10_000}  # bytes of a value: keys to fill memory with
_TTL = 3 * 86_400_000  # milliseconds
_LONGEST = 300.0  # seconds of all rounds together


class OneItem(Bytes):
    """Samples of one item: KappaData stores each item under a key of its own, or each byte."""

    def __getitem__(self, idx: int) -> tuple[bytes]:
        return (super().__getitem__(idx),)


def batches(length: int) -> list[list[int]]:
    return [list(range(start, min(start + BATCH, length))) for start in range(0, length, BATCH)]


def by_batches(dataset: Any) -> Callable[[], None]:
    """Return what reads all samples of a dataset in batches."""

    def read() -> None:
        for batch in batches(len(dataset)):
            dataset.__getitems__(batch)

    return read


def opened(source: Any, url: str, namespace: str) -> Any:
    return kappacore.CachedDataset(source, "redis", url=url, namespace=namespace, check=False)


def names_of(dataset: Any) -> list[str]:
    """Return the names that all samples are stored under."""
    dataset[0]  # from here on this process knows the header that values are stored under
    namespace = dataset._cache._open().client.backend._namespace
    [group] = namespace.group(range(len(dataset)))
    names: list[str] = group.names
    return names


def by_redis_py(dataset: Any, url: str) -> Readers:
    """Return what reads all stored values once, without kappacore."""
    names, codec = names_of(dataset), dataset._cache.codec
    identity = dataset._cache._open().store.digest_name
    client: Any = redis.Redis.from_url(url, socket_read_size=1 << 20, protocol=2)

    def get() -> None:
        for name in names:
            client.get(name)

    def get_and_decode() -> None:
        for idx, name in enumerate(names):
            codec.decode(client.get(name), idx, identity)

    def mget() -> None:
        for batch in batches(len(names)):
            client.mget([names[idx] for idx in batch])

    def mget_and_decode() -> None:
        for batch in batches(len(names)):
            values = client.mget([names[idx] for idx in batch])
            for place, idx in enumerate(batch):  # a batch is needed as a whole
                values[place] = codec.decode(values[place], idx, identity)

    return {
        "GET": get,
        "GET and decoding": get_and_decode,
        "MGET": mget,
        "MGET and decoding": mget_and_decode,
    }


def readers_of(dataset: Any, old: Any, url: str) -> Readers:
    """Return what reads all samples once: ours, the same values by redis-py, and KappaData."""

    def one_by_one() -> None:
        for idx in range(len(dataset)):
            dataset[idx]

    readers: Readers = {
        **by_redis_py(dataset, url),
        "redis, one by one": one_by_one,
        "redis, batches": by_batches(dataset),
    }
    if old is not None:
        readers["KappaData 0.0.8"] = lambda: [old[idx] for idx in range(len(dataset))]
    return readers


def read_together(
    make: Callable[[], Readers], processes: int, rounds: int
) -> dict[str, tuple[float, float]]:
    """Return the time of each reader when that many processes read, and the CPU time of all.

    The processes begin each round of each reader together; the best round counts.

    Args:
        make: Called in each process, and returns the readers.
        processes: The number of processes.
        rounds: The number of rounds.
    """
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(processes), context.Queue()

    def run() -> None:
        times: dict[str, list[tuple[float, float, float]]] = {}
        readers = make()
        for read in readers.values():
            read()
        for _ in range(rounds):
            for name, read in readers.items():
                barrier.wait()
                started, cpu = time.monotonic(), time.process_time()
                read()
                spent = started, time.monotonic(), time.process_time() - cpu
                times.setdefault(name, []).append(spent)
        results.put(times)

    started = [context.Process(target=run) for _ in range(processes)]
    for process in started:
        process.start()
    found = [results.get(timeout=_LONGEST) for _ in started]
    for process in started:
        process.join()
    best = {}
    for name in found[0]:
        by_round = list(zip(*(each[name] for each in found), strict=True))
        best[name] = min(
            (
                max(end for _, end, _ in each) - min(start for start, _, _ in each),
                sum(cpu for _, _, cpu in each),
            )
            for each in by_round
        )
    return best


def compare_reads(title: str, node: Node, old: Callable[[Any], Any], rounds: int) -> None:
    """Compare reads of all sizes.

    Args:
        title: The server.
        node: The server.
        old: Returns KappaData's cache of a dataset, filled; None without it.
        rounds: The number of rounds.
    """
    for size, length in SIZES.items():
        source = BytesAndIndex(length, size)
        with opened(source, node.url, f"reads-{size}") as dataset:
            dataset.prefill(progress=False)
            theirs = old(source)
            for processes in READERS:
                make = partial(readers_of, dataset, theirs, node.url)
                found = read_together(make, processes, rounds)
                show_reads(f"{title}, {format_size(size)}, {processes} readers", found, length)
            dataset.clear()


def show_reads(title: str, found: dict[str, tuple[float, float]], length: int) -> None:
    print(f"\n{title}: µs a sample, and µs of CPU of all readers together")
    for name, (seconds, cpu) in found.items():
        first = found["MGET and decoding" if "MGET" in name or "batches" in name else "GET"][0]
        ratio = f"{first / seconds:7.2f} of the rate of its peer"
        print(f"  {name:20}{seconds / length * 1e6:10.1f}{cpu / length * 1e6:10.1f}{ratio}")


def compare_memory(
    title: str, node: Node, old: Callable[[Any], Any], theirs: Node, size: int
) -> None:
    """Compare the memory that a value takes beside its own bytes, on new servers.

    Args:
        title: The server.
        node: The server.
        old: Returns KappaData's cache of a dataset; None without it.
        theirs: The server of that cache.
        size: Bytes of a value.
    """
    number = KEYS[size]
    source = Bytes(number, size)

    def used(node: Node, fill: Callable[[], object], number: int = number) -> float:
        with node.client() as client:
            client.execute_command("FLUSHALL", "SYNC")
            before = client.info("memory")["used_memory"]
            fill()
            spent: float = (client.info("memory")["used_memory"] - before) / number - size
            return spent

    def plain() -> None:
        with node.client() as client:
            fill_plainly(client, number, source.data)

    def ours() -> None:
        with opened(source, node.url, "memory") as dataset:
            dataset.prefill(progress=False)

    found = {"a plain key with a ttl": used(node, plain), "redis": used(node, ours)}
    if old(OneItem(1, 1)) is not None:
        few = number // 5  # each takes two requests
        found["KappaData 0.0.8 (no ttl)"] = used(theirs, partial(old, OneItem(few, size)), few)
    print(f"\n{title}: bytes of the server's memory for a key, beside its value of {size}")
    for name, each in found.items():
        print(f"  {name:44}{each:8.0f}")


def fill_plainly(client: Any, number: int, value: bytes) -> None:
    for start in range(0, number, 500):
        pipeline = client.pipeline(transaction=False)
        for idx in range(start, min(number, start + 500)):
            pipeline.set(f"plain:{idx}", value, px=_TTL)
        pipeline.execute()


def scan_and_unlink(client: Any) -> None:
    names: list[bytes] = []
    for name in client.scan_iter(match="plain:*", count=1000):
        names.append(name)
        if len(names) == 1000:
            client.unlink(*names)
            names = []
    if names:
        client.unlink(*names)


def compare_clearing(title: str, node: Node, keys: int, rounds: int) -> None:
    """Compare clearing with the plain way, and measure opening beside many keys."""
    value = os.urandom(100)
    backend = RedisBackend("cleared", keys, url=node.url)
    with node.client() as client:
        client.flushall()
        seconds = {"clear": float("inf"), "SCAN and UNLINK of thousands": float("inf")}
        for _ in range(rounds):
            backend.put_many([(key, [value]) for key in range(keys)])
            seconds["clear"] = min(seconds["clear"], shortest(backend.clear, 1))
            fill_plainly(client, keys, value)
            plain = shortest(lambda: scan_and_unlink(client), 1)
            name = "SCAN and UNLINK of thousands"
            seconds[name] = min(seconds[name], plain)
        backend.close()
        ratio = seconds["clear"] / seconds["SCAN and UNLINK of thousands"]
        print(f"\n{title}: {keys} keys, in seconds; clearing takes {ratio:.2f} of the plain way")
        source = Bytes(keys, 100)
        with opened(source, node.url, "opened") as dataset:
            dataset.prefill(progress=False)
        for name, each in seconds.items():
            print(f"  {name:44}{each:10.3f}")
        for foreign in FOREIGN:
            if foreign:
                client.execute_command("DEBUG", "POPULATE", foreign, "foreign", 10)
            show_looking(source, node, foreign, rounds)
        client.flushall()


def show_looking(source: Bytes, node: Node, foreign: int, rounds: int) -> None:
    """Show how long it takes to open a cache, to explain it, and to list all."""
    looks: dict[str, Callable[[], object]] = {
        "opening": lambda: opened(source, node.url, "opened").close(),
        "ls": lambda: list(RedisBackend.namespaces(url=node.url)),
    }
    with opened(source, node.url, "opened") as dataset:
        looks["explain"] = dataset.explain
        for name, look in looks.items():
            seconds = shortest(look, rounds)
            print(f"  {f'{name} beside {foreign:,} foreign keys':44}{seconds:10.3f}")
