"""Ranks as torchrun starts them, without the seconds that it and each rank take to import torch.

``tests/kappacore/loading/test_torchrun.py`` runs torchrun itself.
"""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from torch.distributed import TCPStore  # type: ignore[attr-defined]  # documented

from support.warm import WarmProgram

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["run_ranks"]


def run_ranks(
    script: Path, *arguments: object, count: int = 2, cwd: Path | None = None
) -> list[subprocess.CompletedProcess[str]]:
    """Run a program as ``torchrun --nproc-per-node=COUNT`` does; return how each rank ended."""
    store = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    shared = {
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",  # as torchrun: the ranks start none
        "TORCHELASTIC_RESTART_COUNT": "0",
        "TORCHELASTIC_MAX_RESTARTS": "0",
        "TORCHELASTIC_RUN_ID": "tests",
        "GROUP_RANK": "0",
        "GROUP_WORLD_SIZE": "1",
        "ROLE_NAME": "default",
        **dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE", "ROLE_WORLD_SIZE"), str(count)),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }

    def run(rank: int) -> subprocess.CompletedProcess[str]:
        own = dict.fromkeys(("RANK", "LOCAL_RANK", "ROLE_RANK"), str(rank))
        with WarmProgram(script, *arguments, env={**shared, **own}, cwd=cwd) as program:
            out, err = program.communicate(timeout=100)
            return subprocess.CompletedProcess(program.args, program.wait(), out, err)

    with ThreadPoolExecutor(count) as each:
        return list(each.map(run, range(count)))
