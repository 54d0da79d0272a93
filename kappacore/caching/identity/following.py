"""Items that follow another one through ``ctx``: a cache, which reads each alone, would part them.

A mask that is flipped as its image was depends on what reading the image left in the sample's
ctx; an image that comes from a cache leaves nothing. Sharing one expensive load through ctx is
something else: the value stays the same.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from kappacore.caching.identity.determinism import random_states_restored
from kappacore.datasets.ctx import SampleCtx
from kappacore.datasets.items import find_item
from kappacore.errors import DependsOnCtxError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kappacore.datasets import KDDataset
    from kappacore.datasets.items import Item

# What another item leaves may be drawn: one that flips half of the samples leaves the same eight
# times in 1 of 256 samples.
_ATTEMPTS = 8


def looks_at_ctx(
    dataset: KDDataset, name: str, indices: Iterable[int], digest: Callable[[Any, int], str]
) -> None:
    """Read samples of an item without a ctx and with one, and compare; random states stay.

    The other items are read only if this one looks into its ctx, or leaves something there.

    Args:
        dataset: The dataset that has the item.
        name: The item's name.
        indices: The samples to read.
        digest: Returns the digest of a value and its index.

    Raises:
        DependsOnCtxError: The value changes with what another item left in ctx, or cannot be read
            without a ctx; or another item's value changes with what this one leaves.
    """
    item = find_item(dataset, name)
    found = {other: dataset._kd_item(other) for other in dataset._kd_item_names() if other != name}
    others = {other: each for other, each in found.items() if each is not None}
    with random_states_restored():
        for idx in indices:
            if _look(dataset, name, item, others, idx, digest):
                _look_at_followers(dataset, name, item, others, idx, digest)


def _look(
    dataset: KDDataset,
    name: str,
    item: Item,
    others: dict[str, Item],
    idx: int,
    digest: Callable[[Any, int], str],
) -> bool:
    """Raise if the item follows another one; return whether it leaves something in ctx itself."""
    owner = type(dataset).__qualname__
    try:
        value = item.get(idx)
    except Exception as error:
        ctx = _WatchedCtx()
        _read_others(others, idx, ctx)
        try:
            item.get(idx, ctx)
        except Exception:  # so it is not for want of a ctx
            raise error from None
        raise DependsOnCtxError(
            f"The item {name!r} of {owner} cannot be cached: a cache reads each item alone, with "
            f"ctx=None, and then sample {idx} raises {type(error).__name__}"
            f"{f' ({error})' if str(error) else ''}; with a ctx it does not. If its value does not "
            f"depend on ctx, let getitem_{name} do without one. {_advice(name)}"
        ) from error
    alone = digest(value, idx)
    ctx = _WatchedCtx()
    with contextlib.suppress(Exception):  # it may need what another item leaves: that comes next
        value = item.get(idx, ctx)
        if not ctx.watched and digest(value, idx) == alone:
            return bool(dict.keys(ctx))  # it does not look into its ctx
    leaves = bool(dict.keys(ctx))
    for _ in range(_ATTEMPTS):
        ctx = _WatchedCtx()
        writers = _read_others(others, idx, ctx)
        ctx.watched.clear()
        same = digest(item.get(idx, ctx), idx) == alone
        if same and not ctx.watched & {*writers, _ALL}:
            return leaves
        if not same:
            if digest(item.get(idx), idx) != alone:
                return False  # it differs by itself, which the look at determinism reports
            keys = [key for key in writers if key in ctx.watched or _ALL in ctx.watched]
            after = f"after {writers[keys[0]]!r}, which leaves ctx[{keys[0]!r}]" if keys else ""
            raise DependsOnCtxError(
                f"The item {name!r} of {owner} follows another one through ctx: read "
                f"{after or 'with a ctx'}, sample {idx} is not what it is when read alone. A cache "
                f"reads each item alone, so it would part the two. {_advice(name)}"
            )
    return leaves


def _look_at_followers(
    dataset: KDDataset,
    name: str,
    item: Item,
    others: dict[str, Item],
    idx: int,
    digest: Callable[[Any, int], str],
) -> None:
    """Raise if another item is another one without what this one leaves in ctx, as a hit does."""
    try:
        one, two = (digest(item.get(idx, _WatchedCtx()), idx) for _ in range(2))
    except Exception:  # it shares a load that another item has to begin
        return
    if one != two:
        return  # random, which the look at determinism reports
    for follower, other in others.items():
        key = _followed_key(item, other, idx, digest)
        if key is not None:
            raise DependsOnCtxError(
                f"The item {follower!r} of {type(dataset).__qualname__} follows {name!r} through "
                f"ctx: without ctx[{key!r}], which {name!r} leaves when it is read and not when "
                f"it comes from a cache, {follower!r} of sample {idx} is not what it is with it. "
                f"{_advice(name)}"
            )


def _followed_key(
    item: Item, other: Item, idx: int, digest: Callable[[Any, int], str]
) -> str | None:
    """Return a key that an item leaves in ctx and that another one's value depends on."""
    ctx = _WatchedCtx()
    item.get(idx, ctx)
    left = {*dict.keys(ctx)}
    ctx.watched.clear()
    try:
        after = _read_alike(other, idx, ctx, digest)
    except Exception:  # it cannot be read or compared even so
        return None
    keys = [key for key in left if key in ctx.watched or _ALL in ctx.watched]
    if not keys:
        return None
    with contextlib.suppress(Exception):  # it cannot be read without
        if _read_alike(other, idx, _WatchedCtx(), digest) == after:
            return None
    return keys[0]


def _read_alike(item: Item, idx: int, ctx: _WatchedCtx, digest: Callable[[Any, int], str]) -> str:
    """Return the digest of a value; random parts draw the same at every call."""
    with random_states_restored():
        return digest(item.get(idx, ctx), idx)


def _advice(name: str) -> str:
    return (
        f"Cache the item below what changes it: Change(CacheWrapper(source, items={name!r})). Or "
        f"cache both raw, and change them in decode_{name}(raw, ctx), after the cache: "
        f"CacheWrapper(dataset, items=[...], form='raw'). check=False caches it as it is alone."
    )


def _read_others(others: dict[str, Item], idx: int, ctx: _WatchedCtx) -> dict[Any, str]:
    """Read the other items of a sample; return the keys that they left, each with its item."""
    writers: dict[Any, str] = {}
    for name, other in others.items():
        # One that cannot be read is not what is to be cached: whoever reads it will see.
        with contextlib.suppress(Exception):
            other.get(idx, ctx)
        for key in dict.keys(ctx):
            writers.setdefault(key, name)
    return writers


_ALL = object()  # stands for every key


def _noting(name: str, key: object = None) -> Any:
    """Return a method of a ctx that notes what it reads: its first argument, or ``key``."""
    method = getattr(SampleCtx, name)

    def read(self: _WatchedCtx, *arguments: Any) -> Any:
        self.watched.add(arguments[0] if key is None else key)
        return method(self, *arguments)

    return read


class _WatchedCtx(SampleCtx):
    """A ctx that notes which of its keys are read."""

    def __init__(self) -> None:
        super().__init__()
        self.watched: set[Any] = set()

    __getitem__ = _noting("__getitem__")
    __contains__ = _noting("__contains__")
    get = _noting("get")
    setdefault = _noting("setdefault")
    pop = _noting("pop")
    __iter__ = _noting("__iter__", _ALL)
    __len__ = _noting("__len__", _ALL)
    keys = _noting("keys", _ALL)
    values = _noting("values", _ALL)
    items = _noting("items", _ALL)
