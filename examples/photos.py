"""The images of all recipes: a folder with one subfolder for each class."""

from pathlib import Path

import numpy as np
from PIL import Image


def make_photos(root: str | Path, per_class: int = 20) -> Path:
    """Write ``root/<class>/<number>.jpg``, unless the folder is there; return ``root``."""
    root = Path(root)
    generator = np.random.default_rng(0)
    for name in () if root.exists() else ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for number in range(per_class):
            coarse = generator.integers(0, 256, (4, 4, 3), dtype=np.uint8)
            image = Image.fromarray(coarse).resize((64, 64), Image.Resampling.BICUBIC)
            image.save(root / name / f"{number:02d}.jpg")
    return root
