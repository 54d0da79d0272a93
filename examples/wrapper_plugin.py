"""A wrapper of your own: a change to one item, chosen by name."""

import sys

from photos import make_photos
from PIL import Image

import kappacore


@kappacore.register_wrapper("thumbnail")
class Thumbnail(kappacore.KDWrapper):
    """Images at a smaller size; all other items pass through.

    Args:
        dataset: The dataset inside, whose item ``x`` is an image of PIL.
        size: Of the longer side, in pixels.
    """

    def __init__(self, dataset: kappacore.KDDataset, size: int = 32) -> None:
        super().__init__(dataset)
        if size < 1:
            raise ValueError(f"size={size}: expected a number of pixels from 1.")
        self.size = size

    def getitem_x(self, idx: int, ctx: dict[str, object] | None = None) -> Image.Image:
        image: Image.Image = self.dataset.getitem_x(idx, ctx=ctx)
        image.thumbnail((self.size, self.size))
        return image

    def fingerprint(self, item: str, raw: bool = False) -> str | None:
        """Identify the content: what is inside, and what this wrapper does to it."""
        inner = self.dataset.fingerprint(item, raw)
        changes = item == "x" and inner is not None
        return f"{inner} thumbnail {self.size}" if changes else inner


def main(root: str = "photos") -> None:
    """Cache the small images: each is read, decoded and made smaller once."""
    ds = kappacore.load_dataset("imagefolder", root=make_photos(root))
    ds = kappacore.wrap(ds, "thumbnail", size=16)
    with kappacore.wrap(ds, "cache", items="x", backend="shared") as cached:
        for image, _label in kappacore.ModeWrapper(cached, "x class"):
            assert image.size == (16, 16)
        print(cached)


if __name__ == "__main__":
    main(*sys.argv[1:])
