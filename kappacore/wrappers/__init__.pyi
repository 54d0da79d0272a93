# The registry of wrappers: a line here makes one public, and choosable by name (`class_filter`).

from .class_filter import ClassFilterWrapper as ClassFilterWrapper
from .classwise_percent import ClasswisePercentWrapper as ClasswisePercentWrapper
from .compose import Compose as Compose
from .fewshot import FewshotWrapper as FewshotWrapper
from .intra_class_shuffle import IntraClassShuffleWrapper as IntraClassShuffleWrapper
from .labels import class_counts as class_counts
from .mix import MixWrapper as MixWrapper
from .multi_view import MultiViewWrapper as MultiViewWrapper
from .one_hot import LabelSmoothingWrapper as LabelSmoothingWrapper
from .one_hot import OneHotWrapper as OneHotWrapper
from .oversampling import OversamplingWrapper as OversamplingWrapper
from .percent_filter import PercentFilterWrapper as PercentFilterWrapper
from .remap_classes import RemapClassesWrapper as RemapClassesWrapper
from .repeat import RepeatWrapper as RepeatWrapper
from .shuffle import ShuffleWrapper as ShuffleWrapper
from .sort_by_class import SortByClassWrapper as SortByClassWrapper
from .splitting import k_fold as k_fold
from .splitting import leave_one_group_out as leave_one_group_out
from .splitting import split as split
from .splitting import train_test_split as train_test_split
from .subset import SubsetWrapper as SubsetWrapper
from .transform import TransformWrapper as TransformWrapper
from .workers import seed_worker as seed_worker
