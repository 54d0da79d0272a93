"""What the arguments of ``ImageFolder`` may be, and what is said of others."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from kappa_imagefolder.files.scan import IMG_EXTENSIONS
from kappa_imagefolder.images.decoding import JPEG_DECODERS, KINDS, Decoder
from kappa_imagefolder.images.loaders import FileLoader, file_loader, named_loader
from kappa_imagefolder.images.shrinking import Shrink
from kappacore.errors import InvalidOptionError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "check_choice",
    "check_extensions",
    "check_index_option",
    "check_loader",
    "check_on_error",
    "check_root",
    "check_transform",
    "choose_loader",
]


def check_root(root: Any) -> str:
    """Return the root as a str, with ``~`` expanded."""
    if not isinstance(root, (str, os.PathLike)):
        raise InvalidOptionError(
            f"root must be the path of a folder (a str or a Path), got {root!r} "
            f"({type(root).__name__})"
        )
    return os.fsdecode(os.path.expanduser(root))  # noqa: PTH111 - keeps a trailing slash


def check_choice(option: str, value: Any, known: Iterable[str]) -> str:
    """Return ``value`` if it is one of the known ones."""
    choices = list(known)
    if not isinstance(value, str) or value not in choices:
        raise InvalidOptionError(
            f"{option} must be one of {', '.join(map(repr, choices))}, got {value!r}"
        )
    return value


def choose_loader(loader: Any, decode: Any, **how: Any) -> Callable[[str], Any]:
    """Return the loader that the arguments ask for.

    Args:
        loader: The argument of that name.
        decode: The argument of that name.
        how: ``size_hint``, ``exif``, ``max_pixels``, ``jpeg_decoder`` and ``shrink``.
    """
    kind = check_choice("decode", decode, KINDS)
    chosen = FileLoader(_decoder(kind, how), _shrink(how["shrink"]))
    if loader is None:
        return named_loader(chosen)
    given = file_loader(check_loader(loader))
    if kind != "pil" and (given is None or given.decoder.kind != kind):
        raise InvalidOptionError(
            f"decode={decode!r} chooses a loader, and loader={loader!r} was given too; pass one"
        )
    if chosen == FileLoader(Decoder(kind)):
        return check_loader(loader)
    if given is None or loader is given:
        raise InvalidOptionError(
            f"size_hint, exif, max_pixels, jpeg_decoder and shrink are for the loaders of this "
            f"package, and loader={loader!r} was given too; pass decode= in its place"
        )
    return FileLoader(_decoder(given.decoder.kind, how), chosen.shrink)


def _decoder(kind: str, how: dict[str, Any]) -> Decoder:
    if not isinstance(how["exif"], bool):
        raise InvalidOptionError(f"exif must be True or False, got {how['exif']!r}")
    return Decoder(
        kind,
        size_hint=_positive("size_hint", how["size_hint"], "pixels of the shorter side"),
        exif=how["exif"],
        max_pixels=_positive("max_pixels", how["max_pixels"], "pixels"),
        jpeg=check_choice("jpeg_decoder", how["jpeg_decoder"], JPEG_DECODERS),
    )


def _positive(option: str, value: Any, what: str) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value > 0):
        return value
    raise InvalidOptionError(f"{option} must be a number of {what}, or None; got {value!r}")


def _shrink(shrink: Any) -> Shrink | None:
    if shrink is None or isinstance(shrink, Shrink):
        return shrink
    pair = isinstance(shrink, Sequence) and not isinstance(shrink, str)
    numbers = tuple(shrink) if pair else (shrink,)
    if (
        len(numbers) not in (1, 2)
        or any(type(number) is not int or number < 1 for number in numbers)
        or (len(numbers) == 2 and numbers[1] > 95)
    ):
        raise InvalidOptionError(
            f"shrink must be the pixels of the longest side, such as 512, or that and a JPEG "
            f"quality from 1 to 95, such as (512, 90); got {shrink!r}"
        )
    return Shrink(*numbers)


def check_loader(loader: Any) -> Callable[[str], Any]:
    """Return ``loader`` if it can be called."""
    if not callable(loader):
        raise InvalidOptionError(
            f"loader must be a function that takes a path, got {loader!r} ({type(loader).__name__})"
        )
    return loader  # type: ignore[no-any-return]


def check_transform(transform: Any, option: str = "transform") -> Callable[[Any], Any] | None:
    """Return ``transform`` if it is None or can be called."""
    if transform is not None and not callable(transform):
        raise InvalidOptionError(
            f"{option} must be a function of one value, got {transform!r} "
            f"({type(transform).__name__})"
        )
    return transform  # type: ignore[no-any-return]


def check_on_error(on_error: Any) -> Callable[[Exception], Any] | None:
    """Return the function to call with an error; None if it is to be raised."""
    if on_error == "raise":
        return None
    if not callable(on_error):
        raise InvalidOptionError(
            f"on_error must be 'raise', or a function that takes the error and returns what to use "
            f"in place of the image; got {on_error!r}"
        )
    return on_error  # type: ignore[no-any-return]


def check_index_option(index: Any, is_valid_file: Any) -> bool | str:
    """Return whether to use an index, or where it lies."""
    if not isinstance(index, (bool, str, os.PathLike)):
        raise InvalidOptionError(
            f"index must be True, False or the path of an index file, got {index!r}"
        )
    if index is not False and is_valid_file is not None:
        raise InvalidOptionError(
            "an index cannot tell whether is_valid_file still says what it said when the index was "
            "made; pass extensions, or no index"
        )
    return index if isinstance(index, bool) else os.fsdecode(os.path.expanduser(index))  # noqa: PTH111


def check_extensions(extensions: Any, is_valid_file: Any) -> tuple[str, ...] | None:
    """Return the endings of image files in lower case; None if a function tells images apart."""
    if is_valid_file is not None:
        if extensions is not None:
            raise InvalidOptionError(
                "extensions and is_valid_file both say which files are images; pass one of them"
            )
        if not callable(is_valid_file):
            raise InvalidOptionError(
                f"is_valid_file must be a function that takes a path, got {is_valid_file!r}"
            )
        return None
    if extensions is None:
        return IMG_EXTENSIONS
    several = isinstance(extensions, Iterable) and not isinstance(extensions, str)
    endings = tuple(extensions) if several else (extensions,)
    if not endings or not all(isinstance(ending, str) and ending for ending in endings):
        raise InvalidOptionError(
            f"extensions must name at least one ending such as '.jpg', got {extensions!r}"
        )
    return tuple(ending.lower() for ending in endings)
