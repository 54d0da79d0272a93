"""Datasets with a cache: ``CachedDataset`` for whole samples, ``CacheWrapper`` for single items."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import torch.utils.data

from kappacore.caching.cached_item import CachedItem
from kappacore.caching.codec import Codec, default_codec
from kappacore.caching.engine.tiers import tier_stats
from kappacore.caching.explain import explain_cache
from kappacore.caching.factory import (
    backend_of_items,
    check_samples,
    is_raw,
    open_cache,
    refuse_random,
)
from kappacore.caching.identity.samples import sample_fingerprint, samples_need_no_proof
from kappacore.caching.prefill import prefill
from kappacore.caching.repeats import warn_of_repeats
from kappacore.caching.stats import CacheStats
from kappacore.caching.watch import Watch
from kappacore.datasets import Item, KDDataset, KDWrapper, find_item
from kappacore.datasets.base import check_map_style
from kappacore.datasets.forms import own_item
from kappacore.datasets.getitems import overriding_getitem, read_samples
from kappacore.datasets.indexing import (
    check_batch,
    check_index,
    check_slice,
    is_sequence,
)
from kappacore.datasets.own_generators import warn_of_generators
from kappacore.datasets.shallow_copy import shallow_copy
from kappacore.datasets.stack import PassThrough
from kappacore.errors import InvalidOptionError, UnknownItemError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from typing_extensions import Never

    from kappacore.caching.engine.cache import SampleCache
    from kappacore.caching.engine.tiers import TieredCache
    from kappacore.caching.factory import BackendChoice


class CachedDataset(PassThrough, torch.utils.data.Dataset[Any]):
    """Any map-style dataset, whole samples cached: read from the source once, then from the cache.

    Public attributes of the dataset (``classes``, ``targets``, …) pass through, and setting one
    sets it there; a subclass that wants one for itself defines it in the class too. A sample is
    what a single read of the dataset gives: a ``__getitems__`` of its own is not used.

    The format, the indices and the length of the dataset must stay as they are: a read after a
    change of them raises :class:`DatasetChangedError`.

    Args:
        dataset: A map-style dataset (torchvision, Hugging Face, your own, a ``ModeWrapper``).
        backend: The name of a cache backend, a choice made by :func:`kappacore.backend`, or
            ``{"use": name, **options}``; or a pair of these, read one after the other and both
            filled. ``"auto"``: ``"shared"`` where installed, else ``"memory"``.
        transform: Called with each sample after the cache, so it may be random.
        namespace: Names the cached content across processes and runs, where no fingerprint of the
            dataset identifies it; or ``kappacore.PRIVATE``.
        keep: What becomes of the entries after the last user left: False (removed), True (stay),
            or a duration such as ``"7d"``.
        check: At the first read, look at five samples at most: read them twice if nothing is
            stored yet, and refuse those that differ; else compare them with what is stored under
            this name or fingerprint. Once for all processes of the machine. False skips it for this
            object: what is stored is taken for this dataset's, and what it reads is stored beside
            it, for those that check as well.
        strict: Raise what a failing backend raises, instead of reading from the source.
        codec: Turns samples into bytes and back.
        check_digests: Check a value's digest on its ``"first"`` read in a process, ``"always"``,
            or ``"never"``.
        copy: True gives values of their own. False gives read-only views of the cache where the
            type has such: arrays, and memoryviews instead of bytes; tensors are copied. Copy such
            an array before ``torch.from_numpy``, whose result torch takes for writable.
            ``"unsafe"`` gives tensors that lie in the cache: **writing to one, in-place operations
            included, changes the sample for every process, or ends this one.**
        **options: The backend's, such as ``max_bytes="64GiB"``.

    Raises:
        DatasetTypeError: The dataset is not map-style.
        RandomSourceError: It is random, or something inside is.
        NamespaceRequiredError: Several ranks run, and nothing identifies the content.
        NamespaceMismatchError: The namespace holds other content.
        UnknownPluginError: No backend has that name; the message says what to install.
        UnknownOptionError: The backend has no such option.
        InvalidOptionError: An option has an invalid value.

    Example::

        ds = CachedDataset(ImageFolder("/data/train"), "shared", max_bytes="64GiB")
    """

    _kd_sets_inside = True

    def __init__(
        self,
        dataset: Any,
        backend: BackendChoice = "auto",
        *,
        transform: Callable[[Any], Any] | None = None,
        namespace: object = None,
        keep: bool | float | str = False,
        check: bool = True,
        strict: bool = False,
        codec: Codec | None = None,
        check_digests: str = "first",
        copy: bool | str = True,
        **options: Any,
    ) -> None:
        check_map_style(dataset, type(self).__name__)
        check_samples(dataset)
        refuse_random(dataset)
        if transform is not None and not callable(transform):
            raise InvalidOptionError(
                f"transform={transform!r} cannot be called; expected a function of one sample."
            )
        if transform is not None:
            warn_of_generators(
                [transform],
                "Read items instead, and pass seed=0 to a TransformWrapper above a CacheWrapper; "
                "or draw from torch's global generator.",
            )
        self.transform = transform
        self.dataset = dataset
        self._watch = Watch(dataset)
        self._repeats = warn_of_repeats(dataset)
        self._backend = backend
        self._cache = open_cache(
            dataset,
            item="sample",
            form="sample",
            fingerprint=sample_fingerprint(dataset),
            content_known=samples_need_no_proof(dataset),
            backend=backend,
            options=options,
            namespace=namespace,
            keep=keep,
            check=check,
            strict=strict,
            codec=codec or default_codec(),
            check_digests=check_digests,
            copy=copy,
        )

    def __len__(self) -> int:
        return self._cache.length

    def __getitem__(self, idx: Any) -> Any:
        """Return the sample at an integer, or the list of samples at a slice or a sequence.

        Args:
            idx: An integer, counted from the end if negative; a slice; or a sequence of integers.

        Raises:
            IndexOutOfRangeError: An index is past the end.
            InvalidIndexError: It is none of these.
            DatasetChangedError: The dataset was changed after the cache was made.
            CacheClosedError: The cache was closed.
        """
        if type(idx) is not int:
            if isinstance(idx, slice):
                return self._read(check_slice(idx, len(self), type(self).__name__))
            if is_sequence(idx):
                return self._read(check_batch(idx, self._cache.length, type(self).__name__))
        cache, watch = self._cache, self._watch
        idx = check_index(idx, cache.length, type(self).__name__)
        if watch.sees_more or len(watch.dataset) != cache.length:
            watch.check((idx,))
        sample = cache.fetch_one(idx, self._load)
        return sample if self.transform is None else self.transform(sample)

    def __iter__(self) -> Iterator[Any]:
        # Not by IndexError, which would take one raised inside the dataset for the end.
        return (self[idx] for idx in range(len(self)))

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """Return the samples of a whole batch; the ``DataLoader`` calls this.

        Where a subclass overrides ``__getitem__`` alone, it reads them one by one.
        """
        indices = check_batch(indices, self._cache.length, type(self).__name__)
        getitem = overriding_getitem(self, CachedDataset)
        if getitem is not None:
            return [getitem(self, idx) for idx in indices]
        return self._read(indices)

    def _read(self, indices: list[int]) -> list[Any]:
        self._watch.check(indices)
        samples = self._cache.fetch(indices, self._load)
        if self.transform is not None:
            samples = [self.transform(sample) for sample in samples]
        return samples

    @property
    def is_random(self) -> bool:
        """Whether the same index may give different values: any transform is taken to."""
        return self.transform is not None

    def prefill(
        self, *, progress: bool = True, shard: object = "auto", threads: int = 0, **unknown: Never
    ) -> int:
        """Read all samples that are not cached yet; return their number.

        It may be interrupted at any time; the next call goes on from there. The dataset is read
        through a shallow copy, so that a file that it opens at its first read stays closed in it,
        and in a plain object in its attributes, such as a reader without ``__del__``.

        Args:
            progress: Show how far it is, on the first rank: a bar on a terminal, elsewhere a line
                after two seconds and then one a minute.
            shard: ``"auto"``: where several ranks share the cache, each reads its part; None: all;
                or ``(number, parts)``.
            threads: The number of threads, for sources that wait on storage and can be read by
                several.
            **unknown: Refused.
        """
        self._watch.check()
        load = shallow_copy(self)._load
        return prefill(
            self._cache, load, progress=progress, shard=shard, threads=threads, **unknown
        )

    def stats(self, tier: int | None = None) -> CacheStats:
        """Return the counters, summed over all processes of the machine that use the cache.

        Args:
            tier: The number of one of two backends, 0 the one that is read first; default both.
        """
        return tier_stats(self._cache, tier)

    def explain(self) -> str:
        """Return what identifies the cache's content, what it holds and how it is used, as text."""
        return explain_cache(self._cache, self._repeats)

    def clear(self) -> None:
        """Remove all cached samples, for everybody who uses the namespace."""
        self._cache.clear()

    def close(self) -> None:
        """Close the cache, and the dataset below; what is not kept goes with its last user."""
        try:
            self._cache.close()
        finally:
            super().close()

    def _kd_caches(self) -> list[SampleCache | TieredCache]:
        return [self._cache]

    #: For a cache above this one; the samples of a batch are independent of each other.
    _kd_read_samples = _read

    def _load(self, indices: list[int]) -> Iterable[Any]:
        return read_samples(self.dataset, indices)


