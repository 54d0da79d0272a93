"""The core's own plugins, registered through the same hooks as everyone else's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kappacore.plugins.hookspecs import hookimpl
from kappacore.plugins.specs import CacheBackendSpec, WrapperSpec

if TYPE_CHECKING:
    from collections.abc import Iterable

_WRAPPERS = (
    (
        "cache",
        "kappacore.caching.datasets:cache",
        "Reads every sample once and keeps it in a cache backend.",
    ),
    (
        "class_filter",
        "kappacore.wrappers.class_filter:ClassFilterWrapper",
        "Keeps the samples of some classes, or of all but some.",
    ),
    (
        "classwise_percent",
        "kappacore.wrappers.classwise_percent:ClasswisePercentWrapper",
        "Keeps the same part of every class.",
    ),
    (
        "fewshot",
        "kappacore.wrappers.fewshot:FewshotWrapper",
        "Keeps a few random samples of every class.",
    ),
    (
        "intra_class_shuffle",
        "kappacore.wrappers.intra_class_shuffle:IntraClassShuffleWrapper",
        "Shuffles samples within their classes.",
    ),
    (
        "label_smoothing",
        "kappacore.wrappers.one_hot:LabelSmoothingWrapper",
        "Makes smoothed vectors of the labels.",
    ),
    (
        "multi_view",
        "kappacore.wrappers.multi_view:MultiViewWrapper",
        "Gives several views of one item.",
    ),
    (
        "one_hot",
        "kappacore.wrappers.one_hot:OneHotWrapper",
        "Makes one-hot vectors of the labels.",
    ),
    (
        "oversampling",
        "kappacore.wrappers.oversampling:OversamplingWrapper",
        "Balances classes by repeating samples of the smaller ones.",
    ),
    (
        "percent_filter",
        "kappacore.wrappers.percent_filter:PercentFilterWrapper",
        "Keeps the samples from one share of the length to another.",
    ),
    (
        "remap_classes",
        "kappacore.wrappers.remap_classes:RemapClassesWrapper",
        "Gives the classes other numbers.",
    ),
    (
        "repeat",
        "kappacore.wrappers.repeat:RepeatWrapper",
        "Repeats the whole dataset.",
    ),
    (
        "shuffle",
        "kappacore.wrappers.shuffle:ShuffleWrapper",
        "Puts the samples in a random order, drawn once.",
    ),
    (
        "sort_by_class",
        "kappacore.wrappers.sort_by_class:SortByClassWrapper",
        "Orders the samples by class.",
    ),
    (
        "subset",
        "kappacore.wrappers.subset:SubsetWrapper",
        "Keeps the samples at indices, in a mask, or from a start to an end.",
    ),
    (
        "transform",
        "kappacore.wrappers.transform:TransformWrapper",
        "Applies a function to one item of every sample.",
    ),
)


@hookimpl
def kappacore_cache_backends() -> Iterable[CacheBackendSpec]:
    """Return the backend that needs nothing but this process."""
    yield CacheBackendSpec(
        name="memory",
        target="kappacore.caching.backends.memory:MemoryBackend",
        scope="process",
        api=1,
        summary="Memory of one process, with a budget.",
    )


@hookimpl
def kappacore_wrappers() -> Iterable[WrapperSpec]:
    """Return the wrappers that the core ships."""
    for name, target, summary in _WRAPPERS:
        yield WrapperSpec(name=name, target=target, api=1, summary=summary)
