"""Filling a cache before it is needed, and showing how far that is."""

from __future__ import annotations

import logging
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from typing import TYPE_CHECKING

from kappacore._progress import progress_bar
from kappacore._ranks import global_rank, local_rank
from kappacore.errors import InvalidOptionError, UnknownOptionError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

    from kappacore.caching.engine.cache import SampleCache
    from kappacore.caching.engine.tiers import TieredCache
    from kappacore.caching.identity.determinism import LoadSamples

log = logging.getLogger("kappacore.cache")

_BATCH = 32
_THREAD_BATCH = 8  # of one thread: an interrupt waits for it


def shard_of(scope: str, shard: object = "auto") -> tuple[int, int]:
    """Return the part of the samples that this process fills: (its number, number of parts).

    Args:
        scope: The backend's. Ranks of one machine share the work if it is ``"machine"``, all ranks
            if it is ``"network"``; with ``"process"`` each rank fills everything.
        shard: ``"auto"``, None for everything, or ``(number, parts)``.

    Raises:
        InvalidOptionError: If ``shard`` is none of these.
    """
    if shard is None or (shard == "auto" and scope == "process"):
        return 0, 1
    if shard == "auto":
        return (global_rank() if scope == "network" else local_rank()) or (0, 1)
    if isinstance(shard, tuple) and len(shard) == 2:
        number, parts = shard
        if isinstance(number, int) and isinstance(parts, int) and 0 <= number < parts:
            return number, parts
    raise InvalidOptionError(
        f"shard={shard!r} is not a part of the samples. Use 'auto' (this rank's share), None (all "
        f"of them), or (number, parts) such as (0, 4)."
    )


def prefill(
    cache: SampleCache | TieredCache,
    load: LoadSamples,
    *,
    progress: bool = True,
    shard: object = "auto",
    threads: int = 0,
    name: str = "",
    **unknown: object,
) -> int:
    """Load all samples that are not cached yet, until the cache is full; none is read twice.

    Args:
        cache: The cache.
        load: Reads samples from the source; called from several threads if ``threads`` > 1.
        progress: Show how far it is, on the first rank: a bar on a terminal, elsewhere a line
            after two seconds and then one a minute.
        shard: See :func:`shard_of`.
        threads: The number of threads, for sources that wait on storage; 0 or 1: this one.
        name: The name of the item, for the bar.
        **unknown: Refused.

    Returns:
        Number of samples loaded.

    Raises:
        InvalidOptionError: If an option has a value that it cannot have.
        UnknownOptionError: If there is no such option.
    """
    for option in unknown:
        hint = " It is called threads= now." if option == "workers" else ""
        raise UnknownOptionError(
            f"prefill() has no option {option!r}.{hint} Its options: progress, shard, threads."
        )
    if not isinstance(threads, int) or threads < 0:
        raise InvalidOptionError(
            f"threads={threads!r} is not a number of threads. Give 0 or a positive integer."
        )
    number, parts = shard_of(cache.scope, shard)
    start, stop = cache.length * number // parts, cache.length * (number + 1) // parts
    size = _BATCH if threads <= 1 else _THREAD_BATCH
    batches = [range(first, min(first + size, stop)) for first in range(start, stop, size)]
    loaded, done = 0, 0
    show = None if progress and number == 0 else False
    before = cache.stats()
    began = time.perf_counter()
    with (
        progress_bar(f"Caching {name}".rstrip(), stop - start, "sample", show=show) as bar,
        closing(_run(lambda batch: cache.fill(batch, load), batches, threads)) as runs,
    ):
        try:
            for count, size in runs:
                loaded += count
                done += size
                bar.update(size)
                seconds = max(time.perf_counter() - began, 1e-9)
                stats = cache.stats() - before
                bar.set_postfix_str(f"{stats.bytes_stored / 1e6 / seconds:.1f} MB/s", refresh=False)
                if stats.refused and all(info and info.full for info in cache.infos()):
                    log.info("prefill ends after %d samples: the cache is full", done)
                    break
                if all(tier.failing for tier in cache.tiers):
                    log.warning("prefill ends after %d samples: the cache fails", done)
                    break
        except KeyboardInterrupt:
            log.warning(
                "prefill was interrupted after %d of %d samples; what is cached stays, and the "
                "next call goes on from there", done, stop - start,
            )  # fmt: skip
            raise
    return loaded


def _run(
    fill: Callable[[Sequence[int]], int], batches: Iterable[Sequence[int]], threads: int
) -> Generator[tuple[int, int], None, None]:
    """Yield (samples loaded, samples seen) for each batch when it is done."""
    if threads <= 1:
        for batch in batches:
            yield fill(batch), len(batch)
        return
    running: dict[Future[int], int] = {}
    pool = ThreadPoolExecutor(threads, thread_name_prefix="kappacore-prefill")
    try:
        for batch in batches:
            running[pool.submit(fill, batch)] = len(batch)
            if len(running) >= 2 * threads:
                yield from _finished(running)
        while running:
            yield from _finished(running)
    except KeyboardInterrupt:
        log.warning("prefill was interrupted and waits for the samples that are being read")
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _finished(running: dict[Future[int], int]) -> Iterator[tuple[int, int]]:
    for future in wait(running, return_when=FIRST_COMPLETED).done:
        yield future.result(), running.pop(future)
