"""What the arguments of ``ImageFolder`` may be, and what is said of others."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from kappa_imagefolder.loading import LOADERS, loader_name
from kappa_imagefolder.scan import IMG_EXTENSIONS
from kappacore.errors import InvalidOptionError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["check_choice", "check_extensions", "check_loader", "check_root", "choose_loader"]


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


def choose_loader(loader: Any, decode: Any) -> Callable[[str], Any]:
    """Return the loader that ``loader`` and ``decode`` ask for."""
    chosen = check_choice("decode", decode, LOADERS)
    if loader is None:
        return LOADERS[chosen]
    if chosen not in ("pil", loader_name(loader)):
        raise InvalidOptionError(
            f"decode={decode!r} chooses a loader, and loader={loader!r} was given too; pass one"
        )
    return check_loader(loader)


def check_loader(loader: Any) -> Callable[[str], Any]:
    """Return ``loader`` if it can be called."""
    if not callable(loader):
        raise InvalidOptionError(
            f"loader must be a function that takes a path, got {loader!r} ({type(loader).__name__})"
        )
    return loader  # type: ignore[no-any-return]


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