class CacheWrapper(KDWrapper):
    """Chosen items of a ``KDDataset`` cached; the others are read from the dataset as before.

    Where an item has a raw form (an image's compressed bytes), that form is cached, and decoded
    after the cache. Setting a public attribute that the dataset has sets it there; a change of the
    dataset's length or indices is an error, as with :class:`CachedDataset`.

    Args:
        dataset: The dataset to cache.
        backend: As for :class:`CachedDataset`, like all options that are not listed here.
        items: The names of the items to cache, as ``"x"``, ``"x y"`` or ``["x", "y"]``; or
            ``{"x": "shared", "class": "memory"}``, each with a backend of its own. An item whose
            value changes with what another item leaves in ctx is refused, unless ``check=False``;
            so is one that another item follows, as what comes from a cache leaves nothing in ctx.
        form: ``"raw"`` keeps items as they are stored, ``"decoded"`` as the values they turn into;
            default raw where there is such a form.
        namespace: One name serves all items.
        keep: As for :class:`CachedDataset`, like those that follow.
        check: Whether at most five samples are compared at the first read.
        strict: Whether to raise what a failing backend raises.
        codec: Turns values into bytes and back.
        check_digests: ``"first"``, ``"always"`` or ``"never"``.
        copy: True, False or ``"unsafe"``.
        **options: The backend's, such as ``max_bytes="64GiB"``.

    Raises:
        UnknownItemError: The dataset has no such item.
        RandomSourceError: The dataset is random, or something inside is.
        NamespaceRequiredError: Several ranks run, and nothing identifies the content.
        NamespaceMismatchError: The namespace holds other content.
        UnknownPluginError: No backend has that name; the message says what to install.
        UnknownOptionError: The backend has no such option.
        InvalidOptionError: An option has an invalid value, or ``form="raw"`` and there is no raw
            form.

    Example::

        ds = CacheWrapper(ImageFolder("/data/train"), "shared", items="x")
        loader = DataLoader(ModeWrapper(ds, "x class"), num_workers=8)
    """

    _kd_sets_inside = True

    def __init__(
        self,
        dataset: KDDataset,
        backend: BackendChoice = "auto",
        *,
        items: str | Sequence[str] | Mapping[str, BackendChoice] = "x",
        form: str | None = None,
        namespace: object = None,
        keep: bool | float | str = False,
        check: bool = True,
        strict: bool = False,
        codec: Codec | None = None,
        check_digests: str = "first",
        copy: bool | str = True,
        **options: Any,
    ) -> None:
        super().__init__(dataset)
        refuse_random(dataset)
        self._watch = Watch(dataset)
        self._repeats = warn_of_repeats(dataset)
        self._backend, self._items = backend, items
        self._caches: dict[str, tuple[SampleCache | TieredCache, bool]] = {}
        for name, choice in backend_of_items(items, backend, options).items():
            item = find_item(dataset, name)
            raw = is_raw(item, name, form)
            cache = open_cache(
                dataset,
                item=name,
                form="raw" if raw else "decoded",
                fingerprint=item.fingerprint(raw),
                content_known=item.fingerprint_is_content,
                backend=choice,
                options=options,
                namespace=namespace,
                keep=keep,
                check=check,
                strict=strict,
                codec=codec or default_codec(),
                check_digests=check_digests,
                copy=copy,
            )
            self._caches[name] = (cache, raw)

    def prefill(
        self, *, progress: bool = True, shard: object = "auto", threads: int = 0, **unknown: Never
    ) -> int:
        """Read all samples of the cached items; see :meth:`CachedDataset.prefill`.

        Args:
            progress: Show a bar.
            shard: ``"auto"``, None, or ``(number, parts)``.
            threads: The number of threads.
            **unknown: Refused.

        Returns:
            The number of values that were read.
        """
        self._watch.check()
        twin = shallow_copy(self)
        items = {name: find_item(twin, name) for name in self._caches}
        return sum(
            prefill(
                item.cache,
                item.load,
                progress=progress,
                shard=shard,
                threads=threads,
                name=name,
                **unknown,
            )
            for name, item in items.items()
            if isinstance(item, CachedItem)
        )

    def explain(self) -> str:
        """Return what identifies each cached item, what it holds and how it is used, as text."""
        lines = []
        for name, (cache, _) in self._caches.items():
            _, how = find_item(self, name).how_stacked()
            lines += [explain_cache(cache, self._repeats), f"  batches: {how}"]
        return "\n".join(lines)

    def stats(self, tier: int | None = None, *, item: str | None = None) -> CacheStats:
        """Return the counters, summed over all processes of the machine that use the cache.

        Args:
            tier: see :meth:`CachedDataset.stats`.
            item: The name of a cached item; default all of them.
        """
        if item is not None and item not in self._caches:
            raise UnknownItemError(
                f"The item {item!r} is not cached here; cached are {', '.join(self._caches)}."
            )
        chosen = self._caches if item is None else {item: self._caches[item]}
        return sum((tier_stats(cache, tier) for cache, _ in chosen.values()), CacheStats())

    def can_be_looked_up(self, *, proved: bool) -> bool:
        """Return whether a look at the cached items reads no sample of the source but a few.

        An empty cache reads some at the first look, to compare them. Where workers load samples,
        that is their affair: files that a source opens at its first read stay closed here.

        Args:
            proved: Whether a worker has looked before, of which all who share the cache know.
        """
        return all(
            (proved and cache.scope != "process")
            or all(info is not None and info.entries >= cache.length for info in cache.infos()[:1])
            for cache, _ in self._caches.values()
        )

    def clear(self) -> None:
        """Remove all cached samples, for everybody who uses the namespace."""
        for cache, _ in self._caches.values():
            cache.clear()

    def close(self) -> None:
        """Close the caches and the dataset below."""
        with ExitStack() as stack:  # each is closed, whatever another one raises
            stack.callback(super().close)
            for cache, _ in self._caches.values():
                stack.callback(cache.close)

    def _kd_caches(self) -> list[SampleCache | TieredCache]:
        return [cache for cache, _ in self._caches.values()]

    def _kd_item(self, name: str) -> Item | None:
        own = own_item(self, name)
        if own is not None:  # of a subclass: its item is not the one that is cached
            return own
        item = self.dataset._kd_item(name)
        if name in self._caches and item is not None:
            return CachedItem(self.dataset, name, item, *self._caches[name], self._watch)
        return item


def cache(dataset: Any, backend: BackendChoice = "auto", **options: Any) -> Any:
    """Put a cache above a dataset: the wrapper that is chosen by the name ``cache``.

    Args:
        dataset: A ``KDDataset`` (its items are cached) or any map-style dataset (its samples are).
        backend: A backend's name, or ``kappacore.backend(name, **options)``; ``"auto"`` is
            ``shared`` if it is installed, else ``memory``.
        **options: Those of :class:`CacheWrapper` or :class:`CachedDataset`, such as ``items``,
            ``namespace`` and ``keep``, and the backend's: ``kappacore plugins BACKEND`` shows
            these.
    """
    kind = CacheWrapper if isinstance(dataset, KDDataset) else CachedDataset
    return kind(dataset, backend, **options)
