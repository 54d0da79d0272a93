"""The rank of this process, as torchrun or SLURM's srun sets it in the environment."""

from __future__ import annotations

import os
import re

# (rank, number of ranks): those of torchrun first, then those that SLURM gives the tasks of srun.
_LOCAL = (("LOCAL_RANK", "LOCAL_WORLD_SIZE"), ("SLURM_LOCALID", "SLURM_STEP_TASKS_PER_NODE"))
_GLOBAL = (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"))


def local_rank() -> tuple[int, int] | None:
    """Return (rank, number of ranks) on this machine; None if the environment says nothing."""
    return _find(_LOCAL)


def global_rank() -> tuple[int, int] | None:
    """Return (rank, number of ranks) on all machines; None if the environment says nothing."""
    return _find(_GLOBAL)


def _find(variables: tuple[tuple[str, str], ...]) -> tuple[int, int] | None:
    for rank, ranks in variables:
        number, count = os.environ.get(rank, ""), _count(os.environ.get(ranks, ""))
        if number.isdigit() and int(number) < count:
            return int(number), count
    return None


def _count(text: str) -> int:
    """Return the number of tasks on this node; SLURM lists one a node, as in ``4(x2),3``."""
    each: list[int] = []
    for part in text.split(","):
        found = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part)
        if found is None:
            return 0
        each += [int(found[1])] * int(found[2] or 1)
    node = os.environ.get("SLURM_NODEID", "0")
    return each[int(node)] if node.isdigit() and int(node) < len(each) else each[0]
