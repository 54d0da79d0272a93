"""Source ``imagefolder`` for kappacore: a folder of images, one subfolder per class.

Importing this package imports nothing else: each name is loaded on first access.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kappa_imagefolder.cached import CachedImageFolder
    from kappa_imagefolder.dataset import ImageFolder
    from kappa_imagefolder.errors import (
        EmptyClassError,
        IndexFileError,
        NoClassesError,
        RootNotFolderError,
        RootNotFoundError,
        UnreadableFolderError,
        UnreadableImageError,
    )
    from kappa_imagefolder.images.loaders import (
        numpy_loader,
        pil_loader,
        raw_image_folder_sample_to_pil_sample,
        raw_image_loader,
        tensor_loader,
    )

__version__ = "0.1.0"

__all__ = [
    "CachedImageFolder",
    "EmptyClassError",
    "ImageFolder",
    "IndexFileError",
    "NoClassesError",
    "RootNotFolderError",
    "RootNotFoundError",
    "UnreadableFolderError",
    "UnreadableImageError",
    "__version__",
    "numpy_loader",
    "pil_loader",
    "raw_image_folder_sample_to_pil_sample",
    "raw_image_loader",
    "tensor_loader",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'kappa_imagefolder' has no attribute {name!r}")
    homes = {"CachedImageFolder": "cached", "ImageFolder": "dataset"}
    home = "errors" if name.endswith("Error") else homes.get(name, "images.loaders")
    value = getattr(importlib.import_module(f"kappa_imagefolder.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
