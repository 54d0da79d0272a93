"""Small image folders, made of real JPEG files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def make_image_folder(
    root: Path, classes: Sequence[str] = ("cat", "dog"), per_class: int = 3
) -> Path:
    """Make ``root/<class>/<number>.jpg`` with smooth, distinct content; return ``root``."""
    generator = np.random.default_rng(0)
    for name in classes:
        (root / name).mkdir(parents=True)
        for number in range(per_class):
            coarse = generator.integers(0, 256, (4, 5, 3), dtype=np.uint8)
            image = Image.fromarray(coarse).resize((80, 64), Image.Resampling.BICUBIC)
            image.save(root / name / f"{number:03d}.jpg", quality=90)
    return root
