"""Decodes JPEGs whose headers lie, in every way that this package decodes; its process must live.

    python fuzz_headers.py --count 2000 --seed 0

Prints how many could be decoded. What cannot be decoded must be an ``UnreadableImageError``.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import random
import sys
import warnings
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))  # tests, for support

from kappa_imagefolder import UnreadableImageError
from kappa_imagefolder.images.loaders import FileLoader
from kappa_imagefolder.images.pillow import Shrink
from support.image_trees import picture
from support.jpegs import lossless_jpeg, sampled_jpeg

FRAMES = bytes(range(0xC0, 0xD0))
INSERTED = (
    b"\xff",  # a fill byte
    b"\xff\xd8",
    b"\xff\xd9",
    b"\xff\xd0",
    b"\xff\x01",
    b"\xff\0",
    b"\0\0",
    b"\xff\xfe\0\0",
    b"\xff\xfe\0\1",
    b"\xff\xfe\0\2",
    b"\xff\xfe\xff\xff",
    b"\xff\xe0\0\4\xff\xc3",
    b"\xff\xdc\0\4\0\7",  # another height
    b"\xff\xdd\0\4\0\1",
    b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\0",
    b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\1",
    b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\2",
)


def originals() -> list[bytes]:
    """Return one file of each kind."""
    found = [lossless_jpeg(np.asarray(picture(size=(256, 256))))]
    found += [sampled_jpeg((1, 4)), sampled_jpeg((4, 2)), sampled_jpeg((2, 1), cr=(2, 1))]
    for mode in ("RGB", "L", "CMYK"):
        for progressive in (False, True):
            file = io.BytesIO()
            picture(size=(256, 250)).convert(mode).save(file, "JPEG", progressive=progressive)
            found.append(file.getvalue())
    return found


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Return a file whose header lies in one to three places."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3))):
        frames = [
            at for at in range(len(changed) - 20) if changed[at] == 0xFF and _is_frame(changed, at)
        ]
        at = rng.choice(frames) if frames else 2
        what = rng.randrange(7)
        if what == 0:
            changed[at + 1] = rng.choice(FRAMES)
        elif what == 1:
            changed[at + 4] = rng.choice((1, 2, 7, 8, 9, 12, 16, rng.randrange(256)))  # precision
        elif what == 2:
            size = rng.choice((0, 1, 7, 255, 257, 1000, 65500, 65535)).to_bytes(2, "big")
            side = rng.choice((5, 7))
            changed[at + side : at + side + 2] = size
        elif what == 3:
            changed[at + 9] = rng.choice((0, 1, 2, 3, 4, 5, 255))  # components
        elif what == 4:
            component = at + 10 + 3 * rng.randrange(3)
            changed[component + 1] = rng.choice((0x11, 0x12, 0x14, 0x21, 0x41, 0x44, 0, 0xFF))
        elif what == 5:
            before = rng.choice((at, 2))
            copied = bytes(changed[at : at + 19])
            changed[before:before] = rng.choice((*INSERTED, copied))
        else:
            changed[rng.randrange(min(len(changed), 640))] = rng.randrange(256)
    return bytes(changed)


def _is_frame(data: bytearray, at: int) -> bool:
    marker = data[at + 1]
    return 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)


def main() -> None:
    """Decode ``--count`` files in each of the ways."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # Pillow warns of some sizes
    rng = random.Random(arguments.seed)
    files = originals()
    limit = 1 << 20
    ways = [
        FileLoader("numpy", size_hint=32, max_pixels=limit).decode,
        FileLoader("numpy", max_pixels=limit).decode,
        FileLoader("pil", size_hint=32, max_pixels=limit).decode,
        lambda data: Shrink(40)(data, limit),
    ]
    frames = [lossless_jpeg(np.asarray(picture(size=(256, 256))), process) for process in FRAMES]
    decoded = 0
    for count in range(arguments.count):
        data = frames[count] if count < len(frames) else mutated(rng.choice(files), rng)
        for decode in ways:
            with contextlib.suppress(UnreadableImageError):
                decode(data)
                decoded += 1
    print(f"{decoded} of {len(ways) * arguments.count} decoded")


if __name__ == "__main__":
    main()
