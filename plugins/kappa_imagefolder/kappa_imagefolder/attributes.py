"""Which attributes of an image folder can be set, as torchvision's can, and until when.

An attribute that reading follows can be set. Setting any other is an error: always for what was
decided when the files were listed, and for the rest once a cache keeps what follows it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kappa_imagefolder.errors import FixedAttributeError

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

#: Attributes that cannot be set, because reading would not follow them: what to do instead.
FIXED = {
    "imgs": "it is another name of samples: set samples",
    "targets": "it follows from samples: set samples, or change labels with target_transform, "
    "kappacore.wrappers.RemapClassesWrapper or an overridden make_dataset",
    "transforms": "it follows from transform and target_transform: set these",
    "extensions": "the files are listed already: pass extensions= when you open the folder",
    "n_classes": "it is the number of classes: set classes",
    "find_classes": "the classes are listed already: override it in a subclass, or pass classes=",
    "make_dataset": "the files are listed already: override it in a subclass, or set samples",
    "index_path": "the files are listed already: pass index= when you open the folder",
}

# The items that follow an attribute, which is fixed once a cache has asked what identifies them.
_FOLLOWED_BY = {
    "loader": {"x", "raw x"},
    "transform": {"x"},
    "target_transform": {"class", "y"},
    "samples": {"x", "raw x", "class", "y", "path"},
    "root": {"x", "raw x", "path"},
}

#: What to do instead where a cache would not follow an attribute.
INSTEAD = {
    "loader": "for values that change, put a TransformWrapper above it",
    "transform": "or put a TransformWrapper above it",
    "target_transform": "or put a TransformWrapper(…, item='class') above it",
    "samples": "or choose samples above it with a KDSubset, or override make_dataset",
    "root": "or open the other folder and make a cache above that",
}


def check_followed(dataset: object, name: str, identified: AbstractSet[str]) -> None:
    """Raise if a cache keeps an item that follows an attribute.

    Args:
        dataset: The dataset of which the attribute is to be set.
        name: The attribute's name.
        identified: The items of which a cache has asked what identifies them; ``"raw x"`` for the
            stored form of ``x``.

    Raises:
        FixedAttributeError: The message says what to do instead.
    """
    if name in _FOLLOWED_BY and _FOLLOWED_BY[name] & identified:
        raise FixedAttributeError(
            f"{name} of {type(dataset).__name__} can no longer be set: a cache has been opened "
            f"above it, and what is kept there would not follow. Set {name} first and then "
            f"make the cache; {INSTEAD[name]}"
        )
