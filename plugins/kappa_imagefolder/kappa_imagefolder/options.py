"""Checking the arguments of ``ImageFolder``."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from kappa_imagefolder.files.scan import IMG_EXTENSIONS
from kappa_imagefolder.images.loaders import JPEG_DECODERS, KINDS, LOADERS, FileLoader
from kappa_imagefolder.images.pillow import Shrink
from kappacore.errors import InvalidOptionError
from kappacore.plugin_api import parse_size

Function = Callable[[Any], Any]


def check_root(root: Any) -> str:
    """Return the root as a str, with ``~`` expanded."""
    if not isinstance(root, (str, os.PathLike)):
        raise InvalidOptionError(
            f"root must be the path of a folder (a str or a Path), got {root!r} "
            f"({type(root).__name__})"
        )
    return _expanded(root)


def _expanded(path: Any) -> str:
    return os.fsdecode(os.path.expanduser(path))  # noqa: PTH111 - keeps a trailing slash


def check_choice(option: str, value: Any, choices: Sequence[str]) -> str:
    """Return ``value`` if it is one of the choices."""
    if not isinstance(value, str) or value not in choices:
        raise InvalidOptionError(
            f"{option} must be one of {', '.join(map(repr, choices))}, got {value!r}"
        )
    return value


def check_function(
    option: str, value: Any, wanted: str = "a function that takes a path"
) -> Function:
    """Return ``value`` if it can be called; ``wanted`` says what it must be."""
    if not callable(value):
        raise InvalidOptionError(
            f"{option} must be {wanted}, got {value!r} ({type(value).__name__})"
        )
    return value  # type: ignore[no-any-return]


def check_transform(transform: Any, option: str = "transform") -> Function | None:
    """Return ``transform`` if it is None or can be called."""
    if transform is None:
        return None
    return check_function(option, transform, "a function of one value")


def check_on_error(on_error: Any) -> Function | None:
    """Return the function to call with an error; None if errors are to be raised."""
    wanted = (
        "'raise', or a function that takes the error and returns what to use in place of the image"
    )
    return None if on_error == "raise" else check_function("on_error", on_error, wanted)


def choose_loader(
    loader: Any,
    decode: Any,
    shrink: Any,
    size_hint: Any,
    exif: Any,
    pixels: Any,
    jpeg: Any,
    max_bytes: Any,
) -> Function:
    """Return the loader for the arguments of these names.

    ``pixels`` are ``max_pixels``, and ``max_bytes`` are ``max_bytes_per_file``.
    """
    check_choice("decode", decode, KINDS)
    check_choice("jpeg_decoder", jpeg, JPEG_DECODERS)
    check_flag("exif", exif)
    limits = {
        "size_hint must be a number of pixels of the shorter side": size_hint,
        "max_pixels must be a number of pixels": pixels,
    }
    for rule, value in limits.items():
        if value is not None and not _is_number(value):
            raise InvalidOptionError(f"{rule}, or None; got {value!r}")
    chosen = FileLoader(decode, size_hint, exif, pixels, jpeg, _shrink(shrink), _size(max_bytes))
    if loader is None:
        return LOADERS.get(chosen, chosen)
    check_function("loader", loader)
    given = loader.kind if isinstance(loader, FileLoader) else None
    if decode not in ("pil", given):
        raise InvalidOptionError(
            f"decode={decode!r} chooses a loader, and loader={loader!r} was given too; pass one"
        )
    if chosen in LOADERS:
        return loader  # type: ignore[no-any-return]
    if given is None or loader not in LOADERS:
        raise InvalidOptionError(
            f"size_hint, exif, max_pixels, max_bytes_per_file, jpeg_decoder and shrink are for the "
            f"loaders of this package, and loader={loader!r} was given too; pass decode= in its "
            f"place"
        )
    return replace(chosen, kind=given)


def _size(size: Any) -> int | None:
    if size is None:
        return None
    if isinstance(size, float):
        raise InvalidOptionError(
            f"max_bytes_per_file={size!r} is not a size. Give bytes as a positive integer, or a "
            f"string such as '64MiB'."
        )
    return parse_size(size, 0, "max_bytes_per_file")


def _shrink(shrink: Any) -> Shrink | None:
    if shrink is None or isinstance(shrink, Shrink):
        return shrink
    is_pair = isinstance(shrink, Sequence) and not isinstance(shrink, str)
    longest, *quality = shrink if is_pair and shrink else (shrink,)
    if (
        not _is_number(longest)
        or len(quality) > 1
        or not all(_is_number(each) and each <= 95 for each in quality)
    ):
        raise InvalidOptionError(
            f"shrink must be the pixels of the longest side, such as 512, or these and a JPEG "
            f"quality from 1 to 95, such as (512, 90); got {shrink!r}"
        )
    return Shrink(longest, *quality)


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def check_flag(option: str, value: Any) -> bool:
    """Return ``value`` if it is True or False."""
    if not isinstance(value, bool):
        raise InvalidOptionError(f"{option} must be True or False, got {value!r}")
    return value


def check_classes(classes: Any) -> list[str] | None:
    """Return the names that were given as classes, in the order of their numbers."""
    if classes is None:
        return None
    is_several = isinstance(classes, Sequence) and not isinstance(classes, str)
    names = list(classes) if is_several else []
    if not names or not all(isinstance(name, str) for name in names):
        raise InvalidOptionError(
            f"classes must be the names of the class folders in the order of their numbers, such "
            f"as train.classes; got {classes!r} ({type(classes).__name__})"
        )
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise InvalidOptionError(f"classes must name each class once; got {twice} more than once")
    return names


def check_index_option(index: Any, chooser: str | None) -> bool | str:
    """Return whether to use an index, or its path.

    Args:
        index: The argument of that name.
        chooser: The name of the user's own function that chooses the files, or None.
    """
    if not isinstance(index, (bool, str, os.PathLike)):
        raise InvalidOptionError(
            f"index must be True, False or the path of an index file, got {index!r}"
        )
    if index is not False and chooser is not None:
        raise InvalidOptionError(
            f"an index cannot tell whether {chooser} would still choose the files that it chose "
            "when the index was made; pass extensions= instead, or no index"
        )
    return index if isinstance(index, bool) else _expanded(index)


def check_extensions(extensions: Any, is_valid_file: Any) -> tuple[str, ...] | None:
    """Return the endings of image files in lower case; None with ``is_valid_file``."""
    if is_valid_file is not None:
        if extensions is not None:
            raise InvalidOptionError(
                "extensions and is_valid_file both choose the files; pass one of them"
            )
        check_function("is_valid_file", is_valid_file)
        return None
    if extensions is None:
        return IMG_EXTENSIONS
    is_several = isinstance(extensions, Iterable) and not isinstance(extensions, str)
    endings = tuple(extensions) if is_several else (extensions,)
    if not endings or not all(isinstance(ending, str) and ending for ending in endings):
        raise InvalidOptionError(
            f"extensions must name at least one ending such as '.jpg', got {extensions!r}"
        )
    return tuple(ending.lower() for ending in endings)


def check_chooser(extensions: Any, is_valid_file: Any) -> tuple[str, ...] | None:
    """Check the same for ``make_dataset``, which as in torchvision has no default for them."""
    if extensions is None and is_valid_file is None:
        raise InvalidOptionError(
            "make_dataset needs extensions or is_valid_file, to know which files count; got neither"
        )
    return check_extensions(extensions, is_valid_file)


def check_class_to_idx(class_to_idx: Any) -> Mapping[str, int]:
    """Return ``class_to_idx`` of ``make_dataset`` if it is a mapping."""
    if not isinstance(class_to_idx, Mapping):
        raise InvalidOptionError(
            f"class_to_idx must be what find_classes returned, {{class: number}}; "
            f"got {class_to_idx!r} ({type(class_to_idx).__name__})"
        )
    return class_to_idx
