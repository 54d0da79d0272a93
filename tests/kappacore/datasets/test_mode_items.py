"""Taking the items of a mode out of a batch by their names."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader

from kappacore.datasets import ModeWrapper
from kappacore.errors import ModeError, UnknownItemError
from support.numbers import Numbers


def test_items_are_found_by_name():
    assert ModeWrapper.has_item("x class", "class")
    assert not ModeWrapper.has_item("x class_names", "class")
    assert ModeWrapper.add_item("x", "class") == "x class"
    assert ModeWrapper.add_item("x  class", "class") == "x  class"
    assert ModeWrapper.get_item_index("x class index", "index") == 2


def test_an_item_is_taken_out_of_a_batch_and_put_into_one():
    mode = "x y index"
    batch = next(iter(DataLoader(ModeWrapper(Numbers(), mode), batch_size=4)))
    assert ModeWrapper.get_item(mode, "index", batch).tolist() == [0, 1, 2, 3]
    assert ModeWrapper.get_item(mode=mode, item="x", batch=batch).tolist() == [0, 10, 20, 30]
    changed = ModeWrapper.set_item(mode, "y", batch, "other")
    assert changed[1] == "other"
    assert changed[0] is batch[0]
    assert type(changed) is tuple


@pytest.mark.parametrize("batch", [torch.arange(3), [1, 2, 3], "value"])
def test_a_mode_of_one_item_has_bare_batches(batch):
    assert ModeWrapper.get_item("x", "x", batch) is batch
    assert ModeWrapper.set_item("x", "x", batch, 5) == 5


def test_what_is_not_there_is_an_error():
    with pytest.raises(UnknownItemError, match=r"the mode 'x class' has no item 'y'"):
        ModeWrapper.get_item("x class", "y", (1, 2))
    with pytest.raises(UnknownItemError, match=r"the mode 'x' has no item 'y'"):
        ModeWrapper.get_item("x", "y", 1)
    with pytest.raises(ModeError, match=r"has 2 items, the batch is a tuple of 3"):
        ModeWrapper.get_item("x class", "class", (1, 2, 3))
    with pytest.raises(ModeError, match=r"the batch is a Tensor"):
        ModeWrapper.get_item("x class", "class", torch.zeros(2))
    with pytest.raises(ModeError, match=r"return_ctx=True"):
        ModeWrapper.get_item("x class y", "class", ((1, 2, 3), {}))
