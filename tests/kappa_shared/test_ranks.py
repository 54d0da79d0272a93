"""Ranks started by torchrun, with DataLoader workers: one source read and one copy a sample."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from support.caching import Log, namespaces_in

RANK = """
    import json, os, re, sys
    from pathlib import Path

    import torch
    import torch.distributed as dist
    from torch.utils.data import DataLoader, Dataset, DistributedSampler

    import kappacore
    from support.caching import Log

    SAMPLES, BYTES, EPOCHS = 400, 100_000, 3


    class Source(Dataset):
        def __init__(self, log):
            self.log = log

        def __len__(self):
            return SAMPLES

        def __getitem__(self, idx):
            if idx >= SAMPLES:
                raise IndexError(idx)
            self.log.add(idx)
            return torch.full((BYTES,), idx % 251, dtype=torch.uint8), idx


    def proportional_bytes(pid, folder):
        \"\"\"Sum a process's share of the memory of what it maps from a folder.\"\"\"
        total, inside = 0, False
        for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
            if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
                inside = folder in line
            elif inside and line.startswith("Pss:"):
                total += 1024 * int(line.split()[1])
        return total


    def main():
        dist.init_process_group("gloo")
        source = Source(Log(sys.argv[1]))
        dataset = kappacore.CachedDataset(
            source, "shared", namespace="ranks", max_bytes="100MiB", check=False
        )
        sampler = DistributedSampler(dataset)
        loader = DataLoader(
            dataset, 20, sampler=sampler, num_workers=2, persistent_workers=True,
            multiprocessing_context="fork",
        )
        seen = torch.zeros(EPOCHS, SAMPLES, dtype=torch.int64)
        for epoch in range(EPOCHS):
            sampler.set_epoch(epoch)
            for values, indices in loader:
                assert (values == (indices % 251).unsqueeze(1)).all()
                seen[epoch, indices] += 1
        dist.all_reduce(seen)
        assert (seen == 1).all()

        # Everybody's workers are alive and have the arena mapped.
        pids = [os.getpid(), *(worker.pid for worker in loader._iterator._workers)]
        shares = torch.tensor([proportional_bytes(pid, "/shared/ranks.") for pid in pids])
        together = shares.sum()
        dist.all_reduce(together)
        if dist.get_rank() == 0:
            stats = dataset.stats()
            print(json.dumps({
                "share": together.item() / (SAMPLES * BYTES), "users": len(pids),
                "reads": stats.source_reads, "served": stats.hits + stats.waits,
                "corrupt": stats.corrupt,
            }))
        dist.barrier()
        dataset.close()
        dist.destroy_process_group()


    if __name__ == "__main__":
        main()
"""


@pytest.mark.slow
def test_ranks_and_their_workers_read_each_sample_once_and_share_one_copy(tmp_path, cache_folder):
    script = tmp_path / "rank.py"
    script.write_text(textwrap.dedent(RANK))
    log = Log(tmp_path / "reads")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*torchrun, "--nproc-per-node=2", str(script), str(log.path)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["reads"] == 400
    assert log.count() == dict.fromkeys(range(400), 1)
    assert (found["served"], found["corrupt"]) == (800, 0)
    assert found["users"] == 3
    assert 0.9 < found["share"] <= 1.05  # of the payload; a copy in each worker would be 4
    assert namespaces_in(cache_folder) == []
