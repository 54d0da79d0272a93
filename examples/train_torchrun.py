"""torchrun: ranks that share one cache and the global batch.

``torchrun --standalone --nproc-per-node=2 train_torchrun.py``
"""

import sys

import torch
import torch.distributed as dist
from photos import make_photos
from torch.nn.parallel import DistributedDataParallel

import kappacore


def main(root: str = "photos") -> None:
    """Train two epochs on each rank."""
    dist.init_process_group("gloo")  # "nccl" on GPUs
    if dist.get_rank() == 0:
        make_photos(root)
    dist.barrier()
    ds = kappacore.load_dataset("imagefolder", root=root)
    ds = kappacore.wrap(ds, "cache", items="x", backend="shared")  # one copy on the machine
    items = {"x": {"dtype": torch.float32, "layout": "channels_first", "mean": 0.5, "std": 0.5}}
    loader = kappacore.Loader(ds, "x class", 4, shuffle=True, items=items)  # 4 on each rank
    layers = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64 * 64 * 3, 2))
    model = DistributedDataParallel(layers)
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    for epoch in range(2):
        loader.set_epoch(epoch)
        seen = 0
        for x, label in loader:
            loss = torch.nn.functional.cross_entropy(model(x), label)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            seen += len(label)
        print(f"epoch {epoch}, rank {dist.get_rank()}: {seen} samples", flush=True)
    dist.barrier()
    if dist.get_rank() == 0:
        print(f"{ds.stats().source_reads} reads of {len(ds)} files, by both ranks", flush=True)
    dist.barrier()
    ds.close()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
