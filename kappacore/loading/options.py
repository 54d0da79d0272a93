"""What the Loader does with an item on its way: the options ``items={"x": {…}}``."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import torch

from kappacore.errors import InvalidOptionError, UnknownItemError, UnknownOptionError

__all__ = ["ItemOptions", "parse_items"]


@dataclass(frozen=True)
class ItemOptions:
    """What is done with one item, in this order.

    Args:
        decode: ``"device"``: the device decodes stored JPEGs, with other pixels than Pillow's.
        resize: ``(height, width)``: images are scaled to it, bilinear with antialiasing.
        crop: ``(height, width)``: the middle of each image.
        dtype: What values are cast to.
        mean: Subtracted from each channel, as in torchvision for values of 0 to 1: uint8 is
            divided by 255 first. The dtype is float32 unless given.
        std: Each channel is divided by it, after ``mean``.
        layout: ``"channels_last"`` or ``"channels_first"``: images become ``(N, C, H, W)`` with
            that memory format.
        ragged: ``"pad"``: zeros behind the smaller values; ``"jagged"``: values and offsets.
    """

    decode: str | None = None
    resize: tuple[int, int] | None = None
    crop: tuple[int, int] | None = None
    dtype: torch.dtype | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    layout: str | None = None
    ragged: str | None = None

    @property
    def size(self) -> tuple[int, int] | None:
        """The size that all images have afterwards; None if they keep their own."""
        return self.crop or self.resize

    @cached_property
    def converts(self) -> bool:
        """Whether a column changes at all, once it is on the device."""
        changes = (self.resize, self.crop, self.dtype, self.mean, self.std, self.layout)
        return any(option is not None for option in changes)


_CHOICES = {
    "decode": ("device",),
    "layout": ("channels_last", "channels_first"),
    "ragged": ("pad", "jagged"),
}


def parse_items(items: Any, names: Sequence[str]) -> dict[str, ItemOptions]:
    """Return the options of every item of the mode.

    Raises:
        UnknownItemError: Options are given for an item that the mode does not name.
        UnknownOptionError: There is no such option.
        InvalidOptionError: A value does not fit.
    """
    items = {} if items is None else items
    if not isinstance(items, Mapping):
        raise InvalidOptionError(
            f"items={items!r}: expected options for each item, as in "
            f"items={{'x': {{'dtype': torch.float32}}}}."
        )
    for name in items:
        if name not in names:
            raise UnknownItemError(
                f"items= has options for {name!r}, which is not in the mode; it names "
                f"{', '.join(names)}."
            )
    return {name: _parse(name, items.get(name, {})) for name in names}


def _parse(name: str, given: Any) -> ItemOptions:
    known = [field.name for field in fields(ItemOptions)]
    if not isinstance(given, Mapping):
        raise InvalidOptionError(
            f"items={{{name!r}: {given!r}}}: expected a dict of options: {', '.join(known)}."
        )
    for option in given:
        if option not in known:
            close = difflib.get_close_matches(str(option), known, 1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise UnknownOptionError(
                f"item {name!r} has no option {option!r}.{hint} Its options: {', '.join(known)}."
            )
    options = {key: _check(name, key, value) for key, value in given.items() if value is not None}
    _check_together(name, options)
    return ItemOptions(**options)


def _check(name: str, option: str, value: Any) -> Any:
    if option in _CHOICES:
        if value in _CHOICES[option]:
            return value
        expected = " or ".join(map(repr, _CHOICES[option]))
    elif option in ("resize", "crop"):
        if _is_list(value, int) and len(value) == 2 and min(value) > 0:
            return tuple(value)
        expected = "(height, width) in pixels, such as (256, 256)"
    elif option in ("mean", "std"):
        value = (value,) if isinstance(value, (int, float)) else value
        if _is_list(value, (int, float)) and len(value) and not (option == "std" and 0 in value):
            return tuple(map(float, value))
        expected = "one number, or one for each channel, such as (0.485, 0.456, 0.406)"
    else:
        if isinstance(value, torch.dtype):
            return value
        expected = "a dtype, such as torch.float32"
    raise InvalidOptionError(f"items={{{name!r}: {{{option!r}: {value!r}}}}}: expected {expected}.")


def _check_together(name: str, options: dict[str, Any]) -> None:
    ragged = options.get("ragged")
    if ragged is not None and options.keys() - {"ragged", "dtype"}:
        others = ", ".join(sorted(options.keys() - {"ragged", "dtype"}))
        raise InvalidOptionError(
            f"item {name!r}: ragged={ragged!r} is for values of different sizes, and {others} for "
            f"images of one. Give one of them."
        )
    dtype = options.get("dtype", torch.float32)
    if not dtype.is_floating_point and options.keys() & {"mean", "std"}:
        raise InvalidOptionError(
            f"item {name!r}: mean and std give fractions, which {dtype} cannot hold. Leave dtype "
            f"out (float32), or give torch.float16 or torch.bfloat16."
        )


def _is_list(value: Any, kind: Any) -> bool:
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and all(isinstance(each, kind) and not isinstance(each, bool) for each in value)
    )
