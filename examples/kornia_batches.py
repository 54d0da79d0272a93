"""kornia: whole batches are augmented on the device, with draws that come back."""

import sys
from typing import Any

import torch
from kornia.augmentation import AugmentationSequential, ColorJiggle, RandomHorizontalFlip
from photos import make_photos

import kappacore

AUGMENT = AugmentationSequential(
    RandomHorizontalFlip(p=0.5), ColorJiggle(0.2, 0.2, 0.2, 0.1, p=0.8), data_keys=["input"]
)


def augment(batch: Any, draw: Any) -> Any:
    """Augment the images of a batch; ``draw`` seeds the generators that kornia draws from."""
    with draw.seeded():
        x = AUGMENT(batch["x"])
    return batch.replace(x=x)


def main(root: str = "photos") -> None:
    """Read an epoch twice, and get the same."""
    ds = kappacore.load_dataset("imagefolder", root=make_photos(root))
    ds = kappacore.wrap(ds, "cache", items="x", form="decoded", backend="shared")
    x = {"dtype": torch.float32, "layout": "channels_first", "mean": 0.0, "std": 1.0}  # 0 to 1
    options: dict[str, Any] = {"shuffle": True, "items": {"x": x}, "transform": augment}
    loader = kappacore.Loader(ds, "x class", 8, device="cpu", **options)  # or "cuda"
    epochs = []
    for epoch in (0, 1, 0):
        loader.set_epoch(epoch)
        epochs.append(torch.cat([x for x, _ in loader]))
    first, second, again = epochs
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    print(f"{len(first)} images from {first.min():.2f} to {first.max():.2f}")
    ds.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
