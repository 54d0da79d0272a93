"""accelerate: the Loader finds its rank itself, and its state is part of the checkpoint.

``accelerate launch --num-processes=2 train_accelerate.py``
"""

import sys

import torch
from accelerate import Accelerator
from photos import make_photos

import kappacore


def main(root: str = "photos", resume: str = "") -> None:
    """Train two epochs, and save in the middle of the second."""
    accelerator = Accelerator()
    with accelerator.main_process_first():
        make_photos(root)
    ds = kappacore.load_dataset("imagefolder", root=root)
    ds = kappacore.wrap(ds, "cache", items="x", backend="shared")
    items = {"x": {"dtype": torch.float32, "mean": 0.5, "std": 0.5}}
    device = accelerator.device.type  # "cuda" with the plugin kappa-cuda
    loader = kappacore.Loader(ds, "x class index", 4, shuffle=True, items=items, device=device)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64 * 64 * 3, 2))
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    model, optimizer = accelerator.prepare(model, optimizer)  # the Loader needs no preparation
    accelerator.register_for_checkpointing(loader)
    if resume:
        accelerator.load_state(resume)
    for epoch in range(loader.epoch, 2):
        loader.set_epoch(epoch)  # goes on where the state was saved, if this is its epoch
        for step, (x, label, index) in enumerate(loader):
            loss = torch.nn.functional.cross_entropy(model(x), label)
            optimizer.zero_grad()
            accelerator.backward(loss)
            optimizer.step()
            accelerator.print(f"epoch {epoch}: {index.tolist()}")
            if (epoch, step, resume) == (1, 2, ""):
                accelerator.save_state("state")
    accelerator.end_training()
    ds.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
