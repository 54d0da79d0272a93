"""The dataset: a folder with one subfolder of images per class."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from kappa_imagefolder.errors import UnreadableImageError
from kappa_imagefolder.folders import CLASS_ORDERS, check_folder, find_classes
from kappa_imagefolder.identity import FINGERPRINTS, files_digest, listing_digest
from kappa_imagefolder.index import CHECKS
from kappa_imagefolder.loading import file_loader, read_file
from kappa_imagefolder.open_folder import open_folder, own_samples
from kappa_imagefolder.options import (
    check_choice,
    check_extensions,
    check_index_option,
    check_loader,
    check_on_error,
    check_root,
    check_transform,
    choose_loader,
)
from kappa_imagefolder.paths import FullPaths, Samples, Targets
from kappa_imagefolder.samples import ImagesAndClasses
from kappa_imagefolder.scan import Rules
from kappacore.plugin_api import find_item

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from kappacore.plugin_api import Ctx, Item

__all__ = ["ImageFolder"]


class ImageFolder(ImagesAndClasses):
    """Images in folders, one folder per class, with the meaning that torchvision gives them.

    Its items are ``x`` (the image), ``class`` (also ``y``; an int) and ``path`` (a str). Labels and
    paths are read without opening a file. ``x`` has a raw form, the bytes of the file, which is
    what a cache keeps; decoding and ``transform`` come after the cache.

    Classes are the folders directly below ``root``, in lexicographic order. A class holds the files
    below its folder at any depth, in sorted order, links followed; a link that leads back to a
    folder around it is not (torchvision lists such files some 40 times).

    Args:
        root: The folder; ``~`` is expanded.
        transform: Image → image, applied to ``x`` after decoding.
        target_transform: Label → label, applied to ``class``.
        loader: Path → ``x``. Other loaders than those of this package have no raw form, so a cache
            keeps what they return. Default: the one that ``decode`` names.
        is_valid_file: Path → bool, in place of ``extensions``.
        allow_empty: Accept classes without an image.
        extensions: Endings of image files, in any case. Default: torchvision's.
        decode: What ``x`` is: ``"pil"`` (an image in mode RGB), ``"numpy"`` (uint8 of shape
            ``(H, W, 3)``), ``"tensor"`` (uint8 of shape ``(3, H, W)``) or ``"raw"`` (the bytes of
            the file).
        size_hint: Decode large JPEGs at 1/2, 1/4 or 1/8 of their size, which is faster; the shorter
            side keeps at least that many pixels.
        exif: Turn images upright as their metadata say; torchvision does not.
        max_pixels: Refuse images with more; default: ``PIL.Image.MAX_IMAGE_PIXELS``, about 89
            million.
        jpeg_decoder: ``"auto"``: JPEGs become arrays through simplejpeg where that is installed;
            ``"pillow"``: always through Pillow.
        shrink: Re-encode images whose longest side is longer than that many pixels, as a smaller
            JPEG of quality 90, before a cache keeps them; or ``(pixels, quality)``.
        on_error: ``"raise"``, or a function that takes the :class:`UnreadableImageError` of an
            image that cannot be loaded and returns what to use in its place.
        class_order: ``"lexicographic"`` as in torchvision (1, 10, 2), or ``"natural"`` (1, 2, 10).
        index: Open the folder by an index file, made if need be: True (it lies in the root, or in
            the user's cache where that cannot be written) or a path.
        index_check: What to look at before believing the index: ``"dirs"`` (when each folder last
            changed), ``"trust"`` (nothing) or ``"full"`` (all file names).
        fingerprint: How the content is identified for caches: by the relative paths and classes of
            all files and the content of 64 of them (``"sampled"``), the sizes of all
            (``"sizes"``) or the content of all (``"content"``).
        progress: Show a bar on a terminal where something takes longer than two seconds.

    Attributes:
        root: The folder, as a str.
        classes: Names of the classes, in the order of their indices.
        class_to_idx: Index of each.
        samples: ``(path, label)`` of all files; equals a list, but takes a few bytes a file.
        imgs: The same.
        targets: The labels of all files, likewise.
        loader: What loads ``x`` from a path.
        extensions: Endings of image files; None with ``is_valid_file``.
        index_path: The index file by which the folder was opened, or None.

    Raises:
        RootNotFoundError: There is no such folder.
        RootNotFolderError: ``root`` is a file.
        NoClassesError: It holds no folder.
        EmptyClassError: A class has no image.
        UnreadableFolderError: A folder below it cannot be listed.
        IndexFileError: ``index`` names a file that cannot be written.

    Example::

        ds = ImageFolder("/data/train")
        image, label = ds[0]
        labels = ds.getall_class()                   # opens no file
        for x, y in ModeWrapper(CacheWrapper(ds), mode="x class"):
            ...
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[Any], Any] | None = None,
        loader: Callable[[str], Any] | None = None,
        is_valid_file: Callable[[str], bool] | None = None,
        allow_empty: bool = False,
        *,
        extensions: str | Iterable[str] | None = None,
        decode: str = "pil",
        size_hint: int | None = None,
        exif: bool = False,
        max_pixels: int | None = None,
        jpeg_decoder: str = "auto",
        shrink: int | Sequence[int] | None = None,
        on_error: str | Callable[[UnreadableImageError], Any] = "raise",
        class_order: str = "lexicographic",
        index: bool | str | os.PathLike[str] = False,
        index_check: str = "dirs",
        fingerprint: str = "sampled",
        progress: bool = True,
    ) -> None:
        super().__init__()
        self.root = check_root(root)
        self.transform = check_transform(transform)
        self.target_transform = check_transform(target_transform, "target_transform")
        self._items: dict[str, Item] = {}
        self.loader = choose_loader(
            loader,
            decode,
            size_hint=size_hint,
            exif=exif,
            max_pixels=max_pixels,
            jpeg_decoder=jpeg_decoder,
            shrink=shrink,
        )
        self._on_error = check_on_error(on_error)
        self.extensions = check_extensions(extensions, is_valid_file)
        self._class_order = check_choice("class_order", class_order, CLASS_ORDERS)
        where = check_index_option(index, is_valid_file)
        how_checked = check_choice("index_check", index_check, CHECKS)
        self._fingerprint_by = check_choice("fingerprint", fingerprint, FINGERPRINTS)
        self._files_digest: str | None = None
        self._progress = progress

        check_folder(self.root)
        opened = open_folder(
            self,
            ImageFolder,
            Rules(self.extensions, is_valid_file, self._class_order),
            allow_empty=allow_empty,
            index=where,
            index_check=how_checked,
            progress=progress,
        )
        self.classes, self.class_to_idx = opened.classes
        self._listing = opened.listing
        self.index_path = opened.path

    def find_classes(self, directory: str) -> tuple[list[str], dict[str, int]]:
        """List the classes; override it to choose among the folders or to number them otherwise.

        Args:
            directory: The root.

        Returns:
            The names of the classes, and the index of each class folder below the root.
        """
        return find_classes(directory, self._class_order)

    @staticmethod
    def make_dataset(
        directory: str,
        class_to_idx: dict[str, int],
        extensions: tuple[str, ...] | None = None,
        is_valid_file: Callable[[str], bool] | None = None,
        allow_empty: bool = False,
    ) -> Sequence[tuple[str, int]]:
        """List the samples; override it to choose among the files, as with torchvision's.

        Args:
            directory: The root.
            class_to_idx: What ``find_classes`` returned.
            extensions: Endings of image files; None with ``is_valid_file``.
            is_valid_file: Path → bool.
            allow_empty: Accept classes without an image.

        Returns:
            ``(path, label)`` of every image.
        """
        return own_samples(
            directory, class_to_idx, Rules(extensions, is_valid_file), allow_empty=allow_empty
        )

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._listing.labels)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.root!r}, {len(self)} images, {self.n_classes} classes)"

    # ---- as torchvision has it

    @property
    def n_classes(self) -> int:
        """The number of classes, those without an image included."""
        return len(self.classes)

    @property
    def samples(self) -> Samples:
        """``(path, label)`` of every image, without ``target_transform``."""
        return Samples(self._paths, self._listing.labels)

    @property
    def imgs(self) -> Samples:
        """The same as ``samples``."""
        return self.samples

    @property
    def targets(self) -> Targets:
        """The label of every image, without ``target_transform``."""
        return Targets(self._listing.labels)

    @property
    def loader(self) -> Callable[[str], Any]:
        """What loads ``x`` from a path; can be set."""
        return self._loader

    @loader.setter
    def loader(self, loader: Callable[[str], Any]) -> None:
        self._loader = check_loader(loader)
        self._file_loader = file_loader(loader)
        self._items.clear()

    @property
    def _paths(self) -> FullPaths:
        return FullPaths(self.root, self._listing.paths)

    def _item(self, name: str) -> Item:
        """Return an item as subclasses define it; kept, because finding it takes a while."""
        item = self._items.get(name)
        if item is None:
            item = self._items[name] = find_item(self, name)
        return item

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_items": {}}

    # ---- item x

    def getitem_x(self, idx: int, ctx: Ctx | None = None) -> Any:  # noqa: ARG002
        """Load one image."""
        loader = self._file_loader
        try:
            if loader is None:
                image = self._attempt(idx, self.loader)
            else:
                image = self._attempt(idx, lambda path: loader.decoder(loader.read(path)))
        except UnreadableImageError as error:
            if self._on_error is None:
                raise
            image = self._on_error(error)
        return self._transformed(image)

    @property
    def getraw_x(self) -> Callable[[int], bytes] | None:
        """Read the bytes of one image; None where ``loader`` is not one of this package."""
        return None if self._file_loader is None else self._read

    def decode_x(self, raw: bytes, ctx: Ctx | None = None) -> Any:  # noqa: ARG002
        """Turn the bytes of an image file into ``x``."""
        if not len(raw):
            raise UnreadableImageError("the file is empty")
        loader = self._file_loader
        return self._transformed(raw if loader is None else loader.decoder(raw))

    def _read(self, idx: int, *, stored: bool = True) -> bytes:
        """Return the bytes that a cache keeps, or those of the file."""
        loader = self._file_loader
        read = loader.read if stored and loader is not None else read_file
        try:
            data: bytes = self._attempt(idx, read)
        except UnreadableImageError:
            if self._on_error is None:
                raise
            return b""  # decoding it fails, and then `getitem_x` is asked, which knows what to do
        return data

    def _attempt(self, idx: int, load: Callable[[str], Any]) -> Any:
        path = self._paths[idx]
        try:
            return load(path)
        except UnreadableImageError as error:
            raise self._unreadable(idx, str(error)) from error.__cause__
        except MemoryError:
            raise
        except Exception as error:  # whatever an own loader raises: say for which image
            raise self._unreadable(idx, f"{type(error).__name__}: {error}") from error

    def _unreadable(self, idx: int, reason: str) -> UnreadableImageError:
        path, label = self.samples[idx]
        names = [name for name, number in self.class_to_idx.items() if number == label]
        error = UnreadableImageError(
            f"cannot load image {idx} of class {' or '.join(map(repr, names))}, {path!r}: {reason}"
        )
        error.index, error.path, error.class_name = idx, path, " or ".join(names)
        return error

    def _transformed(self, image: Any) -> Any:
        return image if self.transform is None else self.transform(image)

    # ---- items class, y and path

    def getitem_class(self, idx: int, ctx: Ctx | None = None) -> Any:  # noqa: ARG002
        """Return the label of one image."""
        label = int(self._listing.labels[idx])
        return label if self.target_transform is None else self.target_transform(label)

    def getall_class(self) -> npt.NDArray[np.int64] | list[Any]:
        """Return the labels of all images; an array, or a list with ``target_transform``."""
        if self.target_transform is None:
            return self._listing.labels.astype(np.int64)
        return [self.target_transform(label) for label in self.targets]

    def getitem_y(self, idx: int, ctx: Ctx | None = None) -> Any:
        """Return the item ``class``."""
        return self._item("class").get(idx, ctx)

    def getall_y(self) -> Any:
        """Return the whole item ``class``."""
        item = self._item("class")
        column = item.get_all()
        return item.get_batch(list(range(len(self)))) if column is None else column

    def getitem_path(self, idx: int, ctx: Ctx | None = None) -> str:  # noqa: ARG002
        """Return the path of one image; bytes that are not UTF-8 as ``os.fsdecode`` has them."""
        return self._paths[idx]

    def getall_path(self) -> Sequence[str]:
        """Return the paths of all images."""
        return self._paths

    # ---- identity

    def fingerprint(self, item: str, raw: bool = False) -> str | None:
        """Identify the content of an item; see the argument ``fingerprint``.

        Decoded images are identified by their files, the decoder, its options and its version;
        with a ``transform`` or an ``on_error`` of unknown effect they are not, nor are those of an
        own ``loader``.
        """
        if item == "x":
            return self._image_fingerprint(raw)
        if item == "class" and self.target_transform is None:
            return f"imagefolder/classes/{listing_digest(self._listing)}"
        if item == "y":
            return self._item("class").fingerprint()
        if item == "path":
            return f"imagefolder/paths/{listing_digest(self._listing)}/{self.root!a}"
        return None

    def sample_fingerprint(self) -> str | None:
        """Identify the samples ``(x, class)`` that indexing gives; None where that is unknown."""
        if (
            type(self).__getitem__ is not ImageFolder.__getitem__
            or type(self).__getitems__ is not ImageFolder.__getitems__
        ):
            return None
        image = self._item("x").fingerprint()
        label = self._item("class").fingerprint()
        return None if image is None or label is None else f"{image}+{label}"

    def _image_fingerprint(self, raw: bool) -> str | None:
        loader = self._file_loader
        if loader is None:
            return None
        if not raw and (self.transform is not None or self._on_error is not None):
            return None
        if self._files_digest is None:
            self._files_digest = files_digest(
                self._listing,
                self._fingerprint_by,
                lambda idx: self._read(idx, stored=False),
                self._measure,
                progress=self._progress,
            )
        how = loader.stored_identity if raw else loader.identity
        return f"imagefolder/{self._fingerprint_by}/{self._files_digest}{how}"

    def _measure(self, idx: int) -> int:
        try:
            return int(self._attempt(idx, os.path.getsize))
        except UnreadableImageError:
            if self._on_error is None:
                raise
            return 0
