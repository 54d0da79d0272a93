from __future__ import annotations

import pickle

import pytest
import torch
from torch.utils.data import DataLoader, default_collate

import kappacore
from kappacore.errors import InvalidOptionError, UnknownItemError
from support.numbers import Numbers


class Scale(kappacore.Collator):
    """Multiplies item x, and notes in the ctx by what."""

    def __init__(self, mode, by, **options):
        super().__init__(mode, **options)
        self.by = by

    def collate(self, batch, ctx):
        ctx["by"] = self.by
        return self.set_item(batch, "x", self.get_item(batch, "x") * self.by)


class Reverse(kappacore.Collator):
    collates = "after"

    def collate(self, batch, ctx):
        assert isinstance(batch, list)
        return batch[::-1]


class Own(kappacore.Collator):
    collates = None

    def collate(self, batch, ctx):
        return [sample[0] for sample in batch]


def loader(collator, mode="x y", return_ctx=False, **options):
    data = kappacore.ModeWrapper(Numbers(4), mode, return_ctx=return_ctx)
    return DataLoader(data, batch_size=4, collate_fn=collator, **options)


def test_a_collator_sees_the_batch_by_the_names_of_the_mode():
    x, y = next(iter(loader(Scale("x y", 2))))
    assert x.tolist() == [0, 20, 40, 60]
    assert y.tolist() == [0, 1, 2, 3]
    assert next(iter(loader(Scale("x", 2), "x"))).tolist() == [0, 20, 40, 60]


def test_a_collator_shares_the_ctx_of_the_samples():
    (x, _), ctx = next(iter(loader(Scale("x y", 3, return_ctx=True), return_ctx=True)))
    assert x.tolist() == [0, 30, 60, 90]
    assert ctx["seen"].tolist() == [0, 1, 2, 3]
    assert ctx["by"] == 3


def test_when_samples_are_collated_is_the_collators_choice():
    assert next(iter(loader(Reverse("x y"))))[0].tolist() == [30, 20, 10, 0]
    assert next(iter(loader(Own("x y")))) == [0, 10, 20, 30]
    (batch, ctx) = next(iter(loader(Reverse("x y", return_ctx=True), return_ctx=True)))
    assert batch[0].tolist() == [30, 20, 10, 0]
    assert ctx["seen"].tolist() == [0, 1, 2, 3]


def test_collators_come_one_after_another_and_samples_are_collated_once():
    both = kappacore.ComposeCollator([Reverse("x y"), Scale("x y", 2), Scale("x y", 5)])
    assert next(iter(loader(both)))[0].tolist() == [300, 200, 100, 0]
    with_ctx = kappacore.ComposeCollator([Scale("x y", 2)], return_ctx=True)
    batch, ctx = next(iter(loader(with_ctx, return_ctx=True)))
    assert ctx["by"] == 2
    assert batch[0].tolist() == [0, 20, 40, 60]


@pytest.mark.slow
def test_collators_work_in_workers():
    data = loader(pickle.loads(pickle.dumps(Scale("x y", 2))), num_workers=1)
    assert [batch[0].tolist() for batch in data] == [[0, 20, 40, 60]]


def test_what_does_not_fit_is_refused():
    with pytest.raises(UnknownItemError, match=r"the mode 'y' has no item 'x'"):
        next(iter(loader(Scale("y", 2), "y")))
    with pytest.raises(InvalidOptionError, match=r"at least one; got none"):
        kappacore.ComposeCollator([])
    with pytest.raises(InvalidOptionError, match=r"got a function"):
        kappacore.ComposeCollator([default_collate])
    with pytest.raises(InvalidOptionError, match=r"Reverse needs samples, and Scale before it"):
        kappacore.ComposeCollator([Scale("x", 1), Reverse("x")])
    with pytest.raises(InvalidOptionError, match=r"the mode 'x y', and Scale .* the mode 'x'"):
        kappacore.ComposeCollator([Scale("x y", 1), Scale("x", 1)])
    with pytest.raises(InvalidOptionError, match=r"return_ctx=True, .* no pairs \(sample, ctx\)"):
        next(iter(loader(Scale("x y", 2, return_ctx=True), "x")))
    assert torch.is_tensor(next(iter(loader(Scale("x", 2), "x"))))
