"""An item that follows another one through ctx is not cached apart from it."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from kappacore import PRIVATE
from kappacore.caching import CachedDataset, CacheWrapper
from kappacore.caching.identity.following import looks_at_ctx
from kappacore.datasets import KDDataset, KDSubset, ModeWrapper, as_kd
from kappacore.errors import DependsOnCtxError, NondeterministicSourceError
from kappacore.wrappers import RepeatWrapper, TransformWrapper


class Pairs(KDDataset):
    """Images and masks; subclasses say what they leave in ctx and make of it."""

    def __init__(self):
        self.loads = 0

    def __len__(self):
        return 8

    def getitem_x(self, idx, ctx=None):
        if ctx is not None:
            ctx["flip"] = bool(torch.rand(()) < 0.5)
        return -idx if ctx and ctx["flip"] else idx

    def getitem_class(self, idx):
        return idx % 2


class Flipped(Pairs):
    def getitem_mask(self, idx, ctx=None):
        return torch.arange(4).flip(0) if ctx is not None and ctx.get("flip") else torch.arange(4)


class ByKey(Pairs):
    def getitem_mask(self, idx, ctx=None):
        return idx if ctx is None else (idx, ctx["flip"])


class ByAllKeys(Pairs):
    def getitem_mask(self, idx, ctx=None):
        return [idx, *(value for key, value in (ctx or {}).items() if key == "flip" and value)]


class InBatches(Pairs):
    def getitems_mask(self, indices, ctxs=None):
        ctxs = ctxs or [None] * len(indices)
        return [-1 if ctx and "flip" in ctx and ctx["flip"] else 1 for ctx in ctxs]


class OddOnes(Pairs):
    """Follows for some samples only, and without chance."""

    def getitem_x(self, idx, ctx=None):
        if ctx is not None:
            ctx["flip"] = idx % 2 == 1
        return idx

    getitem_mask = Flipped.getitem_mask


class AnyCtx(Pairs):
    def getitem_mask(self, idx, ctx=None):
        return idx if ctx is None else idx + 1


class NeedsCtx(Pairs):
    def getitem_mask(self, idx, ctx=None):
        assert ctx is not None
        return idx


class NeedsKey(Pairs):
    def getitem_mask(self, idx, ctx):
        return idx if ctx["flip"] else -idx


class Shares(Pairs):
    """One expensive load for two items."""

    def load(self, idx, ctx):
        if ctx is not None and "loaded" in ctx:
            return ctx["loaded"]
        self.loads += 1
        loaded = (idx, 10 * idx)
        if ctx is not None:
            ctx["loaded"] = loaded
        return loaded

    def getitem_x(self, idx, ctx=None):
        return self.load(idx, ctx)[0]

    def getitem_mask(self, idx, ctx=None):
        return self.load(idx, ctx)[1]


class SharesInOrder(Shares):
    def getitem_mask(self, idx, ctx=None):
        return 10 * idx if ctx is None else ctx.setdefault("used", ctx["loaded"][1])


class SharesByForce(Shares):
    def load(self, idx, ctx):
        return (ctx if ctx is not None else {}).setdefault("loaded", (idx, 10 * idx))


class Broken(Pairs):
    def getitem_mask(self, idx, ctx=None):
        raise OSError(f"no file {idx}")


class Draws(Pairs):
    def getitem_mask(self, idx, ctx=None):
        return float(torch.rand(())) if ctx is None or ctx else 1.0


class XBroken(Flipped):
    def getitem_x(self, idx, ctx=None):
        raise OSError("no images here")


class Leads(Pairs):
    """What x leaves is no chance, so x may be cached, but for what follows it."""

    def getitem_x(self, idx, ctx=None):
        if ctx is not None:
            ctx["flip"] = idx % 2 == 1
        return -idx if idx % 2 else idx

    def getitem_mask(self, idx, ctx=None):
        return -idx if ctx is not None and ctx.get("flip") else idx


class LeadsByForce(Leads):
    def getitem_mask(self, idx, ctx):
        return -idx if ctx["flip"] else idx


class LeadsBatches(Leads):
    def getitems_mask(self, indices, ctxs=None):
        return [Leads.getitem_mask(self, *each) for each in zip(indices, ctxs, strict=True)]


class LeadsDraws(Leads):
    def getitem_mask(self, idx, ctx=None):
        return Leads.getitem_mask(self, idx, ctx) + float(torch.rand(()))


class LeadsNobody(Leads):
    def getitem_mask(self, idx, ctx=None):
        return float(torch.rand(())) + int(ctx is not None and "flip" in ctx and ctx["flip"] > 1)


class LeadsBroken(Leads):
    getitem_mask = Broken.getitem_mask


class LeadsUncacheable(Leads):
    def getitem_mask(self, idx, ctx=None):
        return object()


def read_mask(dataset, **options):
    with CacheWrapper(dataset, "memory", items="mask", namespace=PRIVATE, **options) as cached:
        return list(ModeWrapper(cached, "mask")), list(ModeWrapper(cached, "mask"))


FOLLOWING = [Flipped, ByKey, ByAllKeys, InBatches, OddOnes]


@pytest.mark.parametrize("kind", FOLLOWING)
def test_an_item_that_follows_another_is_refused_by_name(kind):
    message = (
        rf"The item 'mask' of {kind.__name__} follows another one .* after 'x', which leaves "
        r"ctx\['flip'\].*CacheWrapper\(source, items='mask'\).*form='raw'.*check=False"
    )
    with pytest.raises(DependsOnCtxError, match=message):
        read_mask(kind())


@pytest.mark.parametrize("kind", [Leads, LeadsByForce, LeadsBatches, LeadsDraws])
def test_an_item_that_another_one_follows_is_refused_by_name(kind):
    message = (
        rf"The item 'mask' of {kind.__name__} follows 'x' through ctx: .* ctx\['flip'\], .* sample "
        r"\d .*CacheWrapper\(source, items='x'\).*form='raw'.*check=False"
    )
    with (
        CacheWrapper(kind(), "memory", namespace=PRIVATE) as cached,
        pytest.raises(DependsOnCtxError, match=message),
    ):
        list(ModeWrapper(cached, "x mask"))
    with CacheWrapper(kind(), "memory", namespace=PRIVATE, check=False) as cached:
        assert list(ModeWrapper(cached, "x"))


NOT_LEADING = [LeadsNobody, LeadsBroken, LeadsUncacheable, Shares, SharesByForce]


@pytest.mark.parametrize("kind", NOT_LEADING)
def test_an_item_that_no_other_one_follows_may_leave_what_it_likes(kind):
    with CacheWrapper(kind(), "memory", namespace=PRIVATE) as cached:
        for _ in range(2):
            assert len(list(ModeWrapper(cached, "x"))) == 8


@pytest.mark.filterwarnings("ignore:This cache reads and keeps samples more than once")
@pytest.mark.parametrize(
    "wrap", [lambda ds: KDSubset(ds, range(8)), lambda ds: RepeatWrapper(ds, 2), lambda ds: ds + ds]
)
def test_through_wrappers_too(wrap):
    with pytest.raises(DependsOnCtxError, match="follows another one"):
        read_mask(wrap(Flipped()))


def test_transforms_that_follow_one_another_are_noticed():
    def crop(x, ctx=None):
        if ctx is not None:
            ctx["top"] = random.randrange(5)
        return x

    def follow(mask, ctx=None):
        return mask + (ctx or {}).get("top", 0)

    source = as_kd([(idx, idx) for idx in range(8)], items=("x", "mask"))
    both = TransformWrapper(TransformWrapper(source, crop), follow, "mask")
    with pytest.raises(DependsOnCtxError, match=r"item 'mask' of TransformWrapper.*ctx\['top'\]"):
        read_mask(both)
    below = CacheWrapper(source, "memory", items="mask", namespace=PRIVATE)
    with TransformWrapper(TransformWrapper(below, crop), follow, "mask") as above:
        assert len(list(ModeWrapper(above, "x mask"))) == 8


def test_one_whose_value_depends_on_there_being_a_ctx_is_refused():
    with pytest.raises(DependsOnCtxError, match="read with a ctx, sample 0 is not what it is"):
        read_mask(AnyCtx())


@pytest.mark.parametrize(("kind", "error"), [(NeedsCtx, "AssertionError"), (NeedsKey, "TypeError")])
def test_one_that_cannot_do_without_a_ctx_is_refused(kind, error):
    message = f"'mask' of {kind.__name__} cannot be cached.*ctx=None.*sample 0 raises {error}.*"
    with pytest.raises(DependsOnCtxError, match=message) as caught:
        read_mask(kind())
    assert type(caught.value.__cause__).__name__ == error


def test_one_that_cannot_be_read_at_all_says_why_itself():
    with pytest.raises(OSError, match="no file 0"):
        read_mask(Broken())


def test_a_random_item_is_refused_as_such():
    with pytest.raises(NondeterministicSourceError):
        read_mask(Draws())


@pytest.mark.parametrize("kind", [Shares, SharesByForce, SharesInOrder])
def test_sharing_a_load_stays_allowed(kind):
    tens = [10 * idx for idx in range(8)]
    assert read_mask(kind()) == (tens, tens)
    if kind is SharesInOrder:  # its mask could not be read beside a cached x
        return
    with CacheWrapper(kind(), "memory", items="x mask", namespace=PRIVATE) as cached:
        assert list(ModeWrapper(cached, "x mask")) == [(idx, 10 * idx) for idx in range(8)]


def test_whole_samples_are_read_with_their_ctx():
    class Crops(OddOnes):
        pass

    uncached = list(ModeWrapper(Crops(), "x mask"))
    with CachedDataset(ModeWrapper(Crops(), "x mask"), "memory", namespace=PRIVATE) as cached:
        for (x, mask), (wanted_x, wanted_mask) in zip(cached, uncached, strict=True):
            assert x == wanted_x
            assert torch.equal(mask, wanted_mask)


def test_a_raw_form_follows_on_the_way_out():
    class Raw(Pairs):
        def getraw_mask(self, idx):
            return idx

        def decode_mask(self, raw, ctx=None):
            return -raw if ctx is not None and ctx.get("flip") else raw

    with CacheWrapper(Raw(), "memory", items="mask", namespace=PRIVATE) as cached:
        for _ in range(2):
            assert all(x == mask for x, mask in ModeWrapper(cached, "x mask"))
    with pytest.raises(DependsOnCtxError):
        read_mask(Raw(), form="decoded")


@pytest.mark.parametrize("kind", FOLLOWING)
def test_without_check_the_user_knows(kind):
    first, second = read_mask(kind(), check=False)
    assert str(first) == str(second)


def test_what_cannot_be_read_beside_it_does_not_matter():
    assert len(read_mask(XBroken())[0]) == 8


def test_the_others_are_read_only_where_ctx_is_looked_at():
    dataset = Shares()
    looks_at_ctx(dataset, "class", [0, 4, 7], lambda value, _: str(value))
    assert dataset.loads == 0


def test_random_states_stay():
    states = random.getstate(), torch.get_rng_state(), np.random.get_state()[1].tolist()
    with pytest.raises(DependsOnCtxError):
        looks_at_ctx(Flipped(), "mask", [0, 1, 2], lambda value, _: str(value))
    assert random.getstate() == states[0]
    assert torch.equal(torch.get_rng_state(), states[1])
    assert np.random.get_state()[1].tolist() == states[2]
