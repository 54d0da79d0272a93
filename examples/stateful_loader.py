"""torchdata's StatefulDataLoader: workers, and a state in the middle of an epoch."""

import random
import sys
from itertools import islice

import torch
from photos import make_photos
from PIL import Image, ImageOps
from torchdata.stateful_dataloader import StatefulDataLoader

import kappacore
from kappacore.samplers import DistributedSampler


def augment(image: Image.Image) -> torch.Tensor:
    """Mirror or not, as the sample's seed says; return the pixels."""
    image = ImageOps.mirror(image) if random.random() < 0.5 else image
    return torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)


def make_loader(root: str) -> StatefulDataLoader:
    """Make the loader, in the first run as in one that resumes."""
    ds = kappacore.load_dataset("imagefolder", root=make_photos(root))
    ds = kappacore.wrap(ds, "cache", items="x", backend="shared")
    ds = kappacore.TransformWrapper(ds, augment, seed=0)
    train = kappacore.ModeWrapper(ds, "x class")
    sampler = DistributedSampler(train)  # its state has the epoch, and it sets the dataset's
    return StatefulDataLoader(train, batch_size=8, sampler=sampler, num_workers=2)


def main(root: str = "photos") -> None:
    """Leave an epoch, and go on in another loader."""
    loader = make_loader(root)
    list(loader)  # epoch 0
    batches = iter(loader)
    list(islice(batches, 2))  # two batches of epoch 1
    state = loader.state_dict()  # goes into your checkpoint
    expected = list(batches)

    resumed = make_loader(root)
    resumed.load_state_dict(state)
    found = list(resumed)
    for (x, label), (same_x, same_label) in zip(expected, found, strict=True):
        assert torch.equal(x, same_x)  # the same samples, and the same draws
        assert torch.equal(label, same_label)
    print(f"{len(found)} batches were left")


if __name__ == "__main__":
    main(*sys.argv[1:])
