"""JPEGs that Pillow reads and cannot write: lossless ones, and unusual sampling of colours."""

from __future__ import annotations

import io
import struct

import numpy as np
import numpy.typing as npt
from PIL import Image

Factors = tuple[int, int]  # horizontal, vertical


def lossless_jpeg(pixels: npt.NDArray[np.uint8], process: int = 0xC3) -> bytes:
    """Encode pixels as a lossless JPEG: predictor 1, and a code of 4 bits for each category.

    Args:
        pixels: RGB; of shape ``(H, W, 3)``.
        process: The marker of the frame; 0xC3 says that it is lossless.
    """
    height, width, _ = pixels.shape
    values = pixels.astype(int)
    guess = np.empty_like(values)
    guess[:, 1:] = values[:, :-1]
    guess[1:, 0] = values[:-1, 0]
    guess[0, 0] = 128
    bits = []
    for difference in (values - guess).reshape(-1).tolist():
        length = abs(difference).bit_length()
        rest = difference if difference >= 0 else difference + (1 << length) - 1
        bits.append(f"{length:04b}" + (f"{rest:0{length}b}" if length else ""))
    components = b"".join(bytes([name, 0x11, 0]) for name in b"RGB")
    return b"".join(
        [
            b"\xff\xd8",
            _segment(process, struct.pack(">BHHB", 8, height, width, 3) + components),
            _segment(0xC4, bytes([0, 0, 0, 0, 9] + [0] * 12) + bytes(range(9))),
            _segment(0xDA, bytes([3, *b"R\0G\0B\0", 1, 0, 0])),
            _entropy("".join(bits)),
            b"\xff\xd9",
        ]
    )


def sampled_jpeg(y: Factors, cb: Factors = (1, 1), cr: Factors = (1, 1)) -> bytes:
    """Encode a grey picture of one unit with these sampling factors."""
    file = io.BytesIO()
    Image.new("RGB", (16, 16), (128, 128, 128)).save(file, "JPEG", subsampling=2)
    usual = file.getvalue()
    frame, scan = usual.index(b"\xff\xc0"), usual.index(b"\xff\xda")
    factors = y, cb, cr
    width, height = (8 * max(each[axis] for each in factors) for axis in (0, 1))
    components = [
        bytes([name, across * 16 + down, min(name - 1, 1)])
        for name, (across, down) in enumerate(factors, 1)
    ]
    blocks = [across * down for across, down in factors]
    return b"".join(
        [
            usual[:frame],
            _segment(0xC0, struct.pack(">BHHB", 8, height, width, 3) + b"".join(components)),
            usual[frame + 19 : scan + 14],
            _entropy("001010" * blocks[0] + "0000" * (blocks[1] + blocks[2])),
            b"\xff\xd9",
        ]
    )


def _segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def _entropy(bits: str) -> bytes:
    bits += "1" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
