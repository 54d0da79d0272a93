"""Lightning: a run that is interrupted and resumed trains on what it would have trained on.

Start it, interrupt it, start it again: it goes on in the middle of the epoch.
"""

import random
import sys
from pathlib import Path

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from photos import make_photos
from PIL import Image, ImageOps

import kappacore


def augment(image: Image.Image) -> Image.Image:
    """Mirror or not, as the sample's seed says."""
    return ImageOps.mirror(image) if random.random() < 0.5 else image


class Photos(lightning.LightningDataModule):
    """The photos, augmented after the cache."""

    def __init__(self, root: str | Path) -> None:
        super().__init__()
        self.root = root

    def setup(self, stage: str) -> None:
        ds = kappacore.load_dataset("imagefolder", root=self.root)
        ds = kappacore.wrap(ds, "cache", items="x", backend="shared")
        self.ds = kappacore.TransformWrapper(ds, augment, seed=0)
        items = {"x": {"dtype": torch.float32, "mean": 0.5, "std": 0.5}}
        self.loader = kappacore.Loader(self.ds, "x class", 4, shuffle=True, items=items)

    def train_dataloader(self) -> kappacore.Loader:
        return self.loader  # Lightning tells it the epoch, and loads its state


class Model(lightning.LightningModule):
    """One layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(64 * 64 * 3, 2)

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        x, label = batch
        return torch.nn.functional.cross_entropy(self.layer(x.flatten(1)), label)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 1e-3)


def main(root: str = "photos", epochs: str = "3") -> None:
    """Train, or go on."""
    checkpoints = Path("checkpoints")
    save = ModelCheckpoint(checkpoints, every_n_train_steps=4, save_last=True)
    trainer = lightning.Trainer(max_epochs=int(epochs), callbacks=[save], logger=False)
    last = checkpoints / "last.ckpt"
    resume = str(last) if last.exists() else None
    trainer.fit(Model(), datamodule=Photos(make_photos(root)), ckpt_path=resume)


if __name__ == "__main__":
    main(*sys.argv[1:])
