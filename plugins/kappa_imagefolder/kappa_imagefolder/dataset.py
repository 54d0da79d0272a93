"""The dataset: a folder with one subfolder of images per class."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from kappa_imagefolder import options
from kappa_imagefolder.attributes import check_followed
from kappa_imagefolder.errors import (
    ImageError,
    ImageMemoryError,
    UnreadableImageError,
)
from kappa_imagefolder.files.listing import PackedPaths, Samples, Targets
from kappa_imagefolder.files.open_folder import CHECKS, listing_of, open_folder
from kappa_imagefolder.files.scan import (
    CLASS_ORDERS,
    Rules,
    check_folder,
    find_classes,
    given_classes,
    is_hidden,
)
from kappa_imagefolder.identity import FINGERPRINTS, files_digest
from kappa_imagefolder.images.loaders import FileLoader
from kappa_imagefolder.images.pillow import is_of_file
from kappa_imagefolder.images.reading import measure_file, read_file
from kappa_imagefolder.images_and_classes import ImagesAndClasses
from kappacore.errors import InvalidOptionError
from kappacore.plugin_api import find_item

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Sequence

    from kappacore.plugin_api import Ctx, Item

E = TypeVar("E", bound=ImageError)


class ImageFolder(ImagesAndClasses):
    """Images in folders, one folder per class, interpreted as by torchvision.

    Its items are ``x`` (the image), ``class`` (also ``y``; an int) and ``path`` (a str). Labels and
    paths are read without opening a file. ``x`` has a raw form, the bytes of the file, which is
    what a cache keeps; decoding and ``transform`` come after the cache.

    Classes are the folders directly below ``root``, in lexicographic order. A class holds the files
    below its folder at any depth, in sorted order. Links are followed, except for a link that leads
    back to a folder around it (torchvision lists such files some 40 times).

    Args:
        root: The folder; ``~`` is expanded.
        transform: Image → image, applied to ``x`` after decoding.
        target_transform: Label → label, applied to ``class``.
        loader: Path → ``x``. Your own loader has no raw form, so a cache keeps what it returns.
            Default: the loader of this package for ``decode``.
        is_valid_file: Path → bool, in place of ``extensions``.
        allow_empty: Accept classes without an image.
        extensions: Endings of image files, in any case. Default: torchvision's.
        decode: What ``x`` is: ``"pil"`` (an image in mode RGB), ``"numpy"`` (uint8 of shape
            ``(H, W, 3)``), ``"tensor"`` (uint8 of shape ``(3, H, W)``) or ``"raw"`` (the bytes of
            the file).
        size_hint: Decode large JPEGs at 1/2, 1/4 or 1/8 of their size, which is faster; the shorter
            side keeps at least that many pixels.
        exif: Turn images upright according to their metadata; torchvision does not.
        max_pixels: Refuse images with more pixels. Default: ``PIL.Image.MAX_IMAGE_PIXELS``, about
            89 million.
        max_bytes_per_file: Refuse larger files, such as ``"64MiB"``, before they are read.
        jpeg_decoder: ``"auto"``: JPEGs become arrays through simplejpeg where that is installed;
            ``"pillow"``: always through Pillow.
        shrink: Pixels, or ``(pixels, quality)``: images with a longer side are re-encoded as a JPEG
            of that size, by default of quality 90, before a cache keeps them.
        on_error: ``"raise"``, or a function that takes the :class:`UnreadableImageError` of an
            image that cannot be loaded and returns a replacement. Of your own loader, only errors
            that a file can cause count: ``OSError``, ``ValueError``, ``EOFError``,
            ``struct.error``, and Pillow's ``SyntaxError`` and decompression bombs.
        classes: The names of the class folders in the order of their numbers, such as those of the
            training set: ``ImageFolder("val", classes=train.classes)``. A folder with others is
            refused; one that lacks some is too, unless ``allow_empty=True``.
        ignore_hidden: Leave out files and folders whose name begins with a dot (``.DS_Store``,
            ``._1.jpg``, ``.ipynb_checkpoints``), and ``__MACOSX``; torchvision does not.
        class_order: ``"lexicographic"`` as in torchvision (1, 10, 2), or ``"natural"`` (1, 2, 10).
        index: Open the folder by an index file, which is made if necessary: True (in the root, or
            in the user's cache directory where the root cannot be written) or a path.
        index_check: What to check before the index is used: ``"dirs"`` (when each folder last
            changed), ``"trust"`` (nothing) or ``"full"`` (all file names).
        fingerprint: How caches identify the content: by the relative paths and classes of all files
            and the content of 64 of them (``"sampled"``), the sizes of all (``"sizes"``) or the
            content of all (``"content"``).
        progress: Show how far work of more than two seconds is: a bar on a terminal, else lines.

    Attributes:
        root: The folder, as a str.
        classes: Names of the classes, in the order of their indices.
        class_to_idx: Index of each.
        samples: ``(path, label)`` of all files; equals a list, but takes a few bytes per file. It
            can be set, until a cache is opened above it.
        imgs: The same.
        targets: The labels of all files; a list that cannot be changed.
        transforms: ``transform`` and ``target_transform`` as one function; None without either.
        loader: Loads ``x`` from a path.
        extensions: Endings of image files; None with ``is_valid_file``.
        index_path: The index file by which the folder was opened, or None.

    Raises:
        RootNotFoundError: There is no such folder.
        RootNotFolderError: ``root`` is a file.
        NoClassesError: It holds no folder.
        EmptyClassError: A class has no image.
        ClassesDifferError: The folders are not those in ``classes``.
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
        max_bytes_per_file: int | str | None = None,
        jpeg_decoder: str = "auto",
        shrink: int | Sequence[int] | None = None,
        on_error: str | Callable[[UnreadableImageError], Any] = "raise",
        classes: Sequence[str] | None = None,
        ignore_hidden: bool = False,
        class_order: str = "lexicographic",
        index: bool | str | os.PathLike[str] = False,
        index_check: str = "dirs",
        fingerprint: str = "sampled",
        progress: bool = True,
    ) -> None:
        super().__init__()
        self.root = options.check_root(root)
        self.transform = options.check_transform(transform)
        self.target_transform = options.check_transform(target_transform, "target_transform")
        self._items: dict[str, Item] = {}
        self._identified: set[str] = set()
        self._targets: Targets | None = None
        self.loader = options.choose_loader(
            loader, decode, shrink, size_hint, exif, max_pixels, jpeg_decoder, max_bytes_per_file
        )
        self._on_error = options.check_on_error(on_error)
        self._extensions = options.check_extensions(extensions, is_valid_file)
        self._class_order = options.check_choice("class_order", class_order, CLASS_ORDERS)
        self._fingerprint_by = options.check_choice("fingerprint", fingerprint, FINGERPRINTS)
        self._files_digest: str | None = None
        self._progress = progress

        kind = type(self)
        self._given_classes = options.check_classes(classes)
        self._ignore_hidden = options.check_flag("ignore_hidden", ignore_hidden)
        self._allow_empty = allow_empty
        own_classes = None if classes is None else f"classes={self._given_classes!a}"
        if kind.find_classes is not ImageFolder.find_classes:
            if classes is not None:
                raise InvalidOptionError(
                    f"classes= and {kind.__name__}.find_classes both choose the classes; use one"
                )
            own_classes = f"{kind.__module__}.{kind.__qualname__}"
        own_files = kind.make_dataset is not ImageFolder.make_dataset
        chooser = f"{kind.__name__}.make_dataset" if own_files else None
        if own_files and ignore_hidden:
            raise InvalidOptionError(f"ignore_hidden=True and {chooser} both choose the files")
        index = options.check_index_option(
            index, chooser if is_valid_file is None else "is_valid_file"
        )
        index_check = options.check_choice("index_check", index_check, CHECKS)
        check_folder(self.root)
        folder = open_folder(
            self.root,
            Rules(
                self._extensions, is_valid_file, self._class_order, own_classes, self._ignore_hidden
            ),
            self.find_classes,
            make_dataset=self.make_dataset if own_files else None,
            allow_empty=allow_empty,
            index=index,
            index_check=index_check,
            progress=progress,
        )
        self.classes, self.class_to_idx = folder.classes
        self._listing = folder.listing
        self._index_path = folder.index_path

    def find_classes(self, directory: str) -> tuple[list[str], dict[str, int]]:
        """List the classes; override it to choose among the folders or to number them differently.

        Args:
            directory: The root.

        Returns:
            The names of the classes, and the index of each class folder below the root.
        """
        found = find_classes(directory, self._class_order, ignore_hidden=self._ignore_hidden)
        if self._given_classes is None:
            return found
        return given_classes(self._given_classes, found, directory, allow_fewer=self._allow_empty)

    @staticmethod
    def make_dataset(
        directory: str | os.PathLike[str],
        class_to_idx: dict[str, int],
        extensions: str | Iterable[str] | None = None,
        is_valid_file: Callable[[str], bool] | None = None,
        allow_empty: bool = False,
    ) -> Sequence[tuple[str, int]]:
        """List the samples; override it to choose among the files, as with torchvision's.

        It is called as torchvision calls it: ``make_dataset(root, class_to_idx=…, extensions=…,
        is_valid_file=…, allow_empty=…)``.

        Args:
            directory: The root.
            class_to_idx: What ``find_classes`` returned.
            extensions: Endings of image files; None with ``is_valid_file``.
            is_valid_file: Path → bool.
            allow_empty: Accept classes without an image.

        Returns:
            ``(path, label)`` of every image.

        Raises:
            InvalidOptionError: Not exactly one of ``extensions`` and ``is_valid_file`` is given,
                or ``class_to_idx`` is None.
        """
        directory = options.check_root(directory)
        classes = list(options.check_class_to_idx(class_to_idx)), class_to_idx
        rules = Rules(options.check_chooser(extensions, is_valid_file), is_valid_file)
        listing = open_folder(directory, rules, lambda _: classes, allow_empty=allow_empty).listing
        return Samples(replace(listing.paths, root=directory), listing.labels)

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

    @samples.setter
    def samples(self, samples: Iterable[tuple[str, int]]) -> None:
        self._listing = listing_of(self.root, samples, "samples must be")
        self._files_digest = self._targets = None

    @property
    def imgs(self) -> Samples:
        """The same."""
        return self.samples

    @property
    def extensions(self) -> tuple[str, ...] | None:
        """Endings of image files; None with ``is_valid_file``."""
        return self._extensions

    @property
    def index_path(self) -> str | None:
        """The index file by which the folder was opened, or None."""
        return self._index_path

    @property
    def targets(self) -> Targets:
        """The label of every image, without ``target_transform``."""
        if self._targets is None:
            self._targets = Targets(self._listing.labels)
        return self._targets

    @property
    def loader(self) -> Callable[[str], Any]:
        """The function that loads ``x`` from a path; can be set."""
        return self._loader

    @loader.setter
    def loader(self, loader: Callable[[str], Any]) -> None:
        self._loader = options.check_function("loader", loader)
        self._items.clear()

    @property
    def _file_loader(self) -> FileLoader | None:
        return self._loader if isinstance(self._loader, FileLoader) else None

    @property
    def _paths(self) -> PackedPaths:
        paths = self._listing.paths
        return PackedPaths(paths.blob, paths.offsets, self.root)

    def _item(self, name: str) -> Item:
        """Return an item, also where a subclass defines it; kept, because finding it is slow."""
        item = self._items.get(name)
        if item is None:
            item = self._items[name] = find_item(self, name)
        return item

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_items": {}, "_targets": None}

    def __setattr__(self, name: str, value: Any) -> None:
        check_followed(self, name, vars(self).get("_identified", set()))
        super().__setattr__(name, value)

    # ---- item x

    def getitem_x(self, idx: int, ctx: Ctx | None = None) -> Any:  # noqa: ARG002
        """Load one image.

        Args:
            idx: The sample.
            ctx: Not used.

        Returns:
            What ``decode`` asks for, or what ``loader`` returns, after the transform.

        Raises:
            UnreadableImageError: It cannot be loaded, and there is no ``on_error``.
        """
        loader = self._file_loader
        load = self.loader if loader is None else lambda path: loader.decode(loader.read(path))
        return self._transformed(self._load(idx, load))

    @property
    def getraw_x(self) -> Callable[[int], bytes] | None:
        """Read the bytes of one image; None where ``loader`` is not one of this package."""
        return None if self._file_loader is None else self._read

    @property
    def raw_formats(self) -> dict[str, str]:  # type: ignore[override]
        """``{"x": "jpeg"}`` where all files are JPEGs by their names, and decoding is all."""
        loader = self._file_loader
        plain = loader is not None and loader.kind in ("pil", "numpy")
        if loader is None or not plain or self.transform is not None or loader.exif:
            return {}
        if loader.size_hint is not None or self._on_error is not None:
            return {}
        files = all(path.lower().endswith((".jpg", ".jpeg")) for path in self._paths)
        return {"x": "jpeg"} if files else {}

    def decode_x(self, raw: bytes, ctx: Ctx | None = None) -> Any:  # noqa: ARG002
        """Turn the bytes of an image file into ``x``.

        Args:
            raw: The file.
            ctx: Not used.

        Returns:
            What :meth:`getitem_x` returns of that file.

        Raises:
            UnreadableImageError: It is no image that can be decoded.
        """
        if not len(raw):
            raise UnreadableImageError("the file is empty")
        loader = self._file_loader
        return self._transformed(raw if loader is None else loader.decode(raw))

    def _read(self, idx: int) -> Any:
        """Return the bytes that a cache keeps.

        They are empty where ``on_error`` is to replace the image: decoding them fails, and then the
        cache calls ``getitem_x``.
        """
        loader = self._file_loader
        return self._load(idx, read_file if loader is None else loader.read, b"")

    def _load(self, idx: int, load: Callable[[str], Any], default: Any = None) -> Any:
        """Return ``load(path)``.

        Where that fails and there is an ``on_error``, return ``default`` instead; where that is
        None, the result of ``on_error``.
        """
        path = self._paths[idx]
        try:
            return load(path)
        except MemoryError as error:
            raise self._named(ImageMemoryError, idx, path, error) from error
        except Exception as error:
            if not is_of_file(error):
                if hasattr(error, "add_note"):  # Python 3.11
                    error.add_note(f"while loading image {idx}, {path!r}")
                raise
            unreadable = self._named(UnreadableImageError, idx, path, error)
            if self._on_error is None:
                raise unreadable from unreadable.__cause__
            return self._on_error(unreadable) if default is None else default

    def _named(self, kind: type[E], idx: int, path: str, error: Exception) -> E:
        """Return an error that names the image, with the reason of another one."""
        is_ours = isinstance(error, UnreadableImageError)
        label = self._listing.labels[idx]
        names = [name for name, number in self.class_to_idx.items() if number == label]
        shown = " or ".join(map(repr, names)) or f"number {label}"
        what = "cannot load" if kind is UnreadableImageError else "not enough memory for"
        named = kind(
            f"{what} image {idx} of class {shown}, {path!r}: "
            f"{error if is_ours else f'{type(error).__name__}: {error}'}{self._hint(idx)}"
        )
        named.__cause__ = error.__cause__ if is_ours else error
        named.index, named.path, named.class_name = idx, path, " or ".join(names)
        return named

    def _hint(self, idx: int) -> str:
        path = Path(self._listing.paths[idx])
        if not any(map(is_hidden, path.parts[-1:] if path.is_absolute() else path.parts)):
            return ""
        return "; ignore_hidden=True leaves out hidden files and folders"

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
        return [self.target_transform(label) for label in self._listing.labels.tolist()]

    def getitem_y(self, idx: int, ctx: Ctx | None = None) -> Any:
        """Return the item ``class``."""
        return self._item("class").get(idx, ctx)

    def getall_y(self) -> Any:
        """Return the whole item ``class``."""
        item = self._item("class")
        column = item.get_all()
        return item.get_batch(list(range(len(self)))) if column is None else column

    def getitem_path(self, idx: int, ctx: Ctx | None = None) -> str:  # noqa: ARG002
        """Return the path of one image, decoded by ``os.fsdecode``."""
        return self._paths[idx]

    def getall_path(self) -> Sequence[str]:
        """Return the paths of all images."""
        return self._paths

    # ---- identity

    def unidentified(self) -> ImageFolder:
        """Return a copy for another cache than the one above this, if any."""
        folder = copy.copy(self)
        folder._identified, folder._items = set(), {}
        return folder

    fingerprint_is_content = True

    def fingerprint(self, item: str, raw: bool = False) -> str | None:
        """Identify the content of an item; see the argument ``fingerprint``.

        Decoded images are identified by their files, the decoder, its options and its version. With
        a ``transform``, an ``on_error`` or your own ``loader`` they have no fingerprint, because
        its effect is unknown.

        Args:
            item: The item's name.
            raw: Whether its stored form is meant.

        Returns:
            None if the content is unknown.
        """
        self._identified.add("raw x" if raw and item == "x" else item)
        if item == "x":
            return self._image_fingerprint(raw)
        if item == "class" and self.target_transform is None:
            return f"imagefolder/classes/{self._listing.digest()}"
        if item == "y":
            return self._item("class").fingerprint()
        if item == "path":
            return f"imagefolder/paths/{self._listing.digest()}/{self.root!a}"
        return None

    def sample_fingerprint(self) -> str | None:
        """Identify the samples ``(x, class)``; None where their content is unknown."""
        self._identified |= {"x", "class"}
        methods = ("__getitem__", "__getitems__")
        if any(getattr(type(self), each) is not getattr(ImageFolder, each) for each in methods):
            return None
        image = self._item("x").fingerprint()
        label = self._item("class").fingerprint()
        return None if image is None or label is None else f"{image}+{label}"

    def _image_fingerprint(self, raw: bool) -> str | None:
        loader = self._file_loader
        changes = self.transform is not None or self._on_error is not None
        if loader is None or (changes and not raw):
            return None
        if self._files_digest is None:
            self._files_digest = files_digest(
                self._listing,
                self._fingerprint_by,
                lambda idx: loader.read_whole(self._paths[idx]),
                lambda idx: measure_file(self._paths[idx]),
                progress=self._progress,
            )
        how = loader.stored_identity if raw else loader.identity
        return f"imagefolder/{self._fingerprint_by}/{self._files_digest}{how}"
