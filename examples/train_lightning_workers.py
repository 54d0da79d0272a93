"""Lightning with the worker processes of a DataLoader: torchdata's has a state."""

import lightning
import numpy as np
import torch
from photos import make_photos
from PIL import Image
from torchdata.stateful_dataloader import StatefulDataLoader
from train_lightning import Model, Photos

import kappacore
from kappacore.samplers import DistributedSampler


def to_tensor(image: Image.Image) -> torch.Tensor:
    """Return the pixels, from -1 to 1."""
    return torch.from_numpy(np.array(image)).float() / 127.5 - 1


class PhotosByWorkers(Photos):
    """The same samples, read by two processes."""

    def train_dataloader(self) -> StatefulDataLoader:
        train = kappacore.ModeWrapper(kappacore.TransformWrapper(self.ds, to_tensor), "x class")
        sampler = DistributedSampler(train)  # sets the epoch of its dataset too
        sampler.set_epoch(self.trainer.fit_loop.epoch_progress.current.processed)
        return StatefulDataLoader(train, 4, sampler=sampler, num_workers=2)


if __name__ == "__main__":
    trainer = lightning.Trainer(max_epochs=3, logger=False)
    trainer.fit(Model(), datamodule=PhotosByWorkers(make_photos("photos")))
