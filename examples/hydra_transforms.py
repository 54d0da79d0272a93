"""Hydra: the whole dataset is a configuration, its transforms by ``_target_``.

``python hydra_transforms.py batch_size=4 data.wrappers.1.transform.transforms.0.size=24``
"""

import random

import hydra
import torch
from omegaconf import DictConfig
from photos import make_photos
from PIL import Image, ImageOps

import kappacore


class Resize:
    """Resize an image to a square of ``size`` pixels."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, image: Image.Image) -> Image.Image:
        return image.resize((self.size, self.size))


class Flip:
    """Mirror an image with probability ``p``."""

    def __init__(self, p: float) -> None:
        self.p = p

    def __call__(self, image: Image.Image) -> Image.Image:
        return ImageOps.mirror(image) if random.random() < self.p else image


@hydra.main(version_base=None, config_path=".", config_name="hydra_transforms")
def main(config: DictConfig) -> None:
    """Read one epoch."""
    make_photos(config.root)
    with kappacore.build(config.data) as ds:
        loader = kappacore.Loader(ds, "x class", config.batch_size, shuffle=True)
        for x, _label in loader:
            assert x.dtype == torch.uint8
        print(f"{len(loader)} batches, the last of shape {tuple(x.shape)}")


if __name__ == "__main__":
    main()
