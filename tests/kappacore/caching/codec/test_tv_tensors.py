"""torchvision's tv_tensors."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kappacore.caching.codec import default_codec
from kappacore.errors import UncacheableValueError
from support.codec_values import assert_identical, there_and_back

tv_tensors = pytest.importorskip("torchvision.tv_tensors")


def values() -> list[Any]:
    found = [
        tv_tensors.Image(torch.rand(3, 4, 5)),
        tv_tensors.Video(torch.rand(2, 3, 4, 5)),
        tv_tensors.Mask(torch.rand(4, 5) > 0.5),
        tv_tensors.BoundingBoxes(torch.rand(2, 4), format="CXCYWH", canvas_size=(4, 5)),
    ]
    if hasattr(tv_tensors, "KeyPoints"):
        found.append(tv_tensors.KeyPoints(torch.rand(3, 2), canvas_size=(4, 5)))
    return found


@pytest.mark.parametrize("index", range(len(values())))
@pytest.mark.parametrize("copy", [True, False])
def test_class_numbers_and_attributes_are_kept(index: int, copy: bool) -> None:
    value = values()[index]
    back = there_and_back({"x": [value, 1]}, copy=copy)["x"][0]
    assert type(back) is type(value)
    assert_identical(value.as_subclass(torch.Tensor), back.as_subclass(torch.Tensor))
    assert vars(back) == vars(value)


def test_a_subclass_is_refused() -> None:
    class Depth(tv_tensors.Mask):  # type: ignore[misc, name-defined]
        pass

    with pytest.raises(UncacheableValueError, match="Depth, a subclass of Mask"):
        default_codec().encode(torch.zeros(2, 2).as_subclass(Depth), 0)
