"""The dataset: a folder with one subfolder of images per class."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import PIL

from kappa_imagefolder.errors import UnreadableImageError
from kappa_imagefolder.identity import FINGERPRINTS, files_digest, listing_digest
from kappa_imagefolder.loading import DECODERS, loader_name, read_file
from kappa_imagefolder.options import (
    check_choice,
    check_extensions,
    check_loader,
    check_root,
    choose_loader,
)
from kappa_imagefolder.paths import FullPaths, Samples, Targets, check_index
from kappa_imagefolder.scan import check_folder, find_classes, scan
from kappacore.datasets import KDDataset
from kappacore.datasets.items import find_item

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from kappacore.datasets.items import Ctx, Item

__all__ = ["ImageFolder"]


class ImageFolder(KDDataset):
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
        fingerprint: How the content is identified for caches: by the relative paths and classes of
            all files and the content of 64 of them (``"sampled"``), the sizes of all
            (``"sizes"``) or the content of all (``"content"``).

    Attributes:
        root: The folder, as a str.
        classes: Names of the classes, in the order of their indices.
        class_to_idx: Index of each.
        samples: ``(path, label)`` of all files; equals a list, but takes a few bytes a file.
        imgs: The same.
        targets: The labels of all files, likewise.
        loader: What loads ``x`` from a path.
        extensions: Endings of image files; None with ``is_valid_file``.

    Raises:
        RootNotFoundError: There is no such folder.
        RootNotFolderError: ``root`` is a file.
        NoClassesError: It holds no folder.
        EmptyClassError: A class has no image.
        UnreadableFolderError: A folder below it cannot be listed.

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
        fingerprint: str = "sampled",
    ) -> None:
        super().__init__()
        self.root = check_root(root)
        self.transform = transform
        self.target_transform = target_transform
        self._items: dict[str, Item] = {}
        self.loader = choose_loader(loader, decode)
        self.extensions = check_extensions(extensions, is_valid_file)
        self._fingerprint_by = check_choice("fingerprint", fingerprint, FINGERPRINTS)
        self._files_digest: str | None = None

        check_folder(self.root)
        self.classes, self.class_to_idx = self.find_classes(self.root)
        self._listing = scan(
            self.root,
            self.class_to_idx,
            self.extensions,
            is_valid_file,
            allow_empty=allow_empty,
        )
        self._paths = FullPaths(self.root, self._listing.paths)

    def find_classes(self, directory: str) -> tuple[list[str], dict[str, int]]:
        """List the classes; override it to choose among the folders or to number them otherwise.

        Args:
            directory: The root.

        Returns:
            The names of the classes, and the index of each class folder below the root.
        """
        return find_classes(directory)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._paths)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.root!r}, {len(self)} images, {self.n_classes} classes)"

    # ---- as torchvision has it

    def __getitem__(self, index: int) -> tuple[Any, Any]:  # type: ignore[override]
        """Return ``(x, class)`` of one image; negative indices count from the end."""
        idx = check_index(index, len(self), type(self).__name__)
        return self._item("x").get(idx), self._item("class").get(idx)

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Any, Any]]:
        """Return ``(x, class)`` of each image in a batch."""
        idxs = [check_index(index, len(self), type(self).__name__) for index in indices]
        images = self._item("x").get_batch(idxs)
        labels = self._item("class").get_batch(idxs)
        return list(zip(images, labels, strict=True))

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        """Go through all ``(x, class)``; an IndexError from a transform does not end it early."""
        return map(self.__getitem__, range(len(self)))

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
        self._items.clear()

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
        name = loader_name(self.loader)
        if name is None:
            return self._transformed(self._load(idx, self.loader))
        decode = DECODERS[name]
        return self._transformed(self._load(idx, lambda path: decode(read_file(path))))

    @property
    def getraw_x(self) -> Callable[[int], bytes] | None:
        """Read the bytes of one image file; None where ``loader`` is not one of this package."""
        return None if loader_name(self.loader) is None else self._read

    def decode_x(self, raw: bytes, ctx: Ctx | None = None) -> Any:  # noqa: ARG002
        """Turn the bytes of an image file into ``x``."""
        return self._transformed(DECODERS[loader_name(self.loader) or "raw"](raw))

    def _read(self, idx: int) -> bytes:
        data: bytes = self._load(idx, read_file)
        return data

    def _load(self, idx: int, load: Callable[[str], Any]) -> Any:
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
        return UnreadableImageError(
            f"cannot load image {idx} of class {self._class_name(label)}, {path!r}: {reason}"
        )

    def _class_name(self, label: int) -> str:
        names = [name for name, idx in self.class_to_idx.items() if idx == label]
        return " or ".join(map(repr, names))

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

        Decoded images are identified by their files, the decoder and its version; with a
        ``transform`` of unknown effect they are not, nor are those of an own ``loader``.
        """
        if item == "x":
            return self._image_fingerprint(raw)
        if item == "class" and self.target_transform is None:
            return f"imagefolder/classes/{listing_digest(self._listing)}"
        if item == "y":
            return self._item("class").fingerprint()
        if item == "path":
            return f"imagefolder/paths/{listing_digest(self._listing)}/{self.root}"
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
        name = loader_name(self.loader)
        if name is None or (self.transform is not None and not raw):
            return None
        if self._files_digest is None:
            self._files_digest = files_digest(
                self._listing, self._fingerprint_by, self._read, self._measure
            )
        stored = f"imagefolder/{self._fingerprint_by}/{self._files_digest}"
        return stored if raw or name == "raw" else f"{stored}/{name}/pillow-{PIL.__version__}"

    def _measure(self, idx: int) -> int:
        return int(self._load(idx, os.path.getsize))
