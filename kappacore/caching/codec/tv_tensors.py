"""torchvision's tv_tensors. Imported only once they are in use or a stored value holds one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torchvision import tv_tensors  # type: ignore[import-not-found, import-untyped, unused-ignore]

from kappacore.caching.codec.reading import READERS
from kappacore.caching.codec.tensors import write_tensor
from kappacore.caching.codec.writing import WRITERS

if TYPE_CHECKING:
    from kappacore.caching.codec.reading import Reader
    from kappacore.caching.codec.writing import Writer

_NAMES = ("Image", "Video", "Mask", "BoundingBoxes", "KeyPoints")
#: Attributes of tv_tensors beside their numbers; older versions of torchvision have fewer.
_ATTRIBUTES = ("canvas_size", "clamping_mode")
_CLASSES = {name: getattr(tv_tensors, name) for name in _NAMES if hasattr(tv_tensors, name)}


def _write_tv_tensor(writer: Writer, value: Any) -> None:
    """Write class, box format and attributes, then the tensor."""
    known = vars(value)
    box_format = known["format"].name if "format" in known else None
    writer.enter(value, 2)
    writer.put("v", type(value).__name__, box_format)
    attributes = {name: known[name] for name in _ATTRIBUTES if name in known}
    writer.write_part(value, ".__dict__", attributes)
    write_tensor(writer, value.as_subclass(torch.Tensor))
    writer.depth -= 1


def _read_tv_tensor(reader: Reader) -> Any:
    cls = _CLASSES.get(reader.text())
    box_format = reader.operand()
    reader.enter()
    attributes, tensor = reader.read(), reader.read()
    reader.depth -= 1
    if cls is None or type(attributes) is not dict or type(tensor) is not torch.Tensor:
        raise ValueError("a tv_tensor is malformed")
    value = tensor.as_subclass(cls)
    if box_format is not None:
        formats = tv_tensors.BoundingBoxFormat.__members__
        if box_format not in formats:
            raise ValueError(f"there is no format {box_format!r} of boxes")
        value.format = formats[box_format]
    for name, attribute in attributes.items():
        if name not in _ATTRIBUTES:
            raise ValueError(f"tv_tensors have no attribute {name!r}")
        setattr(value, name, attribute)
    return value


WRITERS.update(dict.fromkeys(_CLASSES.values(), _write_tv_tensor))
READERS["v"] = _read_tv_tensor
