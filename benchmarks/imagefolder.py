"""kappa_imagefolder compared with torchvision: scanning, opening by index, decoding, whole epochs.

Each ratio is against the first line of its table, measured in the same run; best of the rounds.
The photos are the two that scikit-learn ships, cut and put together (`--photos` takes a folder of
your own). `make bench` installs what this needs; run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from PIL import Image

from benchmarks._imagefolder_decode import decoding, quality
from benchmarks._imagefolder_epochs import epochs
from benchmarks._imagefolder_scan import scanning
from kappa_imagefolder import ImageFolder


def photos(folder: str | None) -> list[Image.Image]:
    if folder is not None:
        paths = [path for path, _ in ImageFolder(folder).samples[:64]]
        return [Image.open(path).convert("RGB") for path in paths]
    from sklearn.datasets import load_sample_images

    return [Image.fromarray(pixels) for pixels in load_sample_images().images]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--folders", type=int, default=1000)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--photos", metavar="FOLDER", help="an image folder of your own photos")
    parser.add_argument("--only", choices=["scan", "decode", "epoch"], help="one part alone")
    parser.add_argument("--brief", action="store_true", help="smaller, and no decoding")
    arguments = parser.parse_args()
    if arguments.brief:
        arguments.files, arguments.images, arguments.rounds = 50_000, 256, 4
    with tempfile.TemporaryDirectory(prefix="imagefolder-") as name:
        folder = Path(name)
        if arguments.only in (None, "scan"):
            scanning(folder, arguments.files, arguments.folders, arguments.rounds)
        if arguments.only != "scan":
            images = photos(arguments.photos)
        if arguments.only in (None, "decode") and not arguments.brief:
            decoding(images, arguments.rounds)
            quality(images)
        if arguments.only in (None, "epoch"):
            epochs(folder, images, arguments.images, arguments.rounds)


if __name__ == "__main__":
    main()
