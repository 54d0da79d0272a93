"""Wrappers that select, reorder, relabel and transform samples; one per file."""

from __future__ import annotations

from kappacore.wrappers.class_filter import ClassFilterWrapper
from kappacore.wrappers.classwise_percent import ClasswisePercentWrapper
from kappacore.wrappers.fewshot import FewshotWrapper
from kappacore.wrappers.intra_class_shuffle import IntraClassShuffleWrapper
from kappacore.wrappers.multi_view import MultiViewWrapper
from kappacore.wrappers.one_hot import LabelSmoothingWrapper, OneHotWrapper
from kappacore.wrappers.oversampling import OversamplingWrapper
from kappacore.wrappers.percent_filter import PercentFilterWrapper
from kappacore.wrappers.remap_classes import RemapClassesWrapper
from kappacore.wrappers.repeat import RepeatWrapper
from kappacore.wrappers.shuffle import ShuffleWrapper
from kappacore.wrappers.sort_by_class import SortByClassWrapper
from kappacore.wrappers.split import train_test_split
from kappacore.wrappers.subset import SubsetWrapper
from kappacore.wrappers.transform import TransformWrapper

__all__ = [
    "ClassFilterWrapper",
    "ClasswisePercentWrapper",
    "FewshotWrapper",
    "IntraClassShuffleWrapper",
    "LabelSmoothingWrapper",
    "MultiViewWrapper",
    "OneHotWrapper",
    "OversamplingWrapper",
    "PercentFilterWrapper",
    "RemapClassesWrapper",
    "RepeatWrapper",
    "ShuffleWrapper",
    "SortByClassWrapper",
    "SubsetWrapper",
    "TransformWrapper",
    "train_test_split",
]
