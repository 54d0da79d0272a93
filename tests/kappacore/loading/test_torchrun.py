"""Two ranks started by torchrun: each sample once, and a state that three ranks can go on from."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import json, os, sys
import torch
import torch.distributed
import kappacore

def samples(number):
    return kappacore.as_kd([(torch.tensor([k]), k) for k in range(number)], items=("x", "class"))

def made():  # before the group is
    return kappacore.Loader(samples(50), "class", 4, shuffle=True)

def read(before):
    evaluation = kappacore.Loader(samples(51), "class", 4, pad=False)
    found = {
        "train": [batch.tolist() for batch in before],
        "evaluation": [batch.tolist() for batch in evaluation],
        "lengths": [len(before), len(evaluation)],
        "state": before.state_dict(),
    }
    total = torch.tensor(sum(map(len, found["evaluation"])))
    torch.distributed.all_reduce(total)
    return {**found, "total": total.item()}

loaders = made(), made()
torch.distributed.init_process_group("gloo")
rank = torch.distributed.get_rank()
found = {"with": read(loaders[0])}
for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
    del os.environ[name]  # only torch.distributed says which rank this is
found["without"] = read(loaders[1])
with open(f"{sys.argv[1]}/{rank}.json", "w") as file:
    json.dump(found, file)
torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_torchrun(tmp_path):
    """With its environment variables, and as if only torch.distributed said which rank it is."""
    script = tmp_path / "train.py"
    script.write_text(PROGRAM, encoding="utf-8")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
    done = subprocess.run(
        [*torchrun, "--standalone", str(script), str(tmp_path)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(Path(tmp_path, f"{rank}.json").read_text()) for rank in range(2)]
    for environment in ("with", "without"):
        ranks = [rank[environment] for rank in found]
        train = [idx for rank in ranks for batch in rank["train"] for idx in batch]
        assert len(train) == 50
        assert sorted(train) == [*range(50)]
        evaluated = [idx for rank in ranks for batch in rank["evaluation"] for idx in batch]
        assert sorted(evaluated) == [*range(51)]
        assert [rank["total"] for rank in ranks] == [51, 51]
        assert ranks[0]["lengths"] == [7, 7]
        assert ranks[0]["state"] == ranks[1]["state"]
        assert ranks[0]["state"]["epoch"] == 1
