"""Loaders: functions that take a path and return what is in the file there.

Each one reads the file, then decodes its bytes. The two steps are separate so that a cache can keep
the compressed bytes and decode them on the way out.

Pixels are those of ``PIL.Image.open(path).convert("RGB")``, as in torchvision. Options that change
them are part of the identity of decoded images.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from kappa_imagefolder.errors import UnreadableImageError
from kappa_imagefolder.images import pillow
from kappa_imagefolder.images.fallback import fast_else_plain
from kappa_imagefolder.images.jpeg_header import scalable_frame
from kappa_imagefolder.images.reading import AnyPath, read_file

try:
    import simplejpeg
except ImportError:  # kappa-imagefolder[fast] is not installed
    simplejpeg = None

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from kappa_imagefolder.images.jpeg_header import Frame

Label = TypeVar("Label")

#: What images can be decoded to.
KINDS = ("pil", "raw", "numpy", "tensor")
#: What decodes JPEGs to arrays.
JPEG_DECODERS = ("auto", "pillow")

_EXIF_INFO = ("exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif")
#: Numbers of components that every decoder turns into the same RGB: grey, and YCbCr or RGB. CMYK,
#: which has four, is not among them.
_SAME_RGB = (1, 3)


@dataclass(frozen=True)
class FileLoader:
    """Path → value, in two steps: the bytes to keep, and what they are decoded to.

    Args:
        kind: One of :data:`KINDS`.
        size_hint: Decode a large JPEG at 1/2, 1/4 or 1/8 of its size, such that its shorter side
            keeps at least that many pixels.
        exif: Turn the image upright according to its metadata.
        max_pixels: The most pixels that an image may have; None: ``PIL.Image.MAX_IMAGE_PIXELS``.
        jpeg: ``"auto"``: JPEGs become arrays through simplejpeg where it is installed, else
            through Pillow; ``"pillow"``: always through Pillow.
        shrink: Applied first to the bytes of the file.
        max_bytes: The most bytes that a file may have.
    """

    kind: str = "pil"
    size_hint: int | None = None
    exif: bool = False
    max_pixels: int | None = None
    jpeg: str = "auto"
    shrink: pillow.Shrink | None = None
    max_bytes: int | None = None

    def __call__(self, path: AnyPath) -> Any:
        """Load an image file.

        Raises:
            UnreadableImageError: The file cannot be read or decoded.
        """
        try:
            return self.decode(self.read(path))
        except UnreadableImageError as error:
            raise UnreadableImageError(
                f"cannot load {os.fspath(path)!r}: {error}"
            ) from error.__cause__

    def read(self, path: AnyPath) -> bytes:
        """Return the bytes to keep; raises the errors of :meth:`read_whole` and ``Shrink``."""
        data = self.read_whole(path)
        return data if self.shrink is None else self.shrink(data, self.max_pixels)

    def read_whole(self, path: AnyPath) -> bytes:
        """Return the bytes of the file; raises the errors of :func:`read_file`."""
        is_image = self.kind != "raw" or self.shrink is not None
        return read_file(path, self.max_bytes, is_image=is_image, max_pixels=self.max_pixels)

    def decode(self, data: Any) -> Any:
        """Decode.

        Args:
            data: The bytes of an image file.

        Returns:
            By ``kind``: a PIL image in mode ``RGB``; the bytes; ``uint8`` of shape ``(H, W, 3)``;
            a tensor of ``uint8`` of shape ``(3, H, W)``.

        Raises:
            UnreadableImageError: The bytes are not an image, are damaged, or have too many pixels.
        """
        if self.kind == "raw":
            return data
        if self.kind == "pil":
            return self._to_pil(data)
        pixels = self._to_array(data)
        if self.kind == "numpy":
            return pixels
        import torch

        # Transposed by numpy: torch would start threads for it in every process that decodes.
        return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))

    @property
    def stored_identity(self) -> str:
        """What the bytes to keep depend on, besides those of the file; empty for nothing."""
        return "" if self.shrink is None else f"/{self.shrink.identity}"

    @property
    def identity(self) -> str:
        """What the value depends on, besides the bytes of the file."""
        if self.kind == "raw":
            return self.stored_identity
        parts = [self.stored_identity, self.kind, pillow.identity()]
        if self._is_fast:
            parts.append(f"simplejpeg-{simplejpeg.__version__}")
        if self.size_hint is not None:
            parts.append(f"size_hint-{self.size_hint}")
        if self.exif:
            parts.append("exif")
        return "/".join(parts)

    @property
    def _is_fast(self) -> bool:
        """Whether simplejpeg decodes JPEGs."""
        return bool(simplejpeg) and self.kind in ("numpy", "tensor") and self.jpeg == "auto"

    def _to_pil(self, data: Any) -> Image.Image:
        if self.size_hint is None:
            return self._by_pillow(data, None)
        return fast_else_plain(
            lambda: self._by_pillow(data, self.size_hint), lambda: self._by_pillow(data, None)
        )

    def _by_pillow(self, data: Any, size_hint: int | None) -> Image.Image:
        with pillow.open_image(data, self.max_pixels) as image:
            pillow.draft(image, data, size_hint)
            pixels = pillow.to_rgb(image)
            if self.exif:  # read only now: Pillow turns TIFFs itself when it decodes them
                turn = pillow.find_turn(image)
                pixels = pixels if turn is None else pixels.transpose(turn)
                for key in _EXIF_INFO:  # else another library would turn it again
                    pixels.info.pop(key, None)
            return pixels

    def _to_array(self, data: Any) -> npt.NDArray[np.uint8]:
        frame = scalable_frame(data) if self._is_fast else None
        if frame is None or frame.components not in _SAME_RGB:
            return np.array(self._to_pil(data))
        return fast_else_plain(
            lambda: self._by_simplejpeg(data, frame), lambda: np.array(self._to_pil(data))
        )

    def _by_simplejpeg(self, data: Any, frame: Frame) -> npt.NDArray[np.uint8]:
        pillow.check_pixels(frame.width, frame.height, self.max_pixels)
        by = pillow.reduction(frame.width, frame.height, self.size_hint)
        least = {}
        if by > 1:
            least = {"min_height": -(-frame.height // by), "min_width": -(-frame.width // by)}
        pixels: npt.NDArray[np.uint8] = simplejpeg.decode_jpeg(data, "RGB", **least)
        if self.exif:
            with pillow.open_image(data, self.max_pixels) as image:
                turn = pillow.find_turn(image)
            if turn is not None:  # by Pillow, in half the time that numpy takes
                return np.array(Image.fromarray(pixels).transpose(turn))
        return pixels


#: Loads an image file as a PIL image in mode ``RGB``, with the pixels of torchvision's loader.
pil_loader: Callable[[AnyPath], Image.Image] = FileLoader("pil")
#: Loads the bytes of an image file as they are: compressed, to be decoded after a cache.
raw_image_loader: Callable[[AnyPath], bytes] = FileLoader("raw")
#: Loads an image file as ``uint8`` of shape ``(H, W, 3)``.
numpy_loader: Callable[[AnyPath], npt.NDArray[np.uint8]] = FileLoader("numpy")
#: Loads an image file as ``uint8`` of shape ``(3, H, W)``.
tensor_loader: Callable[[AnyPath], torch.Tensor] = FileLoader("tensor")

#: Each loader above by itself, to find it by an equal one.
LOADERS = {each: each for each in (pil_loader, raw_image_loader, numpy_loader, tensor_loader)}


def raw_image_folder_sample_to_pil_sample(
    sample: tuple[bytes, Label],
) -> tuple[Image.Image, Label]:
    """Decode the image of a raw sample; a ``transform`` for a cache of raw samples.

    Args:
        sample: ``(bytes of an image file, label)``.

    Returns:
        ``(PIL image in mode RGB, label)``.
    """
    data, label = sample
    return FileLoader("pil").decode(data), label
