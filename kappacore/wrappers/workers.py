"""Seeding what a worker of a DataLoader has a copy of."""

from __future__ import annotations

from torch.utils.data import get_worker_info

from kappacore.datasets.own_generators import find_generators, seed_generator
from kappacore.datasets.stack import walk
from kappacore.errors import InvalidOptionError


def seed_worker(worker_id: int) -> None:
    """Seed the generators that datasets and transforms have as attributes; for DataLoaders.

    Every worker gets a copy of them in the same state, in each epoch again; PyTorch seeds only the
    global generators of torch, numpy and Python. With ``seed=`` on a ``TransformWrapper`` this is
    not needed: what a sample draws is then the same for any number of workers.

    Args:
        worker_id: The worker's number.

    Raises:
        InvalidOptionError: This process is no worker.

    Example::

        DataLoader(train, num_workers=8, worker_init_fn=seed_worker)
    """
    info = get_worker_info()
    if info is None:
        raise InvalidOptionError(
            f"seed_worker({worker_id}) was called in a process that is no worker. Pass it to the "
            f"DataLoader: worker_init_fn=seed_worker."
        )
    met: set[int] = set()
    for _, part in walk(info.dataset):
        for value in getattr(part, "__dict__", {}).values():
            for generator in find_generators(value):
                if id(generator) not in met:
                    seed_generator(generator, info.seed + len(met))
                    met.add(id(generator))
