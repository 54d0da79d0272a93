"""Small image folders with real, reproducible pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kappa_imagefolder import ImageFolder

__all__ = ["make_tree", "names", "picture"]


def picture(seed: int = 0, size: tuple[int, int] = (48, 32)) -> Image.Image:
    """Return a colour gradient with noise on it, of ``(width, height)`` pixels."""
    width, height = size
    across, down = np.meshgrid(np.linspace(0, 200, width), np.linspace(0, 200, height))
    pixels = np.stack([across, down, np.full_like(across, 37 * seed % 200)], axis=-1)
    pixels += np.random.default_rng(seed).integers(0, 40, pixels.shape)
    return Image.fromarray(pixels.astype(np.uint8))


def make_tree(root: Path, files: Iterable[str]) -> Path:
    """Write a different picture to each of ``files`` below ``root``; return ``root``."""
    for seed, file in enumerate(files):
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(seed).save(path)
    return root


def names(ds: ImageFolder, root: Path) -> list[tuple[str, int]]:
    """Return the samples of a dataset with their paths relative to ``root``."""
    return [(str(Path(path).relative_to(root)), label) for path, label in ds.samples]
