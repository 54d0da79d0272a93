"""Who reads the samples that are not gathered: worker processes, until a cache has all of them."""

from __future__ import annotations

import logging
import os
from itertools import chain
from typing import TYPE_CHECKING

from kappacore.caching.datasets import CacheWrapper
from kappacore.datasets.items import digest
from kappacore.datasets.stack import walk
from kappacore.loading.workers import read_in_workers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kappacore.loading.plan import Plan, Planner
    from kappacore.loading.reader import Columns, Reader

__all__ = ["Reading"]

log = logging.getLogger("kappacore.loading")


class Reading:
    """Reads what is wanted of each batch, and remembers from epoch to epoch who has to.

    Args:
        reader: Reads samples.
        workers: The number of processes.
        seed: The Loader's; the processes' generators are seeded from it and the epoch.
    """

    def __init__(self, reader: Reader, workers: int, seed: int) -> None:
        self._reader = reader
        self._workers = workers
        self._seed = seed
        self._hot = False  # whether the last epoch could be gathered
        self._proved = False  # whether a worker has read a batch
        self._said_cold = False

    def read(
        self, planner: Planner, plans: Iterator[Plan], epoch: int
    ) -> Iterator[tuple[Plan, Columns]]:
        """Return each batch with what was read of it sample by sample.

        Args:
            planner: What plans the batches.
            plans: How each is read.
            epoch: The epoch.
        """
        if self._workers and not self._hot:
            parts = walk(self._reader.mode.dataset)
            caches = [part for _, part in parts if isinstance(part, CacheWrapper)]
            planner.locating = all(cache.can_be_looked_up(proved=self._proved) for cache in caches)
            # Looking ahead until something is wanted costs nothing: looks are taken once.
            begun = []
            for plan in plans:
                begun.append(plan)
                if plan.wanted:
                    seed = int(digest(f"{self._seed}/{epoch}")[:15], 16)
                    plans = chain(begun, plans)
                    read = read_in_workers(self._reader, plans, self._workers, seed)
                    return map(self._note_proved, read)
            self._hot = True
            plans = iter(begun)
        return self._read_here(plans)

    def _note_proved(self, read: tuple[Plan, Columns]) -> tuple[Plan, Columns]:
        self._proved = True
        return read

    def _read_here(self, plans: Iterator[Plan]) -> Iterator[tuple[Plan, Columns]]:
        for plan in plans:
            if plan.wanted:
                self._hot = False
                self._say_cold(plan)
            yield plan, self._reader.read(plan.rows.indices, plan.rows.epochs, plan.wanted)

    def _say_cold(self, plan: Plan) -> None:
        if self._said_cold:
            return
        self._said_cold = True
        names = ", ".join(repr(self._reader.names[position]) for position in plan.wanted)
        log.warning(
            "This Loader reads %s sample by sample in one thread. What a cache holds is gathered; "
            "workers=%d reads the rest with processes, which end when nothing is left.",
            names, max(2, (os.cpu_count() or 2) - 1),
        )  # fmt: skip
