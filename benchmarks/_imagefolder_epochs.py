"""Whole epochs over an image folder, uncached and cached."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

import kappacore
from benchmarks._timing import seconds_per_epoch, table
from kappa_imagefolder import ImageFolder

if TYPE_CHECKING:
    from pathlib import Path

SIZE = 256
CROP = 224


def make_images(root: Path, images: list[Image.Image], number: int) -> None:
    """Cut photos of 500x375 pixels, the size that is usual in ImageNet."""
    generator = np.random.default_rng(0)
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
    for index in range(number):
        image = images[index % len(images)]
        left = int(generator.integers(max(1, image.width - 500)))
        top = int(generator.integers(max(1, image.height - 375)))
        cut = image.crop((left, top, left + 500, top + 375))
        cut.save(root / "ab"[index % 2] / f"{index:06}.jpg", quality=90)


def resize(image: Image.Image) -> torch.Tensor:
    """Return the image as a tensor of shape (3, 256, 256)."""
    small = np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BILINEAR))
    return torch.from_numpy(small.transpose(2, 0, 1).copy())


def crop(image: torch.Tensor) -> torch.Tensor:
    """Cut a random (3, 224, 224) out of a tensor."""
    top, left = torch.randint(SIZE - CROP + 1, (2,)).tolist()
    return image[:, top : top + CROP, left : left + CROP]


def resize_and_crop(image: Image.Image) -> torch.Tensor:
    return crop(resize(image))


def epochs(folder: Path, images: list[Image.Image], number: int, rounds: int) -> None:
    root = folder / "images"
    make_images(root, images, number)
    size = sum(path.stat().st_size for path in root.rglob("*.jpg")) // number
    print(
        f"Epochs over {number} photos of 500x375 pixels, {size // 1000} KB, resized to "
        f"{SIZE}x{SIZE}; DataLoader with 2 workers, cache `shared`, hot; all in the page cache"
    )
    folders = {
        "the folder": ImageFolder(root),
        "raw cached": ImageFolder(root),
        f"shrunk cached, shrink={SIZE}": ImageFolder(root, shrink=SIZE),
        f"decoded cached, {SIZE}x{SIZE}": ImageFolder(root, transform=resize),
    }
    for cropped in (False, True):
        datasets: dict[str, Any] = {}
        caches = []
        for name, source in folders.items():
            dataset: kappacore.KDDataset = source
            if "cached" in name:
                options: dict[str, Any] = {}
                if "decoded" in name:
                    options = {"namespace": "resized", "form": "decoded"}
                dataset = kappacore.CacheWrapper(source, "shared", copy="unsafe", **options)
                dataset.prefill(progress=False)
                caches.append(dataset)
            last = crop if "decoded" in name else resize_and_crop
            if cropped or "decoded" not in name:
                last = last if cropped else resize
                dataset = kappacore.wrap(dataset, "transform", item="x", transform=last)
            datasets[name] = kappacore.ModeWrapper(dataset, "x class")
        seconds = seconds_per_epoch(datasets, rounds)
        case = f"with a random crop of {CROP}x{CROP}" if cropped else "without a crop"
        per_image = {name: each / number for name, each in seconds.items()}
        table(f"Epochs {case}", per_image, per_second="images")
        for cache in caches:
            cache.close()
